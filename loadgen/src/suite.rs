//! Named workloads, run one after another against a running server, or against a fixture server started for each.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    engine::Plan,
    error::LoadError,
    fanout, figures,
    fixture::{Fixture, FixtureSettings},
    idle,
    job::{Job, RunContext, run_job},
    monitor::ServerMonitor,
    placement::Placement,
    probe::{ProbeResult, probe},
    request::{Era, Operation, Request},
    result::{NotRun, ResultFile, Run},
    target::Target,
    workloads::{Workload, WorkloadKind, slow_tools},
};

/// Default timeout of a reply.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Settings of a suite.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// Number of runs of each workload.
    pub repeats: u32,
    /// Duration of each run instead of the workload's own.
    pub duration: Option<Duration>,
    /// Whether each workload uses its short duration.
    pub brief: bool,
    /// Fraction of connections and rates.
    pub scale: f64,
    /// Timeout of a reply.
    pub timeout: Duration,
    /// Name of the server in results; the default is the server's own name.
    pub name: Option<String>,
    /// See [`Plan::seed`].
    pub seed: u64,
    /// A running server; without one, a fixture server is started for each workload.
    pub target: Option<Target>,
    /// Settings of the fixture servers. Their shards and transports are those of the workload.
    pub fixture: FixtureSettings,
    /// Placement of the generator's threads.
    pub placement: Placement,
}

impl Suite {
    /// Runs all workloads. A workload that the server does not support is recorded with the reason, not an error.
    ///
    /// # Errors
    /// When a server cannot be started or reached.
    pub fn run(&self, context: &RunContext) -> Result<ResultFile, LoadError> {
        let started = SystemTime::now();
        let (mut runs, mut not_run) = (Vec::new(), Vec::new());
        for workload in &self.workloads {
            if context.is_interrupted() {
                let reason = "interrupted".to_owned();
                not_run.push(NotRun { workload: workload.id.to_owned(), reason });
                continue;
            }
            if self.workloads.len() > 1 {
                context.progress.print_line(&format!("{} · {}", workload.id, workload.description));
            }
            match self.run_workload(workload, context) {
                Ok(repeats) => runs.extend(repeats),
                Err(LoadError::Interrupted) => {
                    let reason = "interrupted".to_owned();
                    not_run.push(NotRun { workload: workload.id.to_owned(), reason });
                }
                Err(LoadError::Unsupported(reason)) => {
                    not_run.push(NotRun { workload: workload.id.to_owned(), reason });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ResultFile::of_this_process(started, runs, not_run))
    }

    fn run_workload(&self, workload: &Workload, context: &RunContext) -> Result<Vec<Run>, LoadError> {
        let server = match &self.target {
            Some(_) => None,
            None => Some(Fixture::start(&FixtureSettings {
                shards: workload.shards,
                listens_on_lines: workload.is_lines,
                ..self.fixture.clone()
            })?),
        };
        let target = match (&self.target, &server) {
            (Some(target), _) if workload.is_lines && !target.is_lines => {
                return Err(LoadError::Unsupported(
                    "it needs the address of newline-delimited JSON, tcp://HOST:PORT".to_owned(),
                ));
            }
            (Some(target), _) => target.clone(),
            (None, Some(server)) if workload.is_lines => {
                server.lines.clone().unwrap_or_else(|| server.target.clone())
            }
            (None, Some(server)) => server.target.clone(),
            (None, None) => return Err(LoadError::Usage("no server is given".to_owned())),
        };
        let mut runs = Vec::new();
        let repeats = if workload.kind == WorkloadKind::Idle { 1 } else { self.repeats };
        for _ in 0..repeats {
            if context.is_interrupted() {
                break;
            }
            match self.run_workload_once(
                workload,
                &target,
                server.as_ref().map(|server| server.admin),
                context,
            ) {
                // The completed repeats are reported.
                Err(LoadError::Interrupted) if !runs.is_empty() => break,
                run => runs.push(run?),
            }
        }
        Ok(runs)
    }

    fn run_workload_once(
        &self,
        workload: &Workload,
        target: &Target,
        admin: Option<SocketAddr>,
        context: &RunContext,
    ) -> Result<Run, LoadError> {
        let job = self.job(workload, target, admin)?;
        let mut run = match workload.kind {
            WorkloadKind::Plain => run_job(&job, context)?,
            WorkloadKind::Idle => idle::run(&job, context)?,
            WorkloadKind::FanOut => fanout::run(&job, context)?,
            WorkloadKind::BesideSlowTools => {
                let mut background = self.job(&slow_tools(), target, admin)?;
                background.plan.duration = job.plan.warmup + job.plan.duration + Duration::from_secs(5);
                background.plan.spin = false;
                idle::run_beside(&background, context, || run_job(&job, context))?.1
            }
        };
        figures::derive(&mut run);
        Ok(run)
    }

    /// Prepares the job of a workload.
    ///
    /// # Errors
    /// When the server cannot be reached or does not support the workload.
    pub fn job(
        &self,
        workload: &Workload,
        target: &Target,
        admin: Option<SocketAddr>,
    ) -> Result<Job, LoadError> {
        let scaled = f64::from(workload.connections) * self.scale;
        let connections = (scaled.round() as u32).max(1);
        if let Some(reason) = target.connection_limit_error(connections) {
            return Err(LoadError::Unsupported(reason));
        }
        if workload.kind == WorkloadKind::FanOut && target.is_lines {
            let reason = match target.program() {
                Some(_) => "a server on stdio has one client, so it cannot fan out",
                None => "the subscribers of a fan-out need HTTP",
            };
            return Err(LoadError::Unsupported(reason.to_owned()));
        }
        let probe = probe(target, Some(workload.era), self.timeout)?;
        for (operation, _) in &workload.operations {
            check_supported(&probe, operation, workload.kind)?;
        }
        let default_duration = if self.brief { workload.brief } else { workload.duration };
        let duration = self.duration.unwrap_or(default_duration);
        let pacing = workload.pace.pacing(self.scale, workload.warmup, duration);
        let requests: Result<Vec<Request>, LoadError> = workload
            .operations
            .iter()
            .map(|(operation, weight)| Request::new(target, workload.era, operation.clone(), *weight, false))
            .collect();
        let cores = self.placement.cores(connections);
        let plan = Plan {
            target: target.clone(),
            era: workload.era,
            handshake: workload.era == Era::Legacy,
            closes_unannounced: probe.closes_unannounced,
            requests: requests?,
            spin: Placement::may_spin(&cores) && connections <= 20_000,
            cores,
            interval: interval(workload.id, duration),
            pacing,
            connections,
            pipeline: workload.pipeline,
            warmup: workload.warmup,
            duration,
            timeout: self.timeout,
            seed: self.seed,
            source: None,
        };
        let monitor = ServerMonitor::find(target, None, admin);
        Ok(Job {
            workload: workload.id.to_owned(),
            contestant: contestant(self.name.as_deref(), &probe),
            plan,
            probe,
            monitor,
            demands: Vec::new(),
            scale: self.scale,
        })
    }
}

/// Minimum number of intervals of a run: enough to show a stall of a few hundred milliseconds in a run of some seconds.
const INTERVALS_MIN: u32 = 60;
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Name of the server in results: the given name, or else the server's own.
#[must_use]
pub fn contestant(name: Option<&str>, probe: &ProbeResult) -> String {
    let own_name = probe.server.name.as_str();
    name.unwrap_or(if own_name.is_empty() { "unnamed" } else { own_name }).to_owned()
}

/// Default seed of random numbers.
pub const SEED: u64 = 0x00c0_ffee;

/// Length of an interval: the largest of 1, 2 and 5 times a power of ten that divides the run into at least 60 parts; a
/// tenth of a second for the workload that measures recovery.
#[must_use]
pub fn interval(workload: &str, duration: Duration) -> Duration {
    if workload == "burst" {
        return Duration::from_millis(100);
    }
    let mut decade = INTERVAL_MIN;
    while decade * 10 * INTERVALS_MIN <= duration {
        decade *= 10;
    }
    let fits = [5, 2].into_iter().find(|times| decade * *times * INTERVALS_MIN <= duration);
    decade * fits.unwrap_or(1)
}

/// Checks that the server has the tools and capabilities that the operation needs.
fn check_supported(probe: &ProbeResult, operation: &Operation, kind: WorkloadKind) -> Result<(), LoadError> {
    let server = &probe.server.name;
    let capability = |name: &str| probe.capabilities.get(name).is_some_and(Value::is_object);
    let missing = |what: &str| Err(LoadError::Unsupported(format!("{server} has no {what}")));
    match operation {
        _ if kind == WorkloadKind::FanOut
            && probe.capabilities.pointer("/resources/subscribe") != Some(&Value::Bool(true)) =>
        {
            missing("subscriptions")
        }
        Operation::Tool { name, .. } | Operation::Task { name, .. } if !probe.tools.contains(name) => {
            missing(&format!("tool {name}"))
        }
        Operation::Resource { .. } | Operation::Method("resources/list") if !capability("resources") => {
            missing("resources")
        }
        Operation::Prompt { .. } if !capability("prompts") => missing("prompts"),
        _ => Ok(()),
    }
}
