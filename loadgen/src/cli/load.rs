//! Commands that are one run: what is asked, by how many, how fast, for how long.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use clap::{ArgGroup, Args};

use super::output::Output;
use crate::{
    conduct::{Job, World, conduct},
    demand::{self, Demand},
    engine::{Pacing, Plan},
    error::LoadError,
    fanout, figures, idle,
    placement::Placement,
    probe::{Probed, probe},
    request::{Ask, Era, Request},
    result::{Check, Outcome},
    schedule::{Gaps, Segment},
    suite::{self, Suite},
    target::Target,
    watch::Watch,
    workloads,
};

const URL: &str = "http://127.0.0.1:8080/mcp";

/// Whom to load, and how to speak.
#[derive(Args, Clone, Debug)]
pub(super) struct Whom {
    /// The server's endpoint
    #[arg(default_value = URL)]
    url: String,

    /// A command instead of a URL: each connection starts one and speaks to it in newline-delimited JSON over its stdin
    /// and stdout
    #[arg(long, value_name = "'CMD ARGS'", conflicts_with_all = ["url", "header", "admin"])]
    stdio: Option<String>,

    /// Revision of the protocol, 2026-07-28 or 2025-11-25 [default: the newest the server speaks]
    #[arg(long, value_name = "REVISION", value_parser = era)]
    era: Option<Era>,

    /// How long a reply may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span)]
    timeout: Duration,

    /// Generator threads [default: 1, more where connections need them]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,

    /// Cores to pin them to, as 1 or 2-5 [default: from the last backwards]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<Cpus>,

    /// The server's process [default: whoever listens there, if on this machine]
    #[arg(long, value_name = "PID")]
    server_pid: Option<i32>,

    /// The server's admin address [default: found among the addresses its process listens on]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,

    /// Whose server it is, in results [default: what the server calls itself]
    #[arg(long, value_name = "NAME", alias = "contestant")]
    name: Option<String>,

    /// A header line of every request; may be given more than once
    #[arg(long, value_name = "NAME:VALUE")]
    header: Vec<String>,

    /// What random arguments and gaps begin with: the same seed sends the same requests at the same times
    #[arg(long, value_name = "NUMBER", default_value_t = suite::SEED)]
    seed: u64,
}

/// A list of cores.
#[derive(Clone, Debug)]
pub(super) struct Cpus(pub(super) Vec<usize>);

/// A mix of requests.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Requests")]
pub(super) struct Mix {
    /// Call a tool: NAME, NAME={…} or NAME={…}=WEIGHT; arguments may have {{counter}}, {{random:16}}, {{pad:1024}}
    /// [default: echo, where there is one]
    #[arg(long, value_name = "NAME[={…}][=WEIGHT]")]
    tool: Vec<String>,

    /// List the tools, with this weight
    #[arg(long, value_name = "WEIGHT", num_args = 0..=1, default_missing_value = "1")]
    list: Option<u32>,

    /// Read a resource: URI or URI=WEIGHT
    #[arg(long, value_name = "URI[=WEIGHT]")]
    resource: Vec<String>,

    /// Get a prompt: as --tool
    #[arg(long, value_name = "NAME[={…}][=WEIGHT]")]
    prompt: Vec<String>,

    /// server/discover, with this weight
    #[arg(long, value_name = "WEIGHT", num_args = 0..=1, default_missing_value = "1")]
    discover: Option<u32>,

    /// ping (2025-11-25), with this weight
    #[arg(long, value_name = "WEIGHT", num_args = 0..=1, default_missing_value = "1")]
    ping: Option<u32>,

    /// GET the path of any HTTP server, and expect a 200
    #[arg(long, conflicts_with_all = ["tool", "list", "resource", "prompt", "discover", "ping", "era"])]
    plain: bool,
}

/// For how long, and what of it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub(super) struct Span {
    /// Connections
    #[arg(long, short, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// How long is measured [default: 10s, or what a workload takes]
    #[arg(long, short, value_name = "TIME", value_parser = span)]
    duration: Option<Duration>,

    /// Load before measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    warmup: Duration,

    /// What the result must hold: p99<1ms, errors<0.1%, throughput>1000; may be given more than once
    #[arg(long, value_name = "DEMAND")]
    slo: Vec<Demand>,
}

/// One run.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("pace").args(["rate", "closed", "workload"]).required(true))]
pub(super) struct Run {
    #[command(flatten)]
    whom: Whom,

    /// Requests a second over all connections, whatever the server does; latency counts from the time each was due
    #[arg(long, short, value_name = "R", value_parser = positive, help_heading = "Load")]
    rate: Option<f64>,

    /// The next request when a reply has come; hides stalls, so its latencies are for comparisons only
    #[arg(long, help_heading = "Load")]
    closed: bool,

    /// One of the named workloads, with its own parameters
    #[arg(long, value_name = "ID", help_heading = "Load", conflicts_with_all = ["tool", "list", "resource", "prompt", "discover", "ping", "plain", "pipeline", "poisson", "ramp", "connections", "warmup"])]
    workload: Option<String>,

    /// The share of a workload's connections and rate
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = positive, help_heading = "Load", requires = "workload")]
    scale: f64,

    /// Exponentially distributed gaps, as many independent clients have, instead of even ones
    #[arg(long, requires = "rate", help_heading = "Load")]
    poisson: bool,

    /// Requests in flight on one connection, at most
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Load")]
    pipeline: u32,

    /// The rate grows for this long, before the warm-up
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration, requires = "rate", help_heading = "Load")]
    ramp: Duration,

    #[command(flatten)]
    span: Span,

    #[command(flatten)]
    mix: Mix,

    #[command(flatten)]
    output: Output,
}

impl Run {
    pub(super) fn execute(self, world: &World) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        // Clap lets these pass beside another pace.
        if self.rate.is_none() && (self.poisson || !self.ramp.is_zero()) {
            return Err(LoadError::Usage("--poisson and --ramp go with --rate".to_owned()));
        }
        if let Some(id) = &self.workload {
            let suite = self.whom.suite(id, self.span.duration, self.scale)?;
            let mut file = suite.run(world)?;
            return match (file.runs.pop(), file.not_run.pop()) {
                (Some(mut run), _) => {
                    run.checks.extend(demand::check_all(&self.span.slo, &run));
                    self.output.tell(started, run)
                }
                (None, _) if world.is_interrupted() => Err(LoadError::Interrupted),
                (None, not_run) => {
                    let reason = not_run.map_or("nothing was run".to_owned(), |not_run| not_run.reason);
                    Err(LoadError::Unsupported(format!("{id} cannot be run: {reason}")))
                }
            };
        }
        let mut job = self.whom.job(&self.mix, &self.span, false)?;
        job.plan.pipeline = self.pipeline;
        if let Some(rate) = self.rate {
            let gaps = if self.poisson { Gaps::Poisson } else { Gaps::Constant };
            let mut segments = Vec::new();
            if !self.ramp.is_zero() {
                let length_s = self.ramp.as_secs_f64();
                segments.push(Segment { length_s, from_per_s: 0.0, to_per_s: rate });
            }
            segments.push(Segment::steady((self.span.warmup + self.span.duration()).as_secs_f64(), rate));
            job.plan.warmup += self.ramp;
            job.plan.pacing = Pacing::Open(segments, gaps);
        }
        self.output.tell(started, conduct(&job, world)?)
    }
}

/// A long run.
#[derive(Args, Clone, Debug)]
pub(super) struct Soak {
    #[command(flatten)]
    whom: Whom,

    /// Requests a second over all connections
    #[arg(long, short, value_name = "R", value_parser = positive, default_value_t = 20_000.0)]
    rate: f64,

    /// Connections
    #[arg(long, short, value_name = "N", default_value_t = 200)]
    connections: u32,

    /// How long is measured
    #[arg(long, short, value_name = "TIME", default_value = "2h", value_parser = span)]
    duration: Duration,

    /// What the result must hold
    #[arg(long, value_name = "DEMAND")]
    slo: Vec<Demand>,

    #[command(flatten)]
    mix: Mix,

    #[command(flatten)]
    output: Output,
}

impl Soak {
    pub(super) fn execute(self, world: &World) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        let span = Span {
            connections: self.connections,
            duration: Some(self.duration),
            warmup: Duration::from_secs(5).min(self.duration / 4),
            slo: self.slo,
        };
        let mut job = self.whom.job(&self.mix, &span, false)?;
        job.workload = "soak".to_owned();
        job.plan.pacing = open(self.rate, Gaps::Poisson, &span);
        let mut run = conduct(&job, world)?;
        figures::derive(&mut run);
        self.output.tell(started, run)
    }
}

/// Idle connections.
#[derive(Args, Clone, Debug)]
pub(super) struct Idle {
    #[command(flatten)]
    whom: Whom,

    /// Connections to open
    #[arg(long, short, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// Requests a second on each of them
    #[arg(long, short, value_name = "R", value_parser = positive, default_value_t = 0.01)]
    rate: f64,

    /// How long they are kept
    #[arg(long, short, value_name = "TIME", default_value = "60s", value_parser = span)]
    duration: Duration,

    /// What the result must hold
    #[arg(long, value_name = "DEMAND")]
    slo: Vec<Demand>,

    #[command(flatten)]
    output: Output,
}

impl Idle {
    pub(super) fn execute(self, world: &World) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        let span = Span {
            connections: self.connections,
            duration: Some(self.duration),
            warmup: Duration::from_secs(2),
            slo: self.slo,
        };
        let mix = Mix::default();
        let mut job = self.whom.job(&mix, &span, false)?;
        job.workload = "idle".to_owned();
        job.plan.spin = false;
        job.plan.pacing = open(self.rate * f64::from(self.connections), Gaps::Poisson, &span);
        let mut run = idle::run(&job, world)?;
        let live = run.figures.get("connections_live").copied().unwrap_or(0.0);
        if run.outcome != Outcome::Interrupted {
            run.checks.push(Check {
                demand: format!("connections_live={}", self.connections),
                measured: live,
                passed: live >= f64::from(self.connections),
            });
        }
        self.output.tell(started, run)
    }
}

/// Fan-out.
#[derive(Args, Clone, Debug)]
pub(super) struct FanOut {
    #[command(flatten)]
    whom: Whom,

    /// Subscribers
    #[arg(long, short, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    subscribers: u32,

    /// Updates a second; above 50 readers are allowed to get the latest only
    #[arg(long, short, value_name = "R", value_parser = positive, default_value_t = 10.0)]
    rate: f64,

    /// How long is measured
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = span)]
    duration: Duration,

    /// What the result must hold
    #[arg(long, value_name = "DEMAND")]
    slo: Vec<Demand>,

    #[command(flatten)]
    output: Output,
}

impl FanOut {
    pub(super) fn execute(self, world: &World) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        let target = self.whom.target(false)?;
        let mut workload =
            workloads::named("fanout_1k").ok_or_else(|| LoadError::Usage("no fan-out".to_owned()))?;
        workload.connections = self.subscribers;
        workload.pace = workloads::Pace::Open(self.rate, Gaps::Constant);
        let suite = self.whom.suite_of(workload.clone(), Some(self.duration), 1.0)?;
        let mut job = suite.job(&workload, &target, self.whom.admin)?;
        job.workload = "fanout".to_owned();
        let mut run = fanout::run(&job, world)?;
        run.checks = demand::check_all(&self.slo, &run);
        self.output.tell(started, run)
    }
}

/// Connection churn.
#[derive(Args, Clone, Debug)]
pub(super) struct Storm {
    #[command(flatten)]
    whom: Whom,

    #[command(flatten)]
    span: Span,

    #[command(flatten)]
    mix: Mix,

    #[command(flatten)]
    output: Output,
}

impl Storm {
    pub(super) fn execute(self, world: &World) -> Result<bool, LoadError> {
        self.output.check()?;
        let started = SystemTime::now();
        if self.whom.stdio.is_some() {
            return Err(LoadError::Usage("a storm is one of connections, and --stdio has none".to_owned()));
        }
        let mut job = self.whom.job(&self.mix, &self.span, true)?;
        job.workload = "storm".to_owned();
        job.plan.pacing = Pacing::Storm;
        let mut run = conduct(&job, world)?;
        run.figures.insert("connections_per_s".to_owned(), run.throughput_per_s);
        self.output.tell(started, run)
    }
}

impl Whom {
    /// What is asked of the server as a job; its pacing is a closed loop until somebody says otherwise.
    pub(super) fn job(&self, mix: &Mix, span: &Span, closing: bool) -> Result<Job, LoadError> {
        let target = self.target(mix.plain)?;
        if let Some(reason) = target.too_many(span.connections) {
            return Err(LoadError::Usage(reason));
        }
        let wanted = if mix.plain { Some(Era::Plain) } else { self.era.or(mix.needs_era()) };
        let probed = probe(&target, wanted, self.timeout)?;
        let asks = mix.asks(&probed)?;
        let requests: Result<Vec<Request>, LoadError> = asks
            .into_iter()
            .map(|(ask, weight)| Request::new(&target, probed.era, ask, weight, closing))
            .collect();
        let cores = self.placement()?.cores(span.connections);
        let plan = Plan {
            era: probed.era,
            handshake: probed.era == Era::Legacy,
            closes_unannounced: probed.closes_unannounced,
            requests: requests?,
            pacing: Pacing::Closed,
            connections: span.connections,
            pipeline: 1,
            spin: Placement::may_spin(&cores),
            cores,
            warmup: span.warmup,
            duration: span.duration(),
            timeout: self.timeout,
            seed: self.seed,
            interval: suite::interval("", span.duration()),
            target: target.clone(),
        };
        Ok(Job {
            workload: what_is_asked(&plan),
            contestant: suite::contestant(self.name.as_deref(), &probed),
            plan,
            probed,
            watch: Watch::given(&target, self.server_pid, self.admin)?,
            demands: span.slo.clone(),
            scale: 1.0,
        })
    }

    fn target(&self, plain: bool) -> Result<Target, LoadError> {
        if let Some(command) = &self.stdio {
            if plain {
                return Err(LoadError::Usage(
                    "--plain is HTTP, and a server on --stdio speaks none".to_owned(),
                ));
            }
            return Target::stdio(command);
        }
        let mut target = Target::parse(&self.url)?.with_headers(&self.header)?;
        let behind = self.url.split_once("://").map_or(self.url.as_str(), |(_, behind)| behind);
        if plain && !behind.contains(['/', '?']) {
            target.path = "/".to_owned();
        }
        Ok(target)
    }

    fn placement(&self) -> Result<Placement, LoadError> {
        Placement::new(self.threads, self.cpus.clone().map(|Cpus(cpus)| cpus))
    }

    fn suite(&self, id: &str, duration: Option<Duration>, scale: f64) -> Result<Suite, LoadError> {
        let workload = workloads::named(id).ok_or_else(|| {
            LoadError::Usage(format!("there is no workload {id:?}; corelane-loadgen workloads lists them"))
        })?;
        self.suite_of(workload, duration, scale)
    }

    fn suite_of(
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
            server_core: 0,
            placement: self.placement()?,
        })
    }
}

impl Span {
    pub(super) fn new(connections: u32, duration: Duration, warmup: Duration, slo: Vec<Demand>) -> Self {
        Self { connections, duration: Some(duration), warmup, slo }
    }

    fn duration(&self) -> Duration {
        self.duration.unwrap_or(Duration::from_secs(10))
    }
}

impl Mix {
    /// `ping` is spoken in one era only.
    fn needs_era(&self) -> Option<Era> {
        self.ping.is_some().then_some(Era::Legacy)
    }

    fn asks(&self, probed: &Probed) -> Result<Vec<(Ask, u32)>, LoadError> {
        if self.plain {
            return Ok(vec![(Ask::Plain, 1)]);
        }
        let mut asks = Vec::new();
        for text in &self.tool {
            let (name, arguments, weight) = named_arguments(text)?;
            let is_there = probed.tools.is_empty() || probed.tools.contains(&name);
            if !is_there {
                let there = probed.tools.join(", ");
                return Err(LoadError::Unsupported(format!(
                    "the server has no tool {name:?}; it has {there}"
                )));
            }
            let arguments = arguments.unwrap_or_else(|| default_arguments(&name).to_owned());
            asks.push((Ask::Tool { name, arguments }, weight));
        }
        for text in &self.prompt {
            let (name, arguments, weight) = named_arguments(text)?;
            asks.push((
                Ask::Prompt { name, arguments: arguments.unwrap_or_else(|| "{}".to_owned()) },
                weight,
            ));
        }
        for text in &self.resource {
            let (uri, weight) =
                match text.rsplit_once('=').and_then(|(uri, weight)| Some((uri, weight.parse().ok()?))) {
                    Some((uri, weight)) => (uri.to_owned(), weight),
                    None => (text.clone(), 1),
                };
            asks.push((Ask::Resource { uri }, weight));
        }
        let methods = [("tools/list", self.list), ("server/discover", self.discover), ("ping", self.ping)];
        for (method, weight) in methods {
            asks.extend(weight.map(|weight| (Ask::Method(method), weight)));
        }
        if asks.is_empty() {
            let echo = probed.tools.iter().any(|tool| tool == "echo");
            asks.push(match echo {
                true => {
                    let arguments = default_arguments("echo").to_owned();
                    (Ask::Tool { name: "echo".to_owned(), arguments }, 1)
                }
                false => (Ask::Method("tools/list"), 1),
            });
        }
        if asks.iter().all(|(_, weight)| *weight == 0) {
            return Err(LoadError::Usage("every request of the mix has the weight 0".to_owned()));
        }
        Ok(asks)
    }
}

/// What a run without another name is called.
fn what_is_asked(plan: &Plan) -> String {
    let names: Vec<String> = plan.requests.iter().map(|request| request.parameters().name).collect();
    names.join(" + ")
}

fn default_arguments(tool: &str) -> &'static str {
    if tool == "echo" { r#"{"message":"hello world"}"# } else { "{}" }
}

/// `NAME`, `NAME={…}`, `NAME={…}=WEIGHT` or `NAME=WEIGHT`.
fn named_arguments(text: &str) -> Result<(String, Option<String>, u32), LoadError> {
    let usage =
        || LoadError::Usage(format!("{text:?} should look like NAME, NAME={{…}} or NAME={{…}}=WEIGHT"));
    let Some((name, rest)) = text.split_once('=') else { return Ok((text.to_owned(), None, 1)) };
    if name.is_empty() {
        return Err(usage());
    }
    if !rest.starts_with('{') {
        return Ok((name.to_owned(), None, rest.parse().map_err(|_| usage())?));
    }
    // A weight stands behind the last brace; an = inside a string stands before it.
    let end = rest.rfind('}').ok_or_else(usage)? + 1;
    let (arguments, behind) = rest.split_at(end);
    let weight = match behind.strip_prefix('=') {
        Some(weight) => weight.parse().map_err(|_| usage())?,
        None if behind.is_empty() => 1,
        None => return Err(usage()),
    };
    Ok((name.to_owned(), Some(arguments.to_owned()), weight))
}

fn open(rate: f64, gaps: Gaps, span: &Span) -> Pacing {
    Pacing::Open(vec![Segment::steady((span.warmup + span.duration()).as_secs_f64(), rate)], gaps)
}

fn era(text: &str) -> Result<Era, String> {
    match text {
        "2026-07-28" => Ok(Era::Modern),
        "2025-11-25" => Ok(Era::Legacy),
        _ => Err("there are 2026-07-28 and 2025-11-25".to_owned()),
    }
}

/// A time above 0.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if span.is_zero() => Err("a time above 0 is needed".to_owned()),
        span => span.map_err(|error| error.to_string()),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("a number from 1 to 1024 is needed".to_owned()),
    }
}

pub(super) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("a number above 0 is needed".to_owned()),
    }
}

pub(super) fn cpu_list(text: &str) -> Result<Cpus, String> {
    let cores: Result<corelane::config::Cores, _> = text.parse();
    cores.map(|cores| Cpus(cores.0)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_read_with_arguments_and_weights() {
        let read = |text| named_arguments(text).unwrap();
        assert_eq!(read("echo"), ("echo".to_owned(), None, 1));
        assert_eq!(read("echo=7"), ("echo".to_owned(), None, 7));
        let (name, arguments, weight) = read(r#"echo={"message":"a=b}"}=90"#);
        assert_eq!((name.as_str(), weight), ("echo", 90));
        assert_eq!(arguments.unwrap(), r#"{"message":"a=b}"}"#);
        for wrong in ["=1", "echo=x", "echo={}x", "echo={}=x", "echo={"] {
            assert!(named_arguments(wrong).is_err(), "{wrong}");
        }
    }
}
