//! Advice on performance: a decision tree over what the shards did in an interval. It reads no clock and no state.
//!
//! Thresholds are shares of the work of the shards, so that they mean the same on fast and slow machines.

use std::cmp::Reverse;

use super::{
    interval::{Interval, ratio},
    metrics::Stage,
};
use crate::policy::Flag;

/// Sampled requests below which shares of stages are not judged.
const SAMPLES_MIN: u64 = 20;

/// Share of the work in one stage from which its flag is advised if it is off.
const SHARE_OFF: f64 = 0.25;

/// Share of the work in one stage from which another remedy is advised if its flag is on already.
const SHARE_ON: f64 = 0.5;

/// Load of the busiest shard below which no remedy is advised for a flag that is on.
const LOAD_MIN: f64 = 0.5;

/// Load of the busiest shard from which it is saturated.
const LOAD_SATURATED: f64 = 0.85;

/// Mean size of a message from which it is large, in bytes.
const LARGE_MESSAGE_BYTES: f64 = 8192.0;

/// Share of calls that waited for another one from which they are sequential.
const SERIALIZED_SHARE: f64 = 0.1;

/// Number of calls, or of notifications, below which they are not judged.
const CALLS_MIN: u64 = 5;

/// Mean time of inline handlers from which they hold their shard, in microseconds.
const INLINE_MEAN_US: f64 = 2000.0;

/// Share of a budget of memory from which it is short.
const MEMORY_SHARE: f64 = 0.8;

/// Share of requests refused as busy from which a limit is too low.
const BUSY_SHARE: f64 = 0.01;

/// A branch of the decision tree, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Branch {
    /// Validation takes a large part of the work.
    Validation,
    /// Parsing and encoding JSON takes a large part of the work.
    Json,
    /// Calls wait for one another.
    SequentialCalls,
    /// Notifications to many subscribers take a large part of the work.
    FanOut,
    /// Messages are copied, or memory is short.
    Copies,
    /// A shard has no time left.
    Throughput,
}

impl Branch {
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }

    /// The flag that the branch of the tree names.
    pub(crate) fn flag(self) -> Flag {
        match self {
            Self::Validation => Flag::SchemaCache,
            Self::Json => Flag::JsonBackend,
            Self::SequentialCalls => Flag::AsyncTools,
            Self::FanOut => Flag::BatchNotifications,
            Self::Copies => Flag::ZeroCopy,
            Self::Throughput => Flag::ServerPooling,
        }
    }
}

/// One branch that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    pub(crate) branch: Branch,
    /// The figures that it applies for.
    pub(crate) evidence: String,
    /// The setting to change: a key of the configuration, or of a tool.
    pub(crate) setting: String,
    /// What to change.
    pub(crate) change: String,
}

/// What the advice is based on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetricSet {
    pub(crate) interval: Interval,
    /// Cores that the process may use.
    pub(crate) cores: usize,
    pub(crate) resident_bytes: u64,
    pub(crate) memory_max: u64,
    /// `limits.buffers_bytes_max`.
    pub(crate) buffer_bytes_max: u64,
}

/// The branches that apply: those whose flag is off first, then in the order of the tree. Empty if nothing needs a change.
pub(crate) fn advise(metrics: &MetricSet) -> Vec<Advice> {
    let branches = [validation, json, sequential_calls, fan_out, copies, throughput];
    let mut advice: Vec<Advice> = branches.iter().filter_map(|branch| branch(metrics)).collect();
    advice.sort_by_key(|advice| Reverse(!metrics.is_on(advice.branch)));
    advice
}

impl MetricSet {
    fn is_on(&self, branch: Branch) -> bool {
        self.interval.flags.is_on(branch.flag())
    }

    fn has_samples(&self) -> bool {
        self.interval.samples >= SAMPLES_MIN
    }

    /// Whether the share of the stages in the work is above the threshold for the position of the flag.
    fn is_large(&self, branch: Branch, share: f64) -> bool {
        match self.is_on(branch) {
            true => share >= SHARE_ON && self.interval.highest_load() >= LOAD_MIN,
            false => share >= SHARE_OFF,
        }
    }

    /// Mean of a count for each request.
    fn per_request(&self, count: u64) -> f64 {
        ratio(count as f64, self.interval.counts.requests as f64)
    }

    /// Advises to turn on the flag of a branch.
    fn turn_on(branch: Branch, evidence: String) -> Advice {
        let flag = branch.flag();
        let change = match (flag, flag.is_restart_only()) {
            (Flag::JsonBackend, _) => "set it to \"simd\"".to_owned(),
            (_, true) => "set it to true, and restart the server".to_owned(),
            (_, false) => "set it to true".to_owned(),
        };
        Advice { branch, evidence, setting: format!("performance.{flag}"), change }
    }

    /// The tool with the most time, for an evidence.
    fn first_tool(&self) -> String {
        self.interval.first_tool.as_ref().map_or_else(String::new, |tool| {
            format!(
                "; most time is in the tool {:?}: {} calls of {}",
                tool.name,
                tool.calls,
                time(tool.mean_us)
            )
        })
    }
}

fn validation(metrics: &MetricSet) -> Option<Advice> {
    let branch = Branch::Validation;
    let share = metrics.interval.work_share(&[Stage::Validate]);
    if !metrics.has_samples() || !metrics.is_large(branch, share) {
        return None;
    }
    let validate = metrics.interval.stage(Stage::Validate);
    let counts = metrics.interval.counts;
    let evidence = format!(
        "validation is {} of the work, {} on average, p99 {}; {} of {} validations compiled their schema",
        percent(share),
        time(validate.mean_us()),
        time(validate.p99_us),
        counts.schema_cache_misses,
        counts.schema_cache_misses + counts.schema_cache_hits,
    );
    if !metrics.is_on(branch) {
        return Some(MetricSet::turn_on(branch, evidence));
    }
    Some(Advice {
        branch,
        evidence: evidence + &metrics.first_tool(),
        setting: "limits.validation_inline_work_max".to_owned(),
        change: "schema_cache is on already: simplify the schemas (uniqueItems, pattern, oneOf and anyOf over large values cost the \
                 most), or lower the limit, so that large arguments are validated on the blocking pool"
            .to_owned(),
    })
}

fn json(metrics: &MetricSet) -> Option<Advice> {
    let branch = Branch::Json;
    let interval = &metrics.interval;
    // The flag chooses the parser; replies are encoded in the same way.
    let stages: &[Stage] =
        if metrics.is_on(branch) { &[Stage::Decode, Stage::Encode] } else { &[Stage::Decode] };
    let share = interval.work_share(stages);
    if !metrics.has_samples() || !metrics.is_large(branch, share) {
        return None;
    }
    let counts = interval.counts;
    let [received, sent] = [counts.received_bytes, counts.sent_bytes].map(|bytes| metrics.per_request(bytes));
    let evidence = format!(
        "JSON is {} of the work (decode {}, encode {}); a request has {received:.0} bytes, a reply {sent:.0}",
        percent(interval.work_share(&[Stage::Decode, Stage::Encode])),
        time(interval.stage(Stage::Decode).mean_us()),
        time(interval.stage(Stage::Encode).mean_us()),
    );
    if !metrics.is_on(branch) {
        return Some(MetricSet::turn_on(branch, evidence));
    }
    // Small messages have no smaller form: without other work, JSON is what is left.
    (received.max(sent) >= LARGE_MESSAGE_BYTES).then(|| Advice {
        branch,
        evidence: evidence + &metrics.first_tool(),
        setting: "limits.body_bytes_max".to_owned(),
        change: "json_backend is simd already: send less (resource links instead of embedded contents, smaller pages and results), \
                 and lower the limit to what clients need"
            .to_owned(),
    })
}

fn sequential_calls(metrics: &MetricSet) -> Option<Advice> {
    let branch = Branch::SequentialCalls;
    let interval = &metrics.interval;
    let counts = interval.counts;
    if !metrics.is_on(branch) {
        let calls = counts.tool_calls.max(counts.serialized_calls);
        let share = ratio(counts.serialized_calls as f64, calls as f64);
        if counts.serialized_calls < CALLS_MIN || share < SERIALIZED_SHARE {
            return None;
        }
        let evidence = format!(
            "{} calls of tools waited for another call of their connection, {} of all{}",
            counts.serialized_calls,
            percent(share),
            metrics.first_tool(),
        );
        return Some(MetricSet::turn_on(branch, evidence));
    }
    let busy_share = metrics.per_request(counts.busy_refusals);
    if counts.busy_refusals >= CALLS_MIN && busy_share >= BUSY_SHARE {
        return Some(Advice {
            branch,
            evidence: format!(
                "{} calls were refused as busy, {} of all requests; calls of async and blocking tools take {}{}",
                counts.busy_refusals,
                percent(busy_share),
                time(interval.stage(Stage::RunPending).mean_us()),
                metrics.first_tool(),
            ),
            setting: "limits.calls_in_flight_max".to_owned(),
            change: "async_tools is on already: raise the limit, and limits.blocking_threads_max and limits.blocking_queue_max for \
                     blocking tools"
                .to_owned(),
        });
    }
    let (run, share) = (interval.stage(Stage::Run), interval.work_share(&[Stage::Run]));
    if !metrics.has_samples() || !metrics.is_large(branch, share) || run.mean_us() < INLINE_MEAN_US {
        return None;
    }
    Some(Advice {
        branch,
        evidence: format!(
            "inline handlers are {} of the work, {} on average, p99 {}, and the other requests of their shard wait meanwhile{}",
            percent(share),
            time(run.mean_us()),
            time(run.p99_us),
            metrics.first_tool(),
        ),
        setting: "run_blocking".to_owned(),
        change: "async_tools is on already: declare slow tools with run_blocking, or with run_async where they wait".to_owned(),
    })
}

fn fan_out(metrics: &MetricSet) -> Option<Advice> {
    let branch = Branch::FanOut;
    let interval = &metrics.interval;
    let counts = interval.counts;
    let (publish, share) = (interval.stage(Stage::Publish), interval.work_share(&[Stage::Publish]));
    let is_slow =
        publish.requests >= CALLS_MIN && counts.notifications >= CALLS_MIN && metrics.is_large(branch, share);
    let has_lost = metrics.is_on(branch) && counts.slow_readers + counts.events_missed > 0;
    if !is_slow && !has_lost {
        return None;
    }
    let evidence = format!(
        "writing notifications is {} of the work, {} for each event of a shard, p99 {}; {} notifications, {} slow readers closed, \
         {} times events were dropped",
        percent(share),
        time(publish.mean_us()),
        time(publish.p99_us),
        counts.notifications,
        counts.slow_readers,
        counts.events_missed,
    );
    if !metrics.is_on(branch) {
        return Some(MetricSet::turn_on(branch, evidence));
    }
    let (setting, change) = if counts.events_missed > 0 {
        (
            "limits.broadcast_queue_max",
            "raise the limit, and limits.replay_bytes_max for sessions that are resumed",
        )
    } else if counts.slow_readers > 0 {
        ("limits.outbox_bytes_max", "raise the limit for readers that are slow at times")
    } else {
        (
            "limits.subscriptions_max",
            "publish less often, or serve fewer subscribers with each instance and lower the limit",
        )
    };
    Some(Advice {
        branch,
        evidence,
        setting: setting.to_owned(),
        change: format!("batch_notifications is on already: {change}"),
    })
}

fn copies(metrics: &MetricSet) -> Option<Advice> {
    let branch = Branch::Copies;
    let interval = &metrics.interval;
    let counts = interval.counts;
    let copied = metrics.per_request(counts.copied_bytes);
    let share = interval.work_share(&[Stage::Frame, Stage::Decode]);
    if !metrics.is_on(branch) && counts.requests >= CALLS_MIN && copied >= LARGE_MESSAGE_BYTES {
        let evidence = format!(
            "{copied:.0} bytes are copied for each request, {} of what is received; framing and decoding are {} of the work",
            percent(ratio(counts.copied_bytes as f64, counts.received_bytes as f64)),
            percent(share),
        );
        return Some(MetricSet::turn_on(branch, evidence));
    }
    let memory = ratio(metrics.resident_bytes as f64, metrics.memory_max as f64);
    let buffers = ratio(interval.buffer_bytes as f64, metrics.buffer_bytes_max as f64);
    if memory < MEMORY_SHARE && buffers < MEMORY_SHARE && counts.memory_refusals == 0 {
        return None;
    }
    let evidence = format!(
        "the process uses {} of its memory, the buffers of a shard {} of theirs; {} requests were refused for memory",
        percent(memory),
        percent(buffers),
        counts.memory_refusals,
    );
    let (setting, change) = if memory >= MEMORY_SHARE {
        ("server.memory_max", "raise it, or free what `ctl memory` and `ctl buffers --shrink` show")
    } else {
        (
            "limits.body_bytes_max",
            "lower the limit, or raise limits.buffers_bytes_max; `ctl buffers` lists the connections",
        )
    };
    Some(Advice { branch, evidence, setting: setting.to_owned(), change: change.to_owned() })
}

fn throughput(metrics: &MetricSet) -> Option<Advice> {
    let branch = Branch::Throughput;
    let (interval, cores) = (&metrics.interval, metrics.cores);
    let load = interval.highest_load();
    if load < LOAD_SATURATED {
        return None;
    }
    let shards = interval.shards.len();
    let work = interval.stages.iter().filter(|(stage, _)| !stage.is_wait());
    let first = work.max_by(|(_, left), (_, right)| left.seconds.total_cmp(&right.seconds));
    let first = first.map_or_else(String::new, |(stage, _)| {
        format!("; most work is in the stage {}, {}", stage.name(), percent(interval.work_share(&[*stage])))
    });
    let evidence = format!(
        "the busiest of {shards} shards works for {} of the time, on {cores} cores; {:.0} requests/s{first}",
        percent(load),
        ratio(interval.counts.requests as f64, interval.seconds),
    );
    if !metrics.is_on(branch) && cores > 1 {
        return Some(MetricSet::turn_on(branch, evidence));
    }
    let (setting, change) = if shards < cores {
        ("server.shards", "raise it to the number of cores, and restart the server")
    } else {
        (
            "server.cpus",
            "all cores are in use: add cores or instances, or reduce the stage with the most work",
        )
    };
    Some(Advice { branch, evidence, setting: setting.to_owned(), change: change.to_owned() })
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A time in microseconds with a unit.
fn time(microseconds: f64) -> String {
    match microseconds {
        ..10.0 => format!("{microseconds:.1} µs"),
        ..10_000.0 => format!("{microseconds:.0} µs"),
        _ => format!("{:.0} ms", microseconds / 1000.0),
    }
}

#[cfg(test)]
mod tests;
