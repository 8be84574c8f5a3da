//! The shares of flags, and the figures of their cohorts, in Prometheus' text format.

use std::fmt::{self, Write};

use super::{
    Distribution,
    prometheus::{BUCKETS_MIN, BUCKETS_NS, family, write_histogram},
};
use crate::policy::{CohortFigures, RolloutReport};

/// Appends the shares of all flags, and the figures of those that have or had a cohort.
pub fn write_rollouts(out: &mut String, flags: &[RolloutReport]) {
    // Writing to a string does not fail.
    let _ = write_all(out, flags);
}

fn write_all(out: &mut String, flags: &[RolloutReport]) -> fmt::Result {
    let help = "Part of the sessions and connections that the flag is on for, 0 to 1.";
    family(out, "corelane_flag_share", "gauge", help)?;
    for RolloutReport { flag, share, .. } in flags {
        writeln!(out, "corelane_flag_share{{flag=\"{flag}\"}} {}", share.fraction())?;
    }
    let help = "Times that the flag was turned off because its cohort was worse than the others.";
    family(out, "corelane_flag_rollbacks_total", "counter", help)?;
    for RolloutReport { flag, rollbacks, .. } in flags {
        writeln!(out, "corelane_flag_rollbacks_total{{flag=\"{flag}\"}} {rollbacks}")?;
    }
    let figures = || flags.iter().filter_map(|flag| Some((flag.flag, flag.figures.as_ref()?)));
    let arms = || {
        figures().flat_map(|(flag, (cohort, control))| {
            [("cohort", cohort), ("control", control)]
                .map(|(arm, figures)| (format!("flag=\"{flag}\",arm=\"{arm}\""), figures))
        })
    };
    let help = "Estimated sessions and connections with requests since the share was set.";
    family(out, "corelane_cohort_members", "gauge", help)?;
    for (labels, CohortFigures { members, .. }) in arms() {
        writeln!(out, "corelane_cohort_members{{{labels}}} {members}")?;
    }
    let help = "Replies that are errors since the share was set.";
    family(out, "corelane_cohort_errors_total", "counter", help)?;
    for (labels, CohortFigures { errors, .. }) in arms() {
        writeln!(out, "corelane_cohort_errors_total{{{labels}}} {errors}")?;
    }
    let help = "Time from the start of a message to its encoded reply since the share was set.";
    family(out, "corelane_cohort_duration_seconds", "histogram", help)?;
    let buckets = BUCKETS_NS.get(..BUCKETS_MIN).unwrap_or(&BUCKETS_NS);
    for (labels, figures) in arms() {
        let distribution =
            Distribution { counts: figures.latencies.iter().copied().collect(), sum_ns: figures.sum_ns };
        write_histogram(out, "corelane_cohort_duration", &labels, &distribution, buckets)?;
    }
    Ok(())
}
