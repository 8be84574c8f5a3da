//! Output of results: always to the terminal, to files on request.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Args;

use super::print::print;
use crate::{
    error::LoadError,
    report,
    result::{Outcome, ResultFile, Run, replaced, write_whole},
};

/// The files to write.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// Write the result as JSON, with complete histograms
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a page with charts, in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write the latency distribution in the format of HdrHistogram's plotter
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,

    /// Write the latencies over time in the format of HdrHistogram's log tools
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
}

impl Output {
    /// Checks that the files can be written, before a possibly long measurement.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        [&self.json, &self.html, &self.hgrm, &self.hlog]
            .into_iter()
            .flatten()
            .try_for_each(|path| writable(path))
    }

    /// Prints one run and writes the files. Returns whether the run is good.
    pub(super) fn report(&self, started: SystemTime, run: Run) -> Result<bool, LoadError> {
        print(&report::terminal::run(&run));
        let good = is_good(&run);
        let file = ResultFile::of_this_process(started, vec![run], Vec::new());
        let [run] = file.runs.as_slice() else { return Ok(good) };
        if let Some(path) = &self.html {
            let title = format!("{} · {}", run.workload, run.contestant);
            let label = run.workload.clone();
            let page = report::page(&title, &[(label, run)], std::slice::from_ref(&file))?;
            write_whole(path, page.as_bytes())?;
        }
        if let Some(path) = &self.hgrm {
            let histogram = run.latency.histogram().map_err(LoadError::Report)?;
            write_whole(path, report::hgrm(&histogram).as_bytes())?;
        }
        if let Some(path) = &self.hlog {
            write_whole(path, report::hlog(run)?.as_bytes())?;
        }
        if let Some(path) = &self.json {
            file.write(path)?;
        }
        Ok(good)
    }
}

/// An interrupted run is not rated. Any other run is good if the server survived, every reply was correct and every
/// demand holds.
fn is_good(run: &Run) -> bool {
    if run.outcome == Outcome::Interrupted {
        return true;
    }
    let served = !matches!(run.outcome, Outcome::ServerGone { .. });
    // A demand on errors replaces the default of no errors.
    let judged = run.checks.iter().any(|check| check.demand.starts_with("errors"));
    served && (judged || run.errors_total() == 0) && run.checks.iter().all(|check| check.passed)
}

/// Checks that a file can be written.
pub(super) fn writable(path: &Path) -> Result<(), LoadError> {
    let unwritable = |reason: String| LoadError::Unwritable { path: path.to_owned(), reason };
    if path.is_dir() {
        return Err(unwritable("it is a directory".to_owned()));
    }
    // A device, or a pipe, whose reader would see the end of its input if it was opened twice.
    let Some(target) = replaced(path) else { return Ok(()) };
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| unwritable(error.to_string()))?;
    let trial = parent.join(format!(".corelane-loadgen-{}", std::process::id()));
    fs::write(&trial, b"")
        .and_then(|()| fs::remove_file(&trial))
        .map_err(|error| unwritable(error.to_string()))
}
