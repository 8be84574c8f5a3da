//! The self-test: a delay injected into the server must appear in the figures, and the comparison must report it.

use std::time::{Duration, SystemTime};

use super::print::print;
use crate::{
    compare::{Comparison, Thresholds, Verdict, compare},
    error::LoadError,
    fixture::{Fixture, FixtureSettings},
    job::{RunContext, run_job},
    placement::Placement,
    report,
    result::{Outcome, ResultFile, Run},
    statistics::median,
    suite::{SEED, Suite, TIMEOUT},
    workloads,
};

/// The injected delay, and the number of runs of each server.
const PLANTED: Duration = Duration::from_micros(300);
const SELF_TEST_REPEATS: usize = 3;
/// Accepted ratio of the measured to the injected delay.
const FOUND: std::ops::RangeInclusive<f64> = 0.8..=1.6;

/// Measures a server with and without an injected delay, in turn. The median must increase by the delay, the comparison
/// must report a regression, and must not report one between equal servers.
pub(super) fn self_test(context: &RunContext) -> Result<bool, LoadError> {
    let (suite, workload) = (suite(), workloads::planted());
    let measure = |delay: Duration| -> Result<Run, LoadError> {
        let server = Fixture::start(&FixtureSettings { delay, ..FixtureSettings::default() })?;
        let mut run = run_job(&suite.job(&workload, &server.target, Some(server.admin))?, context)?;
        if run.outcome == Outcome::Interrupted {
            return Err(LoadError::Interrupted);
        }
        // On a busy machine requests are sent late in the tail, but the injected delay shows in the median.
        run.generator.bottleneck = None;
        Ok(run)
    };
    let (mut without, mut again, mut with) = (Vec::new(), Vec::new(), Vec::new());
    let measured = (0..SELF_TEST_REPEATS).try_for_each(|_| -> Result<(), LoadError> {
        without.push(measure(Duration::ZERO)?);
        with.push(measure(PLANTED)?);
        again.push(measure(Duration::ZERO)?);
        Ok(())
    });
    let runs_count = without.len() + with.len() + again.len();
    match measured {
        Err(LoadError::Interrupted) if runs_count > 0 => {
            let runs: Vec<Run> = [without, with, again].concat();
            print(&report::terminal::runs(&runs));
            print("interrupted: the planted delay was not checked\n");
            return Ok(true);
        }
        measured => measured?,
    }
    let file = |runs| ResultFile::of_this_process(SystemTime::now(), runs, Vec::new());
    let (without, again, with) = (file(without), file(again), file(with));
    let median_us = |file: &ResultFile| {
        let p50: Vec<f64> = file.runs.iter().map(|run| run.latency.p50_us).collect();
        median(&p50).unwrap_or(0.0)
    };
    let planted_us = PLANTED.as_secs_f64() * 1e6;
    let found_us = median_us(&with) - median_us(&without);
    let thresholds = Thresholds::default();
    let (slowed, alike) = (compare(&with, &without, &thresholds)?, compare(&again, &without, &thresholds)?);
    print(&slowed.table());
    let checks = [
        (
            format!("planted {planted_us:.0} µs, found {found_us:.0} µs"),
            FOUND.contains(&(found_us / planted_us)),
        ),
        ("the comparison reports a regression".to_owned(), slowed.regressed()),
        // Only the median is checked: noise of the machine in the tail is not an error of the comparison.
        (
            "no difference is found in the median without a planted delay".to_owned(),
            !regressed_in(&alike, "p50"),
        ),
    ];
    for (what, passed) in &checks {
        print(&format!("{} {what}\n", if *passed { "✓" } else { "✗" }));
    }
    Ok(checks.iter().all(|(_, passed)| *passed))
}

fn suite() -> Suite {
    Suite {
        workloads: Vec::new(),
        repeats: 1,
        duration: None,
        brief: true,
        scale: 1.0,
        timeout: TIMEOUT,
        name: None,
        seed: SEED,
        target: None,
        fixture: FixtureSettings::default(),
        placement: Placement::default(),
    }
}

fn regressed_in(comparison: &Comparison, metric: &str) -> bool {
    comparison.rows.iter().any(|row| row.metric == metric && row.verdict == Verdict::Regressed)
}
