//! Compares corelane with other servers: in turn, on one core, with the same generator.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use clap::Args;
use serde::Deserialize;

use super::{
    arguments::{Cpus, cpu_list, positive_number},
    output::writable,
    print::print,
};
use crate::{
    engine::{Pacing, Plan},
    error::LoadError,
    job::{Job, RunContext, run_job},
    monitor::ServerMonitor,
    placement::Placement,
    probe::probe,
    report,
    request::{Era, Operation, Request},
    result::{NotRun, ResultFile, Run},
    schedule::Gaps,
    spawn::{SpawnedServer, unused_address},
    statistics::median,
    target::Target,
    units,
};

/// `peers`.
#[derive(Args, Clone, Debug)]
pub(super) struct Peers {
    /// The list of peers
    #[arg(default_value = "benches/peers/peers.toml")]
    list: PathBuf,

    /// Directory with a folder for each installed peer
    #[arg(long, value_name = "DIRECTORY", default_value = "target/peers")]
    directory: PathBuf,

    /// corelane's binary
    #[arg(long, value_name = "FILE", default_value = "target/release/corelane")]
    corelane: PathBuf,

    /// nginx configuration with @PORT@ in it, for the static reference
    #[arg(long, value_name = "FILE", default_value = "benches/nginx-static.conf.in")]
    nginx: PathBuf,

    /// Peers that could not be installed, for the report: NAME=REASON
    #[arg(long, value_name = "NAME=REASON")]
    absent: Vec<String>,

    /// Peers to run [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,

    /// Rounds; every server has one turn in each
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Measured time of each run
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    duration: Duration,

    /// Requests per second of the open-loop comparison
    #[arg(long, value_name = "R", default_value_t = 500.0, value_parser = positive_number)]
    rate: f64,

    /// Connection counts of the closed loops
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 8, 64])]
    connections: Vec<u32>,

    /// Core of the servers
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    server_core: usize,

    /// Cores of the generator [default: from the last backwards]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<Cpus>,

    /// The result as JSON
    #[arg(long, value_name = "FILE", default_value = "target/peers.json")]
    json: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    peer: Vec<Peer>,
}

/// A server of the comparison.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    name: String,
    #[allow(dead_code, reason = "for readers; what is installed is what install.sh installs")]
    version: String,
    command: Vec<String>,
    path: String,
    /// Supported revisions, best first; empty for plain HTTP.
    era: Vec<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "every connection of the older revisions begins with one")]
    handshake: bool,
    note: String,
}

/// The TypeScript runtime needs seconds of load until its code is compiled.
const WARMUP: Duration = Duration::from_secs(1);
const FIRST_WARMUP: Duration = Duration::from_secs(5);

impl Peers {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        writable(&self.json)?;
        let started = SystemTime::now();
        let mut not_run: Vec<NotRun> = self.absent.iter().map(|text| absent(text)).collect();
        let contestants = self.contestants(&not_run)?;
        let placement = Placement::new(None, self.cpus.clone().map(|Cpus(cpus)| cpus))?;
        let mut runs = Vec::new();
        let mut servers = Vec::new();
        let mut notes = BTreeMap::new();
        for peer in contestants {
            if context.is_interrupted() {
                break;
            }
            notes.insert(peer.name.clone(), peer.note.clone());
            match self.start(&peer) {
                Ok(server) => servers.push((peer, server)),
                Err(error) => not_run.push(NotRun { workload: peer.name, reason: error.to_string() }),
            }
        }
        let mut warm = Vec::new();
        for round in 0..self.rounds {
            for (peer, server) in &servers {
                if context.is_interrupted() {
                    break;
                }
                context.progress.print_line(&format!(
                    "round {} of {} · {}",
                    round + 1,
                    self.rounds,
                    peer.name
                ));
                let is_cold = !warm.contains(&peer.name);
                match self.turn(peer, server, &placement, is_cold, context, &mut runs) {
                    Ok(()) | Err(LoadError::Interrupted) => {}
                    Err(error) => {
                        not_run.push(NotRun { workload: peer.name.clone(), reason: error.to_string() })
                    }
                }
                warm.push(peer.name.clone());
            }
        }
        print(&report::terminal::runs(&runs));
        if context.is_interrupted() {
            ResultFile::of_this_process(started, runs, not_run).write(&self.json)?;
            print(&format!(
                "interrupted: nothing was compared; the completed runs are in {}\n",
                self.json.display()
            ));
            return Ok(true);
        }
        print(&compare_with_wrk(&runs));
        let file = ResultFile::of_this_process(started, runs, not_run);
        print(&crate::markdown::peer_tables(&file));
        for (name, note) in &notes {
            print(&format!("{name}: {note}\n"));
        }
        for not_run in &file.not_run {
            print(&format!("NOT RUN: {}: {}\n", not_run.workload, not_run.reason));
        }
        file.write(&self.json)?;
        print(&format!("result: {}\n", self.json.display()));
        Ok(true)
    }

    /// Returns corelane and nginx, followed by the peers of the list.
    fn contestants(&self, absent: &[NotRun]) -> Result<Vec<Peer>, LoadError> {
        let unusable = |reason: String| LoadError::Usage(format!("{}: {reason}", self.list.display()));
        let text = fs::read_to_string(&self.list).map_err(|error| unusable(error.to_string()))?;
        let list: List = toml::from_str(&text).map_err(|error| unusable(error.message().to_owned()))?;
        let corelane = self.corelane.to_string_lossy().into_owned();
        let arguments =
            ["serve", "--listen", "127.0.0.1:{port}", "--admin", "none", "--shards", "1", "--cpus"];
        let mut command = vec![corelane];
        command.extend(arguments.map(str::to_owned));
        command.push(self.server_core.to_string());
        let own = Peer {
            name: "corelane".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: command.clone(),
            path: "/mcp".to_owned(),
            era: vec![Era::Modern.name().to_owned(), Era::Legacy.name().to_owned()],
            handshake: false,
            note: "arguments validated against their schema".to_owned(),
        };
        let no_spin = Peer {
            name: "corelane-spin-0".to_owned(),
            command: command.into_iter().chain(["--spin-us".to_owned(), "0".to_owned()]).collect(),
            note: "as corelane; it never spins, so that its processor time is work".to_owned(),
            ..own.clone()
        };
        let nginx = Peer {
            name: "nginx-static".to_owned(),
            version: String::new(),
            command: ["nginx", "-p", "{scratch}", "-c", "nginx.conf"].map(str::to_owned).to_vec(),
            path: "/".to_owned(),
            era: Vec::new(),
            handshake: false,
            note: "answers a fixed two bytes".to_owned(),
        };
        let wanted = |peer: &Peer| {
            let is_absent = absent.iter().any(|not_run| not_run.workload == peer.name);
            !is_absent && (self.only.is_empty() || self.only.contains(&peer.name))
        };
        Ok([own, no_spin, nginx].into_iter().chain(list.peer).filter(wanted).collect())
    }

    fn start(&self, peer: &Peer) -> Result<(SpawnedServer, Target), LoadError> {
        let address = unused_address()?;
        let directory = self.directory.join(&peer.name);
        let fill = |text: &String| {
            let text = text.replace("{port}", &address.port().to_string());
            text.replace("{directory}", &directory.to_string_lossy())
        };
        let mut words: Vec<String> = peer.command.iter().map(fill).collect();
        if let Some(word) = words.iter_mut().find(|word| *word == "{scratch}") {
            *word = self.nginx_configuration(address.port())?;
        }
        let (program, arguments) =
            words.split_first().ok_or_else(|| LoadError::Usage(format!("{} has no command", peer.name)))?;
        let mut command = Command::new(program);
        command.args(arguments);
        let server = SpawnedServer::start(command, address, &[self.server_core])?;
        let target = Target::parse(&format!("http://{address}{}", peer.path))?;
        Ok((server, target))
    }

    /// Writes nginx's configuration into a new directory, which nginx uses for its files.
    fn nginx_configuration(&self, port: u16) -> Result<String, LoadError> {
        let unusable = |error: std::io::Error| LoadError::Usage(format!("{}: {error}", self.nginx.display()));
        let scratch = std::env::temp_dir().join(format!("corelane-peers-{}", std::process::id()));
        fs::create_dir_all(&scratch).map_err(unusable)?;
        let text = fs::read_to_string(&self.nginx).map_err(unusable)?;
        let text = text.replace("@PORT@", &port.to_string());
        fs::write(scratch.join("nginx.conf"), text).map_err(unusable)?;
        Ok(scratch.to_string_lossy().into_owned())
    }

    /// One server's turn: closed loops, then the open loop. Runs before an error remain in `runs`.
    fn turn(
        &self,
        peer: &Peer,
        (server, target): &(SpawnedServer, Target),
        placement: &Placement,
        cold: bool,
        context: &RunContext,
        runs: &mut Vec<Run>,
    ) -> Result<(), LoadError> {
        let eras: Vec<Era> = match peer.era.as_slice() {
            [] => vec![Era::Plain],
            names => [Era::Modern, Era::Legacy]
                .into_iter()
                .filter(|era| names.iter().any(|name| name == era.name()))
                .collect(),
        };
        let mut cold = cold;
        for (index, &era) in eras.iter().enumerate() {
            let prefix = match era {
                Era::Modern => "canonical",
                Era::Legacy => "legacy",
                Era::Plain => "static",
            };
            // A revision that is not the server's best is measured at 64 connections only.
            let counts = self.connections.iter().filter(|count| index == 0 || **count == 64);
            for &connections in counts {
                let workload = format!("{prefix}_closed_{connections}");
                let mut job = self.job(peer, server, target, era, connections, placement)?;
                job.workload = workload;
                if std::mem::take(&mut cold) {
                    job.plan.warmup = FIRST_WARMUP;
                    run_job(&job, context)?;
                    job.plan.warmup = WARMUP;
                }
                let mut run = run_job(&job, context)?;
                if era == Era::Plain && connections == WRK_CONNECTIONS && !context.is_interrupted() {
                    let core = job.plan.cores.first().copied().unwrap_or(0);
                    let wrk_rate = wrk(target, core, self.duration);
                    run.figures.extend(wrk_rate.map(|rate| (WRK_FIGURE.to_owned(), rate)));
                }
                runs.push(run);
            }
            if index == 0 {
                let mut job = self.job(peer, server, target, era, 16, placement)?;
                job.workload = format!("{prefix}_open_{}", self.rate);
                let total = job.plan.warmup + job.plan.duration;
                job.plan.pacing = Pacing::steady(total, self.rate, Gaps::Poisson);
                runs.push(run_job(&job, context)?);
            }
        }
        Ok(())
    }

    fn job(
        &self,
        peer: &Peer,
        server: &SpawnedServer,
        target: &Target,
        era: Era,
        connections: u32,
        placement: &Placement,
    ) -> Result<Job, LoadError> {
        let probe = probe(target, Some(era), crate::suite::TIMEOUT)?;
        let operation = match era {
            Era::Plain => Operation::Plain,
            _ => Operation::canonical(),
        };
        let cores = placement.cores(connections);
        Ok(Job {
            workload: String::new(),
            contestant: peer.name.clone(),
            plan: Plan {
                target: target.clone(),
                era,
                closes_unannounced: probe.closes_unannounced,
                handshake: era == Era::Legacy,
                requests: vec![Request::new(target, era, operation, 1, false)?],
                pacing: Pacing::Closed,
                connections,
                pipeline: 1,
                spin: Placement::may_spin(&cores),
                cores,
                warmup: WARMUP,
                duration: self.duration,
                timeout: Duration::from_secs(10),
                seed: crate::suite::SEED,
                interval: Duration::from_secs(1),
                source: None,
            },
            probe,
            // nginx serves from a child of the started process.
            monitor: ServerMonitor::find(target, worker_of(server.pid()), None),
            demands: Vec::new(),
            scale: 1.0,
        })
    }
}

/// Number of connections at which `wrk` measures the static reference too, and the name of the figure.
const WRK_CONNECTIONS: u32 = 64;
const WRK_FIGURE: &str = "wrk_throughput_per_s";
/// Accepted difference between the two generators.
const WRK_TOLERANCE: f64 = 0.05;

/// Runs `wrk` and returns its requests per second; `None` if there is no `wrk`.
fn wrk(target: &Target, core: usize, duration: Duration) -> Option<f64> {
    let output = Command::new("taskset")
        .args(["-c", &core.to_string(), "wrk", "-t1", &format!("-c{WRK_CONNECTIONS}")])
        .args([&format!("-d{}s", duration.as_secs().max(1)), &target.url])
        .output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Requests/sec:"))?.trim().parse().ok()
}

/// Compares this generator with `wrk` on the same server.
fn compare_with_wrk(runs: &[Run]) -> String {
    let both: Vec<(f64, f64)> =
        runs.iter().filter_map(|run| Some((run.throughput_per_s, *run.figures.get(WRK_FIGURE)?))).collect();
    let (ours, wrk_rate): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
    match (median(&ours), median(&wrk_rate)) {
        (Some(ours), Some(wrk_rate)) if wrk_rate > 0.0 => {
            let ratio = ours / wrk_rate;
            let verdict = match ratio - 1.0 {
                apart if apart.abs() <= WRK_TOLERANCE => "within 5 %",
                apart if apart > 0.0 => {
                    "NOT within 5 %: wrk sends less than this generator, and is the limit itself"
                }
                _ => "NOT within 5 %: this generator sends less than wrk",
            };
            format!(
                "generator ÷ wrk on nginx-static, {WRK_CONNECTIONS} connections: {ratio:.3} ({} ÷ {} requests/s), {verdict}\n",
                units::count(ours),
                units::count(wrk_rate)
            )
        }
        _ => "wrk is not installed: the generator was not compared with it\n".to_owned(),
    }
}

/// Returns the only child of a process, or the process itself.
fn worker_of(pid: Option<i32>) -> Option<i32> {
    let pid = pid?;
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(Path::new(&path)).unwrap_or_default();
    let mut children = children.split_whitespace();
    match (children.next(), children.next()) {
        (Some(only), None) => only.parse().ok().or(Some(pid)),
        _ => Some(pid),
    }
}

fn absent(text: &str) -> NotRun {
    let (name, reason) = text.split_once('=').unwrap_or((text, "it was not installed"));
    NotRun { workload: name.to_owned(), reason: reason.to_owned() }
}
