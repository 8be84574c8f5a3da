//! Time that sampled requests spend in each stage, by method.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{Arc, OnceLock},
};

use strum::VariantArray;

use super::{
    prometheus::{ShardReport, family},
    series::{Distribution, Series},
};

/// Precision of the histograms: 2^4 buckets per power of two, an error of at most 6 %.
const PRECISION: u32 = 4;

/// Upper bounds of the exported buckets, in nanoseconds.
const BUCKETS_NS: [u64; 12] = [
    200,
    1_000,
    5_000,
    20_000,
    100_000,
    500_000,
    2_000_000,
    10_000_000,
    50_000_000,
    200_000_000,
    1_000_000_000,
    10_000_000_000,
];

/// A stage of a request, in the order in which a request passes them.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    strum::VariantArray,
    strum::IntoStaticStr,
    strum::EnumString,
)]
#[strum(serialize_all = "snake_case")]
pub enum Stage {
    /// From the reaped completion with the first bytes of the request until they are handled.
    ReceiveWait,
    /// Head and body are found in the received bytes, or assembled from several receives.
    Frame,
    /// Host, origin, path and media types are checked.
    Guard,
    /// The JSON document is parsed. Where `zero_copy` is off it is copied first.
    Decode,
    /// Envelope, method and target are read. A method without a handler is also answered here.
    Route,
    /// The arguments of a call are validated: on the shard, or until the blocking pool has done it, which also validates large results.
    Validate,
    /// An inline handler runs, and its result is validated.
    Run,
    /// A handler that is not inline, from its start until its result is taken. Other requests are served meanwhile.
    RunPending,
    /// The reply is encoded and framed.
    Encode,
    /// A notification of a change is written to the outboxes of all its subscribers on the shard.
    Publish,
    /// From the reply in the outbox to the completion of its send.
    SendWait,
}

impl Stage {
    /// All stages.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Number of stages.
    pub(crate) const COUNT: usize = Self::VARIANTS.len();

    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the shard does nothing for the request in this stage, and serves others.
    #[must_use]
    pub fn is_wait(self) -> bool {
        matches!(self, Self::ReceiveWait | Self::RunPending | Self::SendWait)
    }
}

/// Time by method and stage, in nanoseconds.
pub(crate) type StageTimes = BTreeMap<(Box<str>, Stage), Distribution>;

/// Histograms of one shard. A clone shares them.
#[derive(Clone)]
pub(crate) struct StageSeries {
    methods: Arc<[MethodStages]>,
    /// Number of sampled requests.
    samples: u64,
}

/// The histograms of one method, allocated for its first sample.
struct MethodStages {
    name: Box<str>,
    stages: OnceLock<Box<[Series]>>,
}

impl StageSeries {
    /// No samples of these methods.
    pub(super) fn new<'a>(methods: impl IntoIterator<Item = &'a str>) -> Self {
        let empty = |name: &str| MethodStages { name: name.into(), stages: OnceLock::new() };
        Self { methods: methods.into_iter().map(empty).collect(), samples: 0 }
    }

    /// Records a time that stands for `weight` requests.
    pub(crate) fn record(&self, method: usize, stage: Stage, nanoseconds: u64, weight: u64) {
        let Some(method) = self.methods.get(method) else { return };
        let stages = method
            .stages
            .get_or_init(|| Stage::ALL.iter().map(|_| Series::allocated(&method.name, PRECISION)).collect());
        if let Some(series) = stages.get(stage as usize) {
            series.record(nanoseconds, weight);
        }
    }

    /// Counts a sampled request.
    pub(crate) fn count_sample(&mut self) {
        self.samples += 1;
    }

    /// Number of sampled requests.
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// The recorded times.
    pub(crate) fn times(&self) -> StageTimes {
        let mut times = StageTimes::new();
        for method in self.methods.iter() {
            for (stage, series) in Stage::ALL.iter().zip(method.stages.get().into_iter().flatten()) {
                let distribution = series.distribution();
                if distribution.len() > 0 {
                    times.insert((method.name.clone(), *stage), distribution);
                }
            }
        }
        times
    }

    /// Adds the histograms of another shard.
    pub(super) fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        for (position, method) in other.methods.iter().enumerate() {
            for (stage, series) in Stage::ALL.iter().zip(method.stages.get().into_iter().flatten()) {
                for (highest, count) in series.distribution().counts {
                    self.record(position, *stage, highest, count);
                }
            }
        }
    }
}

/// Appends the number of samples, and the time in each stage by method.
pub fn write_stages(out: &mut String, reports: &[ShardReport]) {
    // Writing to a string does not fail.
    let _ = write_all(out, reports);
}

fn write_all(out: &mut String, reports: &[ShardReport]) -> fmt::Result {
    let samples = "corelane_stage_samples_total";
    family(
        out,
        samples,
        "counter",
        "Requests whose stages were timed: one in limits.stage_sample_interval.",
    )?;
    for ShardReport { shard, metrics, .. } in reports {
        writeln!(out, "{samples}{{shard=\"{shard}\"}} {}", metrics.stages.samples())?;
    }
    let mut merged = StageTimes::new();
    for report in reports {
        for (key, distribution) in report.metrics.stages.times() {
            merged.entry(key).or_default().add(distribution);
        }
    }
    let name = "corelane_stage_duration_seconds";
    let help = "Time in a stage, by method; each sample counts as often as it stands for requests.";
    family(out, name, "histogram", help)?;
    for ((method, stage), times) in &merged {
        let labels = format!("method=\"{method}\",stage=\"{}\"", stage.name());
        let mut recorded = times.counts.iter().peekable();
        let mut cumulative = 0;
        for bound in BUCKETS_NS {
            while let Some((_, count)) = recorded.next_if(|(highest, _)| **highest <= bound) {
                cumulative += count;
            }
            writeln!(out, "{name}_bucket{{{labels},le=\"{}\"}} {cumulative}", bound as f64 / 1e9)?;
        }
        writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", times.len())?;
        writeln!(out, "{name}_sum{{{labels}}} {}", times.sum_ns as f64 / 1e9)?;
        writeln!(out, "{name}_count{{{labels}}} {}", times.len())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_weighted_and_merged_by_method_and_stage() {
        let mut one = StageSeries::new(["a", "b"]);
        one.record(1, Stage::Decode, 1000, 64);
        one.record(9, Stage::Decode, 1000, 1);
        let two = StageSeries::new(["a", "b"]);
        two.record(1, Stage::Decode, 3000, 64);
        two.record(1, Stage::Publish, 7, 1);
        one.merge(&two);
        let times = one.times();
        let keys: Vec<_> = times.keys().map(|(method, stage)| (&**method, stage.name())).collect();
        assert_eq!(keys, [("b", "decode"), ("b", "publish")]);
        let decode = &times[&("b".into(), Stage::Decode)];
        assert_eq!(decode.len(), 128);
        assert!((4000 * 64..4000 * 64 * 107 / 100).contains(&decode.sum_ns), "{}", decode.sum_ns);
    }
}
