//! Commands that consist of one run.

use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args};

use super::{
    arguments::{LoadArguments, ServerArguments, positive_duration, positive_number},
    mix::Mix,
    output::Output,
};
use crate::{
    demand::{self, Demand},
    engine::Pacing,
    error::LoadError,
    fanout, figures, idle,
    job::{RunContext, run_job},
    result::{Check, Outcome},
    schedule::{Gaps, Segment},
    workloads,
};

/// `run`.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("pace").args(["rate", "closed", "workload"]).required(true))]
pub(super) struct Run {
    #[command(flatten)]
    server: ServerArguments,

    /// Requests per second over all connections, independent of the server; latency counts from the time each was due
    #[arg(long, short, value_name = "R", value_parser = positive_number, help_heading = "Load")]
    rate: Option<f64>,

    /// Send the next request when a reply has arrived; hides stalls, so its latencies are for comparisons only
    #[arg(long, help_heading = "Load")]
    closed: bool,

    /// A named workload, with its own parameters
    #[arg(long, value_name = "ID", help_heading = "Load", conflicts_with_all = ["tool", "list", "resource", "prompt", "discover", "ping", "plain", "pipeline", "poisson", "ramp", "connections", "warmup"])]
    workload: Option<String>,

    /// Fraction of the workload's connections and rate
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = positive_number, help_heading = "Load", requires = "workload")]
    scale: f64,

    /// Exponentially distributed gaps, as of many independent clients, instead of equal gaps
    #[arg(long, requires = "rate", help_heading = "Load")]
    poisson: bool,

    /// Maximum number of requests in flight on one connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Load")]
    pipeline: u32,

    /// Time in which the rate increases from 0, before the warm-up
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration, requires = "rate", help_heading = "Load")]
    ramp: Duration,

    #[command(flatten)]
    load: LoadArguments,

    #[command(flatten)]
    mix: Mix,

    #[command(flatten)]
    output: Output,
}

impl Run {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        // Clap accepts these beside `--closed` and `--workload`.
        if self.rate.is_none() && (self.poisson || !self.ramp.is_zero()) {
            return Err(LoadError::Usage("--poisson and --ramp go with --rate".to_owned()));
        }
        if let Some(id) = &self.workload {
            let suite = self.server.suite(id, self.load.duration, self.scale)?;
            let mut file = suite.run(context)?;
            return match (file.runs.pop(), file.not_run.pop()) {
                (Some(mut run), _) => {
                    run.checks.extend(demand::check_all(&self.load.slo, &run));
                    self.output.report(started, run)
                }
                (None, _) if context.is_interrupted() => Err(LoadError::Interrupted),
                (None, not_run) => {
                    let reason = not_run.map_or("nothing was run".to_owned(), |not_run| not_run.reason);
                    Err(LoadError::Unsupported(format!("{id} cannot be run: {reason}")))
                }
            };
        }
        let mut job = self.server.job(&self.mix, &self.load, false)?;
        job.plan.pipeline = self.pipeline;
        if let Some(rate) = self.rate {
            let gaps = if self.poisson { Gaps::Poisson } else { Gaps::Constant };
            let mut segments = Vec::new();
            if !self.ramp.is_zero() {
                let length_s = self.ramp.as_secs_f64();
                segments.push(Segment { length_s, from_per_s: 0.0, to_per_s: rate });
            }
            segments.push(Segment::steady((self.load.warmup + self.load.duration()).as_secs_f64(), rate));
            job.plan.warmup += self.ramp;
            job.plan.pacing = Pacing::Open(segments, gaps);
        }
        self.output.report(started, run_job(&job, context)?)
    }
}

/// `soak`.
#[derive(Args, Clone, Debug)]
pub(super) struct Soak {
    #[command(flatten)]
    server: ServerArguments,

    /// Requests per second over all connections
    #[arg(long, short, value_name = "R", value_parser = positive_number, default_value_t = 20_000.0)]
    rate: f64,

    /// Connections
    #[arg(long, short, value_name = "N", default_value_t = 200)]
    connections: u32,

    /// Measured time
    #[arg(long, short, value_name = "TIME", default_value = "2h", value_parser = positive_duration)]
    duration: Duration,

    /// A demand on the result
    #[arg(long, value_name = "DEMAND")]
    slo: Vec<Demand>,

    #[command(flatten)]
    mix: Mix,

    #[command(flatten)]
    output: Output,
}

impl Soak {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        let load = LoadArguments {
            connections: self.connections,
            duration: Some(self.duration),
            warmup: Duration::from_secs(5).min(self.duration / 4),
            slo: self.slo,
        };
        let mut job = self.server.job(&self.mix, &load, false)?;
        job.workload = "soak".to_owned();
        job.plan.pacing = open(self.rate, Gaps::Poisson, &load);
        let mut run = run_job(&job, context)?;
        figures::derive(&mut run);
        self.output.report(started, run)
    }
}

/// `idle`.
#[derive(Args, Clone, Debug)]
pub(super) struct Idle {
    #[command(flatten)]
    server: ServerArguments,

    /// Connections to open
    #[arg(long, short, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// Requests per second on each connection
    #[arg(long, short, value_name = "R", value_parser = positive_number, default_value_t = 0.01)]
    rate: f64,

    /// Measured time
    #[arg(long, short, value_name = "TIME", default_value = "60s", value_parser = positive_duration)]
    duration: Duration,

    /// A demand on the result
    #[arg(long, value_name = "DEMAND")]
    slo: Vec<Demand>,

    #[command(flatten)]
    output: Output,
}

impl Idle {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        let load = LoadArguments {
            connections: self.connections,
            duration: Some(self.duration),
            warmup: Duration::from_secs(2),
            slo: self.slo,
        };
        let mix = Mix::default();
        let mut job = self.server.job(&mix, &load, false)?;
        job.workload = "idle".to_owned();
        job.plan.spin = false;
        job.plan.pacing = open(self.rate * f64::from(self.connections), Gaps::Poisson, &load);
        let mut run = idle::run(&job, context)?;
        let live = run.figures.get("connections_live").copied().unwrap_or(0.0);
        if run.outcome != Outcome::Interrupted {
            run.checks.push(Check {
                demand: format!("connections_live={}", self.connections),
                measured: live,
                passed: live >= f64::from(self.connections),
            });
        }
        self.output.report(started, run)
    }
}

/// `fanout`.
#[derive(Args, Clone, Debug)]
pub(super) struct FanOut {
    #[command(flatten)]
    server: ServerArguments,

    /// Subscribers
    #[arg(long, short, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    subscribers: u32,

    /// Updates per second; above 50 the server may coalesce updates
    #[arg(long, short, value_name = "R", value_parser = positive_number, default_value_t = 10.0)]
    rate: f64,

    /// Measured time
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = positive_duration)]
    duration: Duration,

    /// A demand on the result
    #[arg(long, value_name = "DEMAND")]
    slo: Vec<Demand>,

    #[command(flatten)]
    output: Output,
}

impl FanOut {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        let target = self.server.target(false)?;
        let mut workload =
            workloads::by_id("fanout_1k").ok_or_else(|| LoadError::Usage("no fan-out".to_owned()))?;
        workload.connections = self.subscribers;
        workload.pace = workloads::WorkloadPacing::Open(self.rate, Gaps::Constant);
        let suite = self.server.suite_of(workload.clone(), Some(self.duration), 1.0)?;
        let mut job = suite.job(&workload, &target, self.server.admin)?;
        job.workload = "fanout".to_owned();
        let mut run = fanout::run(&job, context)?;
        run.checks = demand::check_all(&self.slo, &run);
        self.output.report(started, run)
    }
}

/// `storm`.
#[derive(Args, Clone, Debug)]
pub(super) struct Storm {
    #[command(flatten)]
    server: ServerArguments,

    #[command(flatten)]
    load: LoadArguments,

    #[command(flatten)]
    mix: Mix,

    #[command(flatten)]
    output: Output,
}

impl Storm {
    pub(super) fn execute(self, context: &RunContext) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        if self.server.stdio.is_some() {
            return Err(LoadError::Usage("a storm needs connections, and --stdio has none".to_owned()));
        }
        let mut job = self.server.job(&self.mix, &self.load, true)?;
        if job.plan.target.is_lines {
            return Err(LoadError::Usage("a storm needs HTTP: it ends a connection by a header".to_owned()));
        }
        job.workload = "storm".to_owned();
        job.plan.pacing = Pacing::Storm;
        let mut run = run_job(&job, context)?;
        run.figures.insert("connections_per_s".to_owned(), run.throughput_per_s);
        self.output.report(started, run)
    }
}

fn open(rate: f64, gaps: Gaps, load: &LoadArguments) -> Pacing {
    Pacing::steady(load.warmup + load.duration(), rate, gaps)
}
