//! The legacy sessions of which something is kept on their home shard: subscriptions and the streams opened by GET, and with
//! them the reply streams of this shard, of sessions at home anywhere.
//!
//! A message of a session is sent on one stream ([Multiple Connections][spec]): the newest that is open, by the time of its last
//! GET. While none is open, the newest stream keeps the messages for the next connection, whether it resumes a stream or
//! opens another. A message that was sent on a stream stays in its replay buffer and is sent again only to a connection that resumes
//! this stream with `Last-Event-ID`.
//!
//! [spec]: https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#multiple-connections

pub(super) mod inspect;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::{
    stream_table::{Attachment, SessionStream, StreamKind, StreamTable},
    subscriber::Subscriber,
    subscriptions::{SubscriberKey, Subscriptions},
};
use crate::{
    config::Limits,
    mcp::{Instance, Session, SessionKey, StreamId, Topic},
    peer::{PeerKey, Shares},
    registry::List,
};

/// Expired sessions that are freed when another one is inserted.
const EXPIRED_PER_INSERT: usize = 16;

/// Events to be written to the connection of a stream.
pub(super) struct StreamWrite {
    pub(super) stream: StreamId,
    pub(super) attachment: Attachment,
    /// Number of the last message before `events`.
    pub(super) after: u64,
    pub(super) events: Vec<u8>,
    /// The stream ends on this connection.
    pub(super) is_end: bool,
}

/// The state of one session.
struct SessionEntry {
    session: Session,
    subscriber: SubscriberKey,
    /// The streams opened by GET, at least one, in the order of their last GET. The newest is pinned.
    streams: Vec<StreamId>,
    /// Number of `streams` with a connection.
    attached: usize,
    /// Position in the order of insertion.
    sequence: u64,
}

/// A bounded table. When it is full, expired sessions are freed, then the oldest of those without an open stream: for a peer within its
/// share, of the peer that is most above its own; otherwise, of the same peer.
pub(crate) struct SessionTable {
    entries: HashMap<SessionKey, SessionEntry, RandomState>,
    streams: StreamTable,
    /// Sessions without an open stream, oldest first.
    idle: BTreeMap<u64, SessionKey>,
    /// Sessions by the time they expire at.
    expiries: BTreeSet<(u64, SessionKey)>,
    /// The sessions by the peer that opened them.
    shares: Shares,
    /// Those without an open stream.
    idle_by_peer: BTreeSet<(PeerKey, u64)>,
    /// Position of the newest session.
    sequence: u64,
    session_streams_max: usize,
    /// The messages to write to connections, in order.
    writes: VecDeque<StreamWrite>,
    /// Sessions with an open stream that lost messages before these were sent.
    missed: Vec<SessionKey>,
    /// Sessions that lost their subscriptions in favour of others.
    evicted: Vec<Session>,
}

/// The first messages of a connection that is attached to a stream.
pub(super) struct Attached {
    pub(super) stream: StreamId,
    pub(super) events: Vec<u8>,
    /// The stream has ended: nothing follows.
    pub(super) is_ended: bool,
    /// Messages before or among `events` were dropped.
    pub(super) is_missed: bool,
}

impl SessionTable {
    pub(super) fn new(shard: u16, instance: Instance, limits: &Limits) -> Self {
        Self {
            entries: HashMap::default(),
            streams: StreamTable::new(shard, instance, limits),
            idle: BTreeMap::new(),
            expiries: BTreeSet::new(),
            shares: Shares::new(limits.sessions_kept_max as u64, limits.peer_share_percent),
            idle_by_peer: BTreeSet::new(),
            sequence: 0,
            session_streams_max: limits.session_streams_max,
            writes: VecDeque::new(),
            missed: Vec::new(),
            evicted: Vec::new(),
        }
    }

    /// Sets how many shards of this number have failed.
    pub(crate) fn set_life(&mut self, life: u32) {
        self.streams.set_life(life);
    }

    /// Number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Number of streams.
    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Number of streams with a connection.
    pub(crate) fn streams_attached(&self) -> usize {
        self.streams.attached()
    }

    /// Size of all replay buffers in bytes.
    pub(crate) fn replay_bytes(&self) -> usize {
        self.streams.bytes()
    }

    /// The connection of a stream.
    pub(crate) fn attachment(&self, id: StreamId) -> Option<Attachment> {
        self.streams.get(id)?.attachment
    }

    /// The next of the events that are to be written to connections.
    pub(super) fn next_write(&mut self) -> Option<StreamWrite> {
        self.writes.pop_front()
    }

    /// The next of the sessions with an open stream that lost messages before these were sent.
    pub(super) fn next_missed(&mut self) -> Option<SessionKey> {
        self.missed.pop()
    }

    /// The subscriber of a session, if anything is kept of the session.
    pub(super) fn subscriber(&self, key: SessionKey) -> Option<SubscriberKey> {
        self.entries.get(&key).map(|entry| entry.subscriber)
    }

    /// Inserts a session unless it exists, with a detached stream and a subscription to every list. Returns its
    /// subscriber; `None` if there is no room. `now`: seconds since 1970.
    pub(super) fn insert(
        &mut self,
        session: &Session,
        now: u64,
        subscriptions: &mut Subscriptions<Subscriber>,
    ) -> Option<SubscriberKey> {
        if let Some(entry) = self.entries.get(&session.key) {
            return Some(entry.subscriber);
        }
        for _ in 0..EXPIRED_PER_INSERT {
            let Some((_, expired)) = self.expiries.first().copied().filter(|(expires, _)| *expires <= now)
            else {
                break;
            };
            self.remove(expired, subscriptions);
        }
        let peer = PeerKey::of_hash(session.peer);
        while self
            .shares
            .check(peer, 1)
            .and_then(|()| subscriptions.check_count(peer, List::ALL.len()))
            .is_err()
        {
            let oldest = self.oldest_to_evict(peer)?;
            self.evict(oldest, subscriptions);
        }
        let stream = self.streams.insert_pinned(session.key)?;
        let subscriber = subscriptions.insert(Subscriber::Session(session.key), peer, None);
        for list in [List::Tools, List::Resources, List::Prompts] {
            subscriptions.subscribe(subscriber, Topic::list(list));
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.shares.add(peer, 1);
        self.set_idle(session, sequence, true);
        self.expiries.insert((session.expires, session.key));
        let entry =
            SessionEntry { session: *session, subscriber, streams: vec![stream], attached: 0, sequence };
        self.entries.insert(session.key, entry);
        Some(subscriber)
    }

    /// The session to free in favour of one of a peer.
    fn oldest_to_evict(&self, peer: PeerKey) -> Option<SessionKey> {
        let is_within_share = self.shares.is_within_share(peer, 1);
        let from = if is_within_share { self.shares.heaviest() } else { Some(peer) };
        let of_peer = from.and_then(|from| self.idle_by_peer.range((from, 0)..=(from, u64::MAX)).next());
        match of_peer {
            Some((_, sequence)) => self.idle.get(sequence).copied(),
            None if is_within_share => self.idle.first_key_value().map(|(_, key)| *key),
            None => None,
        }
    }

    /// Lists a session as one without an open stream, or not.
    fn set_idle(&mut self, session: &Session, sequence: u64, is_idle: bool) {
        let of_peer = (PeerKey::of_hash(session.peer), sequence);
        if is_idle {
            self.idle.insert(sequence, session.key);
            self.idle_by_peer.insert(of_peer);
        } else {
            self.idle.remove(&sequence);
            self.idle_by_peer.remove(&of_peer);
        }
    }

    /// Frees a session in favour of another. One that had subscribed to resources must end, because its client would wait for
    /// events that are not sent.
    fn evict(&mut self, key: SessionKey, subscriptions: &mut Subscriptions<Subscriber>) {
        if let Some(entry) = self.entries.get(&key)
            && subscriptions.usage(entry.subscriber).named > 0
        {
            self.evicted.push(entry.session);
        }
        self.remove(key, subscriptions);
    }

    /// The next of the sessions that lost their subscriptions and must end.
    pub(super) fn next_evicted(&mut self) -> Option<Session> {
        self.evicted.pop()
    }

    /// Frees a session and its streams, and ends them on their connections.
    pub(super) fn remove(&mut self, key: SessionKey, subscriptions: &mut Subscriptions<Subscriber>) {
        let Some(entry) = self.entries.remove(&key) else { return };
        self.set_idle(&entry.session, entry.sequence, false);
        self.shares.give(PeerKey::of_hash(entry.session.peer), 1);
        self.expiries.remove(&(entry.session.expires, key));
        subscriptions.remove(entry.subscriber);
        for id in entry.streams {
            self.close(id);
        }
    }

    /// Frees the reply streams of a session that have no connection.
    pub(super) fn remove_detached_replies(&mut self, key: SessionKey) {
        self.streams.remove_detached_replies(key);
    }

    /// Inserts a stream. At the maximum number, it replaces the stream that has been detached the longest.
    fn insert_stream(
        &mut self,
        session: SessionKey,
        kind: StreamKind,
        request_id: Box<[u8]>,
    ) -> Option<StreamId> {
        if self.streams.is_full() {
            let (id, evicted) = self.streams.evict()?;
            self.unlist(id, &evicted);
        }
        self.streams.insert(session, kind, request_id)
    }

    /// Takes a freed stream off the list of its session.
    fn unlist(&mut self, id: StreamId, freed: &SessionStream) {
        if freed.kind == StreamKind::Get
            && let Some(entry) = self.entries.get_mut(&freed.session)
        {
            // At most `session_streams_max` of them.
            entry.streams.retain(|other| *other != id);
            if freed.attachment.is_some() {
                entry.attached -= 1;
                if entry.attached == 0 {
                    let (session, sequence) = (entry.session, entry.sequence);
                    self.set_idle(&session, sequence, true);
                }
            }
        }
    }

    /// Frees a stream, and ends it on its connection.
    pub(super) fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(id) else { return };
        self.unlist(id, &stream);
        if let Some(attachment) = stream.attachment {
            self.end_on(id, attachment);
        }
    }

    fn end_on(&mut self, stream: StreamId, attachment: Attachment) {
        self.writes.push_back(StreamWrite { stream, attachment, after: 0, events: Vec::new(), is_end: true });
    }

    /// Sets the connection of a stream, or none. Returns the one before.
    fn set_attachment(&mut self, id: StreamId, attachment: Option<Attachment>) -> Option<Attachment> {
        let before = self.streams.attach(id, attachment);
        if let Some(stream) = self.streams.get(id)
            && stream.kind == StreamKind::Get
            && let Some(entry) = self.entries.get_mut(&stream.session)
        {
            entry.attached += usize::from(attachment.is_some());
            entry.attached -= usize::from(before.is_some());
            let (session, sequence, is_idle) = (entry.session, entry.sequence, entry.attached == 0);
            self.set_idle(&session, sequence, is_idle);
        }
        before
    }

    /// Opens the reply stream of a request on a connection; `None` if there is no room. `request_id`: as JSON.
    pub(crate) fn open_reply(
        &mut self,
        session: SessionKey,
        attachment: Attachment,
        request_id: Box<[u8]>,
    ) -> Option<StreamId> {
        let id = self.insert_stream(session, StreamKind::Reply, request_id)?;
        self.set_attachment(id, Some(attachment));
        Some(id)
    }

    /// Opens a stream of a session on a connection, which receives the events that waited for one. The session must be in the table. Where it has as many streams as it may, or the table is full, its oldest detached stream is freed,
    /// or the oldest of all is ended.
    pub(super) fn open(&mut self, key: SessionKey, attachment: Attachment) -> Option<Attached> {
        let newest = *self.entries.get(&key)?.streams.last()?;
        let id = if self.streams.get(newest).is_some_and(|stream| !stream.is_opened) {
            newest
        } else {
            let unsent = self.streams.take_unsent(newest);
            let count = self.entries.get(&key)?.streams.len();
            let room = if count < self.session_streams_max {
                self.insert_stream(key, StreamKind::Get, Box::default())
            } else {
                None
            };
            let id = match room {
                Some(id) => id,
                None => {
                    let streams = &self.entries.get(&key)?.streams;
                    let is_detached = |id: &&StreamId| {
                        self.streams.get(**id).is_some_and(|stream| stream.attachment.is_none())
                    };
                    let oldest = *streams.iter().find(is_detached).or(streams.first())?;
                    self.close(oldest);
                    // In place of the freed one, or of the newest until now, which is unpinned in favour of this one.
                    self.streams.insert_pinned(key)?
                }
            };
            self.append_unsent(id, unsent);
            id
        };
        self.make_newest(key, id);
        let is_missed = self.hand_over(id, Some(attachment));
        let events = self.streams.events_after(id, 0);
        Some(Attached { stream: id, events, is_ended: false, is_missed })
    }

    /// Appends messages of another stream that were not sent, and whether others were dropped there.
    fn append_unsent(&mut self, id: StreamId, (messages, is_missed): (VecDeque<Box<[u8]>>, bool)) {
        messages.into_iter().for_each(|message| self.streams.push(id, message));
        if let Some(stream) = self.streams.get_mut(id).filter(|_| is_missed) {
            stream.buffer.set_missed();
        }
    }

    /// Attaches another connection to a stream of a session, behind the event numbered `after`. It receives the later events.
    /// `None`: there is no such stream, it is another session's, or has sent no such event.
    pub(super) fn resume(
        &mut self,
        id: StreamId,
        key: SessionKey,
        after: u64,
        attachment: Attachment,
    ) -> Option<Attached> {
        let stream = self.streams.get(id).filter(|_| self.can_resume(id, key, after))?;
        let (is_ended, kind) = (stream.is_ended, stream.kind);
        let mut is_missed = !stream.buffer.is_complete_after(after);
        if kind == StreamKind::Get {
            let newest = *self.entries.get(&key)?.streams.last()?;
            if newest != id {
                let unsent = self.streams.take_unsent(newest);
                self.append_unsent(id, unsent);
                self.make_newest(key, id);
            }
        }
        is_missed |= self.hand_over(id, Some(attachment).filter(|_| !is_ended));
        let mut events = self.streams.events_after(id, after);
        // Of a reply only the response counts, which is the last message.
        if kind == StreamKind::Reply {
            let stream = self.streams.get(id)?;
            is_missed = is_ended && after < stream.buffer.last() && !stream.buffer.holds_last();
            if is_missed {
                events = self.streams.lost_response(id);
            }
        }
        Some(Attached { stream: id, events, is_ended, is_missed })
    }

    /// Whether a session can resume a stream after the event numbered `after`.
    pub(crate) fn can_resume(&self, id: StreamId, key: SessionKey, after: u64) -> bool {
        self.streams.get(id).is_some_and(|stream| stream.session == key && after <= stream.buffer.sent())
    }

    /// Appends a message to an attached stream. Returns its event, which the caller sends.
    pub(super) fn append(&mut self, id: StreamId, message: Box<[u8]>) -> Vec<u8> {
        let event = self.streams.push_event(id, message);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.buffer.mark_sent();
        }
        event
    }

    /// Makes a stream the newest of its session.
    fn make_newest(&mut self, key: SessionKey, id: StreamId) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if let Some(newest) = entry.streams.last() {
            self.streams.pin(*newest, false);
        }
        // At most `session_streams_max` of them.
        entry.streams.retain(|other| *other != id);
        entry.streams.push(id);
        self.streams.pin(id, true);
    }

    /// Attaches a connection that receives everything that was not sent, and ends the stream on the one before. `None`: the
    /// stream has ended, and occupies no connection. Returns whether messages were dropped before they were sent.
    fn hand_over(&mut self, id: StreamId, attachment: Option<Attachment>) -> bool {
        if let Some(before) = self.set_attachment(id, attachment) {
            self.end_on(id, before);
        }
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let is_missed = stream.buffer.take_missed();
        stream.attached_after = stream.buffer.sent();
        stream.buffer.mark_sent();
        is_missed
    }

    /// Detaches a connection from a stream, unless the stream has another by now.
    pub(super) fn detach(&mut self, id: StreamId, gone: Attachment) {
        if self.streams.get(id).is_some_and(|stream| stream.attachment == Some(gone)) {
            self.set_attachment(id, None);
            self.reroute_unsent(id);
        }
    }

    /// Detaches a connection that received no event of its stream.
    pub(super) fn cancel_attach(&mut self, id: StreamId, gone: Attachment) {
        if let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.attachment == Some(gone)) {
            stream.is_opened &= stream.attached_after > 0;
            let after = stream.attached_after;
            self.undeliver(id, gone, after);
        }
    }

    /// Detaches a connection that did not receive the messages after number `after`.
    pub(super) fn undeliver(&mut self, id: StreamId, gone: Attachment, after: u64) {
        if let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.attachment == Some(gone)) {
            stream.buffer.mark_unsent(after);
            self.detach(id, gone);
        }
    }

    /// Moves the unsent events of a detached stream to the newest open stream of the session, or else to the newest.
    fn reroute_unsent(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.kind == StreamKind::Get) else {
            return;
        };
        let key = stream.session;
        let (messages, is_missed) = self.streams.take_unsent(id);
        for message in messages {
            self.send(key, message);
        }
        if is_missed && let Some(next) = self.next_stream(key) {
            match self.streams.get_mut(next) {
                Some(stream) if stream.attachment.is_some() => self.missed.push(key),
                Some(stream) => stream.buffer.set_missed(),
                None => {}
            }
        }
    }

    /// The stream for the next message of a session: the newest that is open, or else the newest.
    fn next_stream(&self, key: SessionKey) -> Option<StreamId> {
        let streams = &self.entries.get(&key)?.streams;
        let is_open =
            |id: &&StreamId| self.streams.get(**id).is_some_and(|stream| stream.attachment.is_some());
        streams.iter().rev().find(is_open).or(streams.last()).copied()
    }

    /// Sends a message of a session on its newest open stream, or stores it for the next connection.
    pub(crate) fn send(&mut self, key: SessionKey, message: Box<[u8]>) {
        if let Some(id) = self.next_stream(key) {
            self.push(id, message, false);
        }
    }

    /// Appends a message to a stream, and sends it if a connection is attached. `is_end`: it is the last.
    pub(super) fn push(&mut self, id: StreamId, message: Box<[u8]>, is_end: bool) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.is_ended |= is_end;
        let Some(attachment) = stream.attachment else { return self.streams.push(id, message) };
        let after = stream.buffer.last();
        let events = self.append(id, message);
        if is_end {
            self.set_attachment(id, None);
        }
        self.writes.push_back(StreamWrite { stream: id, attachment, after, events, is_end });
    }

    /// An event without data that names the newest message of a stream, and the time to reconnect after.
    pub(crate) fn priming_event(&self, id: StreamId, retry_ms: Option<u128>) -> Vec<u8> {
        self.streams.priming_event(id, retry_ms)
    }

    /// Checks the table against its indexes: the first that does not agree. Takes time in proportion to the table's size.
    pub(super) fn check_invariants(&self) -> Result<(), String> {
        self.streams.check_invariants()?;
        let mut listed = 0;
        for (key, entry) in &self.entries {
            let Some(newest) = entry.streams.last() else { return Err(format!("{key:x} has no stream")) };
            if entry.streams.len() > self.session_streams_max {
                return Err(format!("{key:x} has {} streams", entry.streams.len()));
            }
            let mut attached = 0;
            for id in &entry.streams {
                let stream =
                    self.streams.get(*id).ok_or_else(|| format!("{key:x} lists {id:?}, which is gone"))?;
                if stream.session != *key || stream.kind != StreamKind::Get {
                    return Err(format!("{key:x} lists {id:?}, which is not its own"));
                }
                attached += usize::from(stream.attachment.is_some());
                if stream.is_pinned() != (id == newest) {
                    return Err(format!("{id:?} is pinned and not the newest, or the reverse"));
                }
                if !stream.buffer.is_sent() && (id != newest || entry.attached > 0) {
                    return Err(format!("a message waits on {id:?}, but another stream would be next"));
                }
            }
            listed += entry.streams.len();
            if attached != entry.attached {
                return Err(format!("{key:x}: {attached} streams are open, {} counted", entry.attached));
            }
            if (self.idle.get(&entry.sequence) == Some(key)) != (attached == 0) {
                return Err(format!("{key:x} is idle and not listed as such, or the reverse"));
            }
            if !self.expiries.contains(&(entry.session.expires, *key)) {
                return Err(format!("{key:x} is not listed by expiry"));
            }
        }
        let idle = self.entries.values().filter(|entry| entry.attached == 0).count();
        let own = self.streams.iter().filter(|(_, stream)| stream.kind == StreamKind::Get).count();
        let counted = (self.entries.len(), idle, own);
        let kept = (self.expiries.len(), self.idle.len(), listed);
        if (self.shares.total(), self.idle_by_peer.len()) != (self.entries.len() as u64, idle) {
            return Err("the sessions are not counted by peer".to_owned());
        }
        if counted != kept {
            return Err(format!("sessions, idle, streams: {counted:?} counted, {kept:?} kept"));
        }
        Ok(())
    }
}
