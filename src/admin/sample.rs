//! Samples: what the server did between two reports of its shards. `ctl top` and the dashboard show them.

use std::{
    collections::BTreeMap,
    process,
    time::{Duration, Instant},
};

use super::{collect::collect, rollouts::rollout_row};
use crate::{
    control::{
        Counted, FlagSample, PoolSample, RolloutRow, Sample, ShardLoad, ShardSample, ToolSample, Traffic,
    },
    memory::MemoryPressure,
    policy::Flag,
    runtime::PoolObserver,
    shard::{FlagControl, ShardHandle},
    telemetry::metrics::{ConnectionState, Distribution, ShardReport, ToolCounts, resident_memory},
};

/// The parts of the server that a sample is made of.
pub(crate) struct Sampler {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) started: Instant,
    pub(crate) shards: Vec<ShardHandle>,
    pub(crate) flags: FlagControl,
    pub(crate) pool: PoolObserver,
    pub(crate) pressure: MemoryPressure,
    /// The memory that the process may use, in bytes.
    pub(crate) memory_max: u64,
}

impl Sampler {
    /// The counts until now. A shard that does not answer keeps those of `before`.
    pub(super) fn read(&self, before: Option<&Reading>) -> Reading {
        let (reports, _) = collect(&self.shards, ShardHandle::report);
        let mut shards: BTreeMap<usize, ShardCounts> =
            reports.iter().map(|(number, report)| (*number, ShardCounts::of(report))).collect();
        for (number, counts) in before.iter().flat_map(|before| &before.shards) {
            shards.entry(*number).or_insert_with(|| ShardCounts { gauges: None, ..counts.clone() });
        }
        Reading { at: Instant::now(), shards }
    }

    /// The flags that are being rolled out or were rolled back.
    fn rollouts(&self) -> Vec<RolloutRow> {
        let rows = self.flags.reports().into_iter().map(rollout_row);
        rows.filter(|row| matches!(row.state.as_str(), "rolling_out" | "rolled_back")).collect()
    }

    /// What the server did between two readings, with at most `tools_max` tools.
    pub(super) fn sample(&self, before: &Reading, now: &Reading, tools_max: usize) -> Sample {
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        let none = ShardCounts::default();
        let pairs: Vec<_> = now
            .shards
            .iter()
            .map(|(number, counts)| (*number, before.shards.get(number).unwrap_or(&none), counts))
            .collect();
        let mut latencies = Distribution::default();
        let shards: Vec<ShardSample> =
            self.shards.iter().map(|shard| shard_sample(shard, &pairs, seconds, &mut latencies)).collect();
        let mut tools = tool_samples(&pairs, seconds);
        let tools_omitted = tools.len().saturating_sub(tools_max);
        tools.truncate(tools_max);
        Sample {
            name: self.name.clone(),
            version: self.version.clone(),
            pid: process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            is_draining: self.shards.iter().any(ShardHandle::is_draining),
            is_memory_short: self.pressure.is_high(),
            seconds,
            resident_bytes: resident_memory(),
            memory_max: self.memory_max,
            pool: self.pool.load().map(|load| PoolSample {
                queued: load.queued as u64,
                // The counts are not read atomically, hence the saturation.
                running: load.threads.saturating_sub(load.idle).saturating_sub(load.waiting) as u64,
                idle: load.idle as u64,
                waiting_for_client: load.waiting as u64,
            }),
            total: total(&shards, &latencies, seconds),
            shards,
            tools,
            tools_omitted,
            flags: flag_samples(&pairs),
            rollouts: self.rollouts(),
            refusals: differences(&pairs, |counts| &counts.refusals),
            events: differences(&pairs, |counts| &counts.events),
        }
    }
}

/// Samples of consecutive intervals.
#[derive(Default)]
pub(super) struct Samples {
    before: Option<Reading>,
}

impl Samples {
    /// Time since the last reading; `None` before the first.
    pub(super) fn age(&self) -> Option<Duration> {
        self.before.as_ref().map(|before| before.at.elapsed())
    }

    /// Begins an interval now, without a sample of the time before.
    pub(super) fn begin(&mut self, sampler: &Sampler) {
        self.before = Some(sampler.read(None));
    }

    /// The sample since the last reading. Without one, all counts since the start.
    pub(super) fn next(&mut self, sampler: &Sampler, tools_max: usize) -> Sample {
        let now = sampler.read(self.before.as_ref());
        let none = Reading { at: sampler.started, shards: BTreeMap::new() };
        let sample = sampler.sample(self.before.as_ref().unwrap_or(&none), &now, tools_max);
        self.before = Some(now);
        sample
    }
}

/// The counts of all shards at one time.
pub(super) struct Reading {
    at: Instant,
    shards: BTreeMap<usize, ShardCounts>,
}

/// Counts of a shard since its start.
#[derive(Clone, Default)]
struct ShardCounts {
    latencies: Distribution,
    tools: BTreeMap<String, ToolCounts>,
    refusals: BTreeMap<&'static str, u64>,
    events: BTreeMap<&'static str, u64>,
    busy: Duration,
    /// Messages handled with each flag on, and off.
    flag_requests: Vec<(u64, u64)>,
    /// `None` where the shard did not answer.
    gauges: Option<Gauges>,
}

#[derive(Clone, Default)]
struct Gauges {
    load: ShardLoad,
    tool_calls: BTreeMap<String, u64>,
    are_on: Vec<bool>,
}

impl ShardCounts {
    fn of(report: &ShardReport) -> Self {
        let metrics = &report.metrics;
        let streaming = ConnectionState::Streaming as usize;
        let load = ShardLoad {
            calls_in_flight: report.calls_in_flight as u64,
            connections: report.connections as u64,
            streams: report.connection_states.get(streaming).map_or(0, |count| *count as u64),
            subscribers: report.listeners as u64,
            memory_bytes: report.buffer_bytes + report.replay_bytes as u64 + report.subscription_bytes,
            ..ShardLoad::default()
        };
        let calls = report.tool_calls.iter().map(|(name, count)| (name.to_string(), *count as u64));
        let gauges = Gauges {
            load,
            tool_calls: calls.collect(),
            are_on: report.flags.iter().map(|(_, is_on)| is_on).collect(),
        };
        let requests =
            |flag: &Flag| (metrics.flags.requests(*flag, true), metrics.flags.requests(*flag, false));
        Self {
            latencies: metrics.latencies(),
            tools: metrics.tool_counts().map(|(name, counts)| (name.to_owned(), counts)).collect(),
            refusals: metrics.refusals_by_reason().clone(),
            events: metrics.all_events().clone(),
            busy: metrics.busy(),
            flag_requests: Flag::ALL.iter().map(requests).collect(),
            gauges: Some(gauges),
        }
    }

    /// Rejections, and calls of tools whose result is an error.
    fn errors(&self) -> u64 {
        self.refusals.values().sum::<u64>() + self.tools.values().map(|tool| tool.error_results).sum::<u64>()
    }
}

/// A shard with its counts at the begin and at the end of the interval.
type Pair<'a> = (usize, &'a ShardCounts, &'a ShardCounts);

fn traffic(latencies: &Distribution, errors: u64, seconds: f64) -> Traffic {
    let requests = latencies.len();
    let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let quantile = |quantile| (requests > 0).then(|| latencies.value_at_quantile(quantile) as f64 / 1000.0);
    Traffic {
        requests,
        requests_per_second: per_second(requests),
        errors,
        errors_per_second: per_second(errors),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
    }
}

/// The sample of one shard, whose latencies are added to those of all.
fn shard_sample(
    shard: &ShardHandle,
    pairs: &[Pair<'_>],
    seconds: f64,
    all: &mut Distribution,
) -> ShardSample {
    let number = shard.number();
    let none = (number, &ShardCounts::default(), &ShardCounts::default());
    let (_, before, now) = *pairs.iter().find(|(found, ..)| *found == number).unwrap_or(&none);
    let latencies = now.latencies.since(&before.latencies);
    let errors = now.errors().saturating_sub(before.errors());
    let busy = now.busy.saturating_sub(before.busy).as_secs_f64();
    let load = ShardLoad {
        traffic: traffic(&latencies, errors, seconds),
        busy_share: if seconds > 0.0 { (busy / seconds).min(1.0) } else { 0.0 },
        mailbox_messages: shard.mailbox().len() as u64,
        ..now.gauges.as_ref().map(|gauges| gauges.load).unwrap_or_default()
    };
    all.add(latencies);
    ShardSample { shard: number, state: shard_state(shard, now.gauges.is_some()).to_owned(), load }
}

/// The state of a shard, given whether it has answered.
pub(super) fn shard_state(shard: &ShardHandle, has_answered: bool) -> &'static str {
    match has_answered {
        _ if shard.has_ended() => "ended",
        _ if shard.is_down() => "restarting",
        false => "unresponsive",
        true if shard.is_draining() => "draining",
        true => "running",
    }
}

fn total(shards: &[ShardSample], latencies: &Distribution, seconds: f64) -> ShardLoad {
    let sum = |value: fn(&ShardLoad) -> u64| shards.iter().map(|shard| value(&shard.load)).sum();
    let busy: f64 = shards.iter().map(|shard| shard.load.busy_share).sum();
    ShardLoad {
        traffic: traffic(latencies, sum(|load| load.traffic.errors), seconds),
        busy_share: busy / shards.len().max(1) as f64,
        calls_in_flight: sum(|load| load.calls_in_flight),
        connections: sum(|load| load.connections),
        streams: sum(|load| load.streams),
        subscribers: sum(|load| load.subscribers),
        mailbox_messages: sum(|load| load.mailbox_messages),
        memory_bytes: sum(|load| load.memory_bytes),
    }
}

/// The tools that were called since the start, most requests in the interval first.
fn tool_samples(pairs: &[Pair<'_>], seconds: f64) -> Vec<ToolSample> {
    let mut tools = BTreeMap::<&str, (ToolCounts, u64)>::new();
    for (_, before, now) in pairs {
        let calls = now.gauges.as_ref().map(|gauges| &gauges.tool_calls);
        for (name, counts) in &now.tools {
            let calls = calls.and_then(|calls| calls.get(name)).copied().unwrap_or(0);
            if counts.latencies.len() == 0 && counts.failed == 0 && calls == 0 {
                continue;
            }
            let none = ToolCounts::default();
            let before = before.tools.get(name).unwrap_or(&none);
            let (sum, in_flight) = tools.entry(name).or_default();
            sum.latencies.add(counts.latencies.since(&before.latencies));
            sum.failed += counts.failed.saturating_sub(before.failed);
            *in_flight += calls;
        }
    }
    let sample = |(name, (counts, calls_in_flight)): (&str, (ToolCounts, u64))| ToolSample {
        name: name.to_owned(),
        traffic: traffic(&counts.latencies, counts.failed, seconds),
        calls_in_flight,
    };
    let mut tools: Vec<ToolSample> = tools.into_iter().map(sample).collect();
    tools.sort_by_key(|tool| std::cmp::Reverse((tool.traffic.requests, tool.calls_in_flight)));
    tools
}

fn flag_samples(pairs: &[Pair<'_>]) -> Vec<FlagSample> {
    let sample = |(index, flag): (usize, &Flag)| {
        let requests = |counts: &ShardCounts| counts.flag_requests.get(index).copied().unwrap_or_default();
        let (mut requests_on, mut requests_off) = (0, 0);
        for (_, before, now) in pairs {
            let ((before_on, before_off), (on, off)) = (requests(before), requests(now));
            requests_on += on.saturating_sub(before_on);
            requests_off += off.saturating_sub(before_off);
        }
        let mut positions = pairs.iter().filter_map(|(_, _, now)| now.gauges.as_ref()?.are_on.get(index));
        let is_on = positions.next().copied().unwrap_or(true);
        let position = if positions.any(|other| *other != is_on) { "mixed" } else { flag.position(is_on) };
        FlagSample {
            flag: flag.name().to_owned(),
            position: position.to_owned(),
            is_on,
            requests_on,
            requests_off,
        }
    };
    Flag::ALL.iter().enumerate().map(sample).collect()
}

/// The counters that have increased, by how much, largest first.
fn differences(
    pairs: &[Pair<'_>],
    counters: fn(&ShardCounts) -> &BTreeMap<&'static str, u64>,
) -> Vec<Counted> {
    let mut sums = BTreeMap::<&str, u64>::new();
    for (_, before, now) in pairs {
        for (name, count) in counters(now) {
            *sums.entry(name).or_default() +=
                count.saturating_sub(counters(before).get(name).copied().unwrap_or(0));
        }
    }
    let mut counted: Vec<Counted> = sums
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| Counted { name: name.to_owned(), count })
        .collect();
    counted.sort_by_key(|counted| std::cmp::Reverse(counted.count));
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{ShardMetrics, ToolFailure, ToolSeries};

    const TOOLS: [&str; 3] = ["a", "<script>\"&", "unused"];

    /// The counts of a shard with this number of calls of each tool, each of which takes a millisecond.
    fn counts(calls: [u64; 3], failed: u64) -> ShardCounts {
        let mut metrics = ShardMetrics::new(["tools/call"]);
        metrics.set_tools(ToolSeries::new(TOOLS));
        for ((position, name), calls) in TOOLS.iter().enumerate().zip(calls) {
            for _ in 0..calls {
                metrics.record(0, Duration::from_millis(1));
                metrics.record_tool(position, name, Duration::from_millis(1));
            }
        }
        for _ in 0..failed {
            metrics.tool_failed(0, "a", ToolFailure::Error);
            metrics.refuse("busy");
            metrics.event("cancelled");
        }
        ShardCounts {
            latencies: metrics.latencies(),
            tools: metrics.tool_counts().map(|(name, counts)| (name.to_owned(), counts)).collect(),
            refusals: metrics.refusals_by_reason().clone(),
            events: metrics.all_events().clone(),
            ..ShardCounts::default()
        }
    }

    #[test]
    fn tools_are_summed_over_shards_and_the_busiest_is_first() {
        let (none, one, two) = (ShardCounts::default(), counts([3, 5, 0], 2), counts([4, 9, 0], 3));
        let tools = tool_samples(&[(0, &one, &two), (1, &none, &one)], 2.0);
        let rows: Vec<_> = tools
            .iter()
            .map(|tool| {
                (
                    tool.name.as_str(),
                    tool.traffic.requests,
                    tool.traffic.errors,
                    tool.traffic.requests_per_second,
                )
            })
            .collect();
        assert_eq!(rows, [("<script>\"&", 9, 0, 4.5), ("a", 4, 3, 2.0)]);
        let p99 = tools[0].traffic.p99_us.unwrap();
        assert!((1000.0..1010.0).contains(&p99), "{p99}");
        assert_eq!(two.errors() - one.errors(), 2, "a rejection, and a result that is an error");
    }

    #[test]
    fn only_counters_that_increased_are_listed() {
        let (none, one, two) = (ShardCounts::default(), counts([1, 0, 0], 2), counts([1, 0, 0], 2));
        let refusals = |pairs: &[Pair<'_>]| differences(pairs, |counts| &counts.refusals);
        assert_eq!(refusals(&[(0, &one, &two)]), []);
        assert_eq!(refusals(&[(0, &none, &two)]), [Counted { name: "busy".to_owned(), count: 2 }]);
        assert_eq!(refusals(&[(0, &two, &none)]), [], "a counter that was lost");
        let idle = traffic(&two.latencies.since(&one.latencies), 0, 1.0);
        assert_eq!((idle.requests, idle.p50_us), (0, None));
    }
}
