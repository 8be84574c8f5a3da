//! The rollouts of flags, as replies.

use std::time::{Duration, UNIX_EPOCH};

use crate::{
    config::Percent,
    control::{CohortRow, RolloutRow},
    policy::{CohortFigures, RolloutReport, comparison::Verdict, rollback::RolloutState},
};

/// The rollout of a flag.
pub(super) fn rollout_row(report: RolloutReport) -> RolloutRow {
    let RolloutReport { flag, share, state, verdict, rollbacks, figures } = report;
    let (name, reason, at) = match state {
        _ if flag.is_restart_only() => ("restart_only", None, None),
        RolloutState::RolledBack { reason, at } => ("rolled_back", Some(reason.to_string()), Some(at)),
        RolloutState::RollingOut => ("rolling_out", None, None),
        RolloutState::Off if share == Percent::ALL => ("on", None, None),
        RolloutState::Off => ("off", None, None),
    };
    let verdict = verdict.and_then(|verdict| match verdict {
        Verdict::Continue => Some("no_difference"),
        Verdict::NotEnoughData => Some("not_enough_data"),
        Verdict::Worse(_) => None,
    });
    let (cohort, control) = figures.unzip();
    RolloutRow {
        flag: flag.name().to_owned(),
        share_percent: share,
        state: name.to_owned(),
        verdict: verdict.map(str::to_owned),
        reason,
        rolled_back_at: at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs()),
        rollbacks,
        cohort: cohort.as_ref().map(cohort_row),
        control: control.as_ref().map(cohort_row),
    }
}

fn cohort_row(figures: &CohortFigures) -> CohortRow {
    let nanoseconds = |latency: Duration| u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|quantile| nanoseconds(figures.quantile(quantile)));
    let CohortFigures { members, calls, errors, .. } = *figures;
    CohortRow { members, calls, errors, p50_ns: p50, p95_ns: p95, p99_ns: p99 }
}
