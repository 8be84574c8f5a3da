//! Measurements as Prometheus reads them (text format 0.0.4).

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{Latencies, ShardMetrics};

/// What one shard says of itself.
pub struct ShardReport {
    /// Which shard.
    pub shard: usize,
    /// What it has measured since its start.
    pub metrics: ShardMetrics,
    /// Connections open now.
    pub connections: usize,
    /// Calls in flight now.
    pub calls_in_flight: usize,
    /// What subscriptions hear of, over all of them.
    pub subscribed: usize,
    /// Legacy sessions of which a stream or subscriptions are kept.
    pub sessions_kept: usize,
    /// Streams that can be resumed.
    pub replay_streams: usize,
    /// Tasks kept, those that have ended included.
    pub tasks: usize,
}

/// Upper bounds of the buckets, in nanoseconds: 1 µs to 10 s.
const BUCKETS_NS: [u64; 22] = [
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
];

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// Appends what `shards` shards told, perhaps some time ago; those in `up` have done so just now.
pub fn write_prometheus(out: &mut String, shards: usize, up: &[usize], reports: &[ShardReport]) {
    // Writing to a string does not fail.
    let _ = write_all(out, shards, up, reports);
}

/// Appends the limits in force, so that whoever reads the measurements knows under which they were made.
pub fn write_limits(out: &mut String, limits: &[(String, f64)]) {
    let written =
        family(out, "corelane_limit", "gauge", "Limits in force; durations in seconds.").and_then(|()| {
            limits
                .iter()
                .try_for_each(|(limit, value)| writeln!(out, "corelane_limit{{limit=\"{limit}\"}} {value}"))
        });
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

/// Appends how many requests the admin address refused, by reason.
pub fn write_admin_refusals(out: &mut String, counts: impl Iterator<Item = (&'static str, u64)>) {
    let name = "corelane_admin_refusals_total";
    // Writing to a string does not fail.
    let _ = family(out, name, "counter", "Requests the admin address refused, by reason.");
    for (reason, count) in counts {
        let _ = writeln!(out, "{name}{{reason=\"{reason}\"}} {count}");
    }
}

fn write_all(out: &mut String, shards: usize, up: &[usize], reports: &[ShardReport]) -> fmt::Result {
    let version = env!("CARGO_PKG_VERSION");
    family(out, "corelane_build_info", "gauge", "Always 1; the version is in the label.")?;
    writeln!(out, "corelane_build_info{{version=\"{version}\"}} 1")?;
    family(out, "corelane_shard_up", "gauge", "Whether the shard answered this scrape.")?;
    for shard in 0..shards {
        let up = u8::from(up.contains(&shard));
        writeln!(out, "corelane_shard_up{{shard=\"{shard}\"}} {up}")?;
    }
    type Figure = fn(&ShardReport) -> u64;
    let figures: [(&str, &str, &str, Figure); 8] = [
        ("corelane_connections", "gauge", "Connections open.", |report| report.connections as u64),
        ("corelane_connections_accepted_total", "counter", "Connections accepted.", |report| {
            report.metrics.connections
        }),
        ("corelane_calls_in_flight", "gauge", "Calls of async and blocking tools in flight.", |report| {
            report.calls_in_flight as u64
        }),
        ("corelane_subscribed", "gauge", "What subscriptions hear of, over all of them.", |report| {
            report.subscribed as u64
        }),
        ("corelane_sessions_kept", "gauge", "Legacy sessions of which something is kept.", |report| {
            report.sessions_kept as u64
        }),
        ("corelane_replay_streams", "gauge", "Streams that can be resumed.", |report| {
            report.replay_streams as u64
        }),
        ("corelane_tasks", "gauge", "Tasks kept, those that have ended included.", |report| {
            report.tasks as u64
        }),
        (
            "corelane_requests_total",
            "counter",
            "Messages answered, without requests refused before their body was read.",
            |report| {
                report
                    .metrics
                    .methods
                    .iter()
                    .filter_map(|row| row.histogram.as_ref())
                    .map(Histogram::len)
                    .sum()
            },
        ),
    ];
    for (name, kind, help, figure) in figures {
        family(out, name, kind, help)?;
        for report in reports {
            writeln!(out, "{name}{{shard=\"{}\"}} {}", report.shard, figure(report))?;
        }
    }
    family(out, "corelane_refusals_total", "counter", "What was refused, by reason.")?;
    for report in reports {
        for (reason, count) in &report.metrics.refusals {
            let shard = report.shard;
            writeln!(out, "corelane_refusals_total{{shard=\"{shard}\",reason=\"{reason}\"}} {count}")?;
        }
    }
    family(out, "corelane_tool_errors_total", "counter", "Results that said the tool had failed, by tool.")?;
    let mut errors = BTreeMap::<&str, u64>::new();
    let called = |row: &&Latencies| row.histogram.is_some();
    for row in reports.iter().flat_map(|report| &report.metrics.tools).filter(called) {
        *errors.entry(&row.name).or_default() += row.errors;
    }
    for (tool, count) in errors {
        writeln!(out, "corelane_tool_errors_total{{tool=\"{tool}\"}} {count}")?;
    }
    family(out, "corelane_events_total", "counter", "Calls cancelled, turns that took too long.")?;
    for report in reports {
        for (event, count) in &report.metrics.events {
            let shard = report.shard;
            writeln!(out, "corelane_events_total{{shard=\"{shard}\",event=\"{event}\"}} {count}")?;
        }
    }
    let methods = merged(reports.iter().flat_map(|report| &report.metrics.methods));
    histograms(
        out,
        "corelane_request_duration",
        "method",
        "From bytes received to reply sent off",
        &methods,
    )?;
    let tools = merged(reports.iter().flat_map(|report| &report.metrics.tools));
    histograms(out, "corelane_tool_duration", "tool", "From bytes received to result sent off", &tools)
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// The histograms of all shards, by name.
fn merged<'a>(rows: impl Iterator<Item = &'a Latencies>) -> BTreeMap<&'a str, Histogram<u64>> {
    let mut merged = BTreeMap::<&str, Histogram<u64>>::new();
    for row in rows {
        if let Some(histogram) = &row.histogram {
            match merged.get_mut(&*row.name) {
                // All of one kind have the same bounds.
                Some(sum) => drop(sum.add(histogram)),
                None => drop(merged.insert(&row.name, histogram.clone())),
            }
        }
    }
    merged
}

/// As a histogram, to be aggregated over servers, and as quantiles, for eyes.
fn histograms(
    out: &mut String,
    name: &str,
    label: &str,
    help: &str,
    rows: &BTreeMap<&str, Histogram<u64>>,
) -> fmt::Result {
    family(out, &format!("{name}_seconds"), "histogram", &format!("{help}, by {label}."))?;
    for (value, histogram) in rows {
        let mut recorded = histogram.iter_recorded().peekable();
        let mut cumulative = 0;
        for bound in BUCKETS_NS {
            while let Some(step) = recorded.next_if(|step| step.value_iterated_to() <= bound) {
                cumulative += step.count_since_last_iteration();
            }
            let bound = seconds(bound);
            writeln!(out, "{name}_seconds_bucket{{{label}=\"{value}\",le=\"{bound}\"}} {cumulative}")?;
        }
        let count = histogram.len();
        let sum = histogram.mean() * count as f64 / 1e9;
        writeln!(out, "{name}_seconds_bucket{{{label}=\"{value}\",le=\"+Inf\"}} {count}")?;
        writeln!(out, "{name}_seconds_sum{{{label}=\"{value}\"}} {sum}")?;
        writeln!(out, "{name}_seconds_count{{{label}=\"{value}\"}} {count}")?;
    }
    family(
        out,
        &format!("{name}_quantile_seconds"),
        "gauge",
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
    }
    Ok(())
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_a_silent_shard_is_down() {
        let mut metrics = ShardMetrics::new(["ping"]);
        for latency in [3, 7, 7, 20_000_000] {
            metrics.record(0, Duration::from_micros(latency));
        }
        metrics.refuse("busy");
        let reports = [ShardReport {
            shard: 1,
            metrics,
            connections: 5,
            calls_in_flight: 0,
            subscribed: 3,
            sessions_kept: 0,
            replay_streams: 0,
            tasks: 0,
        }];
        let mut out = String::new();
        write_prometheus(&mut out, 2, &[1], &reports);
        for line in [
            "corelane_shard_up{shard=\"0\"} 0",
            "corelane_shard_up{shard=\"1\"} 1",
            "corelane_connections{shard=\"1\"} 5",
            "corelane_requests_total{shard=\"1\"} 4",
            "corelane_refusals_total{shard=\"1\",reason=\"busy\"} 1",
            "corelane_request_duration_seconds_bucket{method=\"ping\",le=\"0.000002\"} 0",
            "corelane_request_duration_seconds_bucket{method=\"ping\",le=\"0.00001\"} 3",
            "corelane_request_duration_seconds_bucket{method=\"ping\",le=\"10\"} 3",
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
