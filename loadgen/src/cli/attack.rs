//! Attacks of one client, and what they take from another.

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
    attack::{self, Attack, Bars, Length, MemoryGroup, Settings, endure, measure},
    error::LoadError,
    job::RunContext,
    placement::{self, Placement},
    report,
    result::{ResultFile, Run},
};

/// `attack`.
#[derive(Args, Clone, Debug)]
pub(super) struct Attacks {
    /// Attacks to run, or `all`; `list` prints them
    #[arg(default_value = "all", value_name = "NAME")]
    names: Vec<String>,

    /// Pairs of measurements of each attack: attacked, and the control
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Length of one measurement
    #[arg(long, short, value_name = "TIME", default_value = "3s", value_parser = positive_duration)]
    duration: Duration,

    /// Requests of the bystander in a second
    #[arg(long, value_name = "R", default_value_t = 500.0, value_parser = positive_number)]
    rate: f64,

    /// Core of the servers
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: usize,

    /// Cores of attacker and bystander [default: the last]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<Cpus>,

    /// Configuration file of the servers [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Maximum ratio of the bystander's p99 beside the attack to that of the control, which counts as at least 1 ms
    #[arg(long, value_name = "RATIO", default_value_t = 2.0, value_parser = positive_number, help_heading = "Bars")]
    ratio_max: f64,

    /// All attacks in turn on one server, for this time; it must live, serve the bystander and return its memory
    #[arg(long, value_name = "M", value_parser = positive_number, conflicts_with = "rounds", help_heading = "Series")]
    minutes: Option<f64>,

    /// As --minutes, until the attacker has sent this many requests
    #[arg(long, value_name = "N", conflicts_with_all = ["minutes", "rounds"], help_heading = "Series")]
    requests: Option<u64>,

    /// Run the server of a series in a memory control group with this limit, such as 512MiB; needs root
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Series")]
    memory_group: Option<u64>,

    /// Write the runs of the bystander as JSON, with complete histograms
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    json: Option<PathBuf>,
}

/// A p99 of the control below this counts as this, in microseconds.
const FLOOR_US: f64 = 1_000.0;

impl Attacks {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        let all = attack::all();
        if self.names.iter().any(|name| name == "list") {
            for attack in &all {
                print(&format!("{:<24} {}\n", attack.id, attack.description));
            }
            return Ok(true);
        }
        let wanted = self.wanted(&all)?;
        self.json.as_deref().map_or(Ok(()), writable)?;
        placement::check_server_core(self.server_core)?;
        let started = SystemTime::now();
        let settings = Settings {
            duration: self.duration,
            rounds: self.rounds,
            rate_per_s: self.rate,
            server_core: self.server_core,
            placement: Placement::new(None, self.cpus.clone().map(|Cpus(cpus)| cpus))?,
            config: self.config.clone(),
        };
        let length = match (self.minutes, self.requests) {
            (Some(minutes), _) => Some(Length::Time(Duration::from_secs_f64(minutes * 60.0))),
            (None, requests) => requests.map(Length::Requests),
        };
        let mut runs = Vec::new();
        let passed = match length {
            Some(length) => self.series(&wanted, length, &settings, context, &mut runs)?,
            None if self.memory_group.is_some() => {
                return Err(LoadError::Usage("--memory-group goes with --minutes or --requests".to_owned()));
            }
            None => self.pairs(&wanted, &settings, context, &mut runs)?,
        };
        if let Some(path) = &self.json {
            ResultFile::of_this_process(started, runs, Vec::new()).write(path)?;
        }
        Ok(passed)
    }

    fn wanted<'a>(&self, all: &'a [Attack]) -> Result<Vec<&'a Attack>, LoadError> {
        let known = all.iter().map(|attack| attack.id).chain(["all"]);
        check_names(&self.names, known, "attack", "attack list")?;
        let is_wanted = |attack: &&Attack| self.names.iter().any(|name| name == "all" || name == attack.id);
        Ok(all.iter().filter(is_wanted).collect())
    }

    fn pairs(
        &self,
        attacks: &[&Attack],
        settings: &Settings,
        context: &RunContext,
        runs: &mut Vec<Run>,
    ) -> Result<bool, LoadError> {
        let bars = Bars { ratio_max: self.ratio_max, floor_us: FLOOR_US };
        let mut verdicts = Vec::new();
        for attack in attacks {
            context.progress.print_line(&format!("{} · {}", attack.id, attack.description));
            match measure(attack, settings, bars, context, runs) {
                Ok(verdict) => verdicts.push(verdict),
                Err(LoadError::Interrupted) if !verdicts.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        print(&report::terminal::attacks(&verdicts));
        Ok(verdicts.iter().all(|verdict| verdict.passed))
    }

    fn series(
        &self,
        attacks: &[&Attack],
        length: Length,
        settings: &Settings,
        context: &RunContext,
        runs: &mut Vec<Run>,
    ) -> Result<bool, LoadError> {
        let group = self.memory_group.map(MemoryGroup::new).transpose()?;
        let endured = endure(attacks, length, settings, group.as_ref(), context, runs)?;
        print(&report::terminal::endured(&endured));
        Ok(endured.passed() || context.is_interrupted())
    }
}

/// Parses `536870912`, `512MiB` or `1GiB`.
fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let (number, shift) = units
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "a size as 512MiB is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("1 GiB"), Ok(1 << 30));
        assert_eq!(size("4096"), Ok(4096));
        for text in ["", "0", "MiB", "1.5MiB", "99999999999GiB", "1MB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
