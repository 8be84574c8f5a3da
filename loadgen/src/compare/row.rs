//! Rows of a comparison.

use serde::Serialize;

/// Tolerance for the rounding of ratios.
pub(super) const ROUNDING: f64 = 1e-9;

/// Verdict on one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not worse than the threshold allows.
    Fine,
    /// Better by more than the threshold, and more than noise.
    Improved,
    /// Worse by more than the threshold, and more than noise.
    Regressed,
    /// Worse by more than the threshold, but possibly by noise; or too few repeats.
    Unclear,
    /// Not compared.
    Unusable,
}

/// One metric of one workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The workload, with the contestant if that is not corelane; or the operation of an instruction count.
    pub workload: String,
    /// Name of the metric as in budgets; `instructions` for all operations.
    pub metric: String,
    /// Median of the baseline's repeats, in the metric's unit.
    pub baseline: Option<f64>,
    /// Median of the current repeats, in the metric's unit.
    pub current: Option<f64>,
    /// Baseline and current median as text.
    pub shown: [String; 2],
    /// Number of repeats in the baseline and in the current result.
    pub repeats_count: [usize; 2],
    /// Current ÷ baseline.
    pub ratio: Option<f64>,
    /// The ratio's 95 % interval, if there are enough repeats.
    pub interval: Option<[f64; 2]>,
    /// The accepted change for the worse, as a fraction; negative if lower is worse.
    pub threshold: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
    /// The reason of the verdict, if the numbers do not show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
