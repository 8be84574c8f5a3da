//! The handlers of the requests: one for each command.

use std::{
    os::unix::net::UnixStream,
    process,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::info;

use super::{
    super::{
        allocator::{allocator, heap_profile},
        collect::collect,
        sample::{Samples, shard_state},
    },
    bottlenecks::{advice, bottlenecks},
    collect::Inspections,
    flag_handlers,
    shared::Shared,
};
use crate::{
    config::LogLevel,
    control::{
        Allocator, Buffers, Connections, Fault, Fragmentation, INTERVAL_MAX_MS, INTERVAL_MIN_MS, LogLevels,
        Memory, Reply, Request, Sample, Sessions, ShardStatus, Status, TOP_MAX, ToolRow, View,
    },
    profile::{HeapProfile, Profile, ProfileOptions, SampledThreads, capture},
    shard::ShardHandle,
    telemetry::{
        log_level,
        metrics::{ShardReport, resident_memory},
    },
};

/// Ratio of fragmentation above which it is high.
const FRAGMENTATION_MAX: f64 = 0.5;

/// Interval at which a sample that waits checks whether the server has ended or its client has gone.
const SAMPLE_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Executes a command of a client. `samples`: those of its connection.
///
/// # Errors
/// Why it cannot be executed.
pub(super) fn handle(
    request: Request,
    client: &UnixStream,
    shared: &Shared,
    samples: &mut Samples,
) -> Result<Reply, Fault> {
    // Of a request that takes time.
    let is_cancelled = || is_draining(shared) || shared.ended.load(Ordering::Relaxed) || has_closed(client);
    match request {
        Request::Status => Ok(Reply::Status(status(shared))),
        Request::Connections { top } => Ok(Reply::Connections(connections(shared, within(top)?))),
        Request::Sessions { top } => Ok(Reply::Sessions(sessions(shared, within(top)?))),
        Request::Memory { top } => Ok(Reply::Memory(Box::new(memory(shared, within(top)?)))),
        Request::Buffers { top, shrink } => Ok(Reply::Buffers(buffers(shared, within(top)?, shrink))),
        Request::Fragmentation => Ok(Reply::Fragmentation(fragmentation(allocator()))),
        Request::LogLevel { level } => log_level(level).map(Reply::LogLevel),
        Request::Profile { seconds, hz, shards } => {
            profile(seconds, hz, shards, is_cancelled).map(Reply::Profile)
        }
        Request::HeapProfile => heap().map(Reply::HeapProfile),
        Request::Flags => Ok(Reply::Flags(flag_handlers::flags(shared))),
        Request::SetFlag { flag, position } => {
            flag_handlers::set_flag(shared, &flag, &position).map(Reply::ShareChange)
        }
        Request::Rollout => Ok(Reply::Rollout(flag_handlers::rollouts(shared))),
        Request::SetShare { flag, percent } => {
            flag_handlers::set_share(shared, &flag, percent).map(Reply::ShareChange)
        }
        Request::Rearm { flag } => flag_handlers::rearm(shared, &flag).map(Reply::Rearmed),
        Request::Bottlenecks { seconds } => {
            bottlenecks(shared, seconds, is_cancelled).map(Reply::Bottlenecks)
        }
        Request::Advise { seconds } => advice(shared, seconds, is_cancelled).map(Reply::Advise),
        Request::Sample { milliseconds } => {
            sample(milliseconds, client, shared, samples).map(|sample| Reply::Sample(Box::new(sample)))
        }
        Request::Drain => Ok(Reply::Drain { has_started: shared.drain.start(None) }),
    }
}

/// Takes a CPU profile, until it is cancelled at the latest.
fn profile(
    seconds: u32,
    hz: u32,
    shards: Vec<usize>,
    is_cancelled: impl Fn() -> bool,
) -> Result<Box<Profile>, Fault> {
    let threads = if shards.is_empty() { SampledThreads::All } else { SampledThreads::Shards(shards) };
    let options = ProfileOptions { seconds, hz, threads };
    let profile =
        capture(&options, is_cancelled).map_err(|error| Fault::new(error.name(), error.to_string()))?;
    info!(
        samples = profile.samples,
        milliseconds = profile.milliseconds,
        "a CPU profile was taken through the control socket"
    );
    Ok(Box::new(profile))
}

/// Takes a heap profile.
fn heap() -> Result<Box<HeapProfile>, Fault> {
    let profile = heap_profile()?;
    info!(bytes = profile.bytes, "a heap profile was taken through the control socket");
    Ok(Box::new(profile))
}

/// Whether a client has closed its connection. Shutting down its sending side alone does not count.
fn has_closed(client: &UnixStream) -> bool {
    let mut polled = [PollFd::new(client, PollFlags::empty())];
    // An error that is not that of the connection is another attempt later.
    let _ = poll(&mut polled, Some(&Timespec::default()));
    polled.iter().any(|polled| polled.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// Whether a drain has started. One that the program starts begins in the shards.
fn is_draining(shared: &Shared) -> bool {
    shared.drain.has_started() || shared.shards.iter().any(ShardHandle::is_draining)
}

/// Waits for the end of an interval, and returns its sample; earlier if the client has gone or the server ends.
fn sample(
    milliseconds: u32,
    client: &UnixStream,
    shared: &Shared,
    samples: &mut Samples,
) -> Result<Sample, Fault> {
    if !(INTERVAL_MIN_MS..=INTERVAL_MAX_MS).contains(&milliseconds) {
        let message =
            format!("the interval is {milliseconds} ms; it may be {INTERVAL_MIN_MS} to {INTERVAL_MAX_MS} ms");
        return Err(Fault::new("interval_out_of_range", message));
    }
    let interval = Duration::from_millis(milliseconds.into());
    let age = samples.age().unwrap_or_else(|| {
        samples.begin(&shared.sampler);
        Duration::ZERO
    });
    let due = Instant::now() + interval.saturating_sub(age);
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() || has_closed(client) || shared.ended.load(Ordering::Relaxed) {
            return Ok(samples.next(&shared.sampler, TOP_MAX));
        }
        thread::sleep(left.min(SAMPLE_POLL_INTERVAL));
    }
}

/// Checks a number of rows.
fn within(top: usize) -> Result<usize, Fault> {
    if top <= TOP_MAX {
        return Ok(top);
    }
    Err(Fault::new("top_out_of_range", format!("top is {top}; at most {TOP_MAX} rows are returned")))
}

fn status(shared: &Shared) -> Status {
    let (reports, _) = collect(&shared.shards, ShardHandle::report);
    let status = |shard: &ShardHandle| {
        let report = reports.iter().find(|(number, _)| *number == shard.number()).map(|(_, report)| report);
        shard_status(shard, report)
    };
    let identity = &shared.identity;
    Status {
        name: identity.name.clone(),
        version: identity.version.clone(),
        pid: process::id(),
        uptime_seconds: shared.started.elapsed().as_secs(),
        listen: identity.listen.clone(),
        admin: identity.admin.clone(),
        log_level: log_level::level(),
        is_draining: is_draining(shared),
        is_memory_short: shared.pressure.is_high(),
        resident_bytes: resident_memory(),
        shards: shared.shards.iter().map(status).collect(),
    }
}

fn shard_status(shard: &ShardHandle, report: Option<&ShardReport>) -> ShardStatus {
    let counted = report.map(|report| ShardStatus {
        connections: report.connections,
        calls_in_flight: report.calls_in_flight,
        sessions: report.sessions_kept,
        subscribers: report.listeners,
        replies: report.metrics.replies(),
        busy_seconds: report.metrics.busy().as_secs_f64(),
        ..ShardStatus::default()
    });
    ShardStatus {
        shard: shard.number(),
        state: shard_state(shard, report.is_some()).to_owned(),
        mailbox_messages: shard.mailbox().len(),
        ..counted.unwrap_or_default()
    }
}

fn connections(shared: &Shared, top: usize) -> Connections {
    let mut inspections = Inspections::collect(shared, View::Connections, top);
    let shards = inspections.totals();
    Connections {
        total: shards.iter().map(|shard| shard.connections.used).sum(),
        connections: inspections.rows(|shard| &mut shard.connections, |row| row.kept_bytes),
        shards,
        unresponsive: inspections.unresponsive,
    }
}

fn sessions(shared: &Shared, top: usize) -> Sessions {
    let mut inspections = Inspections::collect(shared, View::Sessions, top);
    let shards = inspections.totals();
    Sessions {
        total: shards.iter().map(|shard| shard.sessions.used).sum(),
        sessions: inspections
            .rows(|shard| &mut shard.sessions, |row| row.replay_bytes + row.subscription_bytes),
        shards,
        unresponsive: inspections.unresponsive,
    }
}

fn memory(shared: &Shared, top: usize) -> Memory {
    let mut inspections = Inspections::collect(shared, View::Memory, top);
    Memory {
        resident_bytes: resident_memory(),
        memory_max: shared.memory_max,
        allocator: allocator(),
        shards: inspections.totals(),
        connections: inspections.rows(|shard| &mut shard.connections, |row| row.kept_bytes),
        sessions: inspections
            .rows(|shard| &mut shard.sessions, |row| row.replay_bytes + row.subscription_bytes),
        subscriptions: inspections.rows(|shard| &mut shard.subscriptions, |row| row.bytes),
        replay_buffers: inspections.rows(|shard| &mut shard.replay_buffers, |row| row.bytes),
        tools: tools(shared, top),
        unresponsive: inspections.unresponsive,
    }
}

/// The tools with the largest schemas. Compiled schemas are shared by the shards.
fn tools(shared: &Shared, top: usize) -> Vec<ToolRow> {
    let Some(served) = shared.shards.first().and_then(ShardHandle::newest) else { return Vec::new() };
    let row = |(name, bytes, subschemas): (&str, usize, usize)| ToolRow {
        name: name.to_owned(),
        schema_bytes: bytes as u64,
        subschemas,
    };
    let mut tools: Vec<ToolRow> = served.snapshot.schemas().map(row).collect();
    tools.sort_by_key(|tool| std::cmp::Reverse(tool.schema_bytes));
    tools.truncate(top);
    tools
}

fn buffers(shared: &Shared, top: usize, shrink: bool) -> Buffers {
    let mut inspections = Inspections::collect(shared, View::Buffers { shrink }, top);
    let freed_bytes = shrink.then(|| inspections.freed_bytes());
    if let Some(freed_bytes) = freed_bytes {
        info!(freed_bytes, "buffers were shrunk through the control socket");
    }
    Buffers {
        connections: inspections.rows(|shard| &mut shard.connections, |row| row.kept_bytes - row.used_bytes),
        shards: inspections.totals(),
        freed_bytes,
        unresponsive: inspections.unresponsive,
    }
}

fn fragmentation(allocator: Option<Allocator>) -> Fragmentation {
    let ratio = allocator.as_ref().map(|allocator| ratio(allocator.allocated, allocator.resident));
    Fragmentation {
        resident_bytes: resident_memory(),
        allocator,
        ratio,
        is_high: ratio.is_some_and(|ratio| ratio > FRAGMENTATION_MAX),
    }
}

/// The share of the resident memory that is not allocated.
fn ratio(allocated: u64, resident: u64) -> f64 {
    if resident == 0 { 0.0 } else { resident.saturating_sub(allocated) as f64 / resident as f64 }
}

fn log_level(level: Option<LogLevel>) -> Result<LogLevels, Fault> {
    let missing = || {
        let message = "the program that runs this server has its own log, whose level it sets itself";
        Fault::new("log_unavailable", message)
    };
    let Some(level) = level else {
        return Ok(LogLevels { level: log_level::level().ok_or_else(missing)?, before: None });
    };
    let before = log_level::set_level(level).ok_or_else(missing)?;
    info!(?before, ?level, "the level of the log was changed through the control socket");
    Ok(LogLevels { level, before: Some(before) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragmentation_is_high_above_a_half() {
        let of = |allocated, resident| {
            let allocator = Allocator {
                name: String::new(),
                allocated,
                active: 0,
                resident,
                retained: 0,
                metadata: 0,
                arenas: Vec::new(),
            };
            fragmentation(Some(allocator))
        };
        assert_eq!((of(50, 100).ratio, of(50, 100).is_high), (Some(0.5), false));
        assert_eq!((of(49, 100).ratio, of(49, 100).is_high), (Some(0.51), true));
        assert_eq!((of(0, 0).ratio, of(9, 8).ratio), (Some(0.0), Some(0.0)));
        assert_eq!((fragmentation(None).ratio, fragmentation(None).is_high), (None, false));
    }

    #[test]
    fn number_of_rows_is_bounded() {
        assert_eq!(within(TOP_MAX), Ok(TOP_MAX));
        assert_eq!(within(TOP_MAX + 1).unwrap_err().reason, "top_out_of_range");
    }
}
