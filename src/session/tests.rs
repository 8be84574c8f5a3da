//! The session table and its streams: routing of messages, replay, bounds; and the table after random operations.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use corelane_ring::SocketId;
use proptest::prelude::*;

use super::{
    Clock, SessionState, Subscriber, replay_buffer::read_event_id, stream_table::Attachment,
    subscriptions::Subscriptions, table::SessionTable,
};
use crate::{
    call::{Capabilities, Revision},
    config::Limits,
    mcp::{Instance, Session, SessionKey, Sessions, StreamId, Topic},
    mesh::{Answer, Broadcast, Mailbox, Message, Request, StreamRequest},
    signed_token::SigningKey,
};

const INSTANCE: Instance = Instance { epoch: 7, node: [1, 2, 3, 4, 5] };

struct Tables {
    table: SessionTable,
    subscriptions: Subscriptions<Subscriber>,
}

impl Tables {
    fn new(limits: Limits) -> Self {
        let table = SessionTable::new(3, INSTANCE, &limits);
        Self { table, subscriptions: Subscriptions::new(&limits) }
    }

    fn insert(&mut self, key: SessionKey, now: u64) -> bool {
        let (revision, capabilities) = (Revision::V2025_11_25, Capabilities::default());
        let session = Session {
            key,
            home: 3,
            revision,
            capabilities,
            expires: now + 10,
            peer: [0; 3],
            is_foreign: false,
        };
        self.table.insert(&session, now, &mut self.subscriptions).is_some()
    }

    fn open(&mut self, key: SessionKey, connection: u16) -> (StreamId, Vec<String>) {
        let attached = self.table.open(key, attachment(connection)).unwrap();
        (attached.stream, data(&attached.events))
    }

    /// The events and whether the stream has ended.
    fn resume(
        &mut self,
        id: StreamId,
        key: SessionKey,
        after: u64,
        connection: u16,
    ) -> Option<(Vec<String>, bool)> {
        let attached = self.table.resume(id, key, after, attachment(connection))?;
        Some((data(&attached.events), attached.is_ended))
    }

    fn open_reply(&mut self, key: SessionKey, connection: u16) -> Option<StreamId> {
        self.table.open_reply(key, attachment(connection), (*b"7").into())
    }

    fn send(&mut self, key: SessionKey, message: &str) {
        self.table.send(key, message.as_bytes().into());
    }

    /// The writes to connections: the number of each, the data of the events, and whether the stream ends.
    fn writes(&mut self) -> Vec<(u16, String, bool)> {
        assert_eq!(self.table.check_invariants(), Ok(()));
        std::iter::from_fn(|| self.table.next_write())
            .map(|write| (write.attachment.shard, data(&write.events).concat(), write.is_end))
            .collect()
    }
}

/// Connections differ by their shard: the ids of sockets are the ring's to give.
fn attachment(connection: u16) -> Attachment {
    Attachment { shard: connection, socket: SocketId::default() }
}

/// The data of events.
fn data(events: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(events).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

fn write(connection: u16, data: &str) -> (u16, String, bool) {
    (connection, data.to_owned(), false)
}

fn end(connection: u16) -> (u16, String, bool) {
    (connection, String::new(), true)
}

#[test]
fn message_is_sent_on_the_newest_open_stream_only() {
    let mut tables = Tables::new(Limits::default());
    assert!(tables.insert(1, 0));
    let (first, _) = tables.open(1, 1);
    let (second, _) = tables.open(1, 2);
    tables.send(1, "a");
    assert_eq!(tables.writes(), [write(2, "a")]);
    tables.table.detach(second, attachment(2));
    tables.send(1, "b");
    assert_eq!(tables.writes(), [write(1, "b")]);
    let (resumed, _) = tables.resume(second, 1, 1, 3).unwrap();
    assert!(resumed.is_empty(), "b was sent on another stream");
    tables.send(1, "c");
    assert_eq!(tables.writes(), [write(3, "c")], "the newest GET counts, whatever the age of its stream");
    tables.table.detach(second, attachment(2));
    tables.send(1, "d");
    assert_eq!(tables.writes(), [write(3, "d")], "the end of an earlier connection changes nothing");
    tables.table.detach(second, attachment(3));
    tables.table.detach(first, attachment(1));
    tables.send(1, "e");
    assert_eq!(tables.writes(), []);
    assert_eq!(tables.open(1, 4).1, ["e"]);
    let (replayed, _) = tables.resume(second, 1, 1, 5).unwrap();
    assert_eq!(replayed, ["c", "d"], "what the dead connection may not have delivered, and no more");
}

#[test]
fn message_that_waits_is_sent_on_the_stream_that_is_opened_or_resumed_first() {
    let mut tables = Tables::new(Limits::default());
    tables.insert(1, 0);
    tables.send(1, "a");
    let (first, events) = tables.open(1, 1);
    assert_eq!(events, ["a"]);
    let (second, events) = tables.open(1, 2);
    assert!(events.is_empty());
    for (stream, connection) in [(first, 1), (second, 2)] {
        tables.table.detach(stream, attachment(connection));
    }
    tables.send(1, "b");
    let (events, is_ended) = tables.resume(first, 1, 1, 3).unwrap();
    assert_eq!((events, is_ended), (vec!["b".to_owned()], false));
    let (events, _) = tables.resume(second, 1, 0, 4).unwrap();
    assert!(events.is_empty());
    assert_eq!(tables.writes(), []);
}

#[test]
fn stream_is_resumed_after_the_last_event_and_only_by_its_session() {
    let mut tables = Tables::new(Limits::default());
    tables.insert(1, 0);
    let (id, _) = tables.open(1, 1);
    tables.send(1, "a");
    tables.send(1, "b");
    let named = tables.table.priming_event(id, None);
    let named = std::str::from_utf8(&named).unwrap().lines().next().unwrap().strip_prefix("id: ").unwrap();
    assert_eq!(read_event_id(INSTANCE, named.as_bytes()), Some((id, 2)));
    assert!(tables.resume(id, 2, 0, 2).is_none(), "another session's");
    assert!(tables.resume(id, 1, 3, 2).is_none(), "no such event");
    assert_eq!(tables.resume(id, 1, 1, 2).unwrap().0, ["b"]);
    assert_eq!(tables.writes(), [write(1, "a"), write(1, "b"), end(1)], "the connection before is ended");
}

#[test]
fn stream_beyond_the_limit_replaces_the_oldest_detached_or_ends_the_oldest() {
    let mut tables = Tables::new(Limits { session_streams_max: 3, ..Limits::default() });
    tables.insert(1, 0);
    let ids: Vec<StreamId> = (1..=3).map(|connection| tables.open(1, connection).0).collect();
    tables.table.detach(ids[1], attachment(2));
    tables.open(1, 4);
    assert_eq!(tables.writes(), []);
    assert!(tables.resume(ids[1], 1, 0, 9).is_none(), "it was freed");
    tables.open(1, 5);
    assert_eq!(tables.writes(), [end(1)]);
    tables.send(1, "a");
    assert_eq!((tables.writes(), tables.table.streams()), (vec![write(5, "a")], 3));
    let mut tables = Tables::new(Limits { session_streams_max: 1, ..Limits::default() });
    tables.insert(1, 0);
    tables.send(1, "a");
    let (id, events) = tables.open(1, 1);
    assert_eq!(events, ["a"]);
    tables.table.detach(id, attachment(1));
    tables.send(1, "b");
    assert_eq!(tables.open(1, 2).1, ["b"], "what waits outlives its stream");
}

#[test]
fn stream_that_was_detached_first_makes_room_for_another() {
    let mut tables = Tables::new(Limits { replay_streams_max: 3, ..Limits::default() });
    let mut replies: Vec<StreamId> = Vec::new();
    for connection in 1..=3 {
        replies.push(tables.open_reply(1, connection).unwrap());
    }
    assert_eq!(tables.open_reply(1, 4), None, "all are open");
    tables.table.push(replies[2], (*b"c").into(), true);
    tables.table.detach(replies[0], attachment(1));
    assert_eq!(tables.writes(), [(3, "c".to_owned(), true)]);
    let added = tables.open_reply(1, 4).unwrap();
    assert!(tables.resume(replies[2], 1, 0, 5).is_none(), "it was freed");
    let (events, is_ended) = tables.resume(replies[0], 1, 0, 6).unwrap();
    assert_eq!((events.len(), is_ended), (0, false));
    assert_eq!(tables.open_reply(1, 7), None, "all are open");
    for key in 2..=4 {
        assert!(tables.insert(key, 0), "one stream of each session needs no room");
    }
    tables.open(2, 8);
    tables.open(2, 9);
    assert_eq!((tables.writes(), tables.table.streams_attached()), (vec![end(8)], 4), "a second one does");
    tables.table.detach(added, attachment(4));
    tables.open(2, 10);
    assert_eq!((tables.writes(), tables.table.streams_attached()), (vec![], 4));
}

#[test]
fn evicted_session_ends_if_it_had_subscribed_to_a_resource() {
    let mut tables = Tables::new(Limits { sessions_kept_max: 2, ..Limits::default() });
    for key in 1..=2 {
        assert!(tables.insert(key, 0));
    }
    let subscriber = tables.table.subscriber(1).unwrap();
    tables.subscriptions.subscribe(subscriber, Topic::resource("a"));
    assert!(tables.insert(3, 0) && tables.insert(4, 0));
    let evicted: Vec<SessionKey> =
        std::iter::from_fn(|| tables.table.next_evicted()).map(|session| session.key).collect();
    assert_eq!(evicted, [1]);
}

#[test]
fn ended_reply_is_replayed_and_occupies_no_connection() {
    let mut tables = Tables::new(Limits::default());
    let id = tables.open_reply(1, 1).unwrap();
    tables.table.detach(id, attachment(1));
    tables.table.push(id, (*b"a").into(), false);
    tables.table.push(id, (*b"b").into(), true);
    for _ in 0..2 {
        let (events, is_ended) = tables.resume(id, 1, 0, 2).unwrap();
        assert_eq!((events.concat(), is_ended), ("ab".to_owned(), true));
    }
    assert_eq!((tables.writes().len(), tables.table.streams_attached()), (0, 0));
    let (events, _) = tables.resume(id, 1, 1, 2).unwrap();
    assert_eq!(events, ["b"]);
}

#[test]
fn removed_session_ends_all_its_streams_and_frees_its_detached_replies() {
    let mut tables = Tables::new(Limits::default());
    for key in [1, 2] {
        tables.insert(key, 0);
    }
    for connection in 1..=3 {
        tables.open(1, connection);
    }
    let open = tables.open_reply(1, 4).unwrap();
    let detached = tables.open_reply(1, 5).unwrap();
    tables.table.detach(detached, attachment(5));
    tables.table.remove(1, &mut tables.subscriptions);
    tables.table.remove_detached_replies(1);
    assert_eq!(tables.writes(), [end(1), end(2), end(3)]);
    tables.table.push(open, (*b"a").into(), true);
    assert_eq!(tables.writes(), [(4, "a".to_owned(), true)], "a call in flight is answered");
    assert_eq!((tables.table.len(), tables.table.streams()), (1, 2));
    assert_eq!(tables.subscriptions.listeners(), 1);
}

#[test]
fn expired_sessions_are_freed_when_another_is_inserted() {
    let mut tables = Tables::new(Limits::default());
    tables.insert(1, 0);
    tables.open(1, 1);
    tables.insert(2, 9);
    assert_eq!(tables.table.len(), 2);
    tables.insert(3, 10);
    assert_eq!((tables.table.len(), tables.writes()), (2, vec![end(1)]));
}

#[test]
fn message_that_reached_no_connection_is_sent_again() {
    let mut tables = Tables::new(Limits::default());
    tables.insert(1, 0);
    tables.open(1, 1);
    let (second, _) = tables.open(1, 2);
    tables.send(1, "a");
    let lost = tables.table.next_write().unwrap();
    tables.table.undeliver(lost.stream, lost.attachment, lost.after);
    assert_eq!(tables.writes(), [write(1, "a")], "the next stream has it");
    assert!(tables.resume(second, 1, 0, 3).unwrap().0.is_empty());
    tables.table.remove(1, &mut tables.subscriptions);
    tables.writes();
    tables.insert(1, 0);
    tables.send(1, "b");
    for connection in [4, 5] {
        let (id, events) = tables.open(1, connection);
        assert_eq!(events, ["b"]);
        tables.table.cancel_attach(id, attachment(connection));
    }
    assert_eq!((tables.table.streams(), tables.table.streams_attached()), (1, 0));
}

#[test]
fn message_for_a_shard_whose_queue_is_full_is_kept_and_its_connection_is_ended_later() {
    let broadcast = Broadcast::default();
    let mailbox = || Arc::new(Mailbox::new(1, Box::new(|| {})));
    broadcast.connect(vec![mailbox(), mailbox()]);
    let limits = Limits::default();
    let mut home = SessionState::new(0, &limits, broadcast.clone());
    let mut sessions = Sessions::new(SigningKey::new(b"key"), 2, 100, 4);
    let (revision, capabilities) = (Revision::V2025_11_25, Capabilities::default());
    let session =
        Session { key: 1, home: 0, revision, capabilities, expires: 10, peer: [0; 3], is_foreign: false };
    let clock = Clock { monotonic: Instant::now(), wall: Duration::ZERO };
    let socket = SocketId::default();
    let mut attach = |home: &mut SessionState, from| {
        let request = Request::Attach { session, socket, stream: StreamRequest::New };
        match home.serve(&request, from, &mut sessions, clock) {
            Answer::Attached(stream, events, false) => (stream, data(&events).concat()),
            other => panic!("{other:?}"),
        }
    };
    let (stream, _) = attach(&mut home, 1);
    for message in [b"a", b"b"] {
        home.table.send(1, (*message).into());
        home.flush();
    }
    let remote = &broadcast.mailboxes()[1];
    let Some(Message::Stream { events, ended: false, .. }) = remote.take() else { panic!("nothing is sent") };
    assert_eq!(data(&events), ["a"]);
    home.on_check_attached(stream, 1, socket);
    let Some(Message::Stream { ended: true, .. }) = remote.take() else { panic!("it is not ended") };
    let (newer, events) = attach(&mut home, 0);
    assert_eq!(events, "b", "it found no room, and was not sent");
    home.check_attached(newer, socket);
    home.on_check_attached(newer, 0, socket);
    assert!(broadcast.mailboxes().iter().all(|mailbox| mailbox.is_empty()), "it is attached");
}

#[test]
fn event_larger_than_the_replay_buffer_is_sent_once_and_reported_as_missed() {
    let mut tables = Tables::new(Limits { replay_bytes_max: 1024, ..Limits::default() });
    let large = "x".repeat(1024);
    tables.insert(1, 0);
    let (id, _) = tables.open(1, 1);
    tables.send(1, &large);
    tables.send(1, "a");
    assert_eq!(tables.writes(), [write(1, &large), write(1, "a")], "a connection receives it");
    assert!(tables.table.replay_bytes() < 100);
    for (after, is_missed) in [(0, true), (1, false), (2, false)] {
        let attached = tables.table.resume(id, 1, after, attachment(2)).unwrap();
        assert_eq!(attached.is_missed, is_missed, "after {after}");
    }
    tables.table.detach(id, attachment(2));
    tables.send(1, &large);
    assert!(tables.table.open(1, attachment(3)).unwrap().is_missed, "no connection was open");
    assert!(!tables.table.open(1, attachment(4)).unwrap().is_missed, "reported once");
}

#[test]
fn response_larger_than_the_replay_buffer_is_replaced_by_an_error() {
    let mut tables = Tables::new(Limits { replay_bytes_max: 1024, ..Limits::default() });
    let id = tables.open_reply(1, 1).unwrap();
    tables.table.push(id, (*b"progress").into(), false);
    tables.table.detach(id, attachment(1));
    tables.table.push(id, "x".repeat(1024).as_bytes().into(), true);
    let attached = tables.table.resume(id, 1, 1, attachment(2)).unwrap();
    let error: serde_json::Value = serde_json::from_str(&data(&attached.events).concat()).unwrap();
    assert_eq!((error["id"].as_u64(), error["error"]["code"].as_i64()), (Some(7), Some(-32603)));
    assert!(attached.is_missed && attached.is_ended);
    let attached = tables.table.resume(id, 1, 2, attachment(2)).unwrap();
    assert_eq!((attached.events.len(), attached.is_missed), (0, false), "it was received");
}

#[test]
fn largest_replay_buffer_is_emptied_beyond_the_bound_of_all() {
    let limits = Limits { replay_bytes_max: 2000, replay_total_bytes_max: 4000, ..Limits::default() };
    let mut tables = Tables::new(limits);
    for key in 1..=40 {
        assert!(tables.insert(key, 0));
        tables.open(key, key as u16);
        tables.send(key, "a");
    }
    for number in 0..100 {
        tables.send(1, &format!("{number:0100}"));
        assert!(tables.table.replay_bytes() <= 4000);
    }
    tables.writes();
    let events = |tables: &mut Tables, key: u16| {
        let stream = StreamId { shard: 3, index: u32::from(key - 1), generation: 0 };
        tables.table.resume(stream, key.into(), 0, attachment(key + 100)).unwrap()
    };
    for key in 2..=40 {
        let attached = events(&mut tables, key);
        assert_eq!((data(&attached.events), attached.is_missed), (vec!["a".to_owned()], false));
    }
    assert!(events(&mut tables, 1).is_missed);
}

/// The messages that the server has sent, as its clients see them.
#[derive(Default)]
struct Model {
    /// Messages of each session since it was inserted.
    sent: HashMap<SessionKey, Vec<String>>,
    /// The stream that a message was first sent on.
    stream_of: HashMap<String, StreamId>,
}

impl Model {
    /// Messages reach a client for the first time.
    fn deliver(&mut self, id: StreamId, messages: Vec<String>) -> Result<(), TestCaseError> {
        for message in messages {
            prop_assert!(self.stream_of.insert(message.clone(), id).is_none(), "{} is sent twice", message);
        }
        Ok(())
    }

    /// Messages reach a client that resumed a stream.
    fn replay(&mut self, id: StreamId, messages: Vec<String>) -> Result<(), TestCaseError> {
        for message in messages {
            let stream = *self.stream_of.entry(message.clone()).or_insert(id);
            prop_assert_eq!(stream, id, "{} is replayed on another stream", message);
        }
        Ok(())
    }
}

proptest! {
    /// Every message of a session is sent on exactly one stream, however connections come and go.
    #[test]
    fn random_operations_keep_the_invariants_and_lose_no_message(
        steps in prop::collection::vec((0_u8..14, 0_u8..5, any::<prop::sample::Index>()), 1..150)
    ) {
        let limits = Limits {
            sessions_kept_max: 3,
            session_streams_max: 3,
            replay_streams_max: 8,
            replay_bytes_max: 1 << 20,
            ..Limits::default()
        };
        let mut tables = Tables::new(limits);
        let mut model = Model::default();
        let mut known: Vec<(StreamId, SessionKey, u16)> = Vec::new();
        let mut replies: Vec<StreamId> = Vec::new();
        let mut now = 0;
        for (number, (step, key, index)) in (1_u16..).zip(steps) {
            let key = SessionKey::from(key);
            let chosen = (!known.is_empty()).then(|| *index.get(&known));
            let mut is_lost = false;
            match (step, chosen) {
                (0, _) => now += u64::from(number % 4),
                (1..=4, _) if tables.insert(key, now) => {
                    let (id, events) = tables.open(key, number);
                    if step == 1 {
                        tables.table.cancel_attach(id, attachment(number));
                    } else {
                        model.deliver(id, events)?;
                        known.push((id, key, number));
                    }
                }
                (5 | 6, Some((id, key, _))) => {
                    let after = index.index(4) as u64;
                    if let Some((events, is_ended)) = tables.resume(id, key, after, number) {
                        model.replay(id, events)?;
                        if !is_ended {
                            known.push((id, key, number));
                        }
                    }
                }
                (7 | 8, Some((id, _, connection))) => tables.table.detach(id, attachment(connection)),
                (9, _) if !replies.is_empty() => {
                    let is_end = number % 2 == 0;
                    let place = index.index(replies.len());
                    let id = if is_end { replies.swap_remove(place) } else { replies[place] };
                    tables.table.push(id, format!("reply {number}").into_bytes().into(), is_end);
                }
                (10, _) => {
                    if let Some(id) = tables.open_reply(key, number) {
                        known.push((id, key, number));
                        replies.push(id);
                    }
                }
                (11, _) => {
                    tables.table.remove(key, &mut tables.subscriptions);
                    tables.table.remove_detached_replies(key);
                }
                _ if tables.table.subscriber(key).is_some() => {
                    is_lost = step == 12;
                    let message = number.to_string();
                    tables.send(key, &message);
                    model.sent.entry(key).or_default().push(message);
                }
                _ => {}
            }
            while let Some(write) = tables.table.next_write() {
                if is_lost && !write.is_end {
                    tables.table.undeliver(write.stream, write.attachment, write.after);
                } else {
                    model.deliver(write.stream, data(&write.events))?;
                }
                is_lost = false;
            }
            prop_assert_eq!(tables.table.check_invariants(), Ok(()));
            model.sent.retain(|key, _| tables.table.subscriber(*key).is_some());
        }
        for (key, sent) in std::mem::take(&mut model.sent) {
            let (id, events) = tables.open(key, u16::MAX - key as u16);
            model.deliver(id, events)?;
            for message in sent {
                prop_assert!(model.stream_of.contains_key(&message), "{} is lost", message);
            }
        }
    }
}
