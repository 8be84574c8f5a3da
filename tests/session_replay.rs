//! Events of a legacy session that are sent again after a reconnect.
//! <https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#resumability-and-redelivery>

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/stream_server.rs"]
mod stream_server;
mod support;

use corelane::{Limits, Running};
use serde_json::json;
use stream_server::{UPDATED, long_uri, method, next_event, number, open, start, subscribe, touch};
use support::{
    await_metric,
    peer::end,
    session::{Event, Session, SessionReply},
};

#[test]
fn buffered_events_are_replayed_on_reconnect() {
    let limits = Limits { replay_bytes_max: 1024, ..Limits::default() };
    let running = start(3, limits);
    for _ in 0..4 {
        let session = open(&running);
        subscribe(&session, "test://a");
        for _ in 0..3 {
            touch(&session);
        }
        let mut stream = session.get(None);
        for expected in 1..=3 {
            let event = stream.event().unwrap();
            assert_eq!((method(&event), number(&event)), (UPDATED, expected), "without a priming event");
        }
        let left = count_after(&running, &session, stream, 40);
        assert!((2..30).contains(&left), "{left}: a kibibyte holds a few");
    }
    end(running);
}

/// Closes a stream, publishes `changes` updates, and opens another stream. Returns the number of its events.
fn count_after(running: &Running, session: &Session, stream: SessionReply, changes: usize) -> u64 {
    drop(stream);
    await_metric(running.admin_address().unwrap(), "corelane_replay_streams_attached", 0.0);
    for _ in 0..changes {
        touch(session);
    }
    let mut stream = session.get(None);
    assert_eq!(stream.status, 200);
    assert_eq!(session.delete(), 204);
    let mut count = 0;
    while let Some(event) = stream.event() {
        count += 1;
        assert_eq!(number(&event), count, "in order");
    }
    count
}

#[test]
fn resumed_stream_replays_only_its_own_messages() {
    let running = start(3, Limits::default());
    for _ in 0..8 {
        let session = open(&running);
        session.request(1, "logging/setLevel", json!({"level": "debug"})).response();
        subscribe(&session, "test://a");
        let mut own = session.get(None);
        let mut reply = session.call("talk", "talk", json!({}));
        let began = next_event(&mut reply);
        touch(&session);
        let mut events = vec![began.clone()];
        while events.last().is_some_and(|event| !method(event).is_empty()) {
            events.push(next_event(&mut reply));
        }
        assert_eq!(reply.event(), None, "the stream ends after the response");
        let logged = events.iter().filter(|event| method(event) == "notifications/message").count();
        assert_eq!((logged, events.len()), (3, 4), "{events:?}");
        let update = next_event(&mut own);
        assert_eq!(method(&update), UPDATED);
        assert!(own.is_quiet(), "a message of one stream is not sent on another");
        touch(&session);
        touch(&session);
        let mut resumed = session.get(update.id.as_deref());
        for expected in [2, 3] {
            let event = next_event(&mut resumed);
            assert_eq!((method(&event), number(&event)), (UPDATED, expected));
        }
        assert!(resumed.is_quiet());
        let mut resumed = session.get(began.id.as_deref());
        let rest: Vec<Event> = std::iter::from_fn(|| resumed.event()).collect();
        assert_eq!(rest, events[1..], "the same events under the same ids, then the end of the stream");
        let prefix = |event: &Event| event.id.as_ref().unwrap().rsplit_once('-').unwrap().0.to_owned();
        assert_ne!(prefix(&update), prefix(&began), "ids of two streams differ");
    }
    end(running);
}

/// Official clients repeat a rejected GET with the same id, and then go on without a stream.
#[test]
fn unknown_last_event_id_opens_a_new_stream_that_reports_missed_events() {
    let running = start(3, Limits::default());
    let (session, other) = (open(&running), open(&running));
    subscribe(&session, "test://a");
    let mut stream = session.get(None);
    touch(&session);
    let id = next_event(&mut stream).id.unwrap();
    drop(stream);
    let (place, last) = id.rsplit_once('-').unwrap();
    let parts: Vec<&str> = id.split('-').collect();
    let beyond = format!("{place}-{}", last.parse::<u64>().unwrap() + 1);
    let of_shards = (0..3).map(|shard| format!("{}-{shard}-99-0-1", parts[0]));
    let of_others =
        [format!("7-{}-{}-1", parts[1], parts[2]), format!("{}-65535-{}-0-1", parts[0], parts[2])];
    let made_up = ["nonsense", "1", "0-0-0", "-1-0-0-1", "99999-0-0-0"].map(str::to_owned);
    for unknown in made_up.into_iter().chain(of_shards).chain(of_others).chain([beyond]) {
        let mut stream = session.get(Some(&unknown));
        assert_eq!(stream.status, 200, "{unknown}");
        let changed: Vec<String> = (0..4).map(|_| method(&next_event(&mut stream)).to_owned()).collect();
        assert!(changed.iter().any(|method| method == UPDATED), "{unknown}: {changed:?}");
        assert_eq!(changed.iter().filter(|method| method.ends_with("list_changed")).count(), 3);
        touch(&session);
        assert_eq!(method(&next_event(&mut stream)), UPDATED, "{unknown}");
    }
    let mut stream = other.get(Some(&id));
    let first = next_event(&mut stream);
    assert_ne!(method(&first), UPDATED, "a stream of another session is not resumed");
    let twice = format!("Accept: text/event-stream\r\nLast-Event-ID: {id}\r\nLast-Event-ID: {id}\r\n");
    assert_eq!(session.get_with(&twice).status, 400);
    drop(stream);
    assert!(end(running).events("events_missed") >= 11);
}

/// The replay buffer of a stream holds 1 KiB.
#[test]
fn event_larger_than_the_replay_buffer_is_sent_but_not_kept() {
    let limits = Limits { replay_bytes_max: 1024, replay_total_bytes_max: 4096, ..Limits::default() };
    let running = start(1, limits);
    let admin = running.admin_address().unwrap();
    let session = open(&running);
    let uri = long_uri();
    subscribe(&session, &uri);
    let mut stream = session.get(None);
    let primed = stream.event().unwrap().id;
    session.call(1, "touch_long", json!({})).response();
    assert_eq!(next_event(&mut stream).data.unwrap()["params"]["uri"], uri);
    assert!(support::metric(admin, "corelane_replay_bytes") < 1024.0);
    let mut resumed = session.get(primed.as_deref());
    let uris = (0..4).filter(|_| next_event(&mut resumed).data.unwrap()["params"]["uri"] == *uri).count();
    assert_eq!(uris, 1, "the client is notified that all of its topics may have changed");
    drop((stream, resumed));
    assert_eq!(end(running).events("events_missed"), 1);
}

#[test]
fn resumed_stream_detaches_its_previous_connection() {
    let running = start(4, Limits::default());
    for _ in 0..24 {
        let session = open(&running);
        subscribe(&session, "test://a");
        let mut before = session.get(None);
        touch(&session);
        let id = next_event(&mut before).id.unwrap();
        let mut after = session.get(Some(&id));
        assert_eq!(after.status, 200, "a client can reconnect before the server detects the disconnect");
        while let Some(event) = before.event() {
            assert_eq!(event.data, None, "only a priming event");
        }
        drop(before);
        // Only the later connection remains, whatever the descriptor number of the closed one.
        await_metric(running.admin_address().unwrap(), "corelane_connections", 1.0);
        touch(&session);
        assert_eq!(method(&next_event(&mut after)), UPDATED);
        assert_eq!(session.get(None).status, 200, "another stream besides");
    }
    end(running);
}
