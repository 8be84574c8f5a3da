//! Commands that run the suite of named workloads: baseline and regression.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde::de::DeserializeOwned;

use super::{
    arguments::{Cpus, cpu_list, positive_number},
    names::check_names,
    output::writable,
    print::print,
    self_test::self_test,
};
use crate::{
    compare::{Thresholds, compare},
    error::LoadError,
    fixture::FixtureSettings,
    job::RunContext,
    placement::Placement,
    report,
    result::{Outcome, ResultFile, Run},
    suite::{SEED, Suite, TIMEOUT},
    target::Target,
    workloads::{self, Workload},
};

/// Default path of the baseline.
pub(super) const BASELINE: &str = "bench/baseline/main_latest.json";

/// The suite and its settings.
#[derive(Args, Clone, Debug)]
struct SuiteArguments {
    /// Workloads to run [default: all; with --full all except the soak]
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,

    /// Number of runs of each workload
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeats: u32,

    /// Measured time of each run [default: a few seconds, by workload]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,

    /// Run each workload at its full length
    #[arg(long, conflicts_with = "duration")]
    full: bool,

    /// Fraction of connections and rates
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = positive_number)]
    scale: f64,

    /// A running server [default: a fixture server is started for each workload]
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// A command instead of a URL: each connection starts a process and uses its stdin and stdout
    #[arg(long, value_name = "'CMD ARGS'", conflicts_with = "url")]
    stdio: Option<String>,

    /// Core of the fixture server
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: usize,

    /// Cores of the generator [default: from the last backwards]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<Cpus>,

    /// Result of `cargo bench --bench instructions -- --json FILE`, to include
    #[arg(long, value_name = "FILE")]
    instructions: Option<PathBuf>,

    /// Result of `cargo bench --bench stages -- --json FILE`, to include
    #[arg(long, value_name = "FILE")]
    stages: Option<PathBuf>,
}

impl SuiteArguments {
    fn suite(&self) -> Result<Suite, LoadError> {
        let all = workloads::all();
        check_names(&self.only, all.iter().map(|workload| workload.id), "workload", "workloads")?;
        let is_selected = |workload: &Workload| match self.only.as_slice() {
            // Two hours long, unless in its short form.
            [] => workload.id != "soak" || !self.full,
            only => only.iter().any(|id| id == workload.id),
        };
        Ok(Suite {
            workloads: all.into_iter().filter(is_selected).collect(),
            repeats: self.repeats,
            duration: self.duration,
            brief: !self.full,
            scale: self.scale,
            timeout: TIMEOUT,
            name: None,
            seed: SEED,
            target: match (&self.url, &self.stdio) {
                (Some(url), _) => Some(Target::parse(url)?),
                (None, Some(command)) => Some(Target::stdio(command)?),
                (None, None) => None,
            },
            fixture: FixtureSettings { cores: vec![self.server_core], ..FixtureSettings::default() },
            placement: Placement::new(None, self.cpus.clone().map(|Cpus(cpus)| cpus))?,
        })
    }

    fn run(&self, context: &RunContext) -> Result<ResultFile, LoadError> {
        let suite = self.suite()?;
        // The files are read before a possibly long measurement.
        let instructions = self.instructions.as_deref().map(read_part).transpose()?;
        let stages = self.stages.as_deref().map(read_part).transpose()?;
        let mut file = suite.run(context)?;
        (file.instructions, file.stages) = (instructions, stages);
        Ok(file)
    }
}

/// Reads the result of a bench, which becomes a part of the result file.
fn read_part<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let broken = |reason: String| LoadError::ResultBroken { path: path.to_owned(), reason };
    let text = fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| broken(error.to_string()))
}

/// Whether a suite was interrupted. Its runs are not compared with anything.
fn interrupted(file: &ResultFile, context: &RunContext) -> bool {
    context.is_interrupted() || file.runs.iter().any(|run| run.outcome == Outcome::Interrupted)
}

/// Reasons why `regression` could not use this result as a baseline, if any: the result is compared with itself.
fn unusable_reasons(file: &ResultFile) -> Result<Vec<String>, LoadError> {
    let comparison = compare(file, file, &Thresholds::default())?;
    if comparison.usable() {
        return Ok(Vec::new());
    }
    let limit = |run: &Run| {
        run.generator
            .bottleneck
            .as_ref()
            .map(|reason| format!("{}: the generator was the limit: {reason}", run.workload))
    };
    let mut reasons: Vec<String> = file.runs.iter().filter_map(limit).collect();
    reasons.dedup();
    if reasons.is_empty() {
        reasons.push(format!("no run can be compared with another one:\n{}", comparison.table()));
    }
    Ok(reasons)
}

/// Descriptions of failed runs, one line each.
fn suite_failures(file: &ResultFile) -> Vec<String> {
    let failure = |run: &Run| {
        let what = match &run.outcome {
            Outcome::Interrupted => "was interrupted".to_owned(),
            Outcome::ServerGone { after_s } => format!("lost its server after {after_s:.1} s"),
            // The load of a burst exceeds any core, so its errors are a result.
            Outcome::Complete if run.workload == "burst" => return None,
            Outcome::Complete if run.errors_total() > 0 => {
                let first = run.first_error.as_deref().unwrap_or("unknown");
                format!("had {} errors, the first: {first}", run.errors_total())
            }
            Outcome::Complete => return None,
        };
        Some(format!("{} {what}", run.workload))
    };
    file.runs.iter().filter_map(failure).collect()
}

/// `baseline`.
#[derive(Args, Clone, Debug)]
pub(super) struct Baseline {
    #[command(flatten)]
    suite_arguments: SuiteArguments,

    /// File of the baseline; not overwritten if a workload failed
    #[arg(long, short, value_name = "FILE", default_value = BASELINE)]
    output: PathBuf,
}

impl Baseline {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        writable(&self.output)?;
        let file = self.suite_arguments.run(context)?;
        print(&report::terminal::runs(&file.runs));
        for not_run in &file.not_run {
            print(&format!("not run: {}: {}\n", not_run.workload, not_run.reason));
        }
        if interrupted(&file, context) {
            print(&format!("interrupted: {} was not changed\n", self.output.display()));
            return Ok(true);
        }
        let mut suite_failures = suite_failures(&file);
        suite_failures.extend(unusable_reasons(&file)?);
        if suite_failures.is_empty() && !file.runs.is_empty() {
            file.write(&self.output)?;
            print(&format!("kept: {}\n", self.output.display()));
            return Ok(true);
        }
        for failure in &suite_failures {
            print(&format!("FAILED: {failure}\n"));
        }
        print(&format!("{} was not changed\n", self.output.display()));
        Ok(false)
    }
}

/// `regression`.
#[derive(Args, Clone, Debug)]
pub(super) struct Regression {
    #[command(flatten)]
    suite_arguments: SuiteArguments,

    /// The baseline
    #[arg(long, value_name = "FILE", default_value = BASELINE)]
    baseline: PathBuf,

    /// One threshold for latencies and throughput [default: p50 10 %, p95 15 %, p99 20 %, throughput 10 %]
    #[arg(long, value_name = "SHARE", value_parser = positive_number)]
    threshold: Option<f64>,

    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Inject a delay into the server and check that it is found
    #[arg(long, conflicts_with_all = ["only", "instructions", "stages", "url", "stdio", "json"])]
    self_test: bool,
}

impl Regression {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        if self.self_test {
            return self_test(context);
        }
        self.json.iter().try_for_each(|path| writable(path))?;
        let thresholds = thresholds(self.threshold)?;
        let baseline = ResultFile::read(&self.baseline)?;
        let mut suite_arguments = self.suite_arguments;
        if suite_arguments.only.is_empty() {
            // The workloads and durations of the baseline: others could not be compared.
            suite_arguments.only = baseline.runs.iter().map(|run| run.workload.clone()).collect();
            suite_arguments.only.dedup();
            suite_arguments.only.retain(|id| workloads::by_id(id).is_some());
        }
        let file = suite_arguments.run(context)?;
        if let Some(path) = &self.json {
            file.write(path)?;
        }
        if interrupted(&file, context) {
            print(&report::terminal::runs(&file.runs));
            print("interrupted: nothing was compared with the baseline\n");
            return Ok(true);
        }
        let comparison = compare(&file, &baseline, &thresholds)?;
        print(&comparison.table());
        let suite_failures = suite_failures(&file);
        for failure in &suite_failures {
            print(&format!("FAILED: {failure}\n"));
        }
        if !comparison.usable() {
            return Err(LoadError::Incomparable(
                "no run of the baseline can be compared with this result".to_owned(),
            ));
        }
        Ok(suite_failures.is_empty() && !comparison.regressed())
    }
}

pub(super) fn thresholds(all: Option<f64>) -> Result<Thresholds, LoadError> {
    match all {
        Some(share) => Thresholds::default().with_times(share),
        None => Ok(Thresholds::default()),
    }
}
