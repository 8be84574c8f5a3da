//! What the threads of the admin interface share.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::{Duration, Instant},
};

use strum::VariantArray;
use tracing::warn;

use crate::{
    config::Limits,
    http1::{Names, RejectReason, RequestHead, excerpt},
    runtime::PoolObserver,
    shard::ShardHandle,
    telemetry::{log::RateLimit, metrics::ShardReport},
};

/// How long a shard may take to say how it is.
pub(super) const REPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Refused requests of the admin address, by reason, and how often they are logged.
pub(super) struct Refusals {
    pub(super) counts: Vec<u64>,
    log: RateLimit,
}

impl Refusals {
    pub(super) fn new(lines_per_second_max: u32) -> Self {
        Self { counts: vec![0; RejectReason::VARIANTS.len()], log: RateLimit::new(lines_per_second_max) }
    }

    /// Counts and logs a refused request. `head` names the host and the origin of one that was read.
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
        warn!(reason = reason.name(), host, origin, suppressed, remedy, "admin request refused");
    }
}

pub(super) struct Shared {
    pub(super) names: Names,
    pub(super) limits: Limits,
    pub(super) shards: Vec<ShardHandle>,
    pub(super) pool: PoolObserver,
    /// What each shard said last, for a scrape it misses: counters must not go back. Held while shards are asked, so that they
    /// are asked once at a time.
    pub(super) reports: Mutex<Vec<ShardReport>>,
    pub(super) refusals: Mutex<Refusals>,
    pub(super) connections: AtomicUsize,
    pub(super) draining: AtomicBool,
    pub(super) ended: AtomicBool,
}
