//! The listeners and the adopted connection of a shard.

use std::{os::fd::OwnedFd, sync::Arc};

use corelane_ring::{Listener, ListenerId, Ring};

use super::balance::ShardLoads;
use crate::config::Transport;

/// Token of the adopted connection in the events of the ring; there is at most one.
const ADOPTED: u64 = 0;

/// The sources of a shard's connections.
#[derive(Default)]
pub struct Sources {
    /// The listeners, each with the transport of its connections.
    pub listeners: Vec<(Listener, Transport)>,
    /// A connected socket with newline-delimited JSON. A shard with an adopted socket ends when the socket is closed.
    pub adopted: Option<OwnedFd>,
    /// The loads of all shards of the server, which hand connections over to each other. `None`: this shard neither takes nor gives
    /// any.
    pub loads: Option<Arc<ShardLoads>>,
}

impl Sources {
    /// Starts accepting. Returns the listeners and, in the same order, the transports of their connections.
    pub(super) fn open(self, ring: &mut Ring) -> (Vec<ListenerId>, Vec<Transport>) {
        if let Some(socket) = self.adopted {
            ring.adopt(socket, ADOPTED);
        }
        self.listeners.into_iter().map(|(listener, transport)| (ring.listen(listener), transport)).unzip()
    }
}
