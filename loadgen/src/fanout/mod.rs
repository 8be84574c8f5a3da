//! Fan-out: one update, many subscribers; the time to each subscriber and to the last one.
//!
//! Subscribers hold a `subscriptions/listen` stream (2026-07-28); a publisher updates the resource at a fixed rate. A
//! notification contains only the URI, so updates are identified by their order. If no update may be lost, the k-th
//! notification on a stream belongs to the k-th update. If updates may be coalesced, a notification covers all updates
//! that the stream has not received, and its latency is that of the oldest; more notifications than updates are an
//! error, fewer are not.
//!
//! Receiving a notification must not take longer than sending it, or the time to the last stream would be the
//! generator's. A notification that is byte for byte equal to the previous one of its stream is therefore not parsed.

mod streams;
mod measuring;
mod publishing;
mod updates;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::RecvTimeoutError;

use self::measuring::FanOut;
use crate::{
    engine::executor,
    error::LoadError,
    figures::{ENCODINGS_PER_UPDATE, UPDATES_PUBLISHED},
    job::{Job, RunCollector, RunContext, own_cpu_s, record_server},
    result::{Outcome, Run},
};

/// Interval at which the main thread samples the server's process.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Runs a job: its connections are the subscribers, its request is the publisher's call, at its rate.
///
/// # Errors
/// When the server cannot be reached, or has no subscriptions.
pub fn run(job: &Job, context: &RunContext) -> Result<Run, LoadError> {
    let plan = Arc::new(job.plan.clone());
    let mut collector = RunCollector::new(&plan);
    let core = plan.cores.first().copied().unwrap_or(0);
    let interrupted = Arc::clone(&context.interrupted);
    let (sender, delivered) = crossbeam_channel::bounded(1);
    corelane_ring::raise_descriptor_limit().map_err(|error| LoadError::Resource(error.to_string()))?;
    let bar = context.progress.bar(&job.workload, plan.warmup + plan.duration);
    bar.connecting(plan.connections);
    // Before the thread starts: it publishes as soon as its streams are open.
    let metrics_before = job.monitor.metrics();
    let thread = executor(core, "fan-out")
        .spawn({
            let plan = Arc::clone(&plan);
            move || async move {
                let outcome = match FanOut::new(plan, interrupted) {
                    Ok(fan_out) => fan_out.run().await,
                    Err(error) => Err(error.to_string()),
                };
                let _ = sender.send(outcome);
            }
        })
        .map_err(|error| LoadError::Resource(format!("no thread on core {core}: {error}")))?;
    let began = Instant::now();
    let cpu_before = own_cpu_s();
    collector.start_sampling(job);
    let outcome = loop {
        match delivered.recv_timeout(SAMPLE_INTERVAL) {
            Ok(outcome) => break outcome,
            Err(RecvTimeoutError::Timeout) => {
                bar.set_elapsed(began.elapsed());
                collector.sample(began.elapsed().as_secs_f64());
            }
            Err(RecvTimeoutError::Disconnected) => break Err("its thread ended".to_owned()),
        }
    };
    bar.clear();
    let _ = thread.join();
    let measured =
        outcome.map_err(|reason| LoadError::Unreachable { url: job.plan.target.url.clone(), reason })?;
    collector.recording = measured.recording;
    collector.intervals = measured.intervals;
    let cpu_percent = (own_cpu_s() - cpu_before) / began.elapsed().as_secs_f64().max(0.001) * 100.0;
    if collector.recording.measured_ns == 0 && context.is_interrupted() {
        return Err(LoadError::Interrupted);
    }
    match measured.gone_after_s {
        Some(after_s) => collector.set_outcome(Outcome::ServerGone { after_s }),
        None if context.is_interrupted() => collector.set_outcome(Outcome::Interrupted),
        None => {}
    }
    let mut run = collector.into_run(job, cpu_percent);
    run.figures.insert("last_socket_p50_us".to_owned(), measured.last_socket_us.0);
    run.figures.insert("last_socket_p95_us".to_owned(), measured.last_socket_us.1);
    run.figures.insert(UPDATES_PUBLISHED.to_owned(), measured.published as f64);
    run.figures.insert("stale_readers_count".to_owned(), measured.stale as f64);
    if let (Some(before), Some(after)) = (metrics_before, job.monitor.metrics()) {
        let counts = (before.notifications_encoded, after.notifications_encoded);
        if let ((Some(before), Some(after)), 1..) = (counts, measured.published) {
            let each = after.saturating_sub(before) as f64 / measured.published as f64;
            run.figures.insert(ENCODINGS_PER_UPDATE.to_owned(), each);
        }
        record_server(&mut run, before, after);
    }
    Ok(run)
}
