//! Comparison of instruction counts. They are reproducible, so that one count per side is enough and any change beyond
//! the threshold is real.

use serde_json::Value;

use super::{
    row::{ROUNDING, Row, Verdict},
    thresholds::Thresholds,
};
use crate::{metric::Metric, result::ResultFile};

/// A row for each operation that is in both files.
pub(super) fn rows(current: &ResultFile, baseline: &ResultFile, thresholds: &Thresholds) -> Vec<Row> {
    let (Some(now), Some(then)) = (&current.instructions, &baseline.instructions) else {
        return Vec::new();
    };
    let [profile_now, profile_then] = [now, then].map(|side| side.about.get("profile"));
    let mismatch = (profile_now != profile_then).then(|| {
        let [now, then] = [profile_now, profile_then].map(|profile| profile.unwrap_or(&Value::Null));
        format!("built with profile {now}, and {then} in the baseline")
    });
    let in_both = now.counts.iter().filter_map(|(name, count)| Some((name, *count, *then.counts.get(name)?)));
    in_both
        .map(|(name, now, then)| {
            row(name, [then as f64, now as f64], thresholds.instructions, mismatch.clone())
        })
        .collect()
}

fn row(name: &str, [baseline, current]: [f64; 2], threshold: f64, mismatch: Option<String>) -> Row {
    let ratio = (baseline > 0.0 && mismatch.is_none()).then_some(current / baseline);
    let verdict = match ratio {
        None => Verdict::Unusable,
        Some(ratio) if ratio - 1.0 > threshold + ROUNDING => Verdict::Regressed,
        Some(ratio) if ratio - 1.0 < -threshold - ROUNDING => Verdict::Improved,
        Some(_) => Verdict::Fine,
    };
    Row {
        workload: name.to_owned(),
        metric: "instructions".to_owned(),
        baseline: Some(baseline),
        current: Some(current),
        shown: [baseline, current].map(|value| Metric::Instructions(name.to_owned()).show(value)),
        repeats_count: [1, 1],
        ratio,
        interval: None,
        threshold: Some(threshold),
        verdict,
        reason: mismatch,
    }
}
