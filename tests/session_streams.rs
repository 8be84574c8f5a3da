//! Event streams of legacy sessions: which session receives which events, replay, and bounds of the replay buffer.
//! <https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#listening-for-messages-from-the-server>

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    thread,
    time::Duration,
};

use corelane::{
    Config, Level, Limits, NoArguments, Registry, Resource, ResourceTemplate, Running, Server, Tool,
    time::sleep,
};
use serde_json::{Value, json};
use support::{
    Client, await_metric, eventually,
    peer::end,
    session::{Event, Session, SessionReply},
    uninterrupted,
};

const NEWEST: &str = "2025-11-25";
const UPDATED: &str = "notifications/resources/updated";

fn server() -> Server {
    Server::builder("streams", "0")
        .tool(Tool::new("shard").run(|_: NoArguments, cx| cx.caller().shard.to_string()))
        .tool(Tool::new("touch").run(|_: NoArguments, cx| cx.resource_updated("test://a")))
        .tool(Tool::new("touch_long").run(|_: NoArguments, cx| cx.resource_updated(&long_uri())))
        .tool(Tool::new("touch_for_long").run_async(async |_: NoArguments, cx| {
            for _ in 0..300 {
                cx.resource_updated("test://a");
                sleep(Duration::from_millis(1)).await;
            }
        }))
        .tool(Tool::new("talk").run_async(async |_: NoArguments, cx| {
            for number in 0..3 {
                cx.log(Level::Info, number);
                sleep(Duration::from_millis(20)).await;
            }
            "talked"
        }))
        .tool(Tool::new("poll").run_async(async |_: NoArguments, cx| {
            cx.disconnect(Duration::from_millis(100));
            sleep(Duration::from_millis(50)).await;
            "polled"
        }))
        .resource(Resource::new("test://a", "a").run(|_, _cx| "a"))
        .resource(Resource::new("test://b", "b").run(|_, _cx| "b"))
        .resource(Resource::new(long_uri(), "long").run(|_, _cx| "long"))
        .build()
}

fn long_uri() -> String {
    format!("test://{}", "x".repeat(1500))
}

fn config(shards: usize, limits: Limits) -> Config {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    Config { listen: vec![any.into()], admin: Some(any), shards: Some(shards), limits, ..Config::default() }
}

fn start(shards: usize, limits: Limits) -> Running {
    server().start(&config(shards, limits)).unwrap()
}

fn open(running: &Running) -> Session {
    Session::open(running.addresses()[0], NEWEST, json!({}))
}

fn subscribe(session: &Session, uri: &str) {
    let reply = session.request("s", "resources/subscribe", json!({"uri": uri})).response();
    assert_eq!(reply["result"], json!({}), "{reply}");
}

fn touch(session: &Session) {
    session.call("t", "touch", json!({})).response();
}

/// The next event with data.
fn next_event(stream: &mut SessionReply) -> Event {
    loop {
        let event = stream.event().expect("the stream has ended");
        if event.data.is_some() {
            return event;
        }
    }
}

fn method(event: &Event) -> &str {
    event.data.as_ref().unwrap()["method"].as_str().unwrap_or("")
}

/// The text of a reply up to and including `words`.
fn read_until(raw: &mut std::net::TcpStream, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        let mut part = [0; 4096];
        let count = uninterrupted(|| raw.read(&mut part)).unwrap();
        assert!(count > 0, "the reply ended: {text}");
        text.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    text
}

/// The number of an event within its stream.
fn number(event: &Event) -> u64 {
    event.id.as_ref().unwrap().rsplit('-').next().unwrap().parse().unwrap()
}

/// One connection to every shard.
fn one_each(running: &Running, shards: usize) -> BTreeMap<String, Client> {
    let mut clients = BTreeMap::new();
    for _ in 0..2000 {
        let mut client = Client::connect(running.addresses()[0]);
        let shard = client.call("shard", json!({}))["content"][0]["text"].as_str().unwrap().to_owned();
        clients.entry(shard).or_insert(client);
        if clients.len() == shards {
            return clients;
        }
    }
    panic!("only {:?} of {shards} shards replied", clients.keys());
}

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

#[test]
fn every_kept_session_can_open_a_stream() {
    let running = start(2, Limits { sessions_kept_max: 40, replay_streams_max: 1, ..Limits::default() });
    let opened: Vec<(Session, SessionReply)> = (0..40)
        .map(|_| {
            let session = open(&running);
            let stream = session.get(None);
            (session, stream)
        })
        .collect();
    assert!(opened.iter().all(|(_, stream)| stream.status == 200));
    drop(opened);
    end(running);
}

#[test]
fn session_whose_subscriptions_were_evicted_ends() {
    let running = start(2, Limits { sessions_kept_max: 2, ..Limits::default() });
    let sessions: Vec<Session> = (0..12).map(|_| open(&running)).collect();
    for session in &sessions {
        subscribe(session, "test://a");
    }
    let ended = || {
        let statuses = sessions.iter().map(|session| session.request(1, "ping", json!({})).status);
        statuses.filter(|status| *status == 404).count()
    };
    eventually("the end of all but two sessions of each shard", || ended() >= 8);
    for session in sessions.iter().filter(|session| session.get(None).status == 200) {
        touch(session);
    }
    assert!(end(running).events("session_evicted") >= 8);
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

#[test]
fn disconnected_stream_frees_its_slot_for_the_next() {
    let running = start(4, Limits::default());
    for _ in 0..12 {
        let session = open(&running);
        for _ in 0..3 {
            assert_eq!(session.get(None).status, 200);
        }
    }
    end(running);
}

#[test]
fn closed_streams_free_their_slots() {
    let limits = Limits { replay_streams_max: 4, ..Limits::default() };
    let running = start(1, limits);
    let session = open(&running);
    session.request(1, "logging/setLevel", json!({"level": "debug"})).response();
    let mut ids = Vec::new();
    for call in 0..12 {
        let mut reply = session.call(call, "talk", json!({}));
        let primed = reply.event().unwrap();
        assert!(primed.data.is_none() && primed.id.is_some(), "call {call} can be resumed: {primed:?}");
        assert_eq!(reply.text(), "talked");
        ids.push(primed.id.unwrap());
    }
    assert_eq!(session.get(ids.last().map(String::as_str)).text(), "talked");
    assert_eq!(session.get(ids.first().map(String::as_str)).status, 400, "the oldest stream was evicted");
    assert_eq!(session.get(None).status, 200, "the stream of the session is accepted too");
    end(running);
}

#[test]
fn sessions_without_streams_are_evicted() {
    let with = |limits: Limits| {
        let running = start(1, limits);
        for _ in 0..12 {
            subscribe(&open(&running), "test://a");
        }
        let mut held: Vec<(Session, SessionReply)> = (0..3)
            .map(|_| {
                let session = open(&running);
                let stream = session.get(None);
                (session, stream)
            })
            .collect();
        assert!(held.iter().all(|(_, stream)| stream.status == 200));
        let late = open(&running);
        let mut busy = late.get(None);
        assert_eq!(
            (busy.status, busy.error_code()),
            (503, -32000),
            "streams with a connection are not evicted"
        );
        held.pop();
        eventually("a free slot", || late.get(None).status == 200);
        for (session, stream) in &mut held {
            subscribe(session, "test://a");
            touch(session);
            assert_eq!(method(&next_event(stream)), UPDATED, "undisturbed by the rejection");
        }
        end(running);
    };
    with(Limits { sessions_kept_max: 3, ..Limits::default() });
    with(Limits { subscriptions_max: 12, ..Limits::default() });
}

#[test]
fn subscriptions_of_a_session_are_bounded_and_slots_are_reused() {
    let limits = Limits { subscription_topics_max: 1, ..Limits::default() };
    // With one shard every session is local; with three most sessions are on another shard.
    for shards in [1, 3] {
        let running = start(shards, limits);
        for _ in 0..6 {
            let (session, other) = (open(&running), open(&running));
            subscribe(&session, "test://a");
            let ask = |method: &str, uri: &str| session.request(1, method, json!({"uri": uri}));
            let mut refused = ask("resources/subscribe", "test://b");
            assert_eq!((refused.status, refused.error_code()), (200, -32603));
            subscribe(&session, "test://a");
            subscribe(&other, "test://b");
            ask("resources/unsubscribe", "test://a").response();
            subscribe(&session, "test://b");
        }
        assert_eq!(end(running).refusals("too_many_subscriptions"), 6);
    }
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
