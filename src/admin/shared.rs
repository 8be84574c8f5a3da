//! State that the threads of the admin interface share.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Instant,
};

use strum::VariantArray;
use tracing::warn;

use super::{control::ControlRefusals, sample::Sampler};
use crate::{
    config::Limits,
    http1::{AllowedHosts, RejectReason, RequestHead, excerpt},
    memory::MemoryPressure,
    runtime::PoolObserver,
    shard::{FlagControl, ShardHandle},
    telemetry::{log::RateLimit, metrics::ShardReport},
};

/// A page of the admin interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// `/healthz` and `/livez`.
    Health,
    /// `/readyz`.
    Readiness,
    /// `/metrics`.
    Metrics,
    /// `/dashboard.json`.
    Dashboard,
}

/// Rejected requests of the admin address, counted by reason, and the rate limit of their log lines.
pub(super) struct Rejections {
    pub(super) counts: Vec<u64>,
    log: RateLimit,
}

impl Rejections {
    pub(super) fn new(lines_per_second_max: u32) -> Self {
        Self { counts: vec![0; RejectReason::VARIANTS.len()], log: RateLimit::new(lines_per_second_max) }
    }

    /// Counts and logs a rejected request. `head`: the request's head with its bytes, if it was read; the log line then has the
    /// host and the origin.
    pub(super) fn add(&mut self, reason: RejectReason, head: Option<(&RequestHead, &[u8])>) {
        let index = RejectReason::VARIANTS.iter().position(|known| *known == reason);
        if let Some(count) = index.and_then(|index| self.counts.get_mut(index)) {
            *count += 1;
        }
        let Some(suppressed) = self.log.admit(reason.name(), Instant::now()) else { return };
        let suppressed = (suppressed > 0).then_some(suppressed);
        let host = head.and_then(|(head, bytes)| excerpt(head.host(bytes)));
        let origin = head.and_then(|(head, bytes)| excerpt(head.origin(bytes)));
        let remedy =
            (reason == RejectReason::HostForbidden).then_some("add the host to [admin] allowed_hosts");
        warn!(reason = reason.name(), host, origin, suppressed, remedy, "admin request rejected");
    }
}

/// Shared by the thread of the connections, the threads of the pages, and the server.
pub(super) struct Shared {
    pub(super) allowed_hosts: AllowedHosts,
    pub(super) limits: Limits,
    pub(super) shards: Vec<ShardHandle>,
    pub(super) flags: FlagControl,
    pub(super) pool: PoolObserver,
    pub(super) sampler: Arc<Sampler>,
    /// The last report of each shard, used where a shard misses a scrape: counters must not decrease. Locked while shards
    /// report, so that one scrape at a time requests reports.
    pub(super) reports: Mutex<Vec<ShardReport>>,
    pub(super) rejections: Mutex<Rejections>,
    /// Connections that were closed because a newer one needed their place.
    pub(super) connections_evicted: AtomicU64,
    /// Requests that were answered 503 because too many waited for the same page.
    pub(super) pages_refused: AtomicU64,
    pub(super) control_refusals: Arc<ControlRefusals>,
    /// While it is high, `/readyz` answers 503.
    pub(super) pressure: MemoryPressure,
    /// `/readyz` answers 503.
    pub(super) draining: AtomicBool,
    /// The listening socket is closed; connections are served to their end.
    pub(super) released: AtomicBool,
    /// The thread of the connections exits.
    pub(super) ended: AtomicBool,
}
