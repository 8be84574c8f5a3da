//! The streams of legacy sessions on one shard: a bounded slab with generations. A stream is a session's own (opened by GET)
//! or the reply to a call (POST); each has a replay buffer and at most one connection.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use corelane_ring::SocketId;

use super::replay_buffer::{EVENT_OVERHEAD_BYTES, ReplayBuffer, event_id};
use crate::{
    config::Limits,
    http1::{write_event, write_retry},
    mcp::{Instance, SessionKey, StreamId},
};

/// The error message in place of a response that cannot be sent again, as JSON.
const LOST_RESPONSE: &str = "\"The response is larger than limits.replay_bytes_max, or was dropped because the shard had reached \
                             limits.replay_total_bytes_max\"";

/// The connection that a stream is sent on, on this shard or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) shard: u16,
    pub(crate) socket: SocketId,
}

/// How a stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// By a GET of the session.
    Get,
    /// As the reply to a POST.
    Reply,
}

/// One stream.
pub(super) struct SessionStream {
    pub(super) session: SessionKey,
    pub(super) kind: StreamKind,
    pub(super) buffer: ReplayBuffer,
    /// The id of the request that a reply stream answers, as JSON; empty for a stream opened by GET.
    pub(super) request_id: Box<[u8]>,
    pub(super) attachment: Option<Attachment>,
    /// Number of the newest message that had been sent when the connection was attached.
    pub(super) attached_after: u64,
    /// A connection was attached at least once.
    pub(super) is_opened: bool,
    /// No further message follows.
    pub(super) is_ended: bool,
    /// The newest GET stream of its session: it takes messages while no stream is open, and is freed only with the session.
    is_pinned: bool,
    /// Key in [`StreamTable::evictable`].
    evictable_since: Option<u64>,
}

impl SessionStream {
    pub(super) fn is_pinned(&self) -> bool {
        self.is_pinned
    }
}

struct Slot {
    stream: Option<SessionStream>,
    generation: u32,
}

/// The slab. When it is full, the unpinned stream that has been detached the longest is evicted.
pub(super) struct StreamTable {
    shard: u16,
    instance: Instance,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The generation of new slots.
    first_generation: u32,
    /// Streams that are neither attached nor pinned, longest first.
    evictable: BTreeMap<u64, u32>,
    /// Newest key of `evictable`.
    sequence: u64,
    /// Reply streams by session.
    replies: BTreeSet<(SessionKey, u32)>,
    attached: usize,
    pinned: usize,
    /// Streams with buffered messages, by the size of their buffer.
    sizes: BTreeSet<(usize, u32)>,
    /// Size of all buffers.
    bytes: usize,
    streams_max: usize,
    bytes_max: usize,
    total_bytes_max: usize,
}

impl StreamTable {
    /// An empty table with the limits of the streams and their replay buffers.
    pub(super) fn new(shard: u16, instance: Instance, limits: &Limits) -> Self {
        Self {
            shard,
            instance,
            slots: Vec::new(),
            free: Vec::new(),
            first_generation: 0,
            evictable: BTreeMap::new(),
            sequence: 0,
            replies: BTreeSet::new(),
            attached: 0,
            pinned: 0,
            sizes: BTreeSet::new(),
            bytes: 0,
            streams_max: limits.replay_streams_max,
            bytes_max: limits.replay_bytes_max,
            total_bytes_max: limits.replay_total_bytes_max,
        }
    }

    /// Makes stream ids differ from those of the shards of this number that have failed: clients may resume their streams.
    pub(super) fn set_life(&mut self, life: u32) {
        self.first_generation = life << 24;
    }

    /// Number of streams.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Number of streams with a connection.
    pub(super) fn attached(&self) -> usize {
        self.attached
    }

    /// Whether a stream must be freed before another is inserted. Pinned streams, one for each session in the session table, do
    /// not count.
    pub(super) fn is_full(&self) -> bool {
        self.len() - self.pinned >= self.streams_max
    }

    /// Frees the stream that has been evictable the longest; `None` if every stream is attached or pinned.
    pub(super) fn evict(&mut self) -> Option<(StreamId, SessionStream)> {
        let (_, index) = self.evictable.first_key_value()?;
        let generation = self.slots.get(*index as usize)?.generation;
        let id = StreamId { shard: self.shard, index: *index, generation };
        Some((id, self.remove(id)?))
    }

    /// Inserts the newest GET stream of a session, detached and pinned.
    pub(super) fn insert_pinned(&mut self, session: SessionKey) -> Option<StreamId> {
        let id = self.insert_unbounded(session, StreamKind::Get, Box::default())?;
        self.pin(id, true);
        Some(id)
    }

    /// Inserts a detached stream; `None` if the table is full.
    pub(super) fn insert(
        &mut self,
        session: SessionKey,
        kind: StreamKind,
        request_id: Box<[u8]>,
    ) -> Option<StreamId> {
        if self.is_full() { None } else { self.insert_unbounded(session, kind, request_id) }
    }

    fn insert_unbounded(
        &mut self,
        session: SessionKey,
        kind: StreamKind,
        request_id: Box<[u8]>,
    ) -> Option<StreamId> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { stream: None, generation: self.first_generation });
                u32::try_from(self.slots.len() - 1).ok()?
            }
        };
        let slot = self.slots.get_mut(index as usize)?;
        slot.stream = Some(SessionStream {
            session,
            kind,
            buffer: ReplayBuffer::default(),
            request_id,
            attachment: None,
            attached_after: 0,
            is_opened: false,
            is_ended: false,
            is_pinned: false,
            evictable_since: None,
        });
        let id = StreamId { shard: self.shard, index, generation: slot.generation };
        if kind == StreamKind::Reply {
            self.replies.insert((session, index));
        }
        self.update_evictable(id);
        Some(id)
    }

    /// Frees a stream.
    pub(super) fn remove(&mut self, id: StreamId) -> Option<SessionStream> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        let stream = slot.stream.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        self.attached -= usize::from(stream.attachment.is_some());
        self.pinned -= usize::from(stream.is_pinned);
        self.set_size(id.index, stream.buffer.bytes(), 0);
        if let Some(since) = stream.evictable_since {
            self.evictable.remove(&since);
        }
        if stream.kind == StreamKind::Reply {
            self.replies.remove(&(stream.session, id.index));
        }
        Some(stream)
    }

    pub(super) fn get(&self, id: StreamId) -> Option<&SessionStream> {
        let slot = self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        slot.stream.as_ref()
    }

    /// The stream; [`StreamTable::attach`] and [`StreamTable::pin`] change what the table depends on.
    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut SessionStream> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        slot.stream.as_mut()
    }

    /// Sets the connection of a stream, or none. Returns the one before.
    pub(super) fn attach(&mut self, id: StreamId, attachment: Option<Attachment>) -> Option<Attachment> {
        let stream = self.get_mut(id)?;
        let before = std::mem::replace(&mut stream.attachment, attachment);
        stream.is_opened |= attachment.is_some();
        self.attached += usize::from(attachment.is_some());
        self.attached -= usize::from(before.is_some());
        self.update_evictable(id);
        before
    }

    /// Sets whether a stream is the newest GET stream of its session.
    pub(super) fn pin(&mut self, id: StreamId, is_pinned: bool) {
        if let Some(stream) = self.get_mut(id) {
            let before = std::mem::replace(&mut stream.is_pinned, is_pinned);
            self.pinned += usize::from(is_pinned);
            self.pinned -= usize::from(before);
            self.update_evictable(id);
        }
    }

    fn update_evictable(&mut self, id: StreamId) {
        let next = self.sequence + 1;
        let Some(stream) = self.get_mut(id) else { return };
        let is_evictable = stream.attachment.is_none() && !stream.is_pinned;
        match (is_evictable, stream.evictable_since) {
            (true, None) => {
                stream.evictable_since = Some(next);
                self.sequence = next;
                self.evictable.insert(next, id.index);
            }
            (false, Some(since)) => {
                stream.evictable_since = None;
                self.evictable.remove(&since);
            }
            _ => {}
        }
    }

    /// Size of all replay buffers in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a message to the replay buffer of a stream. Beyond the bound of all buffers the largest ones are emptied.
    pub(super) fn push(&mut self, id: StreamId, message: Box<[u8]>) {
        let bytes_max = self.bytes_max;
        self.change_buffer(id, |buffer| buffer.push(message, bytes_max));
        while self.bytes > self.total_bytes_max
            && let Some((_, index)) = self.sizes.last().copied()
            && let Some(slot) = self.slots.get(index as usize)
        {
            let largest = StreamId { shard: self.shard, index, generation: slot.generation };
            self.change_buffer(largest, ReplayBuffer::clear);
        }
    }

    /// As [`StreamTable::push`]; returns the event of the message.
    pub(super) fn push_event(&mut self, id: StreamId, message: Box<[u8]>) -> Vec<u8> {
        let number = self.get(id).map_or(0, |stream| stream.buffer.last()) + 1;
        let mut event = Vec::with_capacity(message.len() + EVENT_OVERHEAD_BYTES);
        write_event(&mut event, Some(&self.event_id(id, number)), &message);
        self.push(id, message);
        event
    }

    /// Removes the messages of a stream that were not sent. Returns them, and whether others were dropped before they were sent.
    pub(super) fn take_unsent(&mut self, id: StreamId) -> (VecDeque<Box<[u8]>>, bool) {
        self.change_buffer(id, |buffer| {
            let is_missed = buffer.take_missed();
            (buffer.take_unsent(), is_missed)
        })
        .unwrap_or_default()
    }

    fn change_buffer<T>(&mut self, id: StreamId, change: impl FnOnce(&mut ReplayBuffer) -> T) -> Option<T> {
        let buffer = &mut self.get_mut(id)?.buffer;
        let before = buffer.bytes();
        let result = change(buffer);
        let after = buffer.bytes();
        self.set_size(id.index, before, after);
        Some(result)
    }

    fn set_size(&mut self, index: u32, before: usize, after: usize) {
        if before != after {
            self.sizes.remove(&(before, index));
            if after > 0 {
                self.sizes.insert((after, index));
            }
            self.bytes = self.bytes - before + after;
        }
    }

    /// The streams with the largest replay buffers, largest first, without those that are empty.
    pub(super) fn largest(&self) -> impl Iterator<Item = &SessionStream> {
        self.sizes.iter().rev().filter_map(|(_, index)| self.slots.get(*index as usize)?.stream.as_ref())
    }

    /// The events of a stream after number `after`.
    pub(super) fn events_after(&self, id: StreamId, after: u64) -> Vec<u8> {
        let Some(stream) = self.get(id) else { return Vec::new() };
        stream.buffer.events_after(after, self.instance, id, stream.kind == StreamKind::Reply)
    }

    fn event_id(&self, id: StreamId, number: u64) -> String {
        let is_reply = self.get(id).is_some_and(|stream| stream.kind == StreamKind::Reply);
        event_id(self.instance, id, is_reply, number)
    }

    /// An event without data that has the id of the newest message, and the time to reconnect after.
    pub(super) fn priming_event(&self, id: StreamId, retry_ms: Option<u128>) -> Vec<u8> {
        let mut event = Vec::new();
        let last = self.get(id).map_or(0, |stream| stream.buffer.last());
        write_retry(&mut event, Some(&self.event_id(id, last)), retry_ms);
        event
    }

    /// The last event of a reply stream whose response was dropped: an error in its place.
    pub(super) fn lost_response(&self, id: StreamId) -> Vec<u8> {
        let mut event = Vec::new();
        let Some(stream) = self.get(id) else { return event };
        let mut error = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
        error.extend_from_slice(&stream.request_id);
        error.extend_from_slice(b",\"error\":{\"code\":-32603,\"message\":");
        error.extend_from_slice(LOST_RESPONSE.as_bytes());
        error.extend_from_slice(b"}}");
        write_event(&mut event, Some(&self.event_id(id, stream.buffer.last())), &error);
        event
    }

    /// Frees the detached reply streams of a session.
    pub(super) fn remove_detached_replies(&mut self, session: SessionKey) {
        let replies: Vec<u32> =
            self.replies.range((session, 0)..=(session, u32::MAX)).map(|(_, index)| *index).collect();
        for index in replies {
            let Some(slot) = self.slots.get(index as usize) else { continue };
            if slot.stream.as_ref().is_some_and(|stream| stream.attachment.is_none()) {
                self.remove(StreamId { shard: self.shard, index, generation: slot.generation });
            }
        }
    }

    /// Every stream with its id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamId, &SessionStream)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| {
            let id = StreamId { shard: self.shard, index, generation: slot.generation };
            Some((id, slot.stream.as_ref()?))
        })
    }

    /// Checks the indexes of the table against its streams: the first that does not agree. Takes time in proportion to the
    /// table's size.
    pub(super) fn check_invariants(&self) -> Result<(), String> {
        let mut sockets = HashSet::new();
        let (mut live, mut attached, mut pinned, mut evictable, mut replies, mut bytes) = (0, 0, 0, 0, 0, 0);
        for (id, stream) in self.iter() {
            live += 1;
            attached += usize::from(stream.attachment.is_some());
            pinned += usize::from(stream.is_pinned);
            sockets.extend(stream.attachment.map(|attachment| (attachment.shard, attachment.socket)));
            if stream.is_ended && stream.attachment.is_some() {
                return Err(format!("{id:?} has ended and is attached"));
            }
            let should_be = stream.attachment.is_none() && !stream.is_pinned;
            let index = stream.evictable_since.and_then(|since| self.evictable.get(&since));
            if index != should_be.then_some(&id.index) {
                return Err(format!("{id:?} is at the wrong place of the order of eviction"));
            }
            evictable += usize::from(should_be);
            let size = stream.buffer.bytes();
            bytes += size;
            if size > 0 && !self.sizes.contains(&(size, id.index)) {
                return Err(format!("{id:?} is not listed by its size"));
            }
            if stream.kind == StreamKind::Reply {
                replies += 1;
                if !self.replies.contains(&(stream.session, id.index)) {
                    return Err(format!("{id:?} is not listed as a reply"));
                }
            }
        }
        if sockets.len() != attached {
            return Err("two streams have one connection".to_owned());
        }
        let counted = [live, attached, pinned, evictable, replies, bytes];
        let (evictable, replies) = (self.evictable.len(), self.replies.len());
        let kept = [self.len(), self.attached, self.pinned, evictable, replies, self.bytes];
        if counted != kept {
            return Err(format!(
                "streams, attached, pinned, evictable, replies, bytes: {counted:?} counted, {kept:?} kept"
            ));
        }
        Ok(())
    }
}
