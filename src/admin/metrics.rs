//! `/metrics`.

use std::sync::{PoisonError, atomic::Ordering};

use strum::VariantArray;

use super::{collect::collect, shared::Shared};
use crate::{
    http1::RejectReason,
    mcp::events_encoded,
    runtime::PoolObserver,
    shard::ShardHandle,
    telemetry::{
        log::lines_unwritten,
        metrics::{
            write_admin_refusals, write_counter, write_gauge, write_limits, write_process, write_prometheus,
            write_rollouts, write_stages,
        },
    },
};

/// Collects the metrics of every shard and of the process, in the Prometheus text format.
pub(super) fn metrics(shared: &Shared) -> String {
    // Read first: the shards drain their mailboxes when they are woken to report.
    let mailboxes: Vec<_> = shared.shards.iter().map(|shard| shard.mailbox().len()).enumerate().collect();
    let mut reports = shared.reports.lock().unwrap_or_else(PoisonError::into_inner);
    let (fresh, _) = collect(&shared.shards, ShardHandle::report);
    let fresh: Vec<_> = fresh.into_iter().map(|(_, report)| report).collect();
    let up: Vec<usize> = fresh.iter().map(|report| report.shard).collect();
    reports.retain(|report| !up.contains(&report.shard));
    reports.extend(fresh);
    reports.sort_by_key(|report| report.shard);
    let mut text = String::new();
    let call_deadline = shared.limits.call_deadline;
    write_prometheus(&mut text, shared.shards.len(), &up, &reports, call_deadline);
    write_rollouts(&mut text, &shared.flags.reports());
    write_stages(&mut text, &reports);
    let help = "Messages of other shards that this one has not read yet.";
    write_gauge(&mut text, "corelane_mailbox_messages", help, "shard", mailboxes);
    let stuck = shared.shards.iter().map(|shard| usize::from(shard.turn().is_stuck())).enumerate();
    let help = "Whether the shard has been in one turn for limits.turn_slow or longer.";
    write_gauge(&mut text, "corelane_shard_stuck", help, "shard", stuck);
    write_pool(&mut text, &shared.pool);
    let rejections = shared.rejections.lock().unwrap_or_else(PoisonError::into_inner);
    let counts =
        RejectReason::VARIANTS.iter().map(|reason| reason.name()).zip(rejections.counts.iter().copied());
    let own = [
        ("connection_evicted", shared.connections_evicted.load(Ordering::Relaxed)),
        ("pages_waiting", shared.pages_refused.load(Ordering::Relaxed)),
    ];
    write_admin_refusals(&mut text, counts.chain(own).chain(shared.control_refusals.counts()));
    let help = "Schemas compiled since the process started.";
    write_counter(&mut text, "corelane_schemas_compiled_total", help, crate::schema::compiled());
    let help = "Notifications of changes encoded since the process started.";
    write_counter(&mut text, "corelane_notifications_encoded_total", help, events_encoded());
    let help = "Log lines that were not written, because stderr was full or closed.";
    write_counter(&mut text, "corelane_log_lines_unwritten_total", help, lines_unwritten());
    write_limits(&mut text, &shared.limits.to_numbers());
    write_process(&mut text);
    text
}

fn write_pool(out: &mut String, pool: &PoolObserver) {
    let Some(load) = pool.load() else { return };
    let depth = [("blocking", load.queued)];
    write_gauge(out, "corelane_queue_depth", "Calls that wait for a thread of their pool.", "queue", depth);
    // The counts are not read atomically, hence the saturation.
    let running = load.threads.saturating_sub(load.idle).saturating_sub(load.waiting);
    let threads = [("idle", load.idle), ("running", running), ("waiting_for_client", load.waiting)];
    let help = "Threads of the blocking pool, by what they do.";
    write_gauge(out, "corelane_blocking_threads", help, "state", threads);
}
