//! Faults done to a running server.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::Args;

use super::{
    arguments::{Cpus, cpu_list, positive_duration, positive_number},
    names::check_names,
    output::writable,
    print::print,
};
use crate::{
    attack::Settings,
    chaos::{self, Bars, ChaosFile, Fault, FaultOutcome, Status, measure},
    error::LoadError,
    job::RunContext,
    markdown,
    placement::{self, Placement},
    report,
    result::{Environment, write_whole},
};

/// `chaos`.
#[derive(Args, Clone, Debug)]
pub(super) struct Chaos {
    /// Faults to inject, or `all`; `list` prints them
    #[arg(default_value = "all", value_name = "NAME")]
    names: Vec<String>,

    /// Length of the load before and after a fault, and of a fault that has no length of its own
    #[arg(long, short, value_name = "TIME", default_value = "2s", value_parser = positive_duration)]
    duration: Duration,

    /// Requests of the bystander in a second
    #[arg(long, value_name = "R", default_value_t = 500.0, value_parser = positive_number)]
    rate: f64,

    /// Core of the servers
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: usize,

    /// Cores of the faulty clients and the bystander [default: the last]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<Cpus>,

    /// A limit of the servers, instead of that of the fault or of the default, as connections_max=500; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = limit)]
    limit: Vec<(String, String)>,

    /// Maximum time from a fault until the server shows it
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = positive_duration, help_heading = "Bars")]
    detected_max: Duration,

    /// Maximum time from the end of a fault until the server serves as before
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = positive_duration, help_heading = "Bars")]
    recovered_max: Duration,

    /// Maximum p99 of the bystander during and after a fault
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = positive_duration, help_heading = "Bars")]
    p99_max: Duration,

    /// Print JSON instead of the table, or write it to the file of --output
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Write to this file: JSON with --json, else a table in Markdown
    #[arg(long, short, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
}

impl Chaos {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        let all = chaos::all();
        if self.names.iter().any(|name| name == "list") {
            for fault in &all {
                print(&format!("{:<20} {}\n", fault.id, fault.description));
            }
            return Ok(true);
        }
        let wanted = self.wanted(&all)?;
        self.output.as_deref().map_or(Ok(()), writable)?;
        placement::check_server_core(self.server_core)?;
        let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let bars = Bars {
            detected_ms_max: self.detected_max.as_secs_f64() * 1e3,
            recovered_ms_max: self.recovered_max.as_secs_f64() * 1e3,
            p99_us_max: self.p99_max.as_secs_f64() * 1e6,
        };
        let faults = self.measured(&wanted, &bars, context)?;
        let passed = faults.iter().all(|fault| fault.status != Status::Failed);
        let commit = faults.iter().find_map(|fault| fault.commit.clone());
        let commit = commit.unwrap_or_else(|| "unknown".to_owned());
        let file = ChaosFile {
            schema: chaos::SCHEMA,
            started,
            environment: Environment { commit, ..Environment::of_this_machine() },
            bars,
            limits: self.limit.iter().map(|(key, value)| format!("{key}={value}")).collect(),
            faults,
        };
        self.write(&file)?;
        Ok(passed)
    }

    fn wanted<'a>(&self, all: &'a [Fault]) -> Result<Vec<&'a Fault>, LoadError> {
        let known = all.iter().map(|fault| fault.id).chain(["all"]);
        check_names(&self.names, known, "fault", "chaos list")?;
        let is_wanted = |fault: &&Fault| self.names.iter().any(|name| name == "all" || name == fault.id);
        Ok(all.iter().filter(is_wanted).collect())
    }

    fn measured(
        &self,
        wanted: &[&Fault],
        bars: &Bars,
        context: &RunContext,
    ) -> Result<Vec<FaultOutcome>, LoadError> {
        let settings = Settings {
            duration: self.duration,
            rounds: 1,
            rate_per_s: self.rate,
            server_core: self.server_core,
            placement: Placement::new(None, self.cpus.clone().map(|Cpus(cpus)| cpus))?,
            config: None,
        };
        let mut outcomes = Vec::new();
        for fault in wanted {
            context.progress.print_line(&format!("{} · {}", fault.id, fault.description));
            match measure(fault, &settings, &self.limit, bars, context) {
                Ok(outcome) => outcomes.push(outcome),
                Err(LoadError::Interrupted) if !outcomes.is_empty() => break,
                Err(error @ (LoadError::Interrupted | LoadError::Usage(_))) => return Err(error),
                // The others are still measured.
                Err(error) => outcomes.push(FaultOutcome::failed(fault.id, error.to_string())),
            }
        }
        Ok(outcomes)
    }

    fn write(&self, file: &ChaosFile) -> Result<(), LoadError> {
        let json = || {
            let text = serde_json::to_string_pretty(file);
            text.map(|text| text + "\n").map_err(|error| LoadError::Report(error.to_string()))
        };
        let table = report::terminal::chaos(&file.faults, &file.bars);
        match (&self.output, self.json) {
            (None, true) => print(&json()?),
            (None, false) => print(&table),
            (Some(path), is_json) => {
                print(&table);
                let text = if is_json { json()? } else { markdown::chaos(file) };
                write_whole(path, text.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Parses `KEY=VALUE`; the server checks both.
fn limit(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("a limit is KEY=VALUE, as in corelane.toml".to_owned()),
    }
}
