//! Where a shard's connections come from.

use std::os::fd::OwnedFd;

use corelane_ring::{Listener, ListenerId, Ring};

use crate::config::Transport;

/// The name of the adopted connection in its ring's events: there is one at most.
const ADOPTED: u64 = 0;

/// Where a shard's connections come from.
#[derive(Default)]
pub struct Sources {
    /// Each with what the connections it accepts speak.
    pub listeners: Vec<(Listener, Transport)>,
    /// A connected socket whose peer speaks newline-delimited JSON. A shard that is given one ends when it is closed.
    pub adopted: Option<OwnedFd>,
}

impl Sources {
    /// Lets the ring accept. Returns the listeners, and by their order what their connections speak.
    pub(super) fn open(self, ring: &mut Ring) -> (Vec<ListenerId>, Vec<Transport>) {
        if let Some(socket) = self.adopted {
            ring.adopt(socket, ADOPTED);
        }
        self.listeners.into_iter().map(|(listener, transport)| (ring.listen(listener), transport)).unzip()
    }
}
