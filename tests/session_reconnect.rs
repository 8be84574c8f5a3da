//! Several GET streams of one legacy session: a client that reconnects while its old connection is still open.
//! <https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#multiple-connections>

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use corelane::{Config, Level, Limits, NoArguments, Resource, Running, Server, Tool, time::sleep};
use serde_json::json;
use support::{
    await_metric,
    session::{Event, Session, SessionReply},
};

/// Homes and connections are spread over the shards by chance; so many sessions make every combination likely.
const SESSIONS: usize = 8;
const SHARDS: usize = 2;

fn start(limits: Limits) -> Running {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        listen: vec![any.into()],
        admin: Some(any),
        shards: Some(SHARDS),
        limits,
        ..Config::default()
    };
    let server = Server::builder("reconnect", "0")
        .tool(Tool::new("touch").run(|_: NoArguments, cx| cx.resource_updated("test://a")))
        .tool(Tool::new("talk").run_async(async |_: NoArguments, cx| {
            cx.log(Level::Info, "begin");
            sleep(Duration::from_millis(200)).await;
            "talked"
        }))
        .resource(Resource::new("test://a", "a").run(|_, _cx| "a"))
        .build();
    server.start(&config).unwrap()
}

fn stop(running: Running) {
    running.stopper().drain();
    running.join().unwrap();
}

/// A session that is subscribed to a resource.
fn open(running: &Running) -> Session {
    let session = Session::open(running.addresses()[0], "2025-11-25", json!({}));
    session.request(1, "resources/subscribe", json!({"uri": "test://a"})).response();
    session
}

/// A stream of the session, and the id of the event that it begins with.
fn get(session: &Session) -> (SessionReply, String) {
    let mut stream = session.get(None);
    assert_eq!(stream.status, 200, "{}", stream.head);
    let first = stream.event().unwrap();
    assert_eq!(first.data, None, "nothing was missed");
    (stream, first.id.unwrap())
}

fn touch(session: &Session) {
    session.call("t", "touch", json!({})).response();
}

/// The next event, which is an update.
fn updated(stream: &mut SessionReply) -> Event {
    let event = stream.event().expect("the stream has ended");
    assert_eq!(event.data.as_ref().unwrap()["method"], "notifications/resources/updated");
    event
}

fn await_streams(running: &Running, open: usize) {
    await_metric(running.admin_address().unwrap(), "corelane_replay_streams_attached", open as f64);
}

#[test]
fn reconnect_while_the_old_connection_is_open_is_served_at_once() {
    let running = start(Limits::default());
    for _ in 0..SESSIONS {
        let session = open(&running);
        // It is never read again: the client has lost it.
        let (_old, _) = get(&session);
        for _ in 0..3 {
            let (mut new, _) = get(&session);
            touch(&session);
            updated(&mut new);
        }
        session.delete();
    }
    stop(running);
}

#[test]
fn message_is_sent_on_the_newest_open_stream_only() {
    let running = start(Limits::default());
    for _ in 0..SESSIONS {
        let session = open(&running);
        let mut streams: Vec<SessionReply> = (0..3).map(|_| get(&session).0).collect();
        while let Some(mut newest) = streams.pop() {
            touch(&session);
            updated(&mut newest);
            assert!(newest.is_quiet() && streams.iter_mut().all(SessionReply::is_quiet));
            drop(newest);
            await_streams(&running, streams.len());
        }
        touch(&session);
        let mut late = session.get(None);
        updated(&mut late);
        session.delete();
    }
    stop(running);
}

#[test]
fn resumed_stream_replays_what_was_sent_on_it_only_and_is_the_newest() {
    let running = start(Limits::default());
    for _ in 0..SESSIONS {
        let session = open(&running);
        let (mut old, _) = get(&session);
        touch(&session);
        let last = updated(&mut old).id;
        // The client does not receive these: it has lost the connection.
        touch(&session);
        touch(&session);
        let (mut new, _) = get(&session);
        touch(&session);
        let on_new = updated(&mut new).id.unwrap();
        let mut resumed = session.get(last.as_deref());
        assert_eq!(resumed.status, 200);
        let stream_of = |id: &str| id.rsplit_once('-').unwrap().0.to_owned();
        for _ in 0..2 {
            let id = updated(&mut resumed).id.unwrap();
            assert_eq!(stream_of(&id), stream_of(last.as_ref().unwrap()));
            assert_ne!(stream_of(&id), stream_of(&on_new));
        }
        assert!(resumed.is_quiet());
        for _ in 0..2 {
            updated(&mut old);
        }
        assert_eq!(old.event(), None, "the connection before is ended");
        touch(&session);
        updated(&mut resumed);
        assert!(new.is_quiet());
        session.delete();
    }
    stop(running);
}

#[test]
fn stream_beyond_the_limit_ends_the_oldest_in_order() {
    let running = start(Limits::default());
    for _ in 0..SESSIONS {
        let session = open(&running);
        let mut streams: Vec<(SessionReply, String)> = (0..8).map(|_| get(&session)).collect();
        let (mut ninth, _) = get(&session);
        let (mut oldest, id) = streams.remove(0);
        assert_eq!(oldest.event(), None);
        assert!(oldest.is_quiet(), "its connection can be used again");
        touch(&session);
        updated(&mut ninth);
        assert!(streams.iter_mut().all(|(stream, _)| stream.is_quiet()));
        let mut replaced = session.get(Some(&id));
        assert!(replaced.event().unwrap().data.is_some(), "it is gone: all topics may have changed");
        session.delete();
    }
    stop(running);
}

#[test]
fn stream_without_a_connection_makes_room_before_one_that_is_open() {
    let running = start(Limits { session_streams_max: 2, ..Limits::default() });
    for _ in 0..SESSIONS {
        let session = open(&running);
        let (mut open, _) = get(&session);
        let (lost, id) = get(&session);
        drop(lost);
        await_streams(&running, 1);
        let (third, _) = get(&session);
        assert!(open.is_quiet());
        drop(third);
        await_streams(&running, 1);
        touch(&session);
        updated(&mut open);
        let mut replaced = session.get(Some(&id));
        assert!(replaced.event().unwrap().data.is_some(), "it is gone: all topics may have changed");
        session.delete();
        await_streams(&running, 0);
    }
    stop(running);
}

#[test]
fn delete_ends_every_stream_of_the_session_and_calls_in_flight_are_answered() {
    let running = start(Limits::default());
    for _ in 0..SESSIONS {
        let session = open(&running);
        session.request(2, "logging/setLevel", json!({"level": "debug"})).response();
        let mut streams: Vec<(SessionReply, String)> = (0..3).map(|_| get(&session)).collect();
        let mut call = session.call(3, "talk", json!({}));
        let begun = call.event().unwrap();
        assert_eq!(session.delete(), 204);
        for (stream, id) in &mut streams {
            assert_eq!(stream.event(), None);
            assert_eq!(session.get(Some(id)).status, 404);
        }
        assert_eq!(call.text(), "talked");
        assert_eq!(session.get(begun.id.as_deref()).status, 404);
        await_streams(&running, 0);
    }
    stop(running);
}
