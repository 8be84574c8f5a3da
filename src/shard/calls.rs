//! Calls in flight on one shard.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::timers::{Tick, Timers};
use crate::{
    exec::{Cancel, Ticket},
    jsonrpc::OwnedId,
    registry::{RegisteredTool, Revision},
    ring::SocketId,
};

/// What is needed to answer a call when it ends.
pub struct PendingCall {
    /// Who waits for it.
    pub socket: SocketId,
    pub(super) tool: Arc<RegisteredTool>,
    pub(super) id: OwnedId,
    pub(super) revision: Revision,
    pub(super) started: Instant,
    pub(super) exchange: Exchange<Box<[u8]>>,
}

/// What the reply's head depends on.
#[derive(Clone, Copy)]
pub(super) struct Exchange<Origin> {
    pub(super) keep_alive: bool,
    pub(super) http_1_0: bool,
    /// The web page that asks, if one does; it is an allowed one.
    pub(super) origin: Option<Origin>,
}

enum Entry {
    Free,
    /// Filed, and not started yet.
    Filed(PendingCall),
    Running(PendingCall, Cancel),
    /// Nobody waits for it any more. It keeps its place until it has ended, for until then it takes up a thread or a place
    /// in a queue.
    Abandoned,
}

/// A bounded slab of pending calls, with their deadlines.
pub(super) struct Calls {
    entries: Vec<Entry>,
    free: Vec<u32>,
    capacity: usize,
    timers: Timers,
    due: Vec<usize>,
}

impl Calls {
    pub(super) fn new(capacity: usize, now: Instant) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            capacity,
            timers: Timers::new(now, capacity),
            due: Vec::new(),
        }
    }

    /// Files a call; `None` when as many are in flight as may be.
    pub(super) fn insert(&mut self, call: PendingCall) -> Option<Ticket> {
        if let Some(index) = self.free.pop() {
            *self.entries.get_mut(index as usize)? = Entry::Filed(call);
            return Some(Ticket(index));
        }
        if self.entries.len() >= self.capacity {
            return None;
        }
        let index = u32::try_from(self.entries.len()).ok()?;
        self.entries.push(Entry::Filed(call));
        Some(Ticket(index))
    }

    /// The call runs: it can be cancelled, and will be after `deadline`.
    pub(super) fn run(&mut self, ticket: Ticket, cancel: Cancel, now: Instant, deadline: Duration) {
        let index = ticket.0 as usize;
        if let Some(entry) = self.entries.get_mut(index)
            && let Entry::Filed(call) = std::mem::replace(entry, Entry::Free)
        {
            *entry = Entry::Running(call, cancel);
            self.timers.schedule(index, self.timers.tick_after(now, deadline));
        }
    }

    /// Takes out a call that has ended; `None` if nobody waits for it any more.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<PendingCall> {
        let index = ticket.0 as usize;
        let entry = std::mem::replace(self.entries.get_mut(index)?, Entry::Free);
        if matches!(entry, Entry::Free) {
            return None;
        }
        self.timers.cancel(index);
        self.free.push(ticket.0);
        match entry {
            Entry::Filed(call) | Entry::Running(call, _) => Some(call),
            Entry::Free | Entry::Abandoned => None,
        }
    }

    /// The call, if somebody waits for it.
    pub(super) fn get(&self, ticket: Ticket) -> Option<&PendingCall> {
        match self.entries.get(ticket.0 as usize)? {
            Entry::Filed(call) | Entry::Running(call, _) => Some(call),
            Entry::Free | Entry::Abandoned => None,
        }
    }

    /// Cancels a call that runs: from here on nobody waits for it.
    pub(super) fn abandon(&mut self, ticket: Ticket) -> Option<PendingCall> {
        let entry = self.entries.get_mut(ticket.0 as usize)?;
        if !matches!(entry, Entry::Running(..)) {
            return None;
        }
        match std::mem::replace(entry, Entry::Abandoned) {
            Entry::Running(call, cancel) => {
                cancel.cancel();
                Some(call)
            }
            _ => None,
        }
    }

    /// A call whose deadline has passed: cancelled.
    pub(super) fn next_overdue(&mut self, now: Instant) -> Option<(Ticket, PendingCall)> {
        if self.due.is_empty() {
            self.timers.expire(now, &mut self.due);
        }
        while let Some(index) = self.due.pop() {
            let ticket = Ticket(u32::try_from(index).ok()?);
            let (started, deadline) = match self.get(ticket) {
                Some(call) => (call.started, call.tool.deadline()),
                None => continue,
            };
            if now.saturating_duration_since(started) >= deadline {
                return self.abandon(ticket).map(|call| (ticket, call));
            }
            // Beyond the wheel's horizon, or another call by now.
            let at: Tick = self.timers.tick_after(started, deadline);
            self.timers.schedule(index, at);
        }
        None
    }

    /// When [`Calls::next_overdue`] will next have something, if ever.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// How many calls are in flight.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}
