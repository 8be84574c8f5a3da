//! Legacy sessions on every shard: ids, ends, and event streams.
//! <https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#session-management>

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/session_server.rs"]
mod session_server;
mod support;

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use corelane::{Limits, NoArguments, Prompt, Tool};
use serde_json::json;
use session_server::{ABLE, MANY, NEWEST, await_detached, config, open, server, start};
use support::{
    ServerProcess, eventually,
    peer::end,
    session::{Session, handshake},
};

#[test]
fn session_id_is_visible_ascii_random_and_valid_on_every_shard() {
    let running = start(4, Limits::default());
    let ids: BTreeSet<String> = (0..50).map(|_| open(&running).id).collect();
    assert_eq!(ids.len(), 50);
    assert!(ids.iter().all(|id| id.len() >= 40 && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte))));
    let session = Session::open(running.addresses()[0], "2025-06-18", ABLE());
    for number in 0..MANY {
        assert_eq!(session.call(number, "echo", json!({"name": "x"})).text(), "x");
    }
    // A modern request has no session, whatever its headers contain.
    let (headers, body) = support::modern("server/discover", json!({}));
    let headers = format!("{headers}Mcp-Session-Id: nonsense\r\n");
    let reply = support::Client::connect(running.addresses()[0]).post(&headers, body);
    assert_eq!((reply.status, reply.header("mcp-session-id")), (200, None));
    end(running);
}

#[test]
fn unknown_and_deleted_sessions_are_rejected_on_every_shard() {
    let running = start(4, Limits::default());
    let session = open(&running);
    let foreign = Session { id: open(&start(1, Limits::default())).id, ..session.clone() };
    let forged = Session { id: session.id.replace(|_: char| true, "A"), ..session.clone() };
    for unknown in [foreign, forged, Session { id: "nonsense".to_owned(), ..session.clone() }] {
        let mut reply = unknown.request(1, "tools/list", json!({}));
        assert_eq!((reply.status, reply.error_code()), (404, -32001));
        assert_eq!((unknown.get(None).status, unknown.delete()), (404, 404));
        assert_eq!(unknown.notify("notifications/initialized", json!({})), 404);
    }
    for _ in 0..MANY {
        assert_eq!(session.request(1, "ping", json!({})).status, 200);
    }
    assert_eq!(session.delete(), 204);
    for _ in 0..MANY {
        assert_eq!(
            session.request(1, "ping", json!({})).status,
            404,
            "every shard has removed the session before the reply"
        );
    }
    assert_eq!(session.delete(), 404);
    assert!(end(running).refusals("unknown_session") > MANY as u64);
}

#[test]
fn session_expires_at_its_maximum_age() {
    // The expiry has a resolution of one second: the session expires between one and two seconds.
    let running = start(1, Limits { session_ttl: Duration::from_secs(2), ..Limits::default() });
    let began = Instant::now();
    let session = open(&running);
    assert_eq!(session.request(1, "ping", json!({})).status, 200);
    eventually("its expiry", || session.request(1, "ping", json!({})).status == 404);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    end(running);
}

#[test]
fn negotiated_version_overrides_a_known_version_header() {
    let running = start(4, Limits::default());
    let older = Session::open(running.addresses()[0], "2025-06-18", json!({"elicitation": {}}));
    let unable = Session::open(running.addresses()[0], NEWEST, json!({}));
    let greet = |session: &Session, version: &str| {
        let headers = format!("Accept: text/event-stream\r\nMCP-Protocol-Version: {version}\r\n");
        let call =
            json!({"jsonrpc": "2.0", "id": version, "method": "tools/call", "params": {"name": "greet"}});
        session.post_with(&headers, &call)
    };
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", NEWEST].into_iter().cycle().take(MANY) {
        let mut reply = greet(&older, version);
        let question = reply.message();
        assert_eq!(question["params"].get("mode"), None, "2025-06-18 has no modes: {version}");
        older.answer(&question["id"], json!({"action": "decline"}));
        assert_eq!(reply.text(), "decline");
        assert!(
            greet(&unable, version).response()["error"].is_object(),
            "a header does not add capabilities"
        );
    }
    let mut unknown = greet(&older, "1999-01-01");
    assert_eq!((unknown.status, unknown.error_code()), (400, -32000));
    end(running);
}

#[test]
fn deleted_sessions_are_rejected_whatever_is_deleted_later() {
    let running = start(2, Limits { session_notes_max: 3, ..Limits::default() });
    let sessions: Vec<Session> = (0..20).map(|_| open(&running)).collect();
    // Sessions that a peer opened no later than one whose record was evicted are rejected too.
    assert!(sessions.iter().all(|session| matches!(session.delete(), 204 | 404)));
    // Ids expire by the second.
    std::thread::sleep(Duration::from_millis(1100));
    let later = open(&running);
    for _ in 0..4 {
        let statuses = sessions.iter().map(|session| session.request(1, "ping", json!({})).status);
        assert_eq!(statuses.collect::<Vec<u16>>(), [404; 20]);
        assert_eq!(later.request(1, "ping", json!({})).status, 200);
    }
    end(running);
}

#[test]
fn session_methods_without_a_session_are_rejected() {
    let running = start(2, Limits::default());
    let without = Session::stateless(running.addresses()[0]);
    for (method, params) in [
        ("logging/setLevel", json!({"level": "info"})),
        ("resources/subscribe", json!({"uri": "test://a"})),
        ("resources/unsubscribe", json!({"uri": "test://a"})),
    ] {
        let mut reply = without.request(1, method, params);
        assert_eq!((reply.status, reply.error_code()), (400, -32000), "{method}");
    }
    assert_eq!((without.get(None).status, without.delete()), (400, 400));
    for (method, params) in [
        ("tools/list", json!({})),
        ("resources/read", json!({"uri": "test://a"})),
        ("prompts/get", json!({"name": "p"})),
        ("ping", json!({})),
    ] {
        assert!(without.request(1, method, params).response()["result"].is_object(), "{method}");
    }
    let response = without.call(1, "greet", json!({})).response();
    assert!(response["error"]["message"].as_str().unwrap().contains("capability"), "{response}");
    end(running);
}

#[test]
fn session_ids_signed_by_a_secret_file_survive_restart_and_resharding() {
    let file = std::env::temp_dir().join(format!("corelane-secret-{}", std::process::id()));
    fs::write(&file, "a key of at least thirty-two bytes, which this is").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let config = std::env::temp_dir().join(format!("corelane-secret-{}.toml", std::process::id()));
    fs::write(&config, format!("[security]\nsecret_file = {:?}\n", file.display().to_string())).unwrap();
    let start =
        |shards: &str| ServerProcess::start(&["--config", config.to_str().unwrap(), "--shards", shards]);
    let server = start("4");
    let sessions: Vec<Session> = (0..40).map(|_| Session::open(server.address, NEWEST, json!({}))).collect();
    server.stop();
    for (shards, all) in [("4", true), ("8", true), ("1", false)] {
        let server = start(shards);
        let statuses = sessions.iter().map(|session| {
            let session = Session { address: server.address, ..session.clone() };
            session.request(1, "ping", json!({})).status
        });
        let statuses: Vec<u16> = statuses.collect();
        let known = statuses.iter().filter(|status| **status == 200).count();
        assert!(
            statuses.iter().all(|status| matches!(status, 200 | 404)),
            "an unexpected status: {statuses:?}"
        );
        assert!(if all { known == 40 } else { known < 40 }, "{shards}: {known}");
        server.stop();
    }
    // Two processes share the key: each accepts the ids of the other.
    let (one, other) = (start("2"), start("2"));
    for _ in 0..8 {
        let session = Session::open(one.address, NEWEST, json!({}));
        let there = Session { address: other.address, ..session };
        assert_eq!(there.request(1, "ping", json!({})).status, 200);
    }
    one.stop();
    other.stop();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()];
    let refused = |why: &str| {
        let output = support::corelane(&arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr.contains("secret_file") && stderr.contains(why) && stderr.lines().count() == 1,
            "{stderr}"
        );
    };
    fs::write(&file, "short").unwrap();
    refused("32 bytes");
    fs::remove_file(&file).unwrap();
    refused("No such file");
    fs::remove_file(config).unwrap();
    fs::remove_file(format!("{}.sessions", file.display())).unwrap();
}

#[test]
fn abandoned_sessions_use_no_memory() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    let mut open = |count: usize| {
        for _ in 0..count {
            assert_eq!(client.legacy("initialize", handshake(NEWEST, json!({}))).status, 200);
        }
    };
    open(2_000);
    let before = server.status("VmRSS");
    open(20_000);
    let grown = server.status("VmRSS").saturating_sub(before);
    assert!(grown < 2_000, "{grown} KiB for 20,000 sessions");
    server.stop();
}

#[test]
fn resource_updates_reach_subscribed_sessions_across_shards() {
    let server = server();
    let registry = server.registry();
    let running = server.start(&config(3, Limits::default())).unwrap();
    for round in 0..12 {
        let session = open(&running);
        let mut stream = session.get(None);
        assert_eq!((stream.status, stream.is_stream()), (200, true));
        let subscribed = session.request("s", "resources/subscribe", json!({"uri": "test://a"})).response();
        assert_eq!(subscribed, json!({"jsonrpc": "2.0", "id": "s", "result": {}}));
        session.call(1, "touch", json!({})).response();
        let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "test://a"}});
        assert_eq!(stream.message(), updated);
        session.request(2, "resources/unsubscribe", json!({"uri": "test://a"})).response();
        session.call(3, "touch", json!({})).response();
        registry
            .update(|registry| registry.replace(Tool::new(format!("t{round}")).run(|_, _cx| "")))
            .unwrap();
        let notification = stream.message();
        assert_eq!(
            notification["method"], "notifications/tools/list_changed",
            "a list change, and no resource update after unsubscribing"
        );
        registry
            .update(|registry| {
                registry.replace(Prompt::new(format!("p{round}")).run(|_: NoArguments, _cx| ""))
            })
            .unwrap();
        assert_eq!(stream.message()["method"], "notifications/prompts/list_changed");
    }
    let unknown =
        open(&running).request(1, "resources/subscribe", json!({"uri": "test://none"})).error_code();
    assert_eq!(unknown, -32002);
    end(running);
}

#[test]
fn missed_events_are_replayed_on_one_stream() {
    let running = start(3, Limits::default());
    for _ in 0..8 {
        let session = open(&running);
        session.request(1, "resources/subscribe", json!({"uri": "test://a"})).response();
        let mut stream = session.get(None);
        session.call(2, "touch", json!({})).response();
        let first = loop {
            let event = stream.event().unwrap();
            if event.data.is_some() {
                break event;
            }
        };
        drop(stream);
        let id = first.id.unwrap();
        await_detached(&running);
        session.call(3, "touch", json!({})).response();
        session.call(4, "touch", json!({})).response();
        let mut resumed = session.get(Some(&id));
        assert_eq!(resumed.message()["method"], "notifications/resources/updated");
        assert_eq!(resumed.message()["method"], "notifications/resources/updated");
        session.call(5, "touch", json!({})).response();
        let last = resumed.event().unwrap();
        assert!(last.id.unwrap() > id, "the numbers continue");
        let other = open(&running);
        let changed = other.get(Some(&id)).message()["method"].as_str().unwrap().to_owned();
        assert!(changed.ends_with("/list_changed"), "not an event of another session: {changed}");
        assert_eq!(session.get(Some("nonsense")).status, 200);
    }
    end(running);
}

#[test]
fn session_streams_send_keep_alives_and_end_at_drain() {
    let running = start(1, Limits { stream_keep_alive: Duration::from_millis(100), ..Limits::default() });
    let session = open(&running);
    let request = format!(
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {}\r\n\r\n",
        session.id
    );
    let mut raw = std::net::TcpStream::connect(session.address).unwrap();
    std::io::Write::write_all(&mut raw, request.as_bytes()).unwrap();
    raw.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let mut bytes = Vec::new();
    while String::from_utf8_lossy(&bytes).matches(": keep-alive").count() < 2 {
        let mut part = [0; 4096];
        let count = std::io::Read::read(&mut raw, &mut part).unwrap();
        assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&part[..count]);
    }
    running.stopper().drain();
    std::io::Read::read_to_end(&mut raw, &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with("0\r\n\r\n"), "a complete reply: {text}");
    running.join().unwrap();
}
