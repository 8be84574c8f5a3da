//! What a fault is.

use super::{
    observation::{Failure, Observation},
    scene::Scene,
};
use crate::attack::bystander::Bystander;

/// A setting of the configuration: table, key and value as in TOML.
pub(super) type Setting = (&'static str, &'static str, &'static str);

/// Injects a fault into a server that serves the bystander, ends it, and observes the server until it has recovered.
pub(super) type Inject = fn(&Scene<'_>) -> Result<Observation, Failure>;

/// A fault.
pub struct Fault {
    /// Its name on the command line.
    pub id: &'static str,
    /// What happens.
    pub description: &'static str,
    /// Settings of the server that differ from the defaults.
    pub(super) settings: &'static [Setting],
    pub(super) shards: u32,
    pub(super) bystander: Bystander,
    pub(super) log: Log,
    /// Whether the threads of the fault have a lower priority than the bystander, whose core they use.
    pub(super) is_background: bool,
    /// Why this machine or this user does not permit the fault, if so.
    pub(super) permitted: fn() -> Result<(), String>,
    pub(super) inject: Inject,
}

/// The log of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// As always.
    Plain,
    /// One that panics at a slow turn of [`fault_injection::TOOL`](crate::fault_injection::TOOL), which ends the shard.
    Panicking,
    /// On a small file system of its own.
    SmallDisk,
}

impl Fault {
    /// A fault of a server with one shard, the default settings and a bystander of canonical requests.
    pub(super) fn new(id: &'static str, description: &'static str, inject: Inject) -> Self {
        Self {
            id,
            description,
            settings: &[],
            shards: 1,
            bystander: Bystander::Canonical,
            log: Log::Plain,
            is_background: true,
            permitted: || Ok(()),
            inject,
        }
    }
}
