//! Standard process metrics of Prometheus
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>), read from `/proc/self`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use super::prometheus::family;

/// Appends the `process_` metrics. Those that cannot be read are omitted.
pub fn write_process(out: &mut String) {
    // Writing to a string does not fail.
    let _ = write_all(out);
}

/// The resident memory of the process, in bytes.
#[cfg(target_os = "linux")]
#[must_use]
pub fn resident_memory() -> Option<u64> {
    let pages = procfs::process::Process::myself().ok()?.statm().ok()?.resident;
    Some(pages.saturating_mul(procfs::page_size()))
}

/// Processor time of a thread, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ThreadTimes {
    pub(crate) user: f64,
    pub(crate) kernel: f64,
}

/// The processor times of the threads of the shards by number, with a resolution of 10 ms. A shard is missing where they cannot be
/// read.
#[cfg(target_os = "linux")]
pub(crate) fn shard_threads() -> BTreeMap<usize, ThreadTimes> {
    let mut threads = BTreeMap::<usize, ThreadTimes>::new();
    let Ok(tasks) = procfs::process::Process::myself().and_then(|process| process.tasks()) else {
        return threads;
    };
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    for stat in tasks.flatten().filter_map(|task| task.stat().ok()) {
        let Some(shard) = stat.comm.strip_prefix("shard-").and_then(|number| number.parse().ok()) else {
            continue;
        };
        let times = threads.entry(shard).or_default();
        times.user += seconds(stat.utime);
        times.kernel += seconds(stat.stime);
    }
    threads
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn shard_threads() -> BTreeMap<usize, ThreadTimes> {
    BTreeMap::new()
}

#[cfg(not(target_os = "linux"))]
fn write_all(_: &mut String) -> fmt::Result {
    Ok(())
}

#[cfg(target_os = "linux")]
fn write_all(out: &mut String) -> fmt::Result {
    use procfs::process::{LimitValue, Process};

    let Ok(process) = Process::myself() else { return Ok(()) };
    let stat = process.stat().ok();
    let ticks_per_second = procfs::ticks_per_second() as f64;
    let cpu = stat.as_ref().map(|stat| (stat.utime + stat.stime) as f64 / ticks_per_second);
    let started = stat.as_ref().and_then(|stat| {
        let booted = procfs::boot_time_secs().ok()?;
        Some(booted as f64 + stat.starttime as f64 / ticks_per_second)
    });
    let open = process.fd_count().ok().map(|count| count as f64);
    let open_max = process.limits().ok().map(|limits| match limits.max_open_files.soft_limit {
        LimitValue::Value(value) => value as f64,
        LimitValue::Unlimited => f64::INFINITY,
    });
    let resident = stat.as_ref().map(|stat| stat.rss.saturating_mul(procfs::page_size()) as f64);
    let metrics = [
        ("process_cpu_seconds_total", "counter", "User and system processor time, in seconds.", cpu),
        ("process_resident_memory_bytes", "gauge", "Resident memory, in bytes.", resident),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Address space, in bytes.",
            stat.as_ref().map(|stat| stat.vsize as f64),
        ),
        ("process_open_fds", "gauge", "Open file descriptors.", open),
        ("process_max_fds", "gauge", "File descriptors that may be open.", open_max),
        ("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.", started),
        ("process_threads", "gauge", "Threads.", stat.as_ref().map(|stat| stat.num_threads as f64)),
    ];
    for (name, kind, help, value) in metrics {
        if let Some(value) = value {
            family(out, name, kind, help)?;
            writeln!(out, "{name} {value}")?;
        }
    }
    write_run_delays(out, &process)
}

/// Writes for how long the thread of each shard was ready to run and waited for its core (`/proc/PID/task/TID/schedstat`), which a
/// kernel without statistics of its scheduler does not count.
#[cfg(target_os = "linux")]
fn write_run_delays(out: &mut String, process: &procfs::process::Process) -> fmt::Result {
    let threads = process.tasks().into_iter().flatten().flatten().filter_map(|task| {
        let name = task.stat().ok()?.comm;
        let shard = name.strip_prefix("shard-")?.parse::<usize>().ok()?;
        Some((shard, task.schedstat().ok()?.run_delay as f64 / 1e9))
    });
    let mut delays: Vec<(usize, f64)> = threads.collect();
    delays.sort_by_key(|(shard, _)| *shard);
    if delays.is_empty() {
        return Ok(());
    }
    let name = "corelane_shard_run_delay_seconds_total";
    family(out, name, "counter", "Time for which the shard was ready to run and waited for its core.")?;
    delays.iter().try_for_each(|(shard, delay)| writeln!(out, "{name}{{shard=\"{shard}\"}} {delay}"))
}
