//! What an answer depends on besides the message.

use super::sessions::Sessions;
use crate::{config::Limits, registry::Snapshot};

/// What answering depends on besides the message.
pub struct World<'a, 's> {
    /// What is offered.
    pub snapshot: &'a Snapshot,
    /// What is known of legacy sessions; also what signs.
    pub sessions: &'s mut Sessions,
    /// Seconds since 1970.
    pub now: u64,
    /// Bytes nobody can guess.
    pub entropy: &'s mut dyn FnMut() -> [u8; 16],
    /// Every bound.
    pub limits: &'s Limits,
}
