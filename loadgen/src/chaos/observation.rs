//! What a fault has shown of the server.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// Why a fault has no observation.
#[derive(Debug)]
pub(super) enum Failure {
    /// This machine or this user does not permit the fault.
    NotPermitted(String),
    /// The fault could not be injected, or the server did not answer.
    Failed(String),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(format!("the fault could not be injected: {error}"))
    }
}

/// The observation of one fault.
#[derive(Debug)]
pub(super) struct Observation {
    /// When the fault began.
    pub(super) injected: Instant,
    /// Time from then until the server showed the fault; `None` if it did not.
    pub(super) detected: Option<Duration>,
    /// The metric, log line or reply that showed it.
    pub(super) shown_by: &'static str,
    /// How the server refused: an HTTP status, a JSON-RPC code, a reason of `corelane_refusals_total`.
    pub(super) refusal: &'static str,
    /// What else the server did than the right thing; the first of it.
    pub(super) wrong: Option<String>,
    /// Time from the end of the fault until the server served as before; `None` if it did not.
    pub(super) recovered: Option<Duration>,
    /// Calls of the faulty client, and of the clients that the fault itself adds, that got neither a result nor a refusal.
    pub(super) lost: u64,
    /// Why the first of them was lost.
    pub(super) first_loss: Option<String>,
    /// Calls in flight of the bystander that the fault itself aborts, at most: one on each connection of a shard that fails.
    pub(super) aborts_max: u64,
    /// How a neighbour was hurt, beyond what the bystander shows.
    pub(super) hurt: Option<String>,
}

impl Observation {
    /// The observation of a fault that begins now.
    pub(super) fn new(shown_by: &'static str, refusal: &'static str) -> Self {
        Self {
            injected: Instant::now(),
            detected: None,
            shown_by,
            refusal,
            wrong: None,
            recovered: None,
            lost: 0,
            first_loss: None,
            aborts_max: 0,
            hurt: None,
        }
    }

    /// Records when the server showed the fault.
    pub(super) fn shown_at(&mut self, at: Option<Instant>) {
        self.detected = at.map(|at| at.saturating_duration_since(self.injected));
    }

    /// Records that the server did something else than the right thing.
    pub(super) fn wrong(&mut self, reason: impl Into<String>) {
        self.wrong.get_or_insert_with(|| reason.into());
    }

    /// Records calls that got neither a result nor a refusal.
    pub(super) fn lost(&mut self, calls: u64, reason: &impl Display) {
        self.lost += calls;
        self.first_loss.get_or_insert_with(|| reason.to_string());
    }
}
