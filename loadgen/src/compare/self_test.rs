//! Whether the comparison would notice: a result is held against itself, and against itself slowed down.

use super::{Comparison, REPEATS_COUNT_MIN, Thresholds, Verdict, compare};
use crate::{
    error::LoadError,
    latency::Latency,
    result::{ResultFile, Run},
};

/// How far beyond the widest threshold the planted slowdown is: twice as much.
const BEYOND: f64 = 2.0;

/// What became of a planted slowdown.
#[derive(Clone, Debug)]
pub struct SelfTest {
    /// Every time was made so many times as long.
    pub factor: f64,
    /// The result against itself: nothing may regress.
    pub unchanged: Comparison,
    /// The slowed result against the result: every usable time must regress.
    pub slowed: Comparison,
}

/// Plants a slowdown in a result and compares the two.
///
/// # Errors
/// When the result has no run.
pub fn self_test(file: &ResultFile, thresholds: &Thresholds) -> Result<SelfTest, LoadError> {
    let widest = [thresholds.p50, thresholds.p95, thresholds.p99, thresholds.throughput]
        .into_iter()
        .fold(0.0, f64::max);
    // Throughput falls by 1 − 1/factor, which is less than latencies grow by.
    let factor = 1.0 / (1.0 - widest.min(0.9)) + BEYOND * widest;
    let runs = file.runs.iter().map(|run| slowed(run.clone(), factor)).collect();
    let slow = ResultFile { runs, ..file.clone() };
    Ok(SelfTest {
        factor,
        unchanged: compare(file, file, thresholds)?,
        slowed: compare(&slow, file, thresholds)?,
    })
}

impl SelfTest {
    /// Whether nothing was found where nothing is, and the slowdown wherever it was planted in repeats enough. A result
    /// without such repeats does not pass: nothing is ever found in it.
    #[must_use]
    pub fn passed(&self) -> bool {
        let times = ["p50", "p95", "p99", "throughput_per_s"];
        let planted = self.slowed.rows.iter().filter(|row| {
            let repeated = row.repeats_count.iter().all(|count| *count >= REPEATS_COUNT_MIN);
            repeated && times.contains(&row.metric.as_str())
        });
        !self.unchanged.regressed()
            && self.slowed.regressed()
            && planted.into_iter().all(|row| matches!(row.verdict, Verdict::Regressed | Verdict::Unusable))
    }
}

/// A run with every time so many times as long.
pub(crate) fn slowed(mut run: Run, factor: f64) -> Run {
    for latency in [&mut run.latency, &mut run.latency_uncorrected] {
        slow(latency, factor);
    }
    run.throughput_per_s /= factor;
    run
}

/// The histogram stays as it was: no comparison reads it.
fn slow(latency: &mut Latency, factor: f64) {
    for time in [
        &mut latency.min_us,
        &mut latency.mean_us,
        &mut latency.p50_us,
        &mut latency.p90_us,
        &mut latency.p95_us,
        &mut latency.p99_us,
        &mut latency.p99_9_us,
        &mut latency.p99_99_us,
        &mut latency.max_us,
    ] {
        *time *= factor;
    }
}
