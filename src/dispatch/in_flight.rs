//! Calls in flight on one shard, and requests that await responses of other shards.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher,
    sync::Arc,
    time::{Duration, Instant},
};

use corelane_ring::{PeerAddress, SocketId};
use foldhash::fast::RandomState;

use super::{
    ReplyTo,
    orphans::Orphans,
    pending::{PendingCall, RemoteRequest},
    waiting_calls::WaitingCalls,
};
use crate::{
    call::{ClientChannel, FirstUse, Kind},
    config::Limits,
    jsonrpc::OwnedId,
    mcp::SessionKey,
    memory::COUNTED_MIN,
    peer::{NoRoom, PeerKey, Shares},
    runtime::{Cancel, Tick, Ticket, Timers, instant_after},
};

/// Maximum time for the response of another shard.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(5);

enum State {
    Free,
    /// A call that has a slot and has not started.
    Filed(PendingCall),
    Running(PendingCall, Cancel, Arc<ClientChannel>),
    /// A cancelled call. It keeps its slot until it has ended, because it occupies a thread or a place in a queue until then.
    Cancelled,
    Remote(RemoteRequest),
}

struct Entry {
    state: State,
    generation: u32,
    /// The peer that the slot is counted for.
    peer: PeerKey,
    /// Bytes of the request that are counted for the peer.
    bytes: u64,
    /// The number of a running call whose connection has closed.
    orphan: Option<u64>,
    /// The key of a running call in the index, if a client can cancel it by its id.
    hash: Option<u64>,
    /// The key in the index for the connection of the call, if that can have several.
    connection_hash: Option<u64>,
}

/// A bounded slab of pending calls, with their deadlines.
pub(crate) struct InFlightCalls {
    entries: Vec<Entry>,
    free_slots: Vec<u32>,
    /// The slots in use by peer.
    shares: Shares,
    /// The bytes of their requests by peer.
    byte_shares: Shares,
    /// Running calls whose connection has closed.
    orphans: Orphans,
    /// The generation of new slots.
    first_generation: u32,
    timers: Timers,
    due: Vec<usize>,
    /// Slots of running calls, by the hash of session or connection and request id, which a cancellation contains; those of
    /// newline-delimited connections and of batches also by the hash of the connection. Lookups compare the values because hashes collide.
    index: BTreeSet<(u64, u32)>,
    hasher: RandomState,
    /// Running calls that wait for another one of their connection.
    pub(super) waiting: WaitingCalls,
}

/// A call or request past its deadline.
pub(crate) enum Overdue {
    Call(Ticket, PendingCall),
    Remote(Ticket, RemoteRequest),
}

impl InFlightCalls {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        let capacity = limits.calls_in_flight_max;
        let orphans_max = capacity.saturating_mul(limits.peer_orphans_percent as usize) / 100;
        Self {
            entries: Vec::new(),
            free_slots: Vec::new(),
            shares: Shares::new(capacity as u64, limits.peer_share_percent),
            byte_shares: Shares::new(limits.calls_bytes_max as u64, limits.peer_share_percent),
            orphans: Orphans::new(orphans_max),
            first_generation: 0,
            timers: Timers::new(now, capacity),
            due: Vec::new(),
            index: BTreeSet::new(),
            hasher: RandomState::default(),
            waiting: WaitingCalls::default(),
        }
    }

    fn allocate(
        &mut self,
        state: State,
        peer: Option<PeerAddress>,
        request_bytes: usize,
    ) -> Result<Ticket, NoRoom> {
        let peer = PeerKey::new(peer);
        let bytes = if request_bytes < COUNTED_MIN { 0 } else { request_bytes as u64 };
        let index = match self.free_slots.last() {
            Some(index) => *index,
            None => u32::try_from(self.entries.len()).map_err(|_| NoRoom::Full)?,
        };
        self.shares.take(peer, 1)?;
        if let Err(reason) = self.byte_shares.take(peer, bytes) {
            self.shares.give(peer, 1);
            return Err(reason);
        }
        if self.free_slots.pop().is_none() {
            let (hash, connection_hash, orphan) = (None, None, None);
            let generation = self.first_generation;
            self.entries.push(Entry { state, generation, peer, bytes, orphan, hash, connection_hash });
            return Ok(Ticket { index, generation });
        }
        let entry = self.entries.get_mut(index as usize).ok_or(NoRoom::Full)?;
        (entry.state, entry.peer, entry.bytes) = (state, peer, bytes);
        Ok(Ticket { index, generation: entry.generation })
    }

    /// Makes tickets differ from those of the shards of this number that have failed, whose responses may come late.
    pub(super) fn set_life(&mut self, life: u32) {
        self.first_generation = life << 24;
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(ticket.index as usize)?;
        (entry.generation == ticket.generation).then_some(entry)
    }

    /// Allocates a slot for a call, whose request has `request_bytes`.
    ///
    /// # Errors
    /// The maximum number of calls is in flight, or the peer has its share of them, or of their bytes.
    pub(crate) fn insert(&mut self, call: PendingCall, request_bytes: usize) -> Result<Ticket, NoRoom> {
        let peer = call.peer;
        self.allocate(State::Filed(call), peer, request_bytes)
    }

    /// The use of a request state by a call, whether it runs or not.
    pub(crate) fn first_use(&mut self, ticket: Ticket) -> Option<&FirstUse> {
        match &self.entry(ticket)?.state {
            State::Filed(call) | State::Running(call, ..) => call.state.as_ref()?.first_use.as_deref(),
            _ => None,
        }
    }

    /// Allocates a slot for a request to other shards.
    ///
    /// # Errors
    /// As for [`Self::insert`].
    pub(crate) fn insert_remote(&mut self, remote: RemoteRequest, now: Instant) -> Result<Ticket, NoRoom> {
        let peer = remote.peer;
        let ticket = self.allocate(State::Remote(remote), peer, 0)?;
        self.timers.schedule(ticket.index as usize, self.timers.tick_after(now, REMOTE_TIMEOUT));
        Ok(ticket)
    }

    /// Whether a call of a newline-delimited connection awaits a response of the client.
    pub(crate) fn has_open_question(&self, line: SocketId) -> bool {
        self.running_of(line).any(|(_, call)| !call.questions.is_empty())
    }

    /// The running calls of a newline-delimited connection, or of a batch.
    pub(super) fn running_of(&self, connection: SocketId) -> impl Iterator<Item = (Ticket, &PendingCall)> {
        let hash = self.hasher.hash_one(connection);
        self.index.range((hash, 0)..=(hash, u32::MAX)).filter_map(move |&(_, index)| {
            let entry = self.entries.get(index as usize)?;
            match &entry.state {
                State::Running(call, ..) if call.reply_to.socket() == Some(connection) => {
                    Some((Ticket { index, generation: entry.generation }, call))
                }
                _ => None,
            }
        })
    }

    /// Marks a call as running: it can be cancelled, and is cancelled at its deadline.
    pub(crate) fn run(&mut self, ticket: Ticket, cancel: Cancel, channel: Arc<ClientChannel>, now: Instant) {
        let Some(entry) = self.entry(ticket) else { return };
        if let State::Filed(call) = std::mem::replace(&mut entry.state, State::Free) {
            let after = call.deadline.saturating_duration_since(now);
            // Only calls of a session or of a newline-delimited connection can be cancelled by id.
            let line = if let ReplyTo::JsonLines(socket) = call.reply_to { Some(socket) } else { None };
            let hash = (call.session.is_some() || line.is_some()).then(|| {
                self.hasher.hash_one((call.session, line.filter(|_| call.session.is_none()), &call.id))
            });
            let connection = if call.in_batch { call.reply_to.socket() } else { line };
            let connection_hash = connection.map(|connection| self.hasher.hash_one(connection));
            if let Some(entry) = self.entry(ticket) {
                (entry.hash, entry.connection_hash) = (hash, connection_hash);
                entry.state = State::Running(call, cancel, channel);
            }
            self.index.extend(hash.into_iter().chain(connection_hash).map(|hash| (hash, ticket.index)));
            self.timers.schedule(ticket.index as usize, self.timers.tick_after(now, after));
        }
    }

    /// Replaces the cancellation handle and the channel of a running call, whose handler starts after validation.
    pub(crate) fn replace_running(&mut self, ticket: Ticket, cancel: Cancel, channel: Arc<ClientChannel>) {
        let Some(entry) = self.entry(ticket) else { return };
        match std::mem::replace(&mut entry.state, State::Free) {
            State::Running(call, ..) => entry.state = State::Running(call, cancel, channel),
            other => entry.state = other,
        }
    }

    /// Changes the deadline of a call.
    pub(crate) fn set_deadline(&mut self, ticket: Ticket, now: Instant, deadline: Instant) {
        if let Some(call) = self.get_mut(ticket) {
            call.deadline = deadline;
            let after = deadline.saturating_duration_since(now);
            self.timers.schedule(ticket.index as usize, self.timers.tick_after(now, after));
        }
    }

    /// Moves the deadlines of all calls and requests by the length of a pause in which none of their ends could be observed.
    pub(crate) fn postpone(&mut self, by: Duration) {
        self.timers.postpone(by);
        for entry in &mut self.entries {
            if let State::Filed(call) | State::Running(call, ..) = &mut entry.state {
                call.deadline = instant_after(call.deadline, by);
            }
        }
    }

    fn unindex(&mut self, index: u32, hashes: [Option<u64>; 2]) {
        for hash in hashes.into_iter().flatten() {
            self.index.remove(&(hash, index));
        }
    }

    /// Frees a slot and returns its state.
    fn free(&mut self, ticket: Ticket) -> Option<State> {
        self.adopt_orphan(ticket);
        let entry = self.entry(ticket)?;
        let state = std::mem::replace(&mut entry.state, State::Free);
        match &state {
            State::Free => return None,
            State::Filed(call) | State::Running(call, ..) => self.waiting.ended(call.reply_to.socket()),
            State::Cancelled | State::Remote(_) => {}
        }
        let entry = self.entry(ticket)?;
        entry.generation = entry.generation.wrapping_add(1);
        let hashes = [entry.hash.take(), entry.connection_hash.take()];
        let (peer, bytes) = (entry.peer, std::mem::take(&mut entry.bytes));
        self.shares.give(peer, 1);
        self.byte_shares.give(peer, bytes);
        self.unindex(ticket.index, hashes);
        self.timers.cancel(ticket.index as usize);
        self.free_slots.push(ticket.index);
        Some(state)
    }

    /// Frees the slot of a call that has ended and returns the call; `None` if the call was cancelled.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<(PendingCall, Option<Arc<ClientChannel>>)> {
        match self.free(ticket)? {
            State::Filed(call) => Some((call, None)),
            State::Running(call, _, channel) => {
                channel.close();
                Some((call, Some(channel)))
            }
            State::Free | State::Cancelled | State::Remote(_) => None,
        }
    }

    /// Records the response of one shard; returns the request when all shards have responded.
    pub(crate) fn take_complete(&mut self, ticket: Ticket) -> Option<RemoteRequest> {
        match &mut self.entry(ticket)?.state {
            State::Remote(remote) => {
                remote.left = remote.left.saturating_sub(1);
                if remote.left > 0 {
                    return None;
                }
            }
            _ => return None,
        }
        match self.free(ticket)? {
            State::Remote(remote) => Some(remote),
            _ => None,
        }
    }

    /// Frees the slot of a request to other shards. Their responses are ignored.
    pub(crate) fn free_remote(&mut self, ticket: Ticket) {
        self.free(ticket);
    }

    /// The call, unless it was cancelled or has ended.
    pub(crate) fn get(&self, ticket: Ticket) -> Option<&PendingCall> {
        let entry = self.entries.get(ticket.index as usize)?;
        match &entry.state {
            State::Filed(call) | State::Running(call, ..) if entry.generation == ticket.generation => {
                Some(call)
            }
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut PendingCall> {
        match &mut self.entry(ticket)?.state {
            State::Filed(call) | State::Running(call, ..) => Some(call),
            State::Free | State::Cancelled | State::Remote(_) => None,
        }
    }

    /// The channel of a running call.
    pub(crate) fn channel(&mut self, ticket: Ticket) -> Option<&Arc<ClientChannel>> {
        match &self.entry(ticket)?.state {
            State::Running(_, _, channel) => Some(channel),
            _ => None,
        }
    }

    /// The running call with this id, of a session or of a newline-delimited connection.
    pub(crate) fn find(
        &self,
        session: Option<SessionKey>,
        line: Option<SocketId>,
        id: &OwnedId,
    ) -> Option<Ticket> {
        let hash = self.hasher.hash_one((session, line.filter(|_| session.is_none()), id));
        self.index.range((hash, 0)..=(hash, u32::MAX)).find_map(|(_, index)| {
            let entry = self.entries.get(*index as usize)?;
            match &entry.state {
                State::Running(call, ..)
                    if call.id == *id
                        && call.session == session
                        && (line.is_none() || call.reply_to.socket() == line) =>
                {
                    Some(Ticket { index: *index, generation: entry.generation })
                }
                _ => None,
            }
        })
    }

    /// The calls and requests whose reply goes to a connection. Iterates over all slots.
    pub(crate) fn of_socket(&self, socket: SocketId) -> Vec<Ticket> {
        let of_socket = |(index, entry): (usize, &Entry)| {
            let reply_to = match &entry.state {
                State::Filed(call) | State::Running(call, ..) => &call.reply_to,
                State::Remote(remote) => &remote.reply_to,
                State::Free | State::Cancelled => return None,
            };
            let is_waiting = reply_to.socket() == Some(socket);
            is_waiting.then_some(Ticket { index: u32::try_from(index).ok()?, generation: entry.generation })
        };
        self.entries.iter().enumerate().filter_map(of_socket).collect()
    }

    /// Cancels a running call, or frees the slot of one that does not run, because its reply has no recipient.
    pub(crate) fn cancel_or_free(&mut self, ticket: Ticket) {
        if self.cancel(ticket).is_none() {
            self.free(ticket);
        }
    }

    /// The tickets of the running calls of a newline-delimited connection, or of a batch.
    pub(crate) fn of_connection(&self, connection: SocketId) -> Vec<Ticket> {
        self.running_of(connection).map(|(ticket, _)| ticket).collect()
    }

    /// Records that the connection of a running call has closed, and that the call goes on.
    pub(crate) fn orphan(&mut self, ticket: Ticket) {
        let Some(entry) = self.entry(ticket) else { return };
        if entry.orphan.is_some() || !matches!(entry.state, State::Running(..)) {
            return;
        }
        let peer = entry.peer;
        let number = self.orphans.insert(peer, ticket.index);
        if let Some(entry) = self.entry(ticket) {
            entry.orphan = Some(number);
        }
    }

    /// Records that the call has a connection again, or has ended.
    pub(crate) fn adopt_orphan(&mut self, ticket: Ticket) {
        let Some(entry) = self.entry(ticket) else { return };
        if let Some(number) = entry.orphan.take() {
            let peer = entry.peer;
            self.orphans.remove(peer, number, ticket.index);
        }
    }

    /// The oldest call without a connection of a call's peer, if that has more of them than allowed.
    pub(crate) fn excess_orphan(&self, ticket: Ticket) -> Option<Ticket> {
        let index = self.orphans.excess(self.entries.get(ticket.index as usize)?.peer)?;
        Some(Ticket { index, generation: self.entries.get(index as usize)?.generation })
    }

    /// The running calls, and the requests that await responses of other shards. Iterates over all slots.
    pub(crate) fn unanswered(&self) -> Vec<Ticket> {
        let ticket = |(index, entry): (usize, &Entry)| {
            let is_unanswered = matches!(entry.state, State::Running(..) | State::Remote(_));
            let index = u32::try_from(index).ok().filter(|_| is_unanswered)?;
            Some(Ticket { index, generation: entry.generation })
        };
        self.entries.iter().enumerate().filter_map(ticket).collect()
    }

    /// Frees the slot of a request to other shards and returns the request, if the ticket is one of these.
    pub(crate) fn take_remote(&mut self, ticket: Ticket) -> Option<RemoteRequest> {
        if !matches!(self.entry(ticket)?.state, State::Remote(_)) {
            return None;
        }
        match self.free(ticket)? {
            State::Remote(remote) => Some(remote),
            _ => None,
        }
    }

    /// Cancels a running call and returns it; `None` if it does not run. Its slot is freed when its handler returns.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> Option<PendingCall> {
        self.adopt_orphan(ticket);
        let entry = self.entry(ticket)?;
        if !matches!(entry.state, State::Running(..)) {
            return None;
        }
        let state = std::mem::replace(&mut entry.state, State::Cancelled);
        let hashes = [entry.hash.take(), entry.connection_hash.take()];
        self.unindex(ticket.index, hashes);
        match state {
            State::Running(call, cancel, channel) => {
                channel.close();
                cancel.cancel();
                self.waiting.ended(call.reply_to.socket());
                Some(call)
            }
            _ => None,
        }
    }

    /// The next call past its deadline, which is cancelled, or the next request without a response in time.
    pub(crate) fn next_overdue(&mut self, now: Instant) -> Option<Overdue> {
        if self.due.is_empty() {
            self.timers.expire(now, &mut self.due);
        }
        while let Some(index) = self.due.pop() {
            let Some(entry) = self.entries.get(index) else { continue };
            let ticket = Ticket { index: u32::try_from(index).ok()?, generation: entry.generation };
            let deadline = match &entry.state {
                State::Remote(remote) => remote.started + REMOTE_TIMEOUT,
                State::Filed(call) | State::Running(call, ..) => call.deadline,
                State::Free | State::Cancelled => continue,
            };
            if now < deadline {
                // The deadline is beyond the horizon of the timer wheel, or the slot has been reused.
                let at: Tick = self.timers.tick_after(now, deadline - now);
                self.timers.schedule(index, at);
                continue;
            }
            if matches!(entry.state, State::Remote(_)) {
                if let Some(State::Remote(remote)) = self.free(ticket) {
                    return Some(Overdue::Remote(ticket, remote));
                }
                continue;
            }
            return self.cancel(ticket).map(|call| Overdue::Call(ticket, call));
        }
        None
    }

    /// Earliest time at which [`InFlightCalls::next_overdue`] can return a call; `None` without a deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether calls of a peer are in flight.
    pub(crate) fn has_calls_of(&self, peer: Option<PeerAddress>) -> bool {
        self.shares.of(PeerKey::new(peer)) > 0
    }

    /// Number of calls of each tool that has any, sorted by name. Iterates over all slots.
    pub(crate) fn by_tool(&self) -> Vec<(Arc<str>, usize)> {
        let mut counts = BTreeMap::<&Arc<str>, usize>::new();
        for entry in &self.entries {
            if let State::Filed(call) | State::Running(call, ..) = &entry.state
                && call.callable.kind() == Kind::Tool
            {
                *counts.entry(call.callable.shared_name()).or_default() += 1;
            }
        }
        counts.into_iter().map(|(name, count)| (Arc::clone(name), count)).collect()
    }

    /// Number of slots in use.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free_slots.len()
    }

    /// Asserts that the free slots are exactly the entries without a call, and that the index names running calls only. Takes time in
    /// proportion to the table.
    #[cfg(test)]
    fn check_invariants(&self) {
        let mut free: Vec<u32> = self.free_slots.clone();
        free.sort_unstable();
        free.dedup();
        assert_eq!(free.len(), self.free_slots.len(), "a slot is free twice");
        let is_free = |entry: &&Entry| matches!(entry.state, State::Free);
        assert_eq!(self.entries.iter().filter(is_free).count(), free.len(), "a free slot is not listed");
        let is_listed_free = |index: &u32| {
            self.entries.get(*index as usize).is_some_and(|entry| matches!(entry.state, State::Free))
        };
        assert!(free.iter().all(is_listed_free), "a slot in use is listed as free");
        let is_running = |(hash, index): &(u64, u32)| {
            self.entries.get(*index as usize).is_some_and(|entry| {
                matches!(entry.state, State::Running(..))
                    && [entry.hash, entry.connection_hash].contains(&Some(*hash))
            })
        };
        assert!(self.index.iter().all(is_running), "the index names a call that does not run");
        assert_eq!(self.shares.total(), self.len() as u64, "the shares are not the slots in use");
        let bytes = self.entries.iter().map(|entry| entry.bytes).sum::<u64>();
        assert_eq!(self.byte_shares.total(), bytes, "the bytes of the requests are not counted");
        self.orphans.check_invariants(|peer, number, index| {
            self.entries.get(index as usize).is_some_and(|entry| {
                matches!(entry.state, State::Running(..))
                    && (entry.peer, entry.orphan) == (peer, Some(number))
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dispatch::ReplyStream, mcp::RpcMethod};

    fn calls() -> InFlightCalls {
        InFlightCalls::new(&Limits { calls_in_flight_max: 2, ..Limits::default() }, Instant::now())
    }

    fn remote() -> RemoteRequest {
        let reply_to = ReplyTo::Http { socket: SocketId::default(), stream: ReplyStream::Unsupported };
        RemoteRequest {
            reply_to,
            peer: None,
            id: None,
            method: RpcMethod::Other,
            started: Instant::now(),
            left: 2,
        }
    }

    #[test]
    fn request_to_other_shards_is_complete_with_the_last_response_and_frees_its_slot() {
        let mut calls = calls();
        let now = Instant::now();
        let first = calls.insert_remote(remote(), now).unwrap();
        let second = calls.insert_remote(remote(), now).unwrap();
        assert!(calls.insert_remote(remote(), now).is_err(), "both slots are in use");
        assert!(calls.take_complete(first).is_none(), "one shard is left");
        assert!(calls.take_complete(first).is_some());
        assert!(calls.take_complete(first).is_none(), "the ticket is stale");
        let third = calls.insert_remote(remote(), now).unwrap();
        assert_eq!((third.index, calls.len()), (first.index, 2));
        assert_ne!(third.generation, first.generation);
        calls.free_remote(second);
        calls.free_remote(second);
        calls.check_invariants();
        assert_eq!(calls.len(), 1);
    }

    #[test]
    #[should_panic(expected = "a slot in use is listed as free")]
    fn slot_in_use_that_is_listed_as_free_panics() {
        let mut calls = calls();
        let now = Instant::now();
        let ticket = calls.insert_remote(remote(), now).unwrap();
        let other = calls.insert_remote(remote(), now).unwrap();
        calls.free_remote(other);
        calls.free_slots = vec![ticket.index];
        calls.check_invariants();
    }

    #[test]
    #[should_panic(expected = "the index names a call that does not run")]
    fn index_entry_of_a_request_that_does_not_run_panics() {
        let mut calls = calls();
        let ticket = calls.insert_remote(remote(), Instant::now()).unwrap();
        calls.index.insert((7, ticket.index));
        calls.check_invariants();
    }
}
