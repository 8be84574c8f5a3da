//! The highest rate at which a demand holds: found by bisection, confirmed by repeats.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Args;

use super::{
    arguments::{LoadArguments, ServerArguments, positive_duration, positive_number},
    mix::Mix,
    output::writable,
    print::print,
};
use crate::{
    demand::Demand,
    engine::Pacing,
    error::LoadError,
    job::{Job, RunContext, run_job},
    report,
    result::{Outcome, ResultFile, Run},
    schedule::Gaps,
    units,
};

/// Relative precision at which the search ends.
const PRECISION: f64 = 0.02;
/// Fraction by which a rate is lowered that does not hold when repeated.
const STEP_DOWN: f64 = 0.03;
/// Maximum number of runs of a search.
const TRIALS_MAX: usize = 40;

/// `saturate`.
#[derive(Args, Clone, Debug)]
pub(super) struct Saturate {
    #[command(flatten)]
    server: ServerArguments,

    /// A demand that must hold: p99<1ms; may be given more than once. Errors are never allowed
    #[arg(long, value_name = "DEMAND", required = true)]
    slo: Vec<Demand>,

    /// Connections
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// Measured time of each rate
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = positive_duration)]
    trial: Duration,

    /// Runs at the found rate, all of which must hold
    #[arg(long, value_name = "N", default_value_t = 3)]
    confirmations: usize,

    /// The highest rate to try [default: 1.5 times the throughput of a closed loop]
    #[arg(long, value_name = "R", value_parser = positive_number)]
    rate_max: Option<f64>,

    /// Write every run as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    #[command(flatten)]
    mix: Mix,
}

impl Saturate {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        self.json.iter().try_for_each(|path| writable(path))?;
        let started = SystemTime::now();
        let whole =
            LoadArguments::new(self.connections, self.trial, Duration::from_millis(500), self.slo.clone());
        let mut job = self.server.job(&self.mix, &whole, false)?;
        job.workload = "saturate".to_owned();
        let mut search = Search { job, context, runs: Vec::new(), bottleneck: None };
        let found = match search.find(self.rate_max, self.confirmations) {
            // No run was complete: there is no report.
            Err(LoadError::Interrupted) if search.runs.is_empty() => return Err(LoadError::Interrupted),
            Err(LoadError::Interrupted) => None,
            found => found?,
        };
        let Search { mut runs, bottleneck, .. } = search;
        let interrupted = found.is_none() && context.is_interrupted();
        if let (Some(rate), Some(run)) = (found, runs.last_mut()) {
            run.figures.insert("rate_highest_per_s".to_owned(), rate);
        }
        print(&report::terminal::runs(&runs));
        let demands: Vec<String> = self.slo.iter().map(|demand| demand.text().to_owned()).collect();
        let demands = demands.join(", ");
        match found {
            Some(rate) => print(&format!("{demands} hold at {} requests/s\n", units::count(rate))),
            None if interrupted => print("interrupted: no rate was confirmed\n"),
            None => print(&format!("no rate was found at which {demands} hold\n")),
        }
        if let Some(reason) = bottleneck.filter(|_| !interrupted) {
            print(&format!("THE GENERATOR WAS THE LIMIT above that: {reason}. The server may hold more.\n"));
        }
        if let Some(path) = &self.json {
            ResultFile::of_this_process(started, runs, Vec::new()).write(path)?;
        }
        Ok(found.is_some() || interrupted)
    }
}

struct Search<'a> {
    job: Job,
    context: &'a RunContext,
    runs: Vec<Run>,
    /// Reason why the generator was the limit at the lowest failing rate, if it was.
    bottleneck: Option<String>,
}

/// Outcome of one rate.
#[derive(Clone, Copy, PartialEq)]
enum Trial {
    Holds,
    Fails,
    /// The generator was the limit, so the rate is undecided.
    GeneratorFails,
}

impl Search<'_> {
    /// Returns the highest rate that holds, or `None` if not even a small rate does.
    ///
    /// # Errors
    /// [`LoadError::Interrupted`] when the search was interrupted; the runs so far are kept.
    fn find(&mut self, rate_max: Option<f64>, confirmations: usize) -> Result<Option<f64>, LoadError> {
        let mut rate_failing = match rate_max {
            Some(rate) => rate,
            None => {
                let closed = self.run_job()?;
                let reached = closed.throughput_per_s;
                self.runs.push(closed);
                reached * 1.5
            }
        };
        let mut rate_holding = 0.0;
        // A lower rate has no request within a trial.
        let rate_min = (1.0 / self.job.plan.duration.as_secs_f64()).max(1.0);
        if rate_max.is_some() && self.try_rate(rate_failing)? == Trial::Holds {
            rate_holding = rate_failing;
        }
        let mut trials = 0;
        while rate_failing - rate_holding > rate_failing * PRECISION && trials < TRIALS_MAX {
            trials += 1;
            let rate = f64::midpoint(rate_holding, rate_failing).round();
            if rate < rate_min {
                break;
            }
            if self.try_rate(rate)? == Trial::Holds { rate_holding = rate } else { rate_failing = rate }
        }
        'confirm: while rate_holding >= rate_min && trials < TRIALS_MAX {
            for _ in 0..confirmations {
                trials += 1;
                if self.try_rate(rate_holding)? != Trial::Holds {
                    rate_holding = (rate_holding * (1.0 - STEP_DOWN)).round();
                    continue 'confirm;
                }
            }
            return Ok(Some(rate_holding));
        }
        Ok(None)
    }

    /// Runs the job. An interrupted run is kept for the report and ends the search.
    fn run_job(&mut self) -> Result<Run, LoadError> {
        if self.context.is_interrupted() {
            return Err(LoadError::Interrupted);
        }
        let run = run_job(&self.job, self.context)?;
        if run.outcome == Outcome::Interrupted {
            self.runs.push(run);
            return Err(LoadError::Interrupted);
        }
        Ok(run)
    }

    fn try_rate(&mut self, rate: f64) -> Result<Trial, LoadError> {
        let total = self.job.plan.warmup + self.job.plan.duration;
        self.job.plan.pacing = Pacing::steady(total, rate, Gaps::Constant);
        let run = self.run_job()?;
        if matches!(run.outcome, Outcome::ServerGone { .. }) {
            return Err(LoadError::Unreachable {
                url: run.server.url,
                reason: format!("the server ended at {} requests/s", units::count(rate)),
            });
        }
        let is_held = run.errors_total() == 0 && run.checks.iter().all(|check| check.passed);
        let trial = match (is_held, &run.generator.bottleneck) {
            (true, _) => Trial::Holds,
            (false, None) => Trial::Fails,
            (false, Some(_)) => Trial::GeneratorFails,
        };
        let verdict = match trial {
            Trial::Holds => "holds",
            Trial::Fails => "does not hold",
            Trial::GeneratorFails => "the generator cannot keep up",
        };
        self.context.progress.print_line(&format!(
            "{:>10}/s  p99 {}  {verdict}",
            units::count(rate),
            units::latency(run.latency.p99_us)
        ));
        if !is_held {
            self.bottleneck.clone_from(&run.generator.bottleneck);
        }
        self.runs.push(run);
        Ok(trial)
    }
}
