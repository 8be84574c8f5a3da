//! One run: connects, sends the load, samples the server's process meanwhile, summarizes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossbeam_channel::{RecvTimeoutError, Sender};

use crate::{
    demand::{self, Demand},
    engine::{Engine, IntervalRecord, Pacing, Plan, Recording, ThreadReport},
    error::LoadError,
    latency::Latency,
    monitor::{Metrics, ProcessSampler, ServerMonitor, cpu_s},
    probe::ProbeResult,
    progress::{Bar, ProgressTarget},
    result::{self, Check, GeneratorSide, Interval, Outcome, Parameters, RequestResult, Run},
    schedule::Gaps,
};

/// Share of busy time above which the generator is at its limit, in percent of a core.
const BUSY_PERCENT_MAX: f64 = 95.0;
/// Schedule lag at the 99th percentile above which the generator is at its limit, in microseconds.
const LAG_US_MAX: f64 = 1_000.0;
/// Maximum requests per second of one thread: several times what a thread reaches on any machine.
const RATE_PER_THREAD_MAX: f64 = 5e6;
/// Time limit for connecting, plus one millisecond for each connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for a stopped thread to finish, beyond the timeout of its requests.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which the progress bar is updated and the interrupt flag is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A run to be made.
#[derive(Debug)]
pub struct Job {
    /// The workload's id, or `custom`.
    pub workload: String,
    /// Name of the server in results.
    pub contestant: String,
    /// The load.
    pub plan: Plan,
    /// The result of the probe.
    pub probe: ProbeResult,
    /// The server's process and admin address.
    pub monitor: ServerMonitor,
    /// Demands on the result.
    pub demands: Vec<Demand>,
    /// Fraction of the workload's full size.
    pub scale: f64,
}

/// Progress output and interrupt flag, shared by all runs of a command.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// The output of progress.
    pub progress: ProgressTarget,
    /// Set by Ctrl-C.
    pub interrupted: Arc<AtomicBool>,
}

impl RunContext {
    /// Whether the user interrupted the command.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// Runs a job.
///
/// # Errors
/// When the server cannot be reached or the generator cannot run. A server that stops during the run is a result.
pub fn run_job(job: &Job, context: &RunContext) -> Result<Run, LoadError> {
    run_job_with(job, context, None)
}

/// Runs a job, and sends a message once all connections are open.
///
/// # Errors
/// As [`run_job`].
pub fn run_job_with(
    job: &Job,
    context: &RunContext,
    connected_sender: Option<Sender<()>>,
) -> Result<Run, LoadError> {
    check_schedule(&job.plan)?;
    if context.is_interrupted() {
        return Err(LoadError::Interrupted);
    }
    let plan = Arc::new(job.plan.clone());
    let memory_before = job.monitor.resident_bytes();
    let engine = Engine::start(&plan)?;
    let total = plan.warmup + plan.duration;
    let bar = context.progress.bar(&job.workload, total);
    bar.connecting(plan.connections);
    let connected = connect(job, &engine, context);
    if let Err(error) = connected {
        bar.clear();
        engine.stop();
        engine.join();
        return Err(error);
    }
    let memory_connected = job.monitor.resident_bytes();
    if let Some(connected_sender) = connected_sender {
        // The receiver may have been dropped.
        let _ = connected_sender.send(());
    }
    let mut collector = RunCollector::new(&plan);
    let metrics_before = job.monitor.metrics();
    let cpu_before = own_cpu_s();
    let followed = Instant::now();
    collector.collect(job, &engine, context, &bar);
    bar.clear();
    engine.join();
    let cpu_percent = (own_cpu_s() - cpu_before) / followed.elapsed().as_secs_f64().max(0.001) * 100.0;
    let mut run = collector.into_run(job, cpu_percent);
    if let (Some(before), Some(after)) = (metrics_before, job.monitor.metrics()) {
        record_server(&mut run, before, after);
    }
    if let (Some(before), Some(after)) = (memory_before, memory_connected)
        && plan.connections >= 1_000
    {
        let each = after.saturating_sub(before) as f64 / f64::from(plan.connections);
        run.figures.insert("memory_per_connection_bytes".to_owned(), each);
    }
    run.checks = demand::check_all(&job.demands, &run);
    Ok(run)
}

/// Records the server's latencies, commit, limits and flags, from its metrics before and after the run.
pub(crate) fn record_server(run: &mut Run, before: Metrics, after: Metrics) {
    run.server_latencies = after.since(&before);
    run.server.commit = after.commit;
    run.server.limits = after.limits;
    let has_changed = |flag: &&String| {
        before.flags.get(*flag) != after.flags.get(*flag)
            || before.flag_shares.get(*flag) != after.flag_shares.get(*flag)
    };
    run.server.flags_changed = after.flags.keys().filter(has_changed).cloned().collect();
    run.server.flags = before.flags;
    run.server.flag_shares = before.flag_shares;
}

/// Checks that the generator can keep the schedule, and that the schedule contains a request.
fn check_schedule(plan: &Plan) -> Result<(), LoadError> {
    let Pacing::Open(segments, _) = &plan.pacing else { return Ok(()) };
    let highest = segments.iter().map(|segment| segment.to_per_s).fold(0.0, f64::max);
    let most = RATE_PER_THREAD_MAX * plan.cores.len() as f64;
    if highest > most {
        return Err(LoadError::Usage(format!(
            "a generator with {} threads cannot keep a schedule of {highest:e} requests per second; the maximum is {most:e}",
            plan.cores.len()
        )));
    }
    if highest * plan.duration.as_secs_f64() < 1.0 {
        return Err(LoadError::Usage(format!(
            "a schedule of {highest} requests per second contains no request in {:?}; increase the duration or the rate",
            plan.duration
        )));
    }
    Ok(())
}

fn connect(job: &Job, engine: &Engine, context: &RunContext) -> Result<(), LoadError> {
    let until = Instant::now() + CONNECT_TIMEOUT + Duration::from_millis(u64::from(job.plan.connections));
    let mut ready = 0;
    while ready < engine.threads() {
        let unreachable =
            |reason: String| Err(LoadError::Unreachable { url: job.plan.target.url.clone(), reason });
        match engine.reports().recv_timeout(POLL_INTERVAL) {
            Ok(ThreadReport::Ready) => ready += 1,
            Ok(ThreadReport::Failed(reason)) => {
                return unreachable(format!("{} connections were requested: {reason}", job.plan.connections));
            }
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(LoadError::Resource("a generator thread ended".to_owned()));
            }
            Err(RecvTimeoutError::Timeout) if context.is_interrupted() => {
                return Err(LoadError::Interrupted);
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() > until => {
                return unreachable(format!("{} connections were not open in time", job.plan.connections));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
    Ok(())
}

/// The threads' measurements, as they arrive.
pub(crate) struct RunCollector {
    plan: Arc<Plan>,
    pub(crate) recording: Recording,
    pub(crate) intervals: BTreeMap<i64, IntervalRecord>,
    outcome: Outcome,
    began: SystemTime,
    sampler: Option<ProcessSampler>,
    errors_seen: u64,
    /// Index of the latest interval that was shown.
    last_shown_index: i64,
}

impl RunCollector {
    pub(crate) fn new(plan: &Arc<Plan>) -> Self {
        Self {
            plan: Arc::clone(plan),
            recording: Recording::new(plan.requests.len()),
            intervals: BTreeMap::new(),
            outcome: Outcome::Complete,
            began: SystemTime::now(),
            sampler: None,
            errors_seen: 0,
            last_shown_index: i64::MIN,
        }
    }

    fn collect(&mut self, job: &Job, engine: &Engine, context: &RunContext, bar: &Bar) {
        let start = engine.begin();
        let window = start + self.plan.warmup;
        let end = window + self.plan.duration;
        let mut sampled_s = 0.0;
        let mut done = 0;
        let mut deadline = end + self.plan.timeout + END_TIMEOUT;
        let mut interrupted = false;
        while done < engine.threads() && Instant::now() < deadline {
            match engine.reports().recv_timeout(POLL_INTERVAL) {
                Ok(ThreadReport::Interval(record)) => self.on_interval(&record, engine, bar),
                Ok(ThreadReport::Done(recording)) => {
                    self.recording.add(&recording);
                    done += 1;
                }
                Ok(ThreadReport::Gone(after_ns)) => {
                    self.outcome = Outcome::ServerGone { after_s: after_ns as f64 / 1e9 };
                }
                Ok(ThreadReport::Failed(reason)) => {
                    self.recording.first_error = Some(reason);
                    done += 1;
                }
                Ok(ThreadReport::Ready) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            bar.set_elapsed(now.saturating_duration_since(start));
            if now >= window {
                let at_s = now.saturating_duration_since(window).as_secs_f64();
                if self.sampler.is_none() {
                    self.start_sampling(job);
                } else if at_s - sampled_s >= 1.0 && now <= end {
                    sampled_s = at_s;
                    self.sample(at_s);
                }
            }
            if context.is_interrupted() && !interrupted {
                interrupted = true;
                if now < end {
                    self.outcome = Outcome::Interrupted;
                    engine.stop();
                    deadline = now + self.plan.timeout + END_TIMEOUT;
                }
            }
        }
        if done < engine.threads() {
            engine.stop();
        }
    }

    /// Records that the run did not end as planned.
    pub(crate) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Starts sampling the server's process, at the beginning of the measured time.
    pub(crate) fn start_sampling(&mut self, job: &Job) {
        self.began = SystemTime::now();
        self.sampler = job.monitor.start_sampling();
    }

    pub(crate) fn sample(&mut self, at_s: f64) {
        if let Some(sampler) = &mut self.sampler {
            sampler.sample(at_s);
        }
    }

    fn on_interval(&mut self, record: &IntervalRecord, engine: &Engine, bar: &Bar) {
        self.errors_seen += record.errors;
        let merged = self.intervals.entry(record.index).or_insert_with(|| IntervalRecord::new(record.index));
        merged.add(record);
        // Late replies belong to intervals that have been shown already.
        if record.index < self.last_shown_index {
            return;
        }
        self.last_shown_index = record.index;
        // The other threads report their parts of the same interval at about the same time, so this part is scaled.
        let rate = record.completed as f64 * engine.threads() as f64 / self.plan.interval.as_secs_f64();
        let at = |quantile| merged.latency.value_at_quantile(quantile) as f64 / 1e3;
        bar.show(rate, at(0.5), at(0.99), self.errors_seen, record.index < 0);
    }

    /// Summarizes the run. `cpu_percent`: processor time of this process while measuring, in percent of a core.
    pub(crate) fn into_run(mut self, job: &Job, cpu_percent: f64) -> Run {
        let plan = &self.plan;
        let recording = &self.recording;
        let measured_s = recording.measured_ns as f64 / 1e9;
        let per_s = |count: u64| if measured_s > 0.0 { count as f64 / measured_s } else { 0.0 };
        let generator = generator_side(plan, recording, cpu_percent);
        let kinds = plan.requests.iter().zip(&recording.kinds);
        let requests = kinds
            .map(|(request, kind)| RequestResult {
                name: request.parameters().name,
                replies_count: kind.latency.len(),
                errors_count: kind.errors,
                latency: Latency::of(&kind.latency),
            })
            .collect();
        let intervals = self.intervals(measured_s);
        let server_process = self.sampler.take().map(|mut sampler| {
            if measured_s < 1.5 || sampler.is_empty() {
                sampler.sample(measured_s);
            }
            sampler.finish()
        });
        let mut figures = BTreeMap::new();
        if plan.pacing == Pacing::Volley && !recording.makespan.is_empty() {
            for (name, quantile) in [("makespan_ms", 0.5), ("makespan_p95_ms", 0.95)] {
                figures.insert(name.to_owned(), recording.makespan.value_at_quantile(quantile) as f64 / 1e6);
            }
        }
        figures.insert("connections_live".to_owned(), recording.connections_live as f64);
        let may_spin = job.monitor.may_spin(&job.probe.server.name);
        if let Some(process) =
            server_process.as_ref().filter(|process| process.cpu_percent > 0.0 && !may_spin)
        {
            let per_core = per_s(recording.replies_in_time) / (process.cpu_percent / 100.0);
            figures.insert("requests_per_core_second".to_owned(), per_core);
        }
        Run {
            workload: job.workload.clone(),
            contestant: job.contestant.clone(),
            parameters: parameters(job),
            server: job.probe.server.clone(),
            outcome: self.outcome,
            began_unix_s: self.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            measured_s,
            requests_count: recording.requests,
            replies_count: recording.replies,
            errors_count: recording.errors.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            first_error: recording.first_error.clone(),
            reconnects_count: recording.reconnects,
            resent_count: recording.resent,
            throughput_per_s: per_s(recording.replies_in_time),
            sent_bytes: recording.sent_bytes,
            received_bytes: recording.received_bytes,
            latency: Latency::of(&recording.latency),
            latency_uncorrected: Latency::of(&recording.uncorrected),
            requests,
            intervals,
            generator,
            server_process,
            server_latencies: Vec::new(),
            figures,
            checks: Vec::<Check>::new(),
        }
    }

    /// All intervals of the measured time, including empty ones. Records of later intervals, which exist because a
    /// thread detected the end late, are added to the last one.
    fn intervals(&self, measured_s: f64) -> Vec<Interval> {
        let length = self.plan.interval.as_secs_f64();
        if measured_s <= 0.0 || length <= 0.0 {
            return Vec::new();
        }
        let count = ((measured_s / length - 1e-9).ceil() as i64).max(1);
        let mut records = BTreeMap::new();
        for (index, record) in self.intervals.range(0..) {
            let index = (*index).min(count - 1);
            records.entry(index).or_insert_with(|| IntervalRecord::new(index)).add(record);
        }
        let empty = IntervalRecord::new(0);
        let interval = |index: i64| {
            let record = records.get(&index).unwrap_or(&empty);
            let start_s = index as f64 * length;
            Interval {
                start_s,
                // The last interval of a run that ended early is shorter.
                length_s: length.min(measured_s - start_s),
                replies_count: record.replies,
                errors_count: record.errors,
                completed_count: Some(record.completed),
                latency: Latency::of(&record.latency),
            }
        };
        (0..count).map(interval).collect()
    }
}

fn parameters(job: &Job) -> Parameters {
    let plan = &job.plan;
    let pacing = match &plan.pacing {
        Pacing::Open(segments, gaps) => {
            // The rate that is reported: the highest final rate of the segments.
            let rate_per_s = segments.iter().map(|segment| segment.to_per_s).fold(0.0, f64::max);
            match gaps {
                Gaps::Constant => result::Pacing::OpenConstant { rate_per_s },
                Gaps::Poisson => result::Pacing::OpenPoisson { rate_per_s },
            }
        }
        Pacing::Closed | Pacing::Volley | Pacing::Storm => result::Pacing::Closed,
    };
    Parameters {
        era: plan.era.name().to_owned(),
        pacing,
        connections_count: plan.connections,
        pipeline_depth: plan.pipeline,
        threads_count: u32::try_from(plan.cores.len()).unwrap_or(u32::MAX),
        duration_s: plan.duration.as_secs_f64(),
        warmup_s: plan.warmup.as_secs_f64(),
        requests: plan.requests.iter().map(crate::request::Request::parameters).collect(),
        scale: job.scale,
    }
}

fn generator_side(plan: &Plan, recording: &Recording, cpu_percent: f64) -> GeneratorSide {
    let mut cores = plan.cores.clone();
    cores.sort_unstable();
    cores.dedup();
    // Threads that share a core are busy in turn.
    let sharing = plan.cores.len().div_ceil(cores.len().max(1));
    let busy = recording.busy_ns as f64 / recording.measured_ns.max(1) as f64 * 100.0 * sharing as f64;
    let lag = Latency::of(&recording.lag);
    let mut bottleneck = None;
    if busy >= BUSY_PERCENT_MAX {
        bottleneck = Some(format!(
            "its busiest core was busy for {busy:.0} % of the time; use more cores (--threads, --cpus)"
        ));
    } else if lag.count > 0 && lag.p99_us > LAG_US_MAX {
        bottleneck = Some(format!(
            "requests were sent late although connections were free, by {:.1} ms at the 99th percentile",
            lag.p99_us / 1e3
        ));
    }
    GeneratorSide { cores, busy_percent: busy, cpu_percent, schedule_lag: lag, bottleneck }
}

/// Processor time of this process, in seconds.
pub(crate) fn own_cpu_s() -> f64 {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat());
    stat.map_or(0.0, |stat| cpu_s(&stat))
}
