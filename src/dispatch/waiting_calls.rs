//! The calls of one shard that wait for another call of their connection.

use std::collections::{HashMap, VecDeque};

use corelane_ring::SocketId;

use crate::runtime::Ticket;

/// The waiting calls of one shard, by connection.
#[derive(Default)]
pub(super) struct WaitingCalls {
    by_connection: HashMap<SocketId, VecDeque<Ticket>>,
    /// Connections of which a call has ended since they were last looked at.
    ended: Vec<SocketId>,
}

impl WaitingCalls {
    pub(super) fn push(&mut self, connection: SocketId, ticket: Ticket) {
        self.by_connection.entry(connection).or_default().push_back(ticket);
    }

    /// Whether a call of the connection waits, or did and was cancelled.
    pub(super) fn has_any_of(&self, connection: SocketId) -> bool {
        self.by_connection.contains_key(&connection)
    }

    /// Records that a call of the connection has ended, or replies elsewhere.
    #[inline]
    pub(super) fn ended(&mut self, connection: Option<SocketId>) {
        if !self.by_connection.is_empty()
            && let Some(connection) = connection
            && self.has_any_of(connection)
        {
            self.ended.push(connection);
        }
    }

    /// A connection of which a call has ended.
    pub(super) fn take_ended(&mut self) -> Option<SocketId> {
        self.ended.pop()
    }

    /// The call of a connection that has waited the longest.
    pub(super) fn pop(&mut self, connection: SocketId) -> Option<Ticket> {
        let waiting = self.by_connection.get_mut(&connection)?;
        let ticket = waiting.pop_front();
        if waiting.is_empty() {
            self.by_connection.remove(&connection);
        }
        ticket
    }
}
