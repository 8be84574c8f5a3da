//! What a comparison says of one metric.

use serde::Serialize;

/// A change this small is none: ratios of equal decimals differ by a rounding.
pub(super) const ROUNDING: f64 = 1e-9;

/// What a comparison says of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not worse than the threshold allows.
    Fine,
    /// Better by more than the threshold, and noise does not explain it.
    Improved,
    /// Worse by more than the threshold, and noise does not explain it.
    Regressed,
    /// Worse by more than the threshold, but so it might be by noise; or there are too few repeats to tell.
    Unclear,
    /// Not to be compared.
    Unusable,
}

/// One metric of one workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The workload, with the contestant where that is not corelane; or the operation whose instructions are counted.
    pub workload: String,
    /// As budgets name it, but `instructions` for every operation.
    pub metric: String,
    /// Median of the baseline's repeats, in the metric's unit.
    pub baseline: Option<f64>,
    /// Median of the current repeats, in the metric's unit.
    pub current: Option<f64>,
    /// The same two, for people.
    pub shown: [String; 2],
    /// Repeats in the baseline and now.
    pub repeats_count: [usize; 2],
    /// Current ÷ baseline, and its interval where there are repeats enough.
    pub ratio: Option<f64>,
    /// Ends of the ratio's 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// The change for the worse that is still fine, as a fraction; below 0 where lower is worse.
    pub threshold: Option<f64>,
    /// What to think of it.
    pub verdict: Verdict,
    /// Why, where the figures do not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
