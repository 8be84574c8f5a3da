//! The handlers of `bottlenecks` and `advise`: two readings of the metrics of all shards, and what happened between them.

use std::{
    collections::BTreeSet,
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use super::{super::collect::collect, shared::Shared};
use crate::{
    control::{Advice, AdviceRow, Bottlenecks, Fault, INTERVAL_SECONDS_MAX, Priority, ShardTimes, StageRow},
    policy::{Flag, Flags},
    shard::ShardHandle,
    telemetry::{
        advice::{MetricSet, advise},
        interval::{Interval, Reading, ShardInterval, StageTime, ratio},
        metrics::{Stage, resident_memory},
    },
};

/// Time between two checks whether the observation is cancelled.
const CANCEL_POLL_INTERVAL: Duration = Duration::from_millis(40);

/// Where requests spend their time.
///
/// # Errors
/// The interval is out of range.
pub(super) fn bottlenecks(
    shared: &Shared,
    seconds: u32,
    is_cancelled: impl Fn() -> bool,
) -> Result<Bottlenecks, Fault> {
    let (interval, unresponsive) = observe(shared, seconds, is_cancelled)?;
    let sample_interval = shared.limits.stage_sample_interval;
    let row = |(stage, time): (&Stage, &StageTime)| stage_row(*stage, time, &interval, sample_interval);
    let times = |shard: &ShardInterval| shard_times(shard, interval.seconds);
    Ok(Bottlenecks {
        seconds: interval.seconds,
        requests: interval.counts.requests,
        samples: interval.samples,
        sample_interval,
        stages: interval.stages.iter().map(row).collect(),
        shards: interval.shards.iter().map(times).collect(),
        unresponsive,
    })
}

/// What to change.
///
/// # Errors
/// As [`bottlenecks`].
pub(super) fn advice(
    shared: &Shared,
    seconds: u32,
    is_cancelled: impl Fn() -> bool,
) -> Result<Advice, Fault> {
    let (interval, unresponsive) = observe(shared, seconds, is_cancelled)?;
    let flags = interval.flags;
    let metrics = MetricSet {
        cores: thread::available_parallelism().map_or(1, NonZero::get),
        resident_bytes: resident_memory().unwrap_or(0),
        memory_max: shared.memory_max,
        buffer_bytes_max: shared.limits.buffers_bytes_max as u64,
        interval,
    };
    let rows = advise(&metrics).into_iter().map(|advice| AdviceRow {
        branch: advice.branch.name().to_owned(),
        flag: advice.branch.flag().name().to_owned(),
        is_on: flags.is_on(advice.branch.flag()),
        evidence: advice.evidence,
        setting: advice.setting,
        change: advice.change,
    });
    Ok(Advice {
        seconds: metrics.interval.seconds,
        requests: metrics.interval.counts.requests,
        samples: metrics.interval.samples,
        sample_interval: shared.limits.stage_sample_interval,
        advice: rows.collect(),
        unresponsive,
    })
}

/// Observes the shards for an interval, until it is cancelled at the latest. Returns the shards that did not answer too.
fn observe(
    shared: &Shared,
    seconds: u32,
    is_cancelled: impl Fn() -> bool,
) -> Result<(Interval, Vec<usize>), Fault> {
    if !(1..=INTERVAL_SECONDS_MAX).contains(&seconds) {
        let message = format!("the interval is {seconds} s; it must be 1 to {INTERVAL_SECONDS_MAX} s");
        return Err(Fault::new("seconds_out_of_range", message));
    }
    let read = || {
        let (reports, unresponsive) = collect(&shared.shards, ShardHandle::report);
        let reports: Vec<_> = reports.into_iter().map(|(_, report)| report).collect();
        (Reading::new(&reports), unresponsive)
    };
    let (before, mut unresponsive) = read();
    let until = Instant::now() + Duration::from_secs(seconds.into());
    while !is_cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(CANCEL_POLL_INTERVAL));
    }
    let (after, missing) = read();
    unresponsive.extend(missing);
    let unresponsive: BTreeSet<usize> = unresponsive.into_iter().collect();
    Ok((after.since(&before), unresponsive.into_iter().collect()))
}

fn stage_row(stage: Stage, time: &StageTime, interval: &Interval, sample_interval: u32) -> StageRow {
    let work_share = (!stage.is_wait()).then(|| interval.work_share(&[stage]));
    // Notifications are timed always.
    let weight = if stage == Stage::Publish { 1 } else { u64::from(sample_interval.max(1)) };
    StageRow {
        stage: stage.name().to_owned(),
        share: ratio(time.seconds, interval.stage_seconds()),
        work_share,
        mean_us: time.mean_us(),
        p50_us: time.p50_us,
        p99_us: time.p99_us,
        samples: time.requests.div_ceil(weight),
        priority: work_share.map(|share| match share {
            0.25.. => Priority::High,
            0.1.. => Priority::Medium,
            _ => Priority::Low,
        }),
        fix: fix(stage, interval.flags),
    }
}

fn shard_times(shard: &ShardInterval, seconds: f64) -> ShardTimes {
    let [busy, spin, sleep] = [shard.busy, shard.spin, shard.sleep].map(|time| ratio(time, seconds).min(1.0));
    ShardTimes {
        shard: shard.shard,
        busy,
        spin,
        sleep,
        user: shard.threads.map(|times| ratio(times.user, seconds)),
        kernel: shard.threads.map(|times| ratio(times.kernel, seconds)),
    }
}

/// The flag or limit that shortens a stage: the flag if it is off, else the next one.
fn fix(stage: Stage, flags: Flags) -> String {
    let (flag, next) = match stage {
        Stage::ReceiveWait => (Flag::ServerPooling, "server.shards; run_blocking for slow tools"),
        Stage::Frame => (Flag::ZeroCopy, "limits.body_bytes_max"),
        Stage::Guard => return "none: a fixed cost".to_owned(),
        Stage::Decode => (Flag::JsonBackend, "smaller messages"),
        Stage::Route => return "limits.list_page_items_max".to_owned(),
        Stage::Validate => (Flag::SchemaCache, "simpler schemas; limits.validation_inline_work_max"),
        Stage::Run => return "run_blocking or run_async for slow tools".to_owned(),
        Stage::RunPending => (Flag::AsyncTools, "limits.blocking_threads_max"),
        Stage::Encode => return "smaller results".to_owned(),
        Stage::Publish => (Flag::BatchNotifications, "fewer events; limits.subscriptions_max"),
        Stage::SendWait => return "faster readers; limits.write_bytes_per_second_min".to_owned(),
    };
    match flags.is_on(flag) {
        true => next.to_owned(),
        false => {
            format!("performance.{flag} = {}", if flag == Flag::JsonBackend { "\"simd\"" } else { "true" })
        }
    }
}
