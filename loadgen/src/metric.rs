//! The metrics of a result by name, for budgets and comparisons, and their formats for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    latency::Latency,
    result::{ResultFile, Run, StageTimes},
    units,
};

/// The direction of improvement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Latencies, for example.
    Lower,
    /// Throughput, for example.
    Higher,
}

/// One metric of a run or of a file. Budgets and comparisons use its text form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// A percentile of the corrected latency, as `p99`. Microseconds.
    Latency(String),
    /// `throughput_per_s`: correct replies per second.
    Throughput,
    /// `errors_count`: all errors while measuring.
    Errors,
    /// A figure of one workload, as `memory_per_connection_bytes`. The end of the name is the unit.
    Figure(String),
    /// `instructions:NAME`, per operation.
    Instructions(String),
    /// `allocations:NAME`, per warm operation.
    Allocations(String),
    /// `stage:NAME:TIME`, as `stage:decode_small:p95_ns`. Nanoseconds.
    Stage {
        /// The stage.
        name: String,
        /// The statistic.
        time: StageTime,
    },
}

/// A statistic of a stage's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageTime {
    /// `p50_ns`
    P50,
    /// `p95_ns`
    P95,
    /// `p99_ns`
    P99,
    /// `mean_ns`
    Mean,
}

impl Metric {
    /// The value in a run, if runs have this metric and this run has it. A percentile without latencies is `None`.
    #[must_use]
    pub fn of_run(&self, run: &Run) -> Option<f64> {
        match self {
            Self::Latency(name) => (run.latency.count > 0).then(|| run.latency.named(name)).flatten(),
            Self::Throughput => Some(run.throughput_per_s),
            Self::Errors => Some(run.errors_total() as f64),
            Self::Figure(name) => run.figures.get(name).copied(),
            Self::Instructions(_) | Self::Allocations(_) | Self::Stage { .. } => None,
        }
    }

    /// The value in a file, if the metric exists once per file.
    #[must_use]
    pub fn of_file(&self, file: &ResultFile) -> Option<f64> {
        match self {
            Self::Instructions(name) => count(&file.instructions.as_ref()?.counts, name),
            Self::Allocations(name) => count(&file.instructions.as_ref()?.allocations, name),
            Self::Stage { name, time } => Some(time.of(file.stages.as_ref()?.stages.get(name)?)),
            Self::Latency(_) | Self::Throughput | Self::Errors | Self::Figure(_) => None,
        }
    }

    /// Whether the metric exists once per file, not once per run.
    #[must_use]
    pub const fn is_of_file(&self) -> bool {
        matches!(self, Self::Instructions(_) | Self::Allocations(_) | Self::Stage { .. })
    }

    /// Formats a value with its unit.
    #[must_use]
    pub fn show(&self, value: f64) -> String {
        match self {
            Self::Latency(_) => units::latency(value),
            Self::Throughput => format!("{}/s", units::count(value)),
            Self::Errors | Self::Instructions(_) | Self::Allocations(_) => units::count(value),
            Self::Stage { .. } => nanoseconds(value),
            Self::Figure(name) => figure(name, value),
        }
    }
}

impl StageTime {
    const ALL: [(&str, Self); 4] =
        [("p50_ns", Self::P50), ("p95_ns", Self::P95), ("p99_ns", Self::P99), ("mean_ns", Self::Mean)];

    const fn of(self, times: &StageTimes) -> f64 {
        match self {
            Self::P50 => times.p50_ns,
            Self::P95 => times.p95_ns,
            Self::P99 => times.p99_ns,
            Self::Mean => times.mean_ns,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency(name) | Self::Figure(name) => formatter.write_str(name),
            Self::Throughput => formatter.write_str("throughput_per_s"),
            Self::Errors => formatter.write_str("errors_count"),
            Self::Instructions(name) => write!(formatter, "instructions:{name}"),
            Self::Allocations(name) => write!(formatter, "allocations:{name}"),
            Self::Stage { name, time } => {
                let time = StageTime::ALL.iter().find(|(_, one)| one == time).map_or("", |(text, _)| text);
                write!(formatter, "stage:{name}:{time}")
            }
        }
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        Ok(match parts.as_slice() {
            ["throughput_per_s"] => Self::Throughput,
            ["errors_count"] => Self::Errors,
            [name] if Latency::default().named(name).is_some() => Self::Latency(text),
            // A figure can have any name, but a mistyped percentile is rejected.
            [name] if is_word(name) && !is_percentile(name) => Self::Figure(text),
            ["instructions", name] => Self::Instructions((*name).to_owned()),
            ["allocations", name] => Self::Allocations((*name).to_owned()),
            ["stage", name, time] => {
                let (_, time) =
                    StageTime::ALL.into_iter().find(|(text, _)| text == time).ok_or_else(|| {
                        format!("{text:?}: the statistic of a stage is p50_ns, p95_ns, p99_ns or mean_ns, not {time}")
                    })?;
                Self::Stage { name: (*name).to_owned(), time }
            }
            _ => return Err(format!("{text:?} is not a metric")),
        })
    }
}

fn is_word(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_' || one == '.')
}

fn is_percentile(name: &str) -> bool {
    name.strip_prefix('p').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn count(counts: &std::collections::BTreeMap<String, u64>, name: &str) -> Option<f64> {
    counts.get(name).map(|count| *count as f64)
}

/// Formats a time in nanoseconds, for single stages.
#[must_use]
pub fn nanoseconds(ns: f64) -> String {
    if ns < 1e3 { format!("{ns:.0} ns") } else { units::latency(ns / 1e3) }
}

fn figure(name: &str, value: f64) -> String {
    match name.rsplit('_').next() {
        Some("bytes") if value >= 0.0 => units::bytes(value.round() as u64),
        Some("ns") => nanoseconds(value),
        Some("us") => units::latency(value),
        Some("ms") => units::latency(value * 1e3),
        Some("s") => format!("{value:.2} s"),
        Some("second") => format!("{}/s", units::count(value)),
        Some("ratio") => ratio(value),
        _ if value.fract() == 0.0 || value.abs() >= 100.0 => units::count(value),
        _ => format!("{value:.2}"),
    }
}

/// Formats a ratio as `1.02 ×`.
#[must_use]
pub fn ratio(value: f64) -> String {
    match value {
        100.0.. => format!("{} ×", units::count(value)),
        10.0.. => format!("{value:.1} ×"),
        _ => format!("{value:.2} ×"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_parse_to_themselves() {
        for name in [
            "p50",
            "p99.9",
            "max",
            "throughput_per_s",
            "errors_count",
            "memory_per_connection_bytes",
            "instructions:canonical",
            "allocations:canonical",
            "stage:decode_small:p95_ns",
        ] {
            assert_eq!(Metric::try_from(name.to_owned()).unwrap().to_string(), name);
        }
        assert_eq!(Metric::try_from("p99.9".to_owned()).unwrap(), Metric::Latency("p99.9".to_owned()));
    }

    #[test]
    fn invalid_metric_name_is_rejected() {
        for name in ["", "p98", "P50", "stage:decode", "stage:decode:p95_us", "instruction:x", "a b"] {
            assert!(Metric::try_from(name.to_owned()).is_err(), "{name}");
        }
    }

    #[test]
    fn figure_is_formatted_by_the_unit_of_its_name() {
        assert_eq!(figure("throughput_beside_idle_ratio", 0.957), "0.96 ×");
        assert_eq!(figure("recovered_after_s", 0.4), "0.40 s");
        assert_eq!(figure("makespan_ms", 6.6), units::latency(6600.0));
        assert_eq!(figure("requests_per_core_second", 123_456.0), format!("{}/s", units::count(123_456.0)));
        assert_eq!(figure("memory_per_connection_bytes", 116.4), units::bytes(116));
        assert_eq!(nanoseconds(47.4), "47 ns");
    }
}
