//! The input that a turn handles before its budget is used up, and the order in which connections go on after that.

use std::time::Instant;

use corelane_ring::{Event, SocketId};

use super::{Shard, connection_of};
use crate::{
    connection::{Delivered, Phase},
    delivery::AfterSend,
    runtime::Tick,
};

impl Shard {
    /// Handles events, and the input that earlier turns have left, until the turn's budget is used up. Returns whether there was
    /// anything.
    pub(super) fn handle_input(&mut self, events: &mut Vec<Event>) -> bool {
        // Otherwise new input would be handled first in every turn.
        let defers_input = !self.leftovers.is_empty();
        if defers_input {
            self.pipeline.dispatcher.budget.close();
        }
        let worked = defers_input || !events.is_empty();
        let mut events = events.drain(..);
        // A panic drops the connection concerned, and the other events are handled.
        while !self.guarded(None, |shard| {
            for event in &mut events {
                shard.handling = event.socket();
                shard.on_event(event);
            }
        }) {}
        if defers_input {
            self.pipeline.dispatcher.budget.open(Instant::now());
            self.handle_leftovers();
        }
        if !self.departed.is_empty() {
            self.remove_departed();
        }
        worked
    }

    /// Removes subscribers whose connections have closed, at least one, until the turn's budget is used up.
    #[cold]
    fn remove_departed(&mut self) {
        while let Some(subscriber) = self.departed.pop_front() {
            self.dispatcher().state.subscriptions.remove(subscriber);
            if self.dispatcher().budget.check() {
                break;
            }
        }
    }

    #[cold]
    fn handle_leftovers(&mut self) {
        while !self.pipeline.has_used_up_turn()
            && let Some((socket, since)) = self.leftovers.pop()
        {
            self.pipeline.dispatcher.stages.set_left_since(Some(since));
            self.guarded(Some(socket), |shard| {
                if shard.can_resume(socket) {
                    shard.resume(socket);
                } else {
                    shard.continue_batch(socket);
                }
            });
        }
        self.pipeline.dispatcher.stages.set_left_since(None);
    }

    /// Dispatches further messages of the batch that an HTTP connection waits for.
    fn continue_batch(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        match self.pipeline.continue_batch(connection) {
            Delivered::Dropped => {}
            Delivered::Partly => {
                if connection.deferred.has_rest() {
                    self.leave(socket);
                }
                self.after_part(socket, AfterSend::EndReply);
            }
            Delivered::Complete { keep_alive } => self.after_reply(socket, keep_alive),
        }
    }

    /// Buffers the received bytes of a connection until it is the turn of its peer.
    #[cold]
    pub(super) fn leave_input(&mut self, socket: SocketId, received: &[u8]) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.phase = Phase::Congested;
        if !connection.peer_closed {
            connection.deadline = Tick::NEVER;
        }
        // Closes the connection if the budget of memory is exceeded.
        self.hold(socket, received);
        self.leave(socket);
    }

    /// Lists a connection that may read its next request when it is the turn of its peer.
    #[cold]
    pub(super) fn leave(&mut self, socket: SocketId) {
        if let Some(connection) = connection_of(&mut self.connections, socket) {
            self.leftovers.push(socket, connection.peer, self.now);
        }
    }
}
