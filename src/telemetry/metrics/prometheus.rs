//! Encoder of Prometheus' text format 0.0.4.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::Arc,
    time::Duration,
};

use strum::VariantArray;

use super::{Distribution, FlagCounts, Series, ShardMetrics, ToolFailure};
use crate::policy::{Flag, Flags};

/// State of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ConnectionState {
    /// Between two requests.
    Idle,
    /// A request is partially received.
    Reading,
    /// A call is in flight.
    Handling,
    /// A reply has not been sent completely.
    Writing,
    /// An event stream without a defined end is attached.
    Streaming,
    /// The last reply has been sent, and the client has not closed.
    Closing,
}

/// Number of connections in each state, in the order of [`ConnectionState`].
pub type ConnectionStates = [usize; ConnectionState::VARIANTS.len()];

/// Report of one shard.
pub struct ShardReport {
    /// The shard's number.
    pub shard: usize,
    /// Flags that requests are handled with.
    pub flags: Flags,
    /// Metrics since the start.
    pub metrics: ShardMetrics,
    /// Number of open connections.
    pub connections: usize,
    /// Open connections by state. Counted over several turns, so their sum may differ from `connections`.
    pub connection_states: ConnectionStates,
    /// Number of calls in flight.
    pub calls_in_flight: usize,
    /// Calls in flight of each tool that has any.
    pub tool_calls: Vec<(Arc<str>, usize)>,
    /// Number of open subscriptions, and of legacy sessions with subscriptions.
    pub listeners: usize,
    /// Number of topics in all subscriptions.
    pub subscribed: usize,
    /// Size of the URIs and task ids of all subscriptions.
    pub subscription_bytes: u64,
    /// Number of legacy sessions with a stream or subscriptions.
    pub sessions_kept: usize,
    /// Number of resumable streams.
    pub replay_streams: usize,
    /// Size of the replay buffers of resumable streams.
    pub replay_bytes: usize,
    /// Number of resumable streams with a connection.
    pub replay_streams_attached: usize,
    /// Number of stored tasks, including ended ones.
    pub tasks: usize,
    /// Size of the buffers of connections that are counted: those of at least 16 KiB.
    pub buffer_bytes: u64,
}

/// Upper bounds of the buckets, in nanoseconds: 1 µs to 100,000 s. Those up to 10 s and up to `call_deadline` are written.
pub(super) const BUCKETS_NS: [u64; 34] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    50_000_000_000,
    100_000_000_000,
    200_000_000_000,
    500_000_000_000,
    1_000_000_000_000,
    2_000_000_000_000,
    5_000_000_000_000,
    10_000_000_000_000,
    20_000_000_000_000,
    50_000_000_000_000,
    100_000_000_000_000,
];
/// Number of buckets up to 10 s.
pub(super) const BUCKETS_MIN: usize = 22;

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// Appends the latest reports of `shards` shards, of which those in `up` answered this scrape. The buckets of latencies cover
/// `call_deadline`.
pub fn write_prometheus(
    out: &mut String,
    shards: usize,
    up: &[usize],
    reports: &[ShardReport],
    call_deadline: Duration,
) {
    let shorter = BUCKETS_NS.iter().filter(|bound| u128::from(**bound) < call_deadline.as_nanos()).count();
    let buckets = BUCKETS_NS.get(..(shorter + 1).max(BUCKETS_MIN)).unwrap_or(&BUCKETS_NS);
    // Writing to a string does not fail.
    let _ = write_all(out, shards, up, reports, buckets);
}

/// Appends the limits in force, which give context to the metrics.
pub fn write_limits(out: &mut String, limits: &[(String, f64)]) {
    let written =
        family(out, "corelane_limit", "gauge", "Limits in force; durations in seconds.").and_then(|()| {
            limits
                .iter()
                .try_for_each(|(limit, value)| writeln!(out, "corelane_limit{{limit=\"{limit}\"}} {value}"))
        });
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

/// Appends the number of requests rejected by the admin address, by reason.
pub fn write_admin_refusals(out: &mut String, counts: impl Iterator<Item = (&'static str, u64)>) {
    let name = "corelane_admin_refusals_total";
    // Writing to a string does not fail.
    let _ = family(out, name, "counter", "Requests rejected by the admin address, by reason.");
    for (reason, count) in counts {
        let _ = writeln!(out, "{name}{{reason=\"{reason}\"}} {count}");
    }
}

/// Appends a counter of the whole process.
pub fn write_counter(out: &mut String, name: &str, help: &str, count: u64) {
    // Writing to a string does not fail.
    let _ = family(out, name, "counter", help);
    let _ = writeln!(out, "{name} {count}");
}

/// Appends a gauge with one sample for each value of `label`.
pub fn write_gauge<L: fmt::Display>(
    out: &mut String,
    name: &str,
    help: &str,
    label: &str,
    samples: impl IntoIterator<Item = (L, usize)>,
) {
    // Writing to a string does not fail.
    let _ = family(out, name, "gauge", help);
    for (value, sample) in samples {
        let _ = writeln!(out, "{name}{{{label}=\"{value}\"}} {sample}");
    }
}

fn write_all(
    out: &mut String,
    shards: usize,
    up: &[usize],
    reports: &[ShardReport],
    buckets: &[u64],
) -> fmt::Result {
    write_build_info(out)?;
    family(out, "corelane_shard_up", "gauge", "Whether the shard answered this scrape.")?;
    for shard in 0..shards {
        let up = u8::from(up.contains(&shard));
        writeln!(out, "corelane_shard_up{{shard=\"{shard}\"}} {up}")?;
    }
    write_shard_values(out, reports)?;
    write_connection_states(out, reports)?;
    let busy = "corelane_shard_busy_seconds_total";
    family(out, busy, "counter", "Time of turns with work, without polling and system calls.")?;
    for report in reports {
        writeln!(out, "{busy}{{shard=\"{}\"}} {}", report.shard, report.metrics.busy.as_secs_f64())?;
    }
    write_idle(out, reports)?;
    family(out, "corelane_refusals_total", "counter", "Rejections, by reason.")?;
    write_counts(out, "corelane_refusals_total", "reason", reports, |metrics| &metrics.refusals)?;
    write_tool_errors(out, reports)?;
    family(out, "corelane_events_total", "counter", "Cancelled calls, slow turns and other events.")?;
    write_counts(out, "corelane_events_total", "event", reports, |metrics| &metrics.events)?;
    write_flags(out, reports)?;
    let methods = merged(reports.iter().flat_map(|report| report.metrics.methods.iter().map(AsRef::as_ref)));
    let help = "Time from received bytes to sent reply";
    histograms(out, "corelane_request_duration", "method", help, &methods, buckets)?;
    let tools = merged(reports.iter().flat_map(|report| report.metrics.tools.0.iter().map(AsRef::as_ref)));
    let help = "Time from received bytes to sent result";
    histograms(out, "corelane_tool_duration", "tool", help, &tools, buckets)
}

fn write_build_info(out: &mut String) -> fmt::Result {
    family(out, "corelane_build_info", "gauge", "Always 1; the labels describe the build.")?;
    writeln!(
        out,
        "corelane_build_info{{version=\"{}\",commit=\"{}\",rustc=\"{}\",features=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION"),
        env!("CORELANE_COMMIT"),
        // The only label with free text.
        env!("CORELANE_RUSTC").replace('\\', "\\\\").replace('"', "\\\""),
        env!("CORELANE_FEATURES"),
    )
}

/// Writes the time that the shards had no work.
fn write_idle(out: &mut String, reports: &[ShardReport]) -> fmt::Result {
    let names = ["corelane_shard_spin_seconds_total", "corelane_shard_sleep_seconds_total"];
    let helps = ["Time of turns without work.", "Time asleep until there was work."];
    for (position, (name, help)) in names.iter().zip(helps).enumerate() {
        family(out, name, "counter", help)?;
        for report in reports {
            let time = report.metrics.idle().get(position).copied().unwrap_or_default();
            writeln!(out, "{name}{{shard=\"{}\"}} {}", report.shard, time.as_secs_f64())?;
        }
    }
    Ok(())
}

/// Writes the metrics with one sample per shard.
fn write_shard_values(out: &mut String, reports: &[ShardReport]) -> fmt::Result {
    type Value = fn(&ShardReport) -> u64;
    let values: [(&str, &str, &str, Value); 15] = [
        ("corelane_connections", "gauge", "Open connections.", |report| report.connections as u64),
        ("corelane_connections_accepted_total", "counter", "Accepted connections.", |report| {
            report.metrics.connections
        }),
        ("corelane_calls_in_flight", "gauge", "Calls of async and blocking tools in flight.", |report| {
            report.calls_in_flight as u64
        }),
        (
            "corelane_listeners",
            "gauge",
            "Open subscriptions, and legacy sessions with subscriptions.",
            |report| report.listeners as u64,
        ),
        ("corelane_subscribed", "gauge", "Topics in all subscriptions.", |report| report.subscribed as u64),
        (
            "corelane_buffer_bytes",
            "gauge",
            "Bytes in buffers of connections, of at least 16 KiB.",
            |report| report.buffer_bytes,
        ),
        (
            "corelane_subscription_bytes",
            "gauge",
            "Bytes of the URIs and task ids of all subscriptions.",
            |report| report.subscription_bytes,
        ),
        ("corelane_sessions_kept", "gauge", "Legacy sessions with a stream or subscriptions.", |report| {
            report.sessions_kept as u64
        }),
        ("corelane_replay_streams", "gauge", "Resumable streams.", |report| report.replay_streams as u64),
        ("corelane_replay_bytes", "gauge", "Bytes buffered for replay.", |report| report.replay_bytes as u64),
        ("corelane_replay_streams_attached", "gauge", "Resumable streams with a connection.", |report| {
            report.replay_streams_attached as u64
        }),
        ("corelane_tasks", "gauge", "Stored tasks, including ended ones.", |report| report.tasks as u64),
        (
            "corelane_requests_total",
            "counter",
            "Answered messages, without requests rejected before their body was received.",
            |report| report.metrics.methods.iter().map(|row| row.distribution().len()).sum(),
        ),
        ("corelane_received_bytes_total", "counter", "Bytes received from clients.", |report| {
            report.metrics.received_bytes
        }),
        ("corelane_sent_bytes_total", "counter", "Bytes passed to the kernel for clients.", |report| {
            report.metrics.sent_bytes
        }),
    ];
    for (name, kind, help, value) in values {
        family(out, name, kind, help)?;
        for report in reports {
            writeln!(out, "{name}{{shard=\"{}\"}} {}", report.shard, value(report))?;
        }
    }
    Ok(())
}

fn write_connection_states(out: &mut String, reports: &[ShardReport]) -> fmt::Result {
    let states = "corelane_connection_states";
    family(out, states, "gauge", "Open connections, by state.")?;
    for report in reports {
        for (state, count) in ConnectionState::VARIANTS.iter().zip(report.connection_states) {
            let (shard, state) = (report.shard, <&str>::from(state));
            writeln!(out, "{states}{{shard=\"{shard}\",state=\"{state}\"}} {count}")?;
        }
    }
    Ok(())
}

/// Writes the counters of each shard, by `label`.
fn write_counts(
    out: &mut String,
    name: &str,
    label: &str,
    reports: &[ShardReport],
    counts: impl Fn(&ShardMetrics) -> &BTreeMap<&'static str, u64>,
) -> fmt::Result {
    for report in reports {
        for (value, count) in counts(&report.metrics) {
            writeln!(out, "{name}{{shard=\"{}\",{label}=\"{value}\"}} {count}", report.shard)?;
        }
    }
    Ok(())
}

fn write_tool_errors(out: &mut String, reports: &[ShardReport]) -> fmt::Result {
    family(out, "corelane_tool_errors_total", "counter", "Failed calls, by tool and reason.")?;
    let mut errors = BTreeMap::<&str, [u64; ToolFailure::VARIANTS.len()]>::new();
    for row in reports.iter().flat_map(|report| report.metrics.tools.0.iter()) {
        let counts = errors.entry(&row.name).or_default();
        for (count, failure) in counts.iter_mut().zip(ToolFailure::VARIANTS) {
            *count += row.failures(*failure);
        }
    }
    for (tool, counts) in errors {
        for (count, failure) in counts.into_iter().zip(ToolFailure::VARIANTS) {
            let reason = <&str>::from(failure);
            writeln!(out, "corelane_tool_errors_total{{tool=\"{tool}\",reason=\"{reason}\"}} {count}")?;
        }
    }
    Ok(())
}

/// A metric, its help, and its value on a shard.
type FlagRow = (&'static str, &'static str, fn(&FlagCounts) -> u64);

/// Writes the flags in force and the counters.
fn write_flags(out: &mut String, reports: &[ShardReport]) -> fmt::Result {
    const ROWS: [FlagRow; 5] = [
        (
            "corelane_schema_cache_hits_total",
            "Validations with a validator that was compiled before.",
            |counts| counts.schema_cache_hits,
        ),
        (
            "corelane_schema_cache_misses_total",
            "Validations with a validator that was compiled for them: schema_cache is off.",
            |counts| counts.schema_cache_misses,
        ),
        (
            "corelane_copied_bytes_total",
            "Bytes of messages that were copied before they were parsed: zero_copy is off.",
            |counts| counts.copied_bytes,
        ),
        (
            "corelane_serialized_calls_total",
            "Calls that waited for another call of their connection: async_tools is off.",
            |counts| counts.serialized_calls,
        ),
        (
            "corelane_notifications_total",
            "Notifications of changes that were written for a subscriber.",
            |counts| counts.notifications,
        ),
    ];
    family(out, "corelane_flag", "gauge", "Whether the flag of [performance] is on.")?;
    for report in reports {
        for (flag, is_on) in report.flags.iter() {
            let is_on = u8::from(is_on);
            writeln!(out, "corelane_flag{{shard=\"{}\",flag=\"{flag}\"}} {is_on}", report.shard)?;
        }
    }
    let name = "corelane_flag_requests_total";
    family(out, name, "counter", "Messages that were handled with the flag in this position.")?;
    for ShardReport { shard, metrics, .. } in reports {
        for flag in Flag::ALL {
            for is_on in [true, false] {
                let (position, count) = (flag.position(is_on), metrics.flags.requests(*flag, is_on));
                let labels = format!("shard=\"{shard}\",flag=\"{flag}\",position=\"{position}\"");
                writeln!(out, "{name}{{{labels}}} {count}")?;
            }
        }
    }
    for (name, help, value) in ROWS {
        family(out, name, "counter", help)?;
        for ShardReport { shard, metrics, .. } in reports {
            writeln!(out, "{name}{{shard=\"{shard}\"}} {}", value(&metrics.flags))?;
        }
    }
    Ok(())
}

pub(super) fn family(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// Latencies of all shards by name; names without samples are omitted.
fn merged<'a>(rows: impl Iterator<Item = &'a Series>) -> BTreeMap<&'a str, Distribution> {
    let mut merged = BTreeMap::<&str, Distribution>::new();
    for row in rows {
        let distribution = row.distribution();
        if distribution.len() > 0 {
            merged.entry(&row.name).or_default().add(distribution);
        }
    }
    merged
}

/// Writes latencies as a histogram, which can be aggregated over servers, and as quantiles for direct reading.
fn histograms(
    out: &mut String,
    name: &str,
    label: &str,
    help: &str,
    rows: &BTreeMap<&str, Distribution>,
    buckets: &[u64],
) -> fmt::Result {
    family(out, &format!("{name}_seconds"), "histogram", &format!("{help}, by {label}."))?;
    for (value, histogram) in rows {
        write_histogram(out, name, &format!("{label}=\"{value}\""), histogram, buckets)?;
    }
    family(
        out,
        &format!("{name}_quantile_seconds"),
        "summary",
        &format!("{help}: quantiles since the start."),
    )?;
    for (value, histogram) in rows {
        for quantile in QUANTILES {
            let latency = seconds(histogram.value_at_quantile(quantile));
            writeln!(
                out,
                "{name}_quantile_seconds{{{label}=\"{value}\",quantile=\"{quantile}\"}} {latency}"
            )?;
        }
        let sum = histogram.sum_ns as f64 / 1e9;
        writeln!(out, "{name}_quantile_seconds_sum{{{label}=\"{value}\"}} {sum}")?;
        writeln!(out, "{name}_quantile_seconds_count{{{label}=\"{value}\"}} {}", histogram.len())?;
    }
    Ok(())
}

/// Writes the samples of a histogram with these labels.
pub(super) fn write_histogram(
    out: &mut String,
    name: &str,
    labels: &str,
    histogram: &Distribution,
    buckets: &[u64],
) -> fmt::Result {
    let mut recorded = histogram.counts.iter().peekable();
    let mut cumulative = 0;
    for &bound in buckets {
        while let Some(step) = recorded.next_if(|(highest, _)| **highest <= bound) {
            cumulative += step.1;
        }
        let bound = seconds(bound);
        writeln!(out, "{name}_seconds_bucket{{{labels},le=\"{bound}\"}} {cumulative}")?;
    }
    let count = histogram.len();
    let sum = histogram.sum_ns as f64 / 1e9;
    writeln!(out, "{name}_seconds_bucket{{{labels},le=\"+Inf\"}} {count}")?;
    writeln!(out, "{name}_seconds_sum{{{labels}}} {sum}")?;
    writeln!(out, "{name}_seconds_count{{{labels}}} {count}")
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_an_unresponsive_shard_is_down() {
        let mut metrics = ShardMetrics::new(["ping"]);
        for latency in [3, 7, 7, 20_000_000] {
            metrics.record(0, Duration::from_micros(latency));
        }
        metrics.refuse("busy");
        let reports = [ShardReport {
            shard: 1,
            flags: Flags::ALL.with(Flag::ZeroCopy, false),
            metrics,
            connections: 5,
            connection_states: [2, 1, 1, 0, 1, 0],
            calls_in_flight: 0,
            tool_calls: Vec::new(),
            listeners: 2,
            subscribed: 3,
            subscription_bytes: 30,
            sessions_kept: 0,
            replay_streams: 0,
            replay_bytes: 0,
            replay_streams_attached: 0,
            tasks: 0,
            buffer_bytes: 0,
        }];
        let mut out = String::new();
        write_prometheus(&mut out, 2, &[1], &reports, Duration::from_secs(30));
        for line in [
            "corelane_shard_up{shard=\"0\"} 0",
            "corelane_shard_up{shard=\"1\"} 1",
            "corelane_connections{shard=\"1\"} 5",
            "corelane_connection_states{shard=\"1\",state=\"idle\"} 2",
            "corelane_connection_states{shard=\"1\",state=\"streaming\"} 1",
            "corelane_requests_total{shard=\"1\"} 4",
            "corelane_flag{shard=\"1\",flag=\"zero_copy\"} 0",
            "corelane_flag{shard=\"1\",flag=\"json_backend\"} 1",
            "corelane_flag_requests_total{shard=\"1\",flag=\"json_backend\",position=\"serde\"} 0",
            "corelane_refusals_total{shard=\"1\",reason=\"busy\"} 1",
            "corelane_request_duration_seconds_bucket{method=\"ping\",le=\"0.000002\"} 0",
            "corelane_request_duration_seconds_bucket{method=\"ping\",le=\"0.00001\"} 3",
            "corelane_request_duration_seconds_bucket{method=\"ping\",le=\"10\"} 3",
            "corelane_request_duration_seconds_bucket{method=\"ping\",le=\"50\"} 4",
            "corelane_request_duration_seconds_bucket{method=\"ping\",le=\"+Inf\"} 4",
            "corelane_request_duration_seconds_count{method=\"ping\"} 4",
        ] {
            assert!(out.lines().any(|written| written == line), "{line}\n{out}");
        }
        assert!(
            out.contains(
                "corelane_request_duration_quantile_seconds{method=\"ping\",quantile=\"0.999\"} 20."
            )
        );
    }
}
