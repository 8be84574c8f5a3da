//! The inputs of the router besides the message.

use super::sessions::Sessions;
use crate::{config::Limits, registry::Snapshot};

/// The inputs of the router besides the message.
pub struct RouterContext<'a, 's> {
    /// The registry.
    pub snapshot: &'a Snapshot,
    /// The records of legacy sessions, and the signing key.
    pub sessions: &'s mut Sessions,
    /// The time, in seconds since 1970.
    pub now: u64,
    /// A source of unguessable bytes.
    pub entropy: &'s mut dyn FnMut() -> [u8; 16],
    /// The configured limits.
    pub limits: &'s Limits,
}
