//! Connections that leave for other shards, and those that arrive from them.

use corelane_ring::{Arrival, ListenerId, PeerAddress, SocketId};

use super::{
    Shard,
    balance::{Accepted, Leaving},
    connection_of,
};
use crate::{
    config::Transport,
    connection::{Phase, Receiving, Wire},
};

impl Shard {
    /// Serves a connection that has reached the ring, or hands it to the shard with the fewest.
    pub(super) fn on_arrival(
        &mut self,
        socket: SocketId,
        listener: ListenerId,
        arrival: Arrival,
        peer: Option<PeerAddress>,
    ) {
        let transport = self.transports.get(listener.index()).copied().unwrap_or(Transport::Http);
        let accepted = Accepted { peer, transport, listener };
        if arrival != Arrival::Accepted {
            self.balancer.arrived();
            self.on_accepted(socket, accepted, arrival);
            return;
        }
        if self.drain_until.is_some() {
            self.balancer.opened();
        } else if let Some((target, ring)) = self.balancer.choose(self.now) {
            if self.ring.hand_over(socket, &ring, listener, Arrival::HandedOver) {
                self.balancer.begin_leaving(socket, Leaving { target, accepted: Some(accepted) });
                return;
            }
            self.balancer.release(target);
            self.balancer.opened();
        }
        self.on_accepted(socket, accepted, arrival);
    }

    /// Serves the adopted connection.
    pub(super) fn on_connected(&mut self, socket: SocketId) {
        let accepted =
            Accepted { peer: None, transport: Transport::JsonLines, listener: ListenerId::default() };
        self.balancer.opened();
        self.on_accepted(socket, accepted, Arrival::Accepted);
    }

    pub(super) fn on_handed_over(&mut self, socket: SocketId) {
        let Some(leaving) = self.balancer.end_leaving(socket) else { return };
        if leaving.accepted.is_some() {
            self.pipeline.metrics().event("connection_handed_over");
            return;
        }
        self.pipeline.metrics().event("connection_moved");
        self.balancer.end_move(socket);
        if connection_of(&mut self.connections, socket).is_none() {
            return;
        }
        if let Some(connection) = self.connections.get_mut(socket.index()).and_then(Option::take) {
            self.pipeline.dispatcher.memory.release(socket);
            self.spare.keep(connection.out);
            self.remove_live();
        }
        self.timers.cancel(socket.index());
    }

    /// A connection stays, because it has sent its next request, or the other shard has no room or has ended.
    pub(super) fn on_hand_over_failed(&mut self, socket: SocketId) {
        let Some(leaving) = self.balancer.end_leaving(socket) else { return };
        self.balancer.release(leaving.target);
        if let Some(accepted) = leaving.accepted {
            self.balancer.opened();
            self.on_accepted(socket, accepted, Arrival::Accepted);
        }
    }

    /// Keeps a connection that is closed before it has left.
    pub(super) fn cancel_leaving(&mut self, socket: SocketId) {
        if self.balancer.is_leaving(socket)
            && self.ring.cancel_hand_over(socket)
            && let Some(leaving) = self.balancer.end_leaving(socket)
        {
            self.balancer.release(leaving.target);
        }
    }

    /// A connection of the table is closed, or has left.
    pub(super) fn remove_live(&mut self) {
        self.live -= 1;
        self.balancer.closed();
    }

    /// Moves the connection that was chosen at the end of the last window, if it is between two requests.
    pub(super) fn move_candidate(&mut self) {
        let Some(socket) = self.balancer.candidate() else { return };
        if self.pipeline.dispatcher.has_cohorts() {
            // Its cohorts depend on its shard.
            self.balancer.drop_candidate();
            return;
        }
        let Some(connection) = connection_of(&mut self.connections, socket) else {
            self.balancer.drop_candidate();
            return;
        };
        // Its last reply may still be on its way.
        let is_between = connection.json_lines.is_none()
            && connection.wire == Wire::Plain
            && connection.phase == Phase::Idle
            && connection.framer.buffered_bytes() == 0
            && connection.out.is_empty()
            && !(connection.is_dirty || connection.receiving != Receiving::Usual || connection.peer_closed);
        if !is_between {
            return;
        }
        let index = Some(usize::from(connection.listener)).filter(|index| *index < usize::from(u8::MAX));
        let Some(listener) = index.and_then(|index| self.listeners.get(index).copied()) else { return };
        let Some((target, ring)) = self.balancer.claim_for_candidate() else { return };
        if self.ring.hand_over(socket, &ring, listener, Arrival::Moved) {
            self.balancer.begin_leaving(socket, Leaving { target, accepted: None });
        } else {
            self.balancer.release(target);
        }
    }
}
