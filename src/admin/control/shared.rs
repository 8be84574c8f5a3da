//! State that the threads of the control socket share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{super::sample::Sampler, refusals::ControlRefusals};
use crate::{
    config::Limits,
    memory::MemoryPressure,
    shard::{FlagControl, ShardHandle},
};

/// The drain of the server.
pub(crate) trait Drain: Send + Sync {
    /// Starts the drain, unless it has started. `signal`: its cause, if it was a signal. Returns whether this call has started it.
    fn start(&self, signal: Option<i32>) -> bool;

    /// Whether the drain has started.
    fn has_started(&self) -> bool;
}

/// How the server identifies itself.
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The addresses it listens on.
    pub(crate) listen: Vec<String>,
    pub(crate) admin: Option<String>,
}

/// Shared by all threads.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) started: Instant,
    pub(super) shards: Vec<ShardHandle>,
    pub(super) flags: FlagControl,
    pub(super) sampler: Arc<Sampler>,
    pub(super) limits: Limits,
    pub(super) pressure: MemoryPressure,
    /// The memory that the process may use, in bytes.
    pub(super) memory_max: u64,
    pub(super) drain: Arc<dyn Drain>,
    pub(super) refusals: Arc<ControlRefusals>,
    /// Open connections.
    connections: AtomicUsize,
    /// The accepting thread exits.
    pub(super) ended: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        identity: Identity,
        limits: Limits,
        sampler: Arc<Sampler>,
        drain: Arc<dyn Drain>,
        refusals: Arc<ControlRefusals>,
    ) -> Self {
        Self {
            identity,
            started: Instant::now(),
            shards: sampler.shards.clone(),
            flags: sampler.flags.clone(),
            limits,
            pressure: sampler.pressure.clone(),
            memory_max: sampler.memory_max,
            sampler,
            drain,
            refusals,
            connections: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        }
    }
}

/// The place of one connection, which is free again when this is dropped.
pub(super) struct Place(Arc<Shared>);

impl Place {
    /// Takes a place; `None` if all are taken.
    pub(super) fn take(shared: &Arc<Shared>) -> Option<Self> {
        // Only the accepting thread takes places.
        if shared.connections.load(Ordering::Acquire) >= shared.limits.control_connections_max {
            return None;
        }
        shared.connections.fetch_add(1, Ordering::AcqRel);
        Some(Self(Arc::clone(shared)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}
