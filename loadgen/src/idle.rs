//! Concurrent loads: many idle connections, and their effect on the throughput of others.

use std::{sync::Arc, time::Duration};

use crate::{
    engine::{Pacing, Plan},
    error::LoadError,
    job::{Job, RunContext, run_job, run_job_with},
    monitor::ServerMonitor,
    request::{Operation, Request},
    result::{Outcome, Run},
    statistics::median,
};

/// Number of connections whose throughput is measured beside the idle ones.
const BUSY_CONNECTIONS: u32 = 64;
/// The same number if each connection is a process.
const BUSY_PROCESSES: u32 = 8;
/// Duration, warm-up and number of the throughput measurements.
const BUSY: Duration = Duration::from_secs(2);
const BUSY_WARMUP: Duration = Duration::from_millis(500);
const BUSY_RUNS: u32 = 3;

/// Opens the job's connections and sends a small load on them. Then opens them again and measures the throughput of 64
/// busy connections with and without them, as `throughput_beside_idle_ratio`.
///
/// # Errors
/// As [`run_job`].
pub fn run(job: &Job, context: &RunContext) -> Result<Run, LoadError> {
    let mut idle = run_job(job, context)?;
    if context.is_interrupted() || idle.outcome != Outcome::Complete {
        return Ok(idle);
    }
    let busy_job = busy_job(job)?;
    let plan =
        Plan { duration: (BUSY + BUSY_WARMUP + Duration::from_secs(1)) * BUSY_RUNS, ..job.plan.clone() };
    let background = job_with_plan(job, &job.workload, plan, ServerMonitor::default());
    let measured = || {
        let mut alone = throughputs(&busy_job, context)?;
        let (_, together) = run_beside(&background, context, || throughputs(&busy_job, context))?;
        alone.extend(throughputs(&busy_job, context)?);
        Ok((alone, together))
    };
    let (alone, together) = match measured() {
        // The connections have been measured, the comparison has not.
        Err(LoadError::Interrupted) => return Ok(idle),
        measured => measured?,
    };
    if let (Some(alone), Some(together)) = (median(&alone), median(&together))
        && alone > 0.0
    {
        idle.figures.insert("throughput_beside_idle_ratio".to_owned(), together / alone);
    }
    Ok(idle)
}

fn throughputs(busy_job: &Job, context: &RunContext) -> Result<Vec<f64>, LoadError> {
    let throughput = |_| match run_job(busy_job, context)? {
        Run { outcome: Outcome::Interrupted, .. } => Err(LoadError::Interrupted),
        run => Ok(run.throughput_per_s),
    };
    (0..BUSY_RUNS).map(throughput).collect()
}

/// Calls `measure` once the connections of the background load are open. Returns the background's run and the result of
/// `measure`.
///
/// # Errors
/// When one of the loads cannot run.
pub fn run_beside<T>(
    background: &Job,
    context: &RunContext,
    measure: impl FnOnce() -> Result<T, LoadError>,
) -> Result<(Run, T), LoadError> {
    let (loaded, is_loaded) = crossbeam_channel::bounded(1);
    let quiet = RunContext {
        progress: crate::progress::ProgressTarget::Nobody,
        interrupted: Arc::clone(&context.interrupted),
    };
    context.progress.print_line(&format!("opening {} connections", background.plan.connections));
    std::thread::scope(|scope| {
        let running = scope.spawn(move || run_job_with(background, &quiet, Some(loaded)));
        // A background that fails to connect drops its end of the channel.
        let measured = is_loaded.recv().ok().map(|()| measure());
        let background =
            running.join().map_err(|_| LoadError::Resource("a generator panicked".to_owned()))??;
        match measured {
            Some(measured) => Ok((background, measured?)),
            None if context.is_interrupted() => Err(LoadError::Interrupted),
            None => Err(LoadError::Resource("the background load did not begin".to_owned())),
        }
    })
}

/// A job against the same server with another plan.
fn job_with_plan(job: &Job, workload: &str, plan: Plan, monitor: ServerMonitor) -> Job {
    Job {
        workload: workload.to_owned(),
        contestant: job.contestant.clone(),
        plan,
        probe: job.probe.clone(),
        monitor,
        demands: Vec::new(),
        scale: job.scale,
    }
}

/// A closed loop of the canonical request over a few connections.
fn busy_job(job: &Job) -> Result<Job, LoadError> {
    let operation =
        Operation::Tool { name: "echo".to_owned(), arguments: r#"{"message":"hello world"}"#.to_owned() };
    let mut plan = job.plan.clone();
    plan.requests = vec![Request::new(&plan.target, plan.era, operation, 1, false)?];
    plan.connections = if plan.target.program().is_some() { BUSY_PROCESSES } else { BUSY_CONNECTIONS };
    plan.pacing = Pacing::Closed;
    plan.cores.truncate(1);
    plan.duration = BUSY;
    plan.warmup = BUSY_WARMUP;
    plan.interval = Duration::from_secs(1);
    let monitor = ServerMonitor { pid: job.monitor.pid, admin: None };
    Ok(job_with_plan(job, "canonical_closed_64", plan, monitor))
}
