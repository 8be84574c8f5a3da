//! Comparison of errors by kind: a kind that the baseline does not have is a regression, regardless of its count.

use std::collections::BTreeSet;

use super::{
    matching::Pair,
    row::{Row, Verdict},
};
use crate::{metric::Metric, repeats::Repeats, units};

/// A kind of error that both sides have is a regression if its share of the requests is this many times larger,
const SHARE_FACTOR_MAX: f64 = 2.0;

/// and its count is larger by at least this many: smaller changes are random.
const MORE_COUNT_MIN: f64 = 10.0;

/// The row for errors; `None` if neither side had one.
pub(super) fn row(pair: &Pair<'_>) -> Option<Row> {
    let [baseline, current] = [&pair.baseline, &pair.current].map(|group| group.errors_total() as f64);
    let reason = server_gone(pair).or_else(|| new_kinds(pair)).or_else(|| more(pair, baseline, current));
    if reason.is_none() && baseline == 0.0 && current == 0.0 {
        return None;
    }
    Some(Row {
        workload: pair.current.name(),
        metric: Metric::Errors.to_string(),
        baseline: Some(baseline),
        current: Some(current),
        shown: [baseline, current].map(units::count),
        repeats_count: [pair.baseline.runs.len(), pair.current.runs.len()],
        ratio: None,
        interval: None,
        threshold: None,
        verdict: if reason.is_some() { Verdict::Regressed } else { Verdict::Fine },
        reason,
    })
}

/// If the server died, times cannot be compared; its death is reported as an error.
fn server_gone(pair: &Pair<'_>) -> Option<String> {
    let after_s = pair.current.server_gone_after_s()?;
    pair.baseline
        .server_gone_after_s()
        .is_none()
        .then(|| format!("the server stopped answering after {after_s:.1} s, and did not in the baseline"))
}

fn new_kinds(pair: &Pair<'_>) -> Option<String> {
    let [before, now] = [&pair.baseline, &pair.current].map(kinds);
    let new: Vec<&str> = now.difference(&before).copied().collect();
    if new.is_empty() {
        return None;
    }
    let first = pair.current.runs.iter().find_map(|run| run.first_error.as_deref());
    let first = first.map_or_else(String::new, |first| format!("; the first error: {first}"));
    Some(format!("not in the baseline: {}{first}", new.join(", ")))
}

fn kinds<'file>(group: &Repeats<'file>) -> BTreeSet<&'file str> {
    let kinds = group.runs.iter().flat_map(|run| &run.errors_count);
    kinds.filter(|(_, count)| **count > 0).map(|(kind, _)| kind.as_str()).collect()
}

fn more(pair: &Pair<'_>, baseline: f64, current: f64) -> Option<String> {
    let requests = |group: &Repeats<'_>| group.runs.iter().map(|run| run.requests_count).sum::<u64>() as f64;
    let expected = baseline * requests(&pair.current) / requests(&pair.baseline).max(1.0);
    (current > expected * SHARE_FACTOR_MAX && current >= expected + MORE_COUNT_MIN)
        .then(|| format!("the baseline's share would be {}", units::count(expected)))
}
