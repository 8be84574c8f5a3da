//! Rejected requests and connections of the control socket, counted by reason.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use strum::VariantArray;
use tracing::warn;

use crate::telemetry::log::RateLimit;

/// Why a request or a connection was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "control_")]
pub(super) enum Refusal {
    /// The client is neither of the server's user nor root.
    PeerForbidden,
    /// Too many connections.
    ConnectionsMax,
    /// The request line is too long.
    RequestTooLong,
    /// The request line did not arrive in time.
    Timeout,
    /// The line is not a request.
    RequestInvalid,
    /// The command cannot be executed.
    CommandFailed,
}

/// Log lines of one reason in a second.
const LINES_PER_SECOND_MAX: u32 = 1;

/// The counts.
pub(crate) struct ControlRefusals {
    counts: [AtomicU64; Refusal::VARIANTS.len()],
    log: Mutex<RateLimit>,
}

impl Default for ControlRefusals {
    fn default() -> Self {
        Self { counts: Default::default(), log: Mutex::new(RateLimit::new(LINES_PER_SECOND_MAX)) }
    }
}

impl ControlRefusals {
    /// Counts and logs a rejection.
    pub(super) fn add(&self, refusal: Refusal, detail: &str) {
        if let Some(count) = self.counts.get(refusal as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let reason: &'static str = refusal.into();
        let admitted = self.log.lock().unwrap_or_else(PoisonError::into_inner).admit(reason, Instant::now());
        if let Some(suppressed) = admitted {
            let suppressed = (suppressed > 0).then_some(suppressed);
            warn!(reason, suppressed, "control request rejected: {detail}");
        }
    }

    /// Each reason with its count.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::VARIANTS
            .iter()
            .map(|refusal| refusal.into())
            .zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}
