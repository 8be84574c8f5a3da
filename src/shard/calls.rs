//! Calls in flight on one shard.

use std::time::Instant;

use crate::{exec::Ticket, jsonrpc::OwnedId, registry::Revision, ring::SocketId};

/// What is needed to answer a call when it ends.
pub struct PendingCall {
    /// Who waits for it.
    pub socket: SocketId,
    pub(super) id: OwnedId,
    pub(super) revision: Revision,
    pub(super) started: Instant,
    pub(super) keep_alive: bool,
    pub(super) http_1_0: bool,
}

/// A bounded slab of pending calls.
pub(super) struct Calls {
    calls: Vec<Option<PendingCall>>,
    free: Vec<u32>,
    capacity: usize,
}

impl Calls {
    pub(super) fn new(capacity: usize) -> Self {
        Self { calls: Vec::new(), free: Vec::new(), capacity }
    }

    /// Files a call; `None` when as many are in flight as may be.
    pub(super) fn insert(&mut self, call: PendingCall) -> Option<Ticket> {
        if let Some(index) = self.free.pop() {
            *self.calls.get_mut(index as usize)? = Some(call);
            return Some(Ticket(index));
        }
        if self.calls.len() >= self.capacity {
            return None;
        }
        let index = u32::try_from(self.calls.len()).ok()?;
        self.calls.push(Some(call));
        Some(Ticket(index))
    }

    /// Takes a call out.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<PendingCall> {
        let call = self.calls.get_mut(ticket.0 as usize)?.take()?;
        self.free.push(ticket.0);
        Some(call)
    }

    /// How many calls are in flight.
    pub(super) fn len(&self) -> usize {
        self.calls.len() - self.free.len()
    }
}
