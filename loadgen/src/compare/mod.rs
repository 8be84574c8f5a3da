//! Comparison of a result with a baseline: which metrics are worse by more than noise.
//!
//! Runs are matched by workload, contestant and parameters; repeats within a file are the samples. A metric has
//! regressed if the ratio of the medians is beyond its threshold *and* the ratio's 95 % interval excludes 1. With five
//! repeats that scatter by ±10 %, an increase of 30 % is nearly always found if the threshold is 10 or 15 %. With the
//! 20 % of p99 it is missed about once in ten times, because the median itself can be below the threshold.

mod errors;
mod instructions;
mod matching;
mod row;
mod table;
mod thresholds;

use serde::Serialize;

use self::{
    matching::{Matched, Pair},
    row::ROUNDING,
    thresholds::Gate,
};
pub use self::{
    row::{Row, Verdict},
    thresholds::Thresholds,
};
use crate::{
    error::LoadError,
    metric::Better,
    repeats::Repeats,
    result::ResultFile,
    statistics::{REPEATS_COUNT_MIN, Ratio, median, ratio_of_medians},
};

/// The comparison of two results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Start time and commit of the current result.
    pub current: String,
    /// Start time and commit of the baseline.
    pub baseline: String,
    /// All compared metrics.
    pub rows: Vec<Row>,
    /// Workloads that are missing in the baseline.
    pub not_in_the_baseline: Vec<String>,
    /// Workloads that are only in the baseline, with the reason if the current result contains it.
    pub only_in_the_baseline: Vec<String>,
    /// Other differences, which may explain a change.
    pub notes: Vec<String>,
}

/// Compares a result with a baseline.
///
/// # Errors
/// [`LoadError::Incomparable`] when the processors, cores, kernels (major and minor version) or builds of the generator differ,
/// when a workload was run with other parameters or with other flags of the server, or when there is nothing to compare.
pub fn compare(
    current: &ResultFile,
    baseline: &ResultFile,
    thresholds: &Thresholds,
) -> Result<Comparison, LoadError> {
    matching::same_machine(&current.environment, &baseline.environment)?;
    let Matched { pairs, not_in_the_baseline, only_in_the_baseline } = matching::matched(current, baseline)?;
    let mut rows: Vec<Row> = pairs.iter().flat_map(|pair| rows(pair, thresholds)).collect();
    rows.extend(instructions::rows(current, baseline, thresholds));
    if rows.is_empty() {
        return Err(LoadError::Incomparable("they have no workload in common".to_owned()));
    }
    Ok(Comparison {
        current: matching::origin(current),
        baseline: matching::origin(baseline),
        rows,
        not_in_the_baseline,
        only_in_the_baseline,
        notes: matching::notes(current, baseline, &pairs),
    })
}

impl Comparison {
    /// Whether any metric has regressed.
    #[must_use]
    pub fn regressed(&self) -> bool {
        self.count(Verdict::Regressed) > 0
    }

    /// Whether at least one metric was compared. If not, the absence of regressions has no meaning.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.rows.iter().any(|row| row.verdict != Verdict::Unusable)
    }

    /// Number of metrics with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }
}

fn rows(pair: &Pair<'_>, thresholds: &Thresholds) -> Vec<Row> {
    let timings = pair.unusable().or_else(|| {
        let limit = |group: &Repeats<'_>, whose| {
            group.bottleneck().map(|why| format!("{whose} the generator was the limit: {why}"))
        };
        limit(&pair.current, "now").or_else(|| limit(&pair.baseline, "in the baseline"))
    });
    let gates = thresholds.gates().into_iter();
    let mut rows: Vec<Row> = gates
        .filter_map(|gate| {
            // Memory per connection does not depend on the generator's speed.
            let unusable = if gate.of_time { timings.clone() } else { pair.unusable() };
            row(pair, &gate, unusable)
        })
        .collect();
    rows.extend(errors::row(pair));
    rows
}

/// The row of a metric; `None` if neither side has it.
fn row(pair: &Pair<'_>, gate: &Gate, unusable: Option<String>) -> Option<Row> {
    let [baseline, current] = [&pair.baseline, &pair.current].map(|group| group.samples(&gate.metric));
    if baseline.is_empty() && current.is_empty() && unusable.is_none() {
        return None;
    }
    let repeats_count = [baseline.len(), current.len()];
    let ratio = ratio_of_medians(&current, &baseline);
    let few = repeats_count.into_iter().min().is_some_and(|count| count < REPEATS_COUNT_MIN);
    let unusable = unusable.or_else(|| {
        ratio.is_none().then(|| match repeats_count {
            [0, _] => format!("the baseline has no {}", gate.metric),
            [_, 0] => format!("the current result has no {}", gate.metric),
            _ => format!("{} is not above 0 throughout the baseline", gate.metric),
        })
    });
    let compared = if unusable.is_some() { None } else { ratio };
    let verdict = match compared {
        None => Verdict::Unusable,
        Some(ratio) => verdict(gate, &ratio, few),
    };
    let too_few = (verdict == Verdict::Unclear && few)
        .then(|| format!("fewer than {REPEATS_COUNT_MIN} repeats cannot be distinguished from noise"));
    let [baseline, current] = [median(&baseline), median(&current)];
    Some(Row {
        workload: pair.current.name(),
        metric: gate.metric.to_string(),
        baseline,
        current,
        shown: [baseline, current]
            .map(|value| value.map_or_else(|| "–".to_owned(), |value| gate.metric.show(value))),
        repeats_count,
        ratio: compared.map(|ratio| ratio.ratio),
        interval: compared.filter(|_| !few).map(|ratio| [ratio.low, ratio.high]),
        threshold: Some(gate.signed_threshold()),
        verdict,
        reason: unusable.or(too_few),
    })
}

fn verdict(gate: &Gate, ratio: &Ratio, few: bool) -> Verdict {
    let (worse, worse_at_least, worse_at_most) = match gate.better {
        Better::Lower => (ratio.ratio - 1.0, ratio.low - 1.0, ratio.high - 1.0),
        Better::Higher => (1.0 - ratio.ratio, 1.0 - ratio.high, 1.0 - ratio.low),
    };
    let beyond = gate.threshold + ROUNDING;
    if worse > beyond {
        if !few && worse_at_least > 0.0 { Verdict::Regressed } else { Verdict::Unclear }
    } else if worse < -beyond && !few && worse_at_most < 0.0 {
        Verdict::Improved
    } else {
        Verdict::Fine
    }
}

#[cfg(test)]
mod tests;
