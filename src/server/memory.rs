//! The memory of the process: its limit, found at the start and divided among the shards, is watched while they run, and free memory is
//! returned to the system.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use procfs::{Current, Meminfo, process::Process};
use rustix::time::{ClockId, clock_gettime};
use tracing::{info, warn};

use crate::{
    admin::release_free_memory,
    config::{Config, Limits},
    memory::MemoryPressure,
    telemetry::metrics::resident_memory,
};

/// How often the resident memory is read.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Resident memory above which the pressure is high, and below which it ends, in percent of the limit.
const HIGH_PERCENT: u64 = 90;
const LOW_PERCENT: u64 = 85;

/// Resident memory above that at the start from which the allocator is made to return what is free, in bytes.
const RELEASE_MIN: u64 = 16 << 20;
/// Time between two releases: while the pressure is high, while the process is idle, and while it is not.
const RELEASE_UNDER_PRESSURE: Duration = Duration::from_secs(1);
const RELEASE_IDLE: Duration = Duration::from_secs(10);
const RELEASE_BUSY: Duration = Duration::from_mins(1);
/// Processor time since the last release without which nothing can have become free.
const WORK_MIN: Duration = Duration::from_millis(10);

/// The memory that the process may use, in bytes: the configured one, or four fifths of what there is.
pub(super) fn memory_max(config: &Config) -> u64 {
    let configured = config.memory_max.map(|bytes| bytes as u64);
    configured.unwrap_or_else(|| available_memory() / 5 * 4)
}

/// The memory of the machine or of the process's control group, whichever is less.
fn available_memory() -> u64 {
    let machine = Meminfo::current().map_or(u64::MAX, |memory| memory.mem_total);
    control_group_files().iter().filter_map(|file| limit_in(file)).fold(machine, u64::min)
}

/// The files with the memory limits of the process's control group and of those above it. In a container, the group of the
/// process may be mounted as the root.
fn control_group_files() -> Vec<PathBuf> {
    const V2: (&str, &str) = ("/sys/fs/cgroup", "memory.max");
    const V1: (&str, &str) = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes");
    let groups = Process::myself().and_then(|process| process.cgroups());
    let mut files = vec![Path::new(V2.0).join(V2.1), Path::new(V1.0).join(V1.1)];
    for group in groups.into_iter().flatten() {
        let (root, file) = match group.controllers.iter().any(|controller| controller == "memory") {
            true => V1,
            false if group.hierarchy == 0 => V2,
            false => continue,
        };
        let path = Path::new(root).join(group.pathname.trim_start_matches('/'));
        files.extend(path.ancestors().take_while(|path| path.starts_with(root)).map(|path| path.join(file)));
    }
    files
}

/// The limit in a file; `None` for no limit, which control groups write as `max` or a huge number.
fn limit_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The limits of each of `shards` shards of a process that may use `memory_max` bytes: the tables and buffers of a shard together use
/// seven eighths of its part.
pub(super) fn fit_limits(limits: Limits, memory_max: u64, shards: usize) -> Limits {
    let part = usize::try_from(memory_max).unwrap_or(usize::MAX) / shards.max(1);
    let fitted = Limits {
        calls_bytes_max: limits.calls_bytes_max.min(part / 8),
        buffers_bytes_max: limits.buffers_bytes_max.min(part / 2),
        task_results_bytes_max: limits.task_results_bytes_max.min(part / 16),
        subscription_bytes_max: limits.subscription_bytes_max.min(part / 16),
        replay_total_bytes_max: limits.replay_total_bytes_max.min(part / 8),
        ..limits
    };
    Limits {
        subscriber_bytes_max: limits.subscriber_bytes_max.min(fitted.subscription_bytes_max),
        replay_bytes_max: limits.replay_bytes_max.min(fitted.replay_total_bytes_max),
        ..fitted
    }
}

/// Starts the thread that compares the resident memory with the limit and sets `pressure`, and that makes the allocator return free
/// memory. It ends when no shard is left.
pub(super) fn watch_memory(memory_max: u64, pressure: MemoryPressure) -> std::io::Result<()> {
    let watch = move || {
        let mut watch = Watch::new(memory_max, pressure);
        while watch.pressure.is_shared() {
            watch.check(Instant::now(), processor_time(), resident_memory, release_free_memory);
            thread::sleep(WATCH_INTERVAL);
        }
    };
    thread::Builder::new().name("memory".to_owned()).spawn(watch).map(drop)
}

/// Processor time of all threads of the process.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// The state of the thread that watches the memory.
struct Watch {
    memory_max: u64,
    pressure: MemoryPressure,
    /// Resident memory at the first check, in bytes.
    at_start: Option<u64>,
    /// Time of the last check, and the processor time at it.
    checked: (Instant, Duration),
    /// As above, of the last release.
    released: (Instant, Duration),
}

impl Watch {
    fn new(memory_max: u64, pressure: MemoryPressure) -> Self {
        let now = (Instant::now(), processor_time());
        Self { memory_max, pressure, at_start: None, checked: now, released: now }
    }

    /// Compares the resident memory with the limit. Before, makes the allocator return free memory if it is time: an attack would
    /// otherwise leave memory that counts against the limit until threads that have become idle allocate again.
    fn check(
        &mut self,
        now: Instant,
        processor_time: Duration,
        resident: impl Fn() -> Option<u64>,
        release: impl FnOnce(),
    ) {
        let Some(mut current) = resident() else { return };
        let at_start = *self.at_start.get_or_insert(current);
        let is_near = self.percent(current) >= HIGH_PERCENT;
        if current >= at_start + RELEASE_MIN && self.may_release(now, processor_time, is_near) {
            release();
            self.released = (now, processor_time);
            current = resident().unwrap_or(current);
        }
        self.checked = (now, processor_time);
        let (percent, was_high) = (self.percent(current), self.pressure.is_high());
        let memory_max = self.memory_max;
        if !was_high && percent >= HIGH_PERCENT {
            warn!(resident = current, memory_max, "memory is nearly used up: new work is refused");
            self.pressure.set(true);
        } else if was_high && percent < LOW_PERCENT {
            info!(resident = current, memory_max, "memory is available again");
            self.pressure.set(false);
        }
    }

    fn percent(&self, resident: u64) -> u64 {
        resident.saturating_mul(100) / self.memory_max.max(1)
    }

    /// Whether it is time to return free memory. That takes time of its own, and memory that is needed again has to be cleared.
    fn may_release(&self, now: Instant, processor_time: Duration, is_near: bool) -> bool {
        let (released_at, time_then) = self.released;
        if processor_time.saturating_sub(time_then) < WORK_MIN {
            return false;
        }
        let (checked_at, time_then) = self.checked;
        let is_idle =
            processor_time.saturating_sub(time_then) * 10 < now.saturating_duration_since(checked_at);
        let interval = match (is_near || self.pressure.is_high(), is_idle) {
            (true, _) => RELEASE_UNDER_PRESSURE,
            (false, true) => RELEASE_IDLE,
            (false, false) => RELEASE_BUSY,
        };
        now.saturating_duration_since(released_at) >= interval
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn tables_and_buffers_fit_into_the_memory_of_a_shard() {
        let fitted = fit_limits(Limits::default(), 512 << 20, 2);
        let sum = fitted.calls_bytes_max
            + fitted.buffers_bytes_max
            + fitted.task_results_bytes_max
            + fitted.subscription_bytes_max
            + fitted.replay_total_bytes_max;
        assert!(sum <= 224 << 20, "{sum}");
        assert!(fitted.replay_bytes_max <= fitted.replay_total_bytes_max);
        assert_eq!(fit_limits(Limits::default(), 1 << 40, 2), Limits::default());
    }

    #[test]
    fn memory_of_this_machine_is_found() {
        assert!(available_memory() > 64 << 20);
        assert!(resident_memory().is_some_and(|resident| (1 << 20..available_memory()).contains(&resident)));
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn pressure_begins_near_the_limit_and_ends_below_it() {
        let mut watch = Watch::new(1000 * MIB, MemoryPressure::default());
        for (mebibytes, is_high) in [(500, false), (905, true), (870, true), (840, false)] {
            watch.check(Instant::now(), Duration::ZERO, || Some(mebibytes * MIB), || {});
            assert_eq!(watch.pressure.is_high(), is_high, "{mebibytes} of 1000 MiB");
        }
    }

    #[test]
    fn free_memory_is_returned_when_the_process_is_idle_or_near_its_limit() {
        let mut watch = Watch::new(1000 * MIB, MemoryPressure::default());
        let start = watch.checked.0;
        // Milliseconds since the start, processor time in milliseconds, resident memory in MiB.
        let mut releases = |after: u64, processor_time: u64, mebibytes: u64| {
            let released = Cell::new(false);
            watch.check(
                start + Duration::from_millis(after),
                watch.released.1 + Duration::from_millis(processor_time),
                || Some(mebibytes * MIB - if released.get() { 110 * MIB } else { 0 }),
                || released.set(true),
            );
            (released.get(), watch.pressure.is_high())
        };
        assert_eq!(releases(100, 100, 400), (false, false));
        assert_eq!(releases(10_100, 100, 410), (false, false), "little more than at the start");
        assert_eq!(releases(10_200, 150, 500), (false, false), "busy");
        assert_eq!(releases(10_300, 151, 500), (true, false), "idle");
        assert_eq!(releases(30_000, 1, 500), (false, false), "no work since");
        assert_eq!(releases(70_400, 20_000, 500), (true, false), "busy for a minute");
        assert_eq!(releases(70_500, 100, 950), (false, true), "near the limit, too soon");
        assert_eq!(releases(71_500, 1000, 950), (true, false), "below the limit without the free memory");
    }
}
