//! Commands on existing results.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    arguments::{positive_duration, positive_number},
    output::writable,
    print::print,
    self_test::self_test,
    suites::{BASELINE, thresholds},
};
use crate::{
    budget,
    compare::compare,
    error::LoadError,
    fixture::FixtureSettings,
    job::RunContext,
    latency, markdown,
    placement::Placement,
    report,
    result::{ResultFile, Run, write_whole},
    stages,
    suite::{SEED, Suite, TIMEOUT},
    workloads,
};

/// Default path of the budgets.
const BUDGET: &str = "bench/budget.toml";
/// Maximum number of runs on one page.
const RUNS_PER_PAGE_MAX: usize = 24;

/// `compare`.
#[derive(Args, Clone, Debug)]
pub(super) struct Compare {
    /// The current result
    #[arg(required_unless_present = "self_test")]
    current: Option<PathBuf>,

    /// The baseline
    #[arg(required_unless_present = "self_test")]
    baseline: Option<PathBuf>,

    /// One threshold for latencies and throughput [default: p50 10 %, p95 15 %, p99 20 %, throughput 10 %]
    #[arg(long, value_name = "SHARE", value_parser = positive_number)]
    threshold: Option<f64>,

    /// Inject a delay into a server and check that it is found
    #[arg(long, conflicts_with_all = ["current", "baseline", "threshold"])]
    self_test: bool,
}

impl Compare {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        let (Some(current), Some(baseline)) = (&self.current, &self.baseline) else {
            return self_test(context);
        };
        let thresholds = thresholds(self.threshold)?;
        let comparison = compare(&ResultFile::read(current)?, &ResultFile::read(baseline)?, &thresholds)?;
        print(&comparison.table());
        if !comparison.usable() {
            return Err(LoadError::Incomparable(
                "no run of one can be compared with a run of the other".to_owned(),
            ));
        }
        Ok(!comparison.regressed())
    }
}

/// `budget`.
#[derive(Args, Clone, Debug)]
pub(super) struct Budget {
    /// Results [default: the baseline; with --roadmap its six operations are measured now]
    results: Vec<PathBuf>,

    /// The budgets
    #[arg(long, value_name = "FILE", default_value = BUDGET)]
    budget: PathBuf,

    /// Print the roadmap's table of six operations; exit code 1 if one is over its budget or was not measured
    #[arg(long)]
    roadmap: bool,

    /// Measured time of each workload of --roadmap
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = positive_duration, requires = "roadmap")]
    duration: Duration,
}

/// The workloads of the roadmap's table.
const ROADMAP_WORKLOADS: [&str; 2] = ["tool_call_simple", "resource_read"];

impl Budget {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        let budget = budget::Budget::read(&self.budget)?;
        if self.roadmap {
            let files =
                if self.results.is_empty() { vec![self.measure(context)?] } else { read_all(&self.results)? };
            let rows = budget::roadmap(&budget::assess(&budget, &files));
            print(&budget::roadmap_table(&rows));
            return Ok(!budget::roadmap_over(&rows));
        }
        self.check(&budget)
    }

    /// Measures the operations of the roadmap's table.
    fn measure(&self, context: &RunContext) -> Result<ResultFile, LoadError> {
        let suite = Suite {
            workloads: ROADMAP_WORKLOADS.into_iter().filter_map(workloads::by_id).collect(),
            repeats: 3,
            duration: Some(self.duration),
            brief: true,
            scale: 1.0,
            timeout: TIMEOUT,
            name: None,
            seed: SEED,
            target: None,
            fixture: FixtureSettings::default(),
            placement: Placement::default(),
        };
        let mut file = suite.run(context)?;
        if context.is_interrupted() {
            return Err(LoadError::Interrupted);
        }
        let core = suite.placement.cores(1).first().copied().unwrap_or(0);
        file.stages = Some(stages::measure(core)?);
        Ok(file)
    }

    fn check(mut self, budget: &budget::Budget) -> Result<bool, LoadError> {
        if self.results.is_empty() {
            self.results.push(PathBuf::from(BASELINE));
        }
        let assessments = budget::assess(budget, &read_all(&self.results)?);
        print(&budget::table(&assessments));
        print(&budget::summary(&assessments));
        Ok(!budget::over(&assessments))
    }
}

/// `report`.
#[derive(Args, Clone, Debug)]
pub(super) struct Report {
    /// Results
    #[arg(required_unless_present = "schema")]
    results: Vec<PathBuf>,

    /// Write a page with charts, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write this project's docs/PERFORMANCE.md
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// The budgets for the markdown page
    #[arg(long, value_name = "FILE", default_value = BUDGET)]
    budget: PathBuf,

    /// Write the latency distribution of all runs together in the format of HdrHistogram's plotter
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,

    /// Write the latencies over time of the only run in the format of HdrHistogram's log tools
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,

    /// Write a page on the change of the results over time
    #[arg(long, value_name = "FILE")]
    trend: Option<PathBuf>,

    /// Workloads [default: all]
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,

    /// Print the schema of result files
    #[arg(long, conflicts_with_all = ["results", "html", "markdown", "hgrm", "hlog", "trend"])]
    schema: bool,
}

impl Report {
    pub(super) fn execute(self) -> Result<bool, LoadError> {
        if self.schema {
            print(&schema());
            return Ok(true);
        }
        let written = [&self.html, &self.markdown, &self.hgrm, &self.hlog, &self.trend];
        for path in written.into_iter().flatten() {
            writable(path)?;
        }
        let files = read_all(&self.results)?;
        let runs = self.runs(&files);
        if let Some(path) = &self.html {
            write_whole(path, page(&runs, &files)?.as_bytes())?;
        }
        if let Some(path) = &self.markdown {
            let budget = budget::Budget::read(&self.budget)?;
            write_whole(path, markdown::performance(&files, &budget).as_bytes())?;
        }
        if let Some(path) = &self.trend {
            write_whole(path, report::trend(&files)?.as_bytes())?;
        }
        if let Some(path) = &self.hgrm {
            let mut all = latency::histogram();
            for (_, run) in &runs {
                // All have the same bounds.
                let _ = all.add(run.latency.histogram().map_err(LoadError::Report)?);
            }
            write_whole(path, report::hgrm(&all).as_bytes())?;
        }
        if let Some(path) = &self.hlog {
            let [(_, run)] = runs.as_slice() else {
                let count = runs.len();
                return Err(LoadError::Usage(format!(
                    "--hlog needs exactly one run, not {count}; select it with --only"
                )));
            };
            write_whole(path, report::hlog(run)?.as_bytes())?;
        }
        if written.iter().all(|path| path.is_none()) {
            match runs.as_slice() {
                [(_, run)] => print(&report::terminal::run(run)),
                runs => print(&report::terminal::runs(
                    &runs.iter().map(|(_, run)| (*run).clone()).collect::<Vec<_>>(),
                )),
            }
        }
        Ok(true)
    }

    fn runs<'a>(&self, files: &'a [ResultFile]) -> Vec<(String, &'a Run)> {
        let wanted = |run: &&Run| self.only.is_empty() || self.only.contains(&run.workload);
        let mut named = Vec::new();
        for (file, path) in files.iter().zip(&self.results) {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            for run in file.runs.iter().filter(wanted) {
                // Labels contain the file name if there are several files, and the workload.
                let what = if run.contestant == "corelane" {
                    run.workload.clone()
                } else {
                    format!("{} {}", run.contestant, run.workload)
                };
                let label = if files.len() > 1 { format!("{stem}: {what}") } else { what };
                let earlier = named.iter().filter(|(_, other): &&(String, &Run)| run.repeats(other)).count();
                named.push((if earlier > 0 { format!("{label} #{}", earlier + 1) } else { label }, run));
            }
        }
        named
    }
}

fn page(runs: &[(String, &Run)], files: &[ResultFile]) -> Result<String, LoadError> {
    if runs.len() > RUNS_PER_PAGE_MAX {
        return Err(LoadError::Usage(format!(
            "a page has at most {RUNS_PER_PAGE_MAX} runs, not {}; select workloads with --only",
            runs.len()
        )));
    }
    let title = match runs {
        [(label, run)] => format!("{label} · {}", run.server.name),
        _ => format!("{} runs", runs.len()),
    };
    report::page(&title, runs, files)
}

/// The schema of [`ResultFile`], as JSON Schema.
pub(super) fn schema() -> String {
    let schema = schemars::schema_for!(ResultFile);
    serde_json::to_string_pretty(&schema).unwrap_or_default()
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<ResultFile>, LoadError> {
    paths.iter().map(|path: &PathBuf| ResultFile::read(Path::new(path))).collect()
}
