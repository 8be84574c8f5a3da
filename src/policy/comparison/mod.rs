//! Comparison of the cohort of a flag with its control, window by window, without I/O, clock or randomness of its own.
//!
//! Sessions or connections are the units, because requests of one connection are not independent. They are in the cohort at random
//! (by a salted hash), so that a flag without effect is one under which any other assignment would have been as likely: the
//! randomization test (Fisher, *The Design of Experiments*, 1935, chapter 2; of cluster totals: Gail et al., *Statistics in
//! Medicine* 15, 1996). It requires neither independent requests, nor a distribution of latencies, nor constant load.
//!
//! 1. [`ClusterMap`]: units are grouped into clusters that are exchangeable.
//! 2. [`CohortRecorder`]: each cluster has counters of requests, errors, and requests slower than the pooled 95th and 99th percentile
//!    of the preceding windows. For the cohort these thresholds are higher by the tolerated factor, which is how the tolerance enters
//!    the null hypothesis: each cluster's latency is at most that factor of what it would be with the flag off. For error rates the
//!    tolerated difference is added to the rates of the control.
//! 3. At the end of a block of windows, the cluster rates of cohort and control are compared by their rank sum (Wilcoxon, 1945), so
//!    that one slow client has one vote. Its p-value is bounded by Chernoff's method (`randomization`), valid at any level.
//! 4. [`AlphaBudget`]: the level of each look comes from an alpha-spending function of time (Lan and DeMets, *Biometrika* 70, 1983),
//!    so the probability of any false alarm in an hour is at most 10⁻³ over all flags, metrics and looks by the union bound.
//!
//! A cohort is worse if the test rejects and the pooled metric is beyond the tolerance too. If too few clusters have requests for any
//! rejection at the level, the verdict is [`Verdict::NotEnoughData`].

mod alpha_budget;
mod clusters;
mod randomization;
mod recorder;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

pub use alpha_budget::{AlphaBudget, FALSE_ALARMS_PER_HOUR_MAX};
use clusters::Arm;
pub use clusters::{Cluster, ClusterMap, POSITIONS};
use randomization::{ln_p_value, ln_subsets};
use recorder::{ClusterCounts, QUANTILES};
pub use recorder::{CohortRecorder, Counts, Thresholds};

use super::histogram;

/// Time of a window.
pub const WINDOW: Duration = Duration::from_secs(1);
/// Windows of each block, and the part of the budget that a look at its end may spend: short blocks for large differences, long ones
/// for small differences and low traffic.
const BLOCKS: [(u32, f64); 2] = [(4, 1.0 / 16.0), (32, 1.0 / 4.0)];
/// Requests in a block from which a cluster is compared.
const CLUSTER_SAMPLES_MIN: u32 = 10;
/// Requests from which thresholds are set.
const THRESHOLD_SAMPLES_MIN: f64 = 100.0;
const QUANTILE_OF: [f64; QUANTILES] = [0.95, 0.99];

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Metric {
    /// 95th percentile of latency.
    P95,
    /// 99th percentile of latency.
    P99,
    /// Part of requests that fail.
    ErrorRate,
}

const METRICS: &[Metric] = <Metric as strum::VariantArray>::VARIANTS;

impl Metric {
    /// The position of a latency metric in arrays; `None` for the error rate.
    fn quantile_index(self) -> Option<usize> {
        match self {
            Self::P95 => Some(0),
            Self::P99 => Some(1),
            Self::ErrorRate => None,
        }
    }
}

/// How much worse than its control a cohort may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Factor of latencies, at least 1.
    pub latency_factor: f64,
    /// Difference of the error rates, 0 to 1.
    pub error_rate: f64,
}

impl Default for Tolerance {
    /// A fifth in latency, and one percentage point of errors.
    fn default() -> Self {
        Self { latency_factor: 1.2, error_rate: 0.01 }
    }
}

/// The result of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// No evidence that the cohort is worse than tolerated.
    Continue,
    /// Too few sessions or connections for any evidence.
    NotEnoughData,
    /// The cohort is worse than tolerated.
    Worse(Worse),
}

/// How a cohort is worse than its control.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worse {
    /// What is worse.
    pub metric: Metric,
    /// The value of the cohort: seconds, or a part of 1.
    pub cohort: f64,
    /// The value of the control.
    pub control: f64,
    /// The value that would be tolerated of the cohort, given the one of the control.
    pub bound: f64,
    /// Upper bound of the probability of such a difference if the cohort were as tolerated.
    pub p_value: f64,
    /// The level of the test, at least the p-value.
    pub level: f64,
}

impl fmt::Display for Worse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, scale, unit) = match self.metric {
            Metric::P95 => ("p95", 1e3, " ms"),
            Metric::P99 => ("p99", 1e3, " ms"),
            Metric::ErrorRate => ("error rate", 100.0, " %"),
        };
        let [cohort, control, bound] = [self.cohort, self.control, self.bound].map(|value| value * scale);
        write!(
            formatter,
            "{name} {cohort:.3}{unit}, control {control:.3}{unit}, tolerated {bound:.3}{unit} (p ≤ {:.1e})",
            self.p_value
        )
    }
}

/// The comparison of one flag with one share of the cohort.
#[derive(Debug)]
pub struct Comparison {
    map: ClusterMap,
    tolerance: Tolerance,
    /// The counts up to the preceding window.
    before: Counts,
    /// Counts of latencies by bucket, of cohort and control, halved with each window.
    recent: [Vec<f64>; 2],
    thresholds: Option<Thresholds>,
    blocks: [Block; BLOCKS.len()],
    verdict: Verdict,
}

#[derive(Debug)]
struct Block {
    windows: u32,
    counts: Counts,
}

impl Comparison {
    /// Starts a comparison of new recorders with this partition.
    #[must_use]
    pub fn new(map: ClusterMap, tolerance: Tolerance) -> Self {
        Self {
            map,
            tolerance,
            before: Counts::new(&map),
            recent: [(); 2].map(|()| vec![0.0; histogram::BUCKETS]),
            thresholds: None,
            blocks: [(); BLOCKS.len()].map(|()| Block { windows: 0, counts: Counts::new(&map) }),
            verdict: Verdict::NotEnoughData,
        }
    }

    /// Compares at the end of a window, given the sum of the recorders' counts. Afterwards the thresholds of the recorders are to be
    /// set to [`Comparison::thresholds`]. The budget is shared by all comparisons, and refilled once per window by the caller.
    pub fn close_window(&mut self, counts: &Counts, budget: &mut AlphaBudget) -> Verdict {
        let window = counts.since(&self.before);
        self.before.clone_from(counts);
        // Without thresholds no request has been counted as slow.
        if self.thresholds.is_some() {
            for (index, (windows, part)) in BLOCKS.into_iter().enumerate() {
                let Some(block) = self.blocks.get_mut(index) else { continue };
                block.counts.add(&window);
                block.windows += 1;
                if block.windows == windows {
                    let verdict = look(&block.counts, &self.map, self.tolerance, budget, part);
                    block.windows = 0;
                    block.counts.clear();
                    // A long block adds evidence; that it is too short for a verdict is no reason to discard that of a short one.
                    if index == 0 || verdict != Verdict::NotEnoughData {
                        self.verdict = verdict;
                    }
                    if let Verdict::Worse(_) = verdict {
                        return verdict;
                    }
                }
            }
        }
        self.update_thresholds(&window);
        self.verdict
    }

    /// From which latencies on requests count as slow in the next window; `None` before the first requests.
    #[must_use]
    pub fn thresholds(&self) -> Option<Thresholds> {
        self.thresholds
    }

    /// Sets the thresholds to the percentiles of recent requests of both arms, those of the cohort divided by the tolerated factor.
    fn update_thresholds(&mut self, window: &Counts) {
        for (recent, latencies) in self.recent.iter_mut().zip(&window.latencies) {
            let counts = recent.iter_mut().zip(latencies);
            counts.for_each(|(recent, latencies)| *recent = *recent / 2.0 + f64::from(*latencies));
        }
        let factor = self.tolerance.latency_factor;
        let [cohort, control] = &self.recent;
        let mut pooled = ascending(cohort.iter().copied(), 1.0 / factor);
        pooled.extend(ascending(control.iter().copied(), 1.0));
        if pooled.iter().map(|(_, weight)| weight).sum::<f64>() < THRESHOLD_SAMPLES_MIN {
            return;
        }
        pooled.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
        let quantiles = QUANTILE_OF.map(|quantile| histogram::value_at_quantile(&pooled, quantile));
        self.thresholds = Some(Thresholds {
            // Conversion from floating point saturates.
            cohort_ns: quantiles.map(|nanoseconds| (nanoseconds * factor) as u64),
            control_ns: quantiles.map(|nanoseconds| nanoseconds as u64),
        });
    }
}

/// The latencies in nanoseconds, times `scale`, that have a weight, with it.
fn ascending(weights: impl Iterator<Item = f64>, scale: f64) -> Vec<(f64, f64)> {
    let latencies = weights.enumerate().filter(|(_, weight)| *weight > 0.0);
    latencies.map(|(bucket, weight)| (histogram::highest(bucket) as f64 * scale, weight)).collect()
}

/// Tests all metrics of a block, each at the same part of the budget.
fn look(
    block: &Counts,
    map: &ClusterMap,
    tolerance: Tolerance,
    budget: &mut AlphaBudget,
    part: f64,
) -> Verdict {
    let clusters = block.clusters.iter().enumerate();
    let compared: Vec<(ClusterCounts, bool)> = clusters
        .filter(|(_, counts)| counts.samples() >= CLUSTER_SAMPLES_MIN)
        .map(|(index, counts)| (*counts, map.arm(index) == Arm::Cohort))
        .collect();
    let can_reject = |cohort: usize, level: f64| -ln_subsets(compared.len(), cohort) <= level.ln();
    let offered = budget.offer(part);
    let level = offered / METRICS.len() as f64;
    // Whether the level is spent must not depend on which clusters are in the cohort, so the expected number decides.
    let expected = (compared.len() as f64 * map.cohort_part()).round() as usize;
    if can_reject(expected, level) {
        budget.spend(offered);
    } else {
        return Verdict::NotEnoughData;
    }
    let cohort = compared.iter().filter(|(_, is_cohort)| *is_cohort).count();
    if !can_reject(cohort, level) {
        return Verdict::NotEnoughData;
    }
    for metric in METRICS {
        let worse = pooled_difference(block, map, tolerance, *metric);
        if let Some(mut worse) = worse {
            let units: Vec<_> = compared
                .iter()
                .map(|(counts, is_cohort)| (score(*counts, *is_cohort, *metric, tolerance), *is_cohort))
                .collect();
            worse.p_value = ln_p_value(&units).exp();
            worse.level = level;
            if worse.p_value <= level {
                return Verdict::Worse(worse);
            }
        }
    }
    Verdict::Continue
}

/// What the ranks of clusters are made of: the part of its requests that is slow or failed, plus what is tolerated.
fn score(counts: ClusterCounts, is_cohort: bool, metric: Metric, tolerance: Tolerance) -> f64 {
    let samples = f64::from(counts.samples());
    match metric.quantile_index().and_then(|index| counts.slow().get(index).copied()) {
        // The thresholds contain the tolerance.
        Some(slow) => f64::from(slow) / samples,
        None if is_cohort => f64::from(counts.errors()) / samples,
        None => f64::from(counts.errors()) / samples + tolerance.error_rate,
    }
}

/// The values of a metric over all requests of each arm, if that of the cohort is beyond the tolerance.
fn pooled_difference(
    block: &Counts,
    map: &ClusterMap,
    tolerance: Tolerance,
    metric: Metric,
) -> Option<Worse> {
    let (cohort, control, bound) = match metric.quantile_index().and_then(|index| QUANTILE_OF.get(index)) {
        Some(quantile) => {
            let [cohort, control] = block.latencies.each_ref().map(|latencies| {
                let latencies = ascending(latencies.iter().map(|count| f64::from(*count)), 1e-9);
                histogram::value_at_quantile(&latencies, *quantile)
            });
            (cohort, control, control * tolerance.latency_factor)
        }
        None => {
            let [cohort, control] = [Arm::Cohort, Arm::Control].map(|arm| {
                let clusters = block.clusters.iter().enumerate().filter(|(index, _)| map.arm(*index) == arm);
                let (errors, samples) = clusters.fold((0, 0), |(errors, samples), (_, counts)| {
                    (errors + u64::from(counts.errors()), samples + u64::from(counts.samples()))
                });
                errors as f64 / samples.max(1) as f64
            });
            (cohort, control, control + tolerance.error_rate)
        }
    };
    (cohort > bound).then_some(Worse { metric, cohort, control, bound, p_value: 1.0, level: 0.0 })
}
