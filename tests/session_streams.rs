//! Event streams of legacy sessions: which session receives which events, and how streams end.
//! <https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#listening-for-messages-from-the-server>

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/stream_server.rs"]
mod stream_server;
mod support;

use std::{
    io::{Read, Write},
    thread,
    time::Duration,
};

use corelane::{Limits, NoArguments, Registry, Resource, ResourceTemplate, Tool};
use serde_json::{Value, json};
use stream_server::{
    NEWEST, UPDATED, config, method, next_event, one_each, open, read_until, server, start, subscribe, touch,
};
use support::{
    peer::end,
    session::{Event, Session, SessionReply},
};

#[test]
fn session_stream_requires_accept_and_session_id() {
    let running = start(2, Limits::default());
    let session = open(&running);
    assert_eq!(session.get_with("Accept: application/json\r\n").status, 406);
    assert_eq!(session.get_with("Accept: text/html, text/event-stream;q=0.5\r\n").status, 200);
    let without = Session { id: String::new(), ..session.clone() };
    let mut refused = without.get(None);
    assert_eq!((refused.status, refused.json()["error"]["code"].as_i64()), (400, Some(-32000)));
    let unknown = Session { id: "A".repeat(session.id.len()), ..session.clone() };
    assert_eq!(unknown.get(None).status, 404);
    let head = format!(
        "GET /mcp HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {}\r\n\r\n",
        open(&running).id
    );
    assert_eq!(
        SessionReply::of(session.address, NEWEST, &head).status,
        400,
        "an unchunked reply cannot be distinguished from a broken one"
    );
    end(running);
}

#[test]
fn resource_update_reaches_the_session_stream_for_every_shard_combination() {
    const SHARDS: usize = 4;
    let running = start(SHARDS, Limits::default());
    let mut clients = one_each(&running, SHARDS);
    // Sessions and connections are distributed at random; this number makes every combination likely.
    let mut streams: Vec<(Session, SessionReply)> = (0..48)
        .map(|_| {
            let session = open(&running);
            let stream = session.get(None);
            assert_eq!(stream.status, 200);
            subscribe(&session, "test://a");
            (session, stream)
        })
        .collect();
    let (other, mut deaf) = (open(&running), open(&running).get(None));
    subscribe(&other, "test://b");
    let mut wrong = other.get(None);
    for client in clients.values_mut() {
        client.call("touch", json!({}));
    }
    for (number, (_, stream)) in streams.iter_mut().enumerate() {
        for _ in 0..SHARDS {
            let event = next_event(stream);
            assert_eq!(event.data.unwrap()["params"], json!({"uri": "test://a"}));
        }
        assert!(number % 12 != 0 || stream.is_quiet(), "each event is sent once");
    }
    wrong.event();
    deaf.event();
    assert!(wrong.is_quiet() && deaf.is_quiet(), "a session without a subscription receives nothing");
    end(running);
}

#[test]
fn unsubscribed_session_receives_no_updates() {
    let running = start(2, Limits::default());
    for _ in 0..6 {
        let session = open(&running);
        let mut stream = session.get(None);
        stream.event();
        subscribe(&session, "test://a");
        subscribe(&session, "test://a");
        touch(&session);
        next_event(&mut stream);
        assert!(stream.is_quiet(), "a second subscription has no effect");
        let gone = session.request(1, "resources/unsubscribe", json!({"uri": "test://a"})).response();
        assert_eq!(gone["result"], json!({}));
        touch(&session);
        assert!(stream.is_quiet());
    }
    end(running);
}

#[test]
fn list_changes_are_sent_without_a_subscription() {
    let server = server();
    let registry = server.registry();
    let running = server.start(&config(3, Limits::default())).unwrap();
    let mut streams: Vec<SessionReply> = (0..12).map(|_| open(&running).get(None)).collect();
    streams.iter_mut().for_each(|stream| drop(stream.event()));
    type Change = fn(&mut Registry);
    let changes: [(&str, Change); 3] = [
        ("resources", |registry| _ = registry.replace(Resource::new("test://c", "c").run(|_, _cx| "c"))),
        ("resources", |registry| {
            _ = registry.replace(ResourceTemplate::new("t://{x}", "t").run(|_, _cx| ""))
        }),
        ("tools", |registry| _ = registry.replace(Tool::new("new").run(|_: NoArguments, _cx| ""))),
    ];
    for (expected, change) in changes {
        registry.update(change).unwrap();
        for stream in &mut streams {
            let expected = format!("notifications/{expected}/list_changed");
            assert_eq!(next_event(stream).data.unwrap(), json!({"jsonrpc": "2.0", "method": expected}));
        }
    }
    streams.iter_mut().for_each(|stream| assert!(stream.is_quiet()));
    end(running);
}

#[test]
fn rapid_changes_are_coalesced_and_the_last_is_delivered() {
    let server = server();
    let registry = server.registry();
    let running = server.start(&config(3, Limits::default())).unwrap();
    let mut streams: Vec<SessionReply> = (0..6).map(|_| open(&running).get(None)).collect();
    streams.iter_mut().for_each(|stream| drop(stream.event()));
    for number in 0..50 {
        let uri = format!("test://{number}");
        registry.update(|registry| registry.replace(Resource::new(uri, "r").run(|_, _cx| ""))).unwrap();
    }
    registry.update(|registry| registry.replace(Tool::new("last").run(|_: NoArguments, _cx| ""))).unwrap();
    for stream in &mut streams {
        let mut resources = 0;
        // The tool was changed last; its notification comes with or after those of the resources.
        while method(&next_event(stream)) == "notifications/resources/list_changed" {
            resources += 1;
        }
        // Simultaneous changes of several lists have a fixed order.
        resources += i32::from(!stream.is_quiet());
        assert!((1..=50).contains(&resources), "{resources}");
    }
    end(running);
}

#[test]
fn deleted_session_closes_its_stream() {
    let running = start(4, Limits::default());
    for _ in 0..12 {
        let session = open(&running);
        subscribe(&session, "test://a");
        let mut stream = session.get(None);
        assert_eq!(session.delete(), 204);
        while stream.event().is_some() {}
        assert!(stream.is_quiet(), "the connection continues");
        let session = open(&running);
        let mut stream = session.get_with("Accept: text/event-stream\r\nConnection: close\r\n");
        assert_eq!((stream.status, stream.header("connection")), (200, Some("close")));
        session.delete();
        while stream.event().is_some() {}
        assert!(stream.is_closed(), "as requested");
    }
    end(running);
}

#[test]
fn streamed_reply_honours_connection_close() {
    let running = start(1, Limits::default());
    let session = open(&running);
    session.request(1, "logging/setLevel", json!({"level": "debug"})).response();
    let call =
        |tool: &str| json!({"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": {"name": tool}});
    let accept = "Accept: application/json, text/event-stream\r\n";
    for tool in ["talk", "poll"] {
        let mut reply = session.post_with(&format!("{accept}Connection: close\r\n"), &call(tool));
        while reply.event().is_some() {}
        assert!(reply.is_closed(), "{tool}");
        let mut reply = session.post_with(accept, &call(tool));
        while reply.event().is_some() {}
        assert!(reply.is_quiet(), "{tool}: the connection continues");
    }
    end(running);
}

#[test]
fn clients_that_cannot_resume_are_not_disconnected() {
    let running = start(2, Limits::default());
    let address = running.addresses()[0];
    let older = ["2025-06-18", "2025-03-26", "2024-11-05"]
        .map(|revision| Session::open(address, revision, json!({})));
    for session in older.into_iter().chain([Session::stateless(address)]) {
        let mut reply = session.call(1, "poll", json!({}));
        if !reply.is_stream() {
            assert_eq!(reply.text(), "polled");
            continue;
        }
        let events: Vec<Event> = std::iter::from_fn(|| reply.event()).collect();
        assert!(events.iter().all(|event| event.data.is_some()), "no event without data: {events:?}");
        assert_eq!(events.last().unwrap().data.as_ref().unwrap()["result"]["content"][0]["text"], "polled");
    }
    let older = Session::open(address, "2025-06-18", json!({}));
    subscribe(&older, "test://a");
    let mut stream = older.get(None);
    touch(&older);
    assert_eq!(method(&stream.event().unwrap()), UPDATED, "without a priming event");
    end(running);
}

#[test]
fn no_bytes_follow_a_stream_closed_at_drain() {
    let running = start(2, Limits::default());
    let sessions: Vec<Session> = (0..6).map(|_| open(&running)).collect();
    let mut raws: Vec<std::net::TcpStream> = sessions
        .iter()
        .map(|session| {
            subscribe(session, "test://a");
            let head = format!(
                "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {}\r\n\r\n",
                session.id
            );
            let mut raw = std::net::TcpStream::connect(session.address).unwrap();
            raw.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
            raw.write_all(head.as_bytes()).unwrap();
            raw
        })
        .collect();
    let calling = {
        let session = sessions[0].clone();
        thread::spawn(move || session.call(1, "touch_for_long", json!({})).response())
    };
    let mut texts: Vec<String> = raws.iter_mut().map(|raw| read_until(raw, UPDATED)).collect();
    running.stopper().drain();
    for (raw, text) in raws.iter_mut().zip(&mut texts) {
        raw.read_to_string(text).unwrap();
        assert!(text.contains(UPDATED), "{text}");
        assert_eq!(
            text.find("\r\n0\r\n\r\n"),
            Some(text.len() - 7),
            "nothing follows the last chunk: {text}"
        );
    }
    let answered: Value = calling.join().unwrap();
    assert!(answered["result"].is_object(), "{answered}");
    running.join().unwrap();
}
