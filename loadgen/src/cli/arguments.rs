//! Arguments that several commands share: the server, the generator's threads, the length of a run.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

use super::{mix::Mix, names};
use crate::{
    demand::Demand,
    engine::{Pacing, Plan},
    error::LoadError,
    fixture::FixtureSettings,
    job::Job,
    monitor::ServerMonitor,
    placement::Placement,
    probe::probe,
    request::{Era, Request},
    suite::{self, Suite},
    target::Target,
    workloads,
};

const URL: &str = "http://127.0.0.1:8080/mcp";

/// The server and the way to connect to it.
#[derive(Args, Clone, Debug)]
pub(super) struct ServerArguments {
    /// The server's endpoint: http://HOST:PORT/mcp, http+unix:PATH, or tcp://HOST:PORT for newline-delimited JSON
    #[arg(default_value = URL)]
    url: String,

    /// A command instead of a URL: each connection starts a process, with newline-delimited JSON on its stdin and
    /// stdout
    #[arg(long, value_name = "'CMD ARGS'", conflicts_with_all = ["url", "header", "admin"])]
    pub(super) stdio: Option<String>,

    /// Protocol revision, 2026-07-28 or 2025-11-25 [default: the newest that the server supports]
    #[arg(long, value_name = "REVISION", value_parser = era)]
    era: Option<Era>,

    /// Timeout of a reply
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive_duration)]
    timeout: Duration,

    /// Generator threads [default: 1, more if the connections need them]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,

    /// Cores of the generator threads, as 1 or 2-5 [default: from the last backwards]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<Cpus>,

    /// The server's process [default: the listening process, if it is on this machine]
    #[arg(long, value_name = "PID")]
    server_pid: Option<i32>,

    /// The server's admin address [default: found among the listening addresses of its process]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) admin: Option<SocketAddr>,

    /// Name of the server in results [default: the server's own name]
    #[arg(long, value_name = "NAME", alias = "contestant")]
    name: Option<String>,

    /// An additional header line of every request; may be given more than once
    #[arg(long, value_name = "NAME:VALUE")]
    header: Vec<String>,

    /// Seed of random arguments and gaps: equal seeds send equal requests at equal times
    #[arg(long, value_name = "NUMBER", default_value_t = suite::SEED)]
    seed: u64,
}

/// A list of cores.
#[derive(Clone, Debug)]
pub(super) struct Cpus(pub(super) Vec<usize>);

/// Number of connections, duration and demands of a run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArguments {
    /// Connections
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) connections: u32,

    /// Measured time [default: 10s, or the workload's own]
    #[arg(long, short, value_name = "TIME", value_parser = positive_duration)]
    pub(super) duration: Option<Duration>,

    /// Load time before measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(super) warmup: Duration,

    /// A demand on the result: p99<1ms, errors<0.1%, throughput>1000; may be given more than once
    #[arg(long, value_name = "DEMAND")]
    pub(super) slo: Vec<Demand>,
}

impl ServerArguments {
    /// Probes the server and prepares a job with a closed loop.
    pub(super) fn job(&self, mix: &Mix, load: &LoadArguments, closing: bool) -> Result<Job, LoadError> {
        let target = self.target(mix.plain)?;
        if let Some(reason) = target.connection_limit_error(load.connections) {
            return Err(LoadError::Usage(reason));
        }
        let wanted = if mix.plain { Some(Era::Plain) } else { self.era.or(mix.needs_era()) };
        let probe = probe(&target, wanted, self.timeout)?;
        let operations = mix.operations(&probe)?;
        let requests: Result<Vec<Request>, LoadError> = operations
            .into_iter()
            .map(|(operation, weight)| Request::new(&target, probe.era, operation, weight, closing))
            .collect();
        let cores = self.placement()?.cores(load.connections);
        let plan = Plan {
            era: probe.era,
            handshake: probe.era == Era::Legacy,
            closes_unannounced: probe.closes_unannounced,
            requests: requests?,
            pacing: Pacing::Closed,
            connections: load.connections,
            pipeline: 1,
            spin: Placement::may_spin(&cores),
            cores,
            warmup: load.warmup,
            duration: load.duration(),
            timeout: self.timeout,
            seed: self.seed,
            interval: suite::interval("", load.duration()),
            target: target.clone(),
            source: None,
        };
        Ok(Job {
            workload: workload_name(&plan),
            contestant: suite::contestant(self.name.as_deref(), &probe),
            plan,
            probe,
            monitor: ServerMonitor::checked(&target, self.server_pid, self.admin)?,
            demands: load.slo.clone(),
            scale: 1.0,
        })
    }

    pub(super) fn target(&self, plain: bool) -> Result<Target, LoadError> {
        if let Some(command) = &self.stdio {
            if plain {
                return Err(LoadError::Usage(
                    "--plain needs HTTP, which a server on --stdio does not support".to_owned(),
                ));
            }
            return Target::stdio(command);
        }
        let mut target = Target::parse(&self.url)?.with_headers(&self.header)?;
        if plain && target.is_lines {
            return Err(LoadError::Usage(
                "--plain needs HTTP, which newline-delimited JSON does not have".to_owned(),
            ));
        }
        let behind = self.url.split_once("://").map_or(self.url.as_str(), |(_, behind)| behind);
        if plain && !behind.contains(['/', '?']) {
            target.path = "/".to_owned();
        }
        Ok(target)
    }

    fn placement(&self) -> Result<Placement, LoadError> {
        Placement::new(self.threads, self.cpus.clone().map(|Cpus(cpus)| cpus))
    }

    pub(super) fn suite(&self, id: &str, duration: Option<Duration>, scale: f64) -> Result<Suite, LoadError> {
        let workload = workloads::by_id(id).ok_or_else(|| {
            names::unknown(id, workloads::all().iter().map(|known| known.id), "workload", "workloads")
        })?;
        self.suite_of(workload, duration, scale)
    }

    pub(super) fn suite_of(
        &self,
        workload: workloads::Workload,
        duration: Option<Duration>,
        scale: f64,
    ) -> Result<Suite, LoadError> {
        Ok(Suite {
            workloads: vec![workload],
            repeats: 1,
            duration,
            brief: false,
            scale,
            timeout: self.timeout,
            name: self.name.clone(),
            seed: self.seed,
            target: Some(self.target(false)?),
            fixture: FixtureSettings::default(),
            placement: self.placement()?,
        })
    }
}

impl LoadArguments {
    pub(super) fn new(connections: u32, duration: Duration, warmup: Duration, slo: Vec<Demand>) -> Self {
        Self { connections, duration: Some(duration), warmup, slo }
    }

    pub(super) fn duration(&self) -> Duration {
        self.duration.unwrap_or(Duration::from_secs(10))
    }
}

/// The name of a run without a workload id.
fn workload_name(plan: &Plan) -> String {
    let names: Vec<String> = plan.requests.iter().map(|request| request.parameters().name).collect();
    names.join(" + ")
}

fn era(text: &str) -> Result<Era, String> {
    match text {
        "2026-07-28" => Ok(Era::Modern),
        "2025-11-25" => Ok(Era::Legacy),
        _ => Err("supported are 2026-07-28 and 2025-11-25".to_owned()),
    }
}

/// Parses a duration above 0.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("a time above 0 is needed".to_owned()),
        duration => duration.map_err(|error| error.to_string()),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("a number from 1 to 1024 is needed".to_owned()),
    }
}

pub(super) fn positive_number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("a number above 0 is needed".to_owned()),
    }
}

pub(super) fn cpu_list(text: &str) -> Result<Cpus, String> {
    let cores: Result<corelane::config::Cores, _> = text.parse();
    cores.map(|cores| Cpus(cores.0)).map_err(|error| error.to_string())
}
