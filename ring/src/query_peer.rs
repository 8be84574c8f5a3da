//! The peer's address of an accepted connection.
//!
//! A direct descriptor has no number that `getpeername(2)` accepts, and a multishot accept returns no address. The ring queries the
//! socket option `SO_PEERNAME` instead, by `SOCKET_URING_OP_GETSOCKOPT` (Linux 6.7): one entry per accepted connection, submitted
//! with the entries of the next turn. The connection gets its tenant, and its receive, when the query has completed, so
//! [`Event::Accepted`] carries the address and precedes every received byte.

use super::{
    event::{Arrival, Event},
    operation::{Kind, Tag},
    peer::PeerAddress,
    peer_queries::name_query,
    ring::Ring,
    slots::ListenerId,
};

impl Ring {
    /// Gives an accepted connection its tenant, once the peer's address is there where it has one.
    pub(super) fn accept_from_peer(
        &mut self,
        listener: ListenerId,
        slot: u32,
        arrival: Arrival,
        events: &mut Vec<Event>,
    ) {
        let name_bytes = self.listeners.get(listener.index()).map_or(0, |listener| listener.peer_name_bytes);
        if name_bytes == 0 || !self.peer_queries.supported {
            self.report_accepted(listener, slot, arrival, None, events);
            return;
        }
        let (key, name) = self.peer_queries.begin((listener, slot, arrival), name_bytes);
        self.push(name_query(slot, name, name_bytes), Tag::new(Kind::PeerName, key, 0));
    }

    /// A connection whose address is not available, such as that of a peer whose source port is 0, is accepted without it.
    pub(super) fn complete_peer_name(&mut self, key: u32, result: i32, events: &mut Vec<Event>) {
        if let Some(((listener, slot, arrival), peer)) = self.peer_queries.finish(key, result) {
            self.report_accepted(listener, slot, arrival, peer, events);
        }
    }

    pub(super) fn report_accepted(
        &mut self,
        listener: ListenerId,
        slot: u32,
        arrival: Arrival,
        peer: Option<PeerAddress>,
        events: &mut Vec<Event>,
    ) {
        let socket = self.admit(slot, events);
        if !self.holds_accepted {
            self.arm_receive(socket);
        }
        events.push(Event::Accepted { listener, arrival, socket, peer });
    }

    /// Leaks the memory that the kernel may still write to.
    pub(super) fn forget_peer_queries(&mut self) {
        std::mem::forget(std::mem::take(&mut self.peer_queries));
    }
}
