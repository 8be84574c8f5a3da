//! What the shards did in an interval: the difference of two readings of their metrics.

use std::{collections::BTreeMap, time::Instant};

use super::metrics::{Distribution, ShardReport, Stage, ThreadTimes, shard_threads};
use crate::policy::Flags;

/// Metrics since the start.
pub(crate) struct Reading {
    at: Instant,
    shards: BTreeMap<usize, ShardReading>,
    threads: BTreeMap<usize, ThreadTimes>,
}

/// Metrics of one shard since the start.
struct ShardReading {
    /// Time in turns with work, in turns without, and asleep, in seconds.
    times: [f64; 3],
    stages: BTreeMap<Stage, Distribution>,
    samples: u64,
    counts: Counts,
    /// Calls and their nanoseconds by tool.
    tools: BTreeMap<String, (u64, u64)>,
    flags: Flags,
    buffer_bytes: u64,
}

/// Counts of what the shards did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) tool_calls: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) schema_cache_hits: u64,
    pub(crate) schema_cache_misses: u64,
    pub(crate) copied_bytes: u64,
    pub(crate) serialized_calls: u64,
    pub(crate) notifications: u64,
    /// Times that clients were notified of missed events, and connections that read their events too slowly.
    pub(crate) events_missed: u64,
    pub(crate) slow_readers: u64,
    /// Requests and connections that were refused for their memory.
    pub(crate) memory_refusals: u64,
    /// Calls that were refused as busy.
    pub(crate) busy_refusals: u64,
}

/// Counts, and the function that reads each.
type CountField = (fn(&mut Counts) -> &mut u64, fn(&ShardReport) -> u64);

const COUNTS: [CountField; 13] = [
    (|counts| &mut counts.requests, |report| report.metrics.replies()),
    (|counts| &mut counts.tool_calls, |report| report.metrics.tool_times().map(|(_, calls, _)| calls).sum()),
    (|counts| &mut counts.received_bytes, |report| report.metrics.bytes()[0]),
    (|counts| &mut counts.sent_bytes, |report| report.metrics.bytes()[1]),
    (|counts| &mut counts.schema_cache_hits, |report| report.metrics.flags.schema_cache_hits),
    (|counts| &mut counts.schema_cache_misses, |report| report.metrics.flags.schema_cache_misses),
    (|counts| &mut counts.copied_bytes, |report| report.metrics.flags.copied_bytes),
    (|counts| &mut counts.serialized_calls, |report| report.metrics.flags.serialized_calls),
    (|counts| &mut counts.notifications, |report| report.metrics.flags.notifications),
    (|counts| &mut counts.events_missed, |report| report.metrics.events("events_missed")),
    (|counts| &mut counts.slow_readers, |report| report.metrics.refusals("slow_reader")),
    (
        |counts| &mut counts.memory_refusals,
        |report| ["memory_max", "result_memory"].map(|reason| report.metrics.refusals(reason)).iter().sum(),
    ),
    (|counts| &mut counts.busy_refusals, |report| report.metrics.refusals("busy")),
];

/// What the shards did in an interval.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) seconds: f64,
    /// The shards that answered both times.
    pub(crate) shards: Vec<ShardInterval>,
    pub(crate) stages: BTreeMap<Stage, StageTime>,
    /// Number of sampled requests.
    pub(crate) samples: u64,
    pub(crate) counts: Counts,
    /// Flags that are on on all shards.
    pub(crate) flags: Flags,
    /// The tool with the most time.
    pub(crate) first_tool: Option<ToolTime>,
    /// The most bytes in the buffers of a shard that are counted.
    pub(crate) buffer_bytes: u64,
}

/// Seconds of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ShardInterval {
    pub(crate) shard: usize,
    /// In turns with work.
    pub(crate) busy: f64,
    /// In turns without work.
    pub(crate) spin: f64,
    pub(crate) sleep: f64,
    /// Processor time of its thread; `None` where it cannot be read.
    pub(crate) threads: Option<ThreadTimes>,
}

/// Time in one stage, over all methods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct StageTime {
    /// Estimate of all time in the stage.
    pub(crate) seconds: f64,
    /// Estimate of the requests that passed it.
    pub(crate) requests: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Time in the calls of one tool, waits included.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolTime {
    pub(crate) name: String,
    pub(crate) calls: u64,
    pub(crate) mean_us: f64,
}

impl StageTime {
    pub(crate) fn mean_us(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.seconds * 1e6 / self.requests as f64 }
    }
}

impl Reading {
    /// Copies the metrics of these reports.
    pub(crate) fn new(reports: &[ShardReport]) -> Self {
        let shards = reports.iter().map(|report| (report.shard, ShardReading::new(report))).collect();
        Self { at: Instant::now(), shards, threads: shard_threads() }
    }

    /// What happened since an earlier reading.
    pub(crate) fn since(&self, before: &Self) -> Interval {
        let mut interval = Interval {
            seconds: self.at.saturating_duration_since(before.at).as_secs_f64(),
            shards: Vec::new(),
            stages: BTreeMap::new(),
            samples: 0,
            counts: Counts::default(),
            flags: Flags::ALL,
            first_tool: None,
            buffer_bytes: 0,
        };
        let (mut stages, mut tools) = (BTreeMap::<Stage, Distribution>::new(), BTreeMap::new());
        for (number, shard) in &self.shards {
            let Some(earlier) = before.shards.get(number) else { continue };
            interval.add(*number, shard, earlier);
            let none = Distribution::default();
            for (stage, times) in &shard.stages {
                let times = times.since(earlier.stages.get(stage).unwrap_or(&none));
                stages.entry(*stage).or_default().add(times);
            }
            for (name, (calls, time)) in &shard.tools {
                let (calls_before, time_before) = earlier.tools.get(name).copied().unwrap_or_default();
                let total: &mut (u64, u64) = tools.entry(name.as_str()).or_default();
                total.0 += calls.saturating_sub(calls_before);
                total.1 += time.saturating_sub(time_before);
            }
        }
        for shard in &mut interval.shards {
            let times = self.threads.get(&shard.shard).zip(before.threads.get(&shard.shard));
            shard.threads = times.map(|(now, before)| ThreadTimes {
                user: (now.user - before.user).max(0.0),
                kernel: (now.kernel - before.kernel).max(0.0),
            });
        }
        interval.stages = stages.iter().filter(|(_, times)| times.len() > 0).map(stage_time).collect();
        let first = tools.into_iter().filter(|(_, (calls, _))| *calls > 0).max_by_key(|(_, (_, time))| *time);
        interval.first_tool = first.map(|(name, (calls, time))| ToolTime {
            name: name.to_owned(),
            calls,
            mean_us: time as f64 / 1000.0 / calls as f64,
        });
        interval
    }
}

fn stage_time((stage, times): (&Stage, &Distribution)) -> (Stage, StageTime) {
    let quantile = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
    let time = StageTime {
        seconds: times.sum_ns() as f64 / 1e9,
        requests: times.len(),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
    };
    (*stage, time)
}

impl ShardReading {
    fn new(report: &ShardReport) -> Self {
        let metrics = &report.metrics;
        let mut stages = BTreeMap::<Stage, Distribution>::new();
        for ((_, stage), times) in metrics.stages.times() {
            stages.entry(stage).or_default().add(times);
        }
        let [spin, sleep] = metrics.idle();
        let mut counts = Counts::default();
        COUNTS.iter().for_each(|(field, read)| *field(&mut counts) = read(report));
        Self {
            times: [metrics.busy(), spin, sleep].map(|time| time.as_secs_f64()),
            stages,
            samples: metrics.stages.samples(),
            counts,
            tools: metrics.tool_times().map(|(name, calls, time)| (name.to_owned(), (calls, time))).collect(),
            flags: report.flags,
            buffer_bytes: report.buffer_bytes,
        }
    }
}

impl Interval {
    /// Adds one shard, without its histograms.
    fn add(&mut self, number: usize, shard: &ShardReading, before: &ShardReading) {
        let mut times = shard.times.iter().zip(before.times).map(|(now, before)| (now - before).max(0.0));
        let mut next = || times.next().unwrap_or(0.0);
        let (busy, spin, sleep) = (next(), next(), next());
        self.shards.push(ShardInterval { shard: number, busy, spin, sleep, threads: None });
        self.samples += shard.samples.saturating_sub(before.samples);
        let (mut now, mut earlier) = (shard.counts, before.counts);
        for (field, _) in &COUNTS {
            *field(&mut self.counts) += field(&mut now).saturating_sub(*field(&mut earlier));
        }
        self.flags = Flags::from_bits(self.flags.bits() & shard.flags.bits());
        self.buffer_bytes = self.buffer_bytes.max(shard.buffer_bytes);
    }

    /// Seconds in the stages in which a shard works.
    pub(crate) fn work_seconds(&self) -> f64 {
        self.stages.iter().filter(|(stage, _)| !stage.is_wait()).map(|(_, time)| time.seconds).sum()
    }

    /// Seconds in all stages.
    pub(crate) fn stage_seconds(&self) -> f64 {
        self.stages.values().map(|time| time.seconds).sum()
    }

    /// A stage, empty if nothing passed it.
    pub(crate) fn stage(&self, stage: Stage) -> StageTime {
        self.stages.get(&stage).copied().unwrap_or_default()
    }

    /// The share of the work of the shards that is in these stages, 0 to 1.
    pub(crate) fn work_share(&self, stages: &[Stage]) -> f64 {
        let seconds: f64 = stages.iter().map(|stage| self.stage(*stage).seconds).sum();
        ratio(seconds, self.work_seconds())
    }

    /// The share of the interval in which the busiest shard neither polled in vain nor slept, 0 to 1: work, and system calls.
    pub(crate) fn highest_load(&self) -> f64 {
        let load = |shard: &ShardInterval| 1.0 - ratio(shard.spin + shard.sleep, self.seconds).min(1.0);
        self.shards.iter().map(load).fold(0.0, f64::max)
    }
}

/// `part / whole`; 0 for an empty whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::metrics::ShardMetrics;

    fn report(shard: usize, metrics: &ShardMetrics) -> ShardReport {
        ShardReport {
            shard,
            flags: Flags::ALL,
            metrics: metrics.clone(),
            connections: 0,
            connection_states: [0; 6],
            calls_in_flight: 0,
            tool_calls: Vec::new(),
            listeners: 0,
            subscribed: 0,
            subscription_bytes: 0,
            sessions_kept: 0,
            replay_streams: 0,
            replay_bytes: 0,
            replay_streams_attached: 0,
            tasks: 0,
            buffer_bytes: 7,
        }
    }

    #[test]
    fn interval_has_nothing_of_the_time_before_it() {
        let mut metrics = ShardMetrics::new(["a", "b"]);
        metrics.stages.record(0, Stage::Decode, 5_000_000, 64);
        metrics.add_spin(Duration::from_secs(5));
        metrics.receive(1000);
        let before = Reading::new(&[report(0, &metrics)]);
        metrics.stages.record(1, Stage::Decode, 1_000_000, 64);
        metrics.stages.record(1, Stage::Run, 3_000_000, 64);
        metrics.stages.record(1, Stage::SendWait, 9_000_000, 64);
        metrics.add_sleep(Duration::from_millis(1));
        metrics.receive(24);
        let after = Reading::new(&[report(0, &metrics), report(1, &metrics)]);
        let interval = after.since(&before);
        assert_eq!(interval.shards.len(), 1, "a shard that was not read before is omitted");
        assert_eq!((interval.shards[0].spin, interval.shards[0].sleep), (0.0, 0.001));
        assert_eq!((interval.counts.received_bytes, interval.counts.requests), (24, 0));
        assert_eq!(interval.buffer_bytes, 7);
        let decode = interval.stage(Stage::Decode);
        assert_eq!((decode.requests, decode.seconds, decode.mean_us()), (64, 0.064, 1000.0));
        assert_eq!(interval.work_share(&[Stage::Run]), 0.75, "waits are no work");
        assert_eq!(interval.stage(Stage::Guard).requests, 0);
    }
}
