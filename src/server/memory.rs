//! The memory limit of the process: found at the start, divided among the shards, watched while they run.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use procfs::{Current, Meminfo, process::Process};
use tracing::{info, warn};

use crate::{
    config::{Config, Limits},
    memory::MemoryPressure,
    telemetry::metrics::resident_memory,
};

/// How often the resident memory is read.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Resident memory above which the pressure is high, and below which it ends, in percent of the limit.
const HIGH_PERCENT: u64 = 90;
const LOW_PERCENT: u64 = 85;

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

/// Starts the thread that compares the resident memory with the limit and sets `pressure`. It ends when no shard is left.
pub(super) fn watch_memory(memory_max: u64, pressure: MemoryPressure) -> std::io::Result<()> {
    let watch = move || {
        while pressure.is_shared() {
            watch(memory_max, &pressure);
            thread::sleep(WATCH_INTERVAL);
        }
    };
    thread::Builder::new().name("memory".to_owned()).spawn(watch).map(drop)
}

/// Compares the resident memory with the limit.
fn watch(memory_max: u64, pressure: &MemoryPressure) {
    let Some(resident) = resident_memory() else { return };
    let percent = resident.saturating_mul(100) / memory_max.max(1);
    let was_high = pressure.is_high();
    if !was_high && percent >= HIGH_PERCENT {
        warn!(resident, memory_max, "memory is nearly used up: new work is refused");
        pressure.set(true);
    } else if was_high && percent < LOW_PERCENT {
        info!(resident, memory_max, "memory is available again");
        pressure.set(false);
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn pressure_begins_near_the_limit_and_ends_below_it() {
        let pressure = MemoryPressure::default();
        watch(u64::MAX / 200, &pressure);
        assert!(!pressure.is_high());
        watch(1 << 20, &pressure);
        assert!(pressure.is_high());
        watch(resident_memory().unwrap() * 100 / 87, &pressure);
        assert!(pressure.is_high(), "between the two bounds");
        watch(u64::MAX / 200, &pressure);
        assert!(!pressure.is_high());
    }
}
