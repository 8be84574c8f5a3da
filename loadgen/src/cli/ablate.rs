//! What each optimisation of the server gains.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    arguments::{Cpus, cpu_list, positive_duration, positive_number},
    output::writable,
    print::print,
};
use crate::{
    ablation::{self, Ablation, Gain, PLANTED_FLAG, Part, Settings},
    error::LoadError,
    job::RunContext,
    placement::{self, Placement},
    report,
    result::{Outcome, write_whole},
};

/// `ablate`.
#[derive(Args, Clone, Debug)]
pub(super) struct Ablate {
    /// Flags to switch off in turn, or observability, or profile [default: all]
    #[arg(long, value_name = "FLAG", value_delimiter = ',')]
    only: Vec<Part>,

    /// Runs of each position, in turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Measured time of each run
    #[arg(long, short, value_name = "TIME", default_value = "3s", value_parser = positive_duration)]
    duration: Duration,

    /// Fraction of connections and of calls in flight
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = positive_number)]
    scale: f64,

    /// Core of the servers
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: usize,

    /// Cores of the generator [default: the last]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<Cpus>,

    /// Write the runs as JSON, with complete histograms
    #[arg(long, short, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,

    /// Write the gains as an SVG image
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    plot: Option<PathBuf>,

    /// Inject a delay into the server without one flag and check that it is found
    #[arg(long, conflicts_with_all = ["only", "rounds", "scale", "output", "plot"])]
    self_test: bool,
}

/// The injected delay, and the accepted ratio of the measured to it.
const PLANTED: Duration = Duration::from_millis(2);
const FOUND: std::ops::RangeInclusive<f64> = 0.7..=1.8;

impl Ablate {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        let settings = self.settings()?;
        if self.self_test {
            return self_test(&settings, context);
        }
        [&self.output, &self.plot].into_iter().flatten().try_for_each(|path| writable(path))?;
        let file = ablation::run(&settings, context)?;
        if let Some(path) = &self.output {
            file.write(path)?;
        }
        let Some(ablation) = Ablation::of(&file) else {
            if context.is_interrupted() {
                return Err(LoadError::Interrupted);
            }
            let reasons =
                file.not_run.iter().map(|not_run| format!("{}: {}", not_run.workload, not_run.reason));
            return Err(LoadError::Unsupported(reasons.collect::<Vec<_>>().join("; ")));
        };
        print(&report::terminal::ablation(&ablation));
        if let Some(path) = &self.plot {
            write_whole(path, report::ablation_plot(&ablation)?.as_bytes())?;
        }
        Ok(ablation.failures().is_empty() || context.is_interrupted())
    }

    fn settings(&self) -> Result<Settings, LoadError> {
        placement::check_server_core(self.server_core)?;
        Ok(Settings {
            parts: if self.only.is_empty() { Part::all() } else { self.only.clone() },
            rounds: self.rounds,
            duration: self.duration,
            scale: self.scale,
            server_core: self.server_core,
            placement: Placement::new(None, self.cpus.clone().map(|Cpus(cpus)| cpus))?,
        })
    }
}

/// Measures a server with an injected delay where one flag is off. The gain of this flag must contain the delay, and that of
/// another flag, without a delay, must not.
fn self_test(settings: &Settings, context: &RunContext) -> Result<bool, LoadError> {
    let settings = Settings { rounds: 3, scale: 1.0, ..settings.clone() };
    let file = ablation::run_planted(&settings, PLANTED, context)?;
    if file.runs.iter().any(|run| run.outcome == Outcome::Interrupted) || context.is_interrupted() {
        print("interrupted: the planted delay was not checked\n");
        return Ok(true);
    }
    let ablation = Ablation::of(&file).ok_or(LoadError::Interrupted)?;
    print(&report::terminal::ablation(&ablation));
    let is_planted = |gain: &&Gain| gain.part == PLANTED_FLAG.name();
    let ratio = |gain: Option<&Gain>| gain.and_then(|gain| gain.ratio).unwrap_or(0.0);
    let planted = ablation.gains.iter().find(is_planted);
    let other = ratio(ablation.gains.iter().find(|gain| !is_planted(gain)));
    let median_ms = |contestant: &str| {
        let runs = file.runs.iter().filter(|run| run.contestant == contestant);
        let times: Vec<f64> = runs.map(|run| run.latency.p50_us / 1e3).collect();
        crate::statistics::median(&times).unwrap_or(0.0)
    };
    let [with, without] = [ablation::Position::Without(PLANTED_FLAG), ablation::Position::AllOn]
        .map(|position| median_ms(&position.contestant()));
    let (found_ms, planted_ms) = (with - without, PLANTED.as_secs_f64() * 1e3);
    let checks = [
        (
            format!("planted {planted_ms:.1} ms, found {found_ms:.1} ms"),
            FOUND.contains(&(found_ms / planted_ms)),
        ),
        (
            "the gain of the flag with the planted delay excludes noise".to_owned(),
            planted.is_some_and(|gain| gain.interval.is_some_and(|[low, _]| low > 1.0)),
        ),
        (
            "the gain of another flag is nearer to 1".to_owned(),
            (other - 1.0).abs() * 2.0 < ratio(planted) - 1.0,
        ),
    ];
    for (what, passed) in &checks {
        print(&format!("{} {what}\n", if *passed { "✓" } else { "✗" }));
    }
    Ok(checks.iter().all(|(_, passed)| *passed))
}
