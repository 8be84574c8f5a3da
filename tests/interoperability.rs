//! Input of third-party clients that must be accepted: over HTTP, newline-delimited JSON and stdio, in both eras.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;
#[path = "support/wire.rs"]
mod wire;

use std::io::Read;

use serde_json::{Value, json};
use support::{Reply, ServerProcess, post, session::Session};
use wire::{Io, LEGACY, Servers, Wire};

#[test]
fn uri_from_encode_uri_component_matches_its_template() {
    let mut servers = Servers::start();
    for mut wire in servers.wires() {
        for (uri, name) in [
            ("O'Brien", "O'Brien"),
            ("a!b(c)*'d'", "a!b(c)*'d'"),
            ("a@b:c", "a@b:c"),
            ("1&2=3+4;5,6$", "1&2=3+4;5,6$"),
            ("O%27Brien", "O'Brien"),
            ("%C3%A9%20%2F%3F%23", "é /?#"),
        ] {
            let params = json!({"uri": format!("demo://greeting/{uri}")}).to_string();
            let result = wire.result("resources/read", &params);
            assert_eq!(result["contents"][0]["text"], format!("Hello, {name}!"), "{} {uri}", wire.name);
            if !wire.is_modern {
                wire.result("resources/subscribe", &params);
                wire.result("resources/unsubscribe", &params);
            }
        }
        for uri in ["a/b", "a?b", "a#b", "a[b"] {
            let params = json!({"uri": format!("demo://greeting/{uri}")}).to_string();
            assert!(wire.exchange("resources/read", &params)["error"].is_object(), "{} {uri}", wire.name);
        }
    }
}

/// A batch of 2025-03-26 whose calls end at different times; the second notification has no response.
fn batch() -> Value {
    let call = |id: i64, name: &str, arguments: Value| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}});
    json!([
        call(1, "sleep", json!({"ms": 60})),
        call(2, "echo", json!({"message": "x"})),
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        call(3, "sleep", json!({"ms": 5})),
    ])
}

#[track_caller]
fn assert_whole_batch(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", reply.head);
    assert_eq!(reply.header("content-type"), Some("application/json"), "{}", reply.head);
    assert_eq!(reply.header("transfer-encoding"), None, "{}", reply.head);
    let mut ids: Vec<i64> =
        reply.json().as_array().unwrap().iter().map(|answer| answer["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
}

fn raw(version: &str, headers: &str, body: &str) -> String {
    format!(
        "POST /mcp HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn pending_batch_is_one_json_array_for_a_client_without_event_streams() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let body = batch().to_string();
    for accept in
        ["application/json", "application/json, text/event-stream;q=0", "*/*, text/event-stream;q=0.0"]
    {
        let mut client = server.connect();
        // The connection continues, and a request pipelined after the batch is answered after it.
        let ping = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
        client.send(raw("1.1", &format!("Accept: {accept}\r\n"), &body)).send(raw("1.1", "", ping));
        assert_whole_batch(&client.read());
        assert_eq!(client.read().json()["id"], 9, "{accept}");
    }
    let mut reading = support::session::SessionReply::of(
        server.address,
        "2025-03-26",
        &raw("1.1", "Accept: application/json, text/event-stream;q=0.5\r\n", &body),
    );
    assert!(reading.is_stream(), "{}", reading.head);
    assert!(reading.event().is_some());
    server.stop();
}

#[test]
fn http_1_0_client_never_gets_a_chunk() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let body = batch().to_string();
    for (connection, goes_on) in
        [("", false), ("Connection: keep-alive\r\n", true), ("Connection: keep-alive, close\r\n", false)]
    {
        for accept in ["", "Accept: application/json, text/event-stream\r\n"] {
            let mut client = server.connect();
            client.send(raw("1.0", &format!("{connection}{accept}"), &body));
            assert_whole_batch(&client.read());
            if goes_on {
                client.send(raw("1.0", "", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#));
                assert_eq!(client.read().status, 200);
            }
            assert!(client.is_closed(), "{connection}{accept}");
        }
    }
    // A request for a stream is not chunked either.
    let session = Session::open(server.address, LEGACY, json!({})).id;
    let mut client = server.connect();
    client.send(format!(
        "GET /mcp HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n"
    ));
    let reply = client.read();
    assert_eq!((reply.status, reply.header("transfer-encoding")), (400, None), "{}", reply.head);
    server.stop();
}

#[test]
fn connection_close_among_other_options_ends_the_connection() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for lines in [
        "Connection: close, keep-alive\r\n",
        "Connection: keep-alive, close\r\n",
        "Connection: close\r\nConnection: keep-alive\r\n",
        "Connection: keep-alive\r\nConnection: Close\r\n",
    ] {
        for version in ["1.0", "1.1"] {
            let mut client = server.connect();
            let reply = client.send(raw(version, lines, ping)).read();
            assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{version} {lines}");
            assert!(client.is_closed(), "{version} {lines}");
        }
    }
    server.stop();
}

#[test]
fn event_stream_with_a_weight_of_zero_is_not_sent() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let session = Session::open(server.address, LEGACY, json!({}));
    for accept in ["text/event-stream;q=0", "application/json, text/event-stream; q=0.000", "*/*;q=0"] {
        let line = format!("Accept: {accept}\r\n");
        assert_eq!(session.get_with(&line).status, 406, "{accept}");
        let mut client = server.connect();
        let params = json!({"notifications": {"toolsListChanged": true}});
        let (headers, body) = support::modern("subscriptions/listen", params);
        assert_eq!(client.post(&format!("{line}{headers}"), body).status, 406, "{accept}");
    }
    assert_eq!(session.get_with("Accept: text/event-stream;q=0.1\r\n").status, 200);
    server.stop();
}

#[test]
fn version_header_that_is_not_a_date_is_unsupported() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    let session = Session::open(server.address, LEGACY, json!({})).id;
    let session = format!("Mcp-Session-Id: {session}\r\n");
    for version in
        ["foo", "zzz", "latest", "2026-7-28", "2026-07-28x", "2026-13-01", "2026-07-32", "20260728", "9999"]
    {
        let header = format!("MCP-Protocol-Version: {version}\r\n");
        for session in ["", &session] {
            let reply = client
                .post(&format!("{session}{header}"), r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
            assert_eq!((reply.status, reply.error_code()), (400, -32000), "{version}");
            let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(version) && message.contains("2026-07-28, 2025-11-25"), "{message}");
        }
        let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(client.post(&header, note).status, 400, "{version}");
        for verb in ["GET", "DELETE"] {
            let head = format!("{verb} /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n");
            let reply = client.send(format!("{head}{session}{header}\r\n")).read();
            assert_eq!(reply.status, 400, "{verb} {version}");
        }
        let claim = json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
        }}});
        let reply = client.post(&format!("{header}Mcp-Method: server/discover\r\n"), claim.to_string());
        assert_eq!((reply.status, reply.error_code()), (400, -32022), "{version}");
        assert!(
            reply.json()["error"]["data"]["supported"].as_array().unwrap().contains(&json!("2026-07-28"))
        );
    }
    // A later date is a later revision: the body must name it too.
    let reply = client
        .post("MCP-Protocol-Version: 2027-01-01\r\n", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert_eq!((reply.status, reply.error_code()), (400, -32602));
    server.stop();
}

#[test]
fn null_for_an_optional_parameter_counts_as_absent() {
    let mut servers = Servers::start();
    for mut wire in servers.wires() {
        for (method, params) in [
            ("tools/list", r#"{"cursor":null}"#),
            ("resources/list", r#"{"cursor":null}"#),
            ("resources/templates/list", r#"{"cursor":null}"#),
            ("prompts/list", r#"{"cursor":null}"#),
            ("tools/list", r#"{"_meta":{"progressToken":null}}"#),
            (
                "tools/call",
                r#"{"name":"echo","arguments":{"message":"x"},"inputResponses":null,"requestState":null,"task":null}"#,
            ),
            ("prompts/get", r#"{"name":"greet","arguments":{"name":"Ada","other":null}}"#),
            ("resources/read", r#"{"uri":"demo://counter","inputResponses":null}"#),
            (
                "completion/complete",
                r#"{"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"name","value":"A"},"context":null}"#,
            ),
            (
                "completion/complete",
                r#"{"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"name","value":"A"},"context":{"arguments":null}}"#,
            ),
        ] {
            wire.result(method, params);
        }
        // Absent but required: the tool and the prompt report it.
        let called = wire.result("tools/call", r#"{"name":"echo","arguments":null}"#);
        assert_eq!(called["isError"], true, "{}: {called}", wire.name);
        for (method, params) in [
            ("prompts/get", r#"{"name":"greet","arguments":null}"#),
            ("prompts/get", r#"{"name":"greet","arguments":{"name":null}}"#),
            ("tools/call", r#"{"name":null}"#),
            ("resources/read", r#"{"uri":null}"#),
        ] {
            let answer = wire.exchange(method, params);
            assert_eq!(answer["error"]["code"], -32602, "{} {method} {params}: {answer}", wire.name);
        }
        if wire.is_modern {
            let info = r#"{"_meta":{"io.modelcontextprotocol/clientInfo":null,"io.modelcontextprotocol/logLevel":null}}"#;
            wire.result("server/discover", info);
            continue;
        }
        for method in ["ping", "tools/list", "prompts/list", "resources/list"] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":null}}"#);
            wire.send("", &body);
            assert!(wire.answer().contains(r#""id":1,"result":{"#), "{} {method}", wire.name);
        }
        wire.send("", r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null}"#);
        assert!(wire.answer().contains("-32602"), "{}", wire.name);
        wire.send("", r#"{"jsonrpc":"2.0","id":null,"method":"ping","params":null}"#);
        assert!(wire.answer().contains("-32600"), "{}", wire.name);
        if wire.is_http() {
            wire.send("", r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":null}"#);
            assert_eq!(wire.answer(), "");
        }
    }
}

#[test]
fn endpoint_with_a_trailing_slash_is_served() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    for (headers, body) in [
        (String::new(), r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_owned()),
        support::modern("server/discover", json!({})),
    ] {
        let request = String::from_utf8(post(&headers, body)).unwrap().replace("POST /mcp ", "POST /mcp/ ");
        assert_eq!(client.send(request).read().status, 200);
    }
    for (verb, status) in [("GET", 400), ("DELETE", 400), ("OPTIONS", 204), ("PUT", 405)] {
        let head = format!("{verb} /mcp/ HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
        assert_eq!(client.send(head).read().status, status, "{verb}");
    }
    assert_eq!(client.send("OPTIONS /mcp// HTTP/1.1\r\nHost: localhost\r\n\r\n").read().status, 404);
    server.stop();
}

#[test]
fn encoded_body_is_rejected_with_accepted_encodings() {
    let server = ServerProcess::start(&["--shards", "1", "--stats"]);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for encoding in ["gzip", "br", "deflate, identity", "zstd"] {
        let mut client = server.connect();
        let reply = client.post(&format!("Content-Encoding: {encoding}\r\n"), body);
        assert_eq!((reply.status, reply.header("accept-encoding")), (415, Some("identity")), "{encoding}");
    }
    let mut client = server.connect();
    assert_eq!(client.post("Content-Encoding: identity\r\n", body).status, 200);
    assert_eq!(client.post("Content-Encoding: \r\n", body).status, 200);
    let stats = server.stop();
    assert!(stats.contains("refused content_encoding_unsupported: 4"), "{stats}");
}

#[test]
fn byte_order_mark_and_blank_lines_are_skipped() {
    let mut servers = Servers::start();
    let listen = servers.stdio();
    for io in [servers.tcp(), listen] {
        let mut wire = Wire { name: "lines", is_modern: true, io };
        wire.send("", " \t\r\n\r\n   \r");
        wire.send("", "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n \t \r\n");
        assert!(wire.answer().contains(r#""id":1,"result""#));
        // Skipped input received no reply, and a later mark is not JSON.
        wire.send("", "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}");
        assert!(wire.answer().contains("-32700"));
        assert!(wire.ask_text("3", "tools/list", "{}").contains(r#""id":3,"#));
    }
    for first in ["\u{feff}", "\u{feff}  \r"] {
        let mut wire = Wire { name: "lines", is_modern: true, io: servers.tcp() };
        wire.send("", first);
        assert!(
            wire.ask_text("1", "tools/list", "{}").contains(r#""id":1,"#),
            "a mark alone is a blank line"
        );
    }
    // A byte order mark does not let an HTTP request of a web page through.
    let mut wire = Wire { name: "lines", is_modern: true, io: servers.tcp() };
    wire.send("", "\u{feff}POST / HTTP/1.1");
    let Io::Lines { output, .. } = &mut wire.io else { return };
    let mut rest = Vec::new();
    let _ = output.read_to_end(&mut rest);
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.lines().count() == 1 && rest.contains("not HTTP"), "{rest}");
}

/// Writes a configuration with its own key, so that ids are valid in more than one process.
fn keyed(name: &str) -> String {
    let file = |extension: &str| {
        std::env::temp_dir()
            .join(format!("corelane-interoperability-{}-{name}.{extension}", std::process::id()))
    };
    let (key, config) = (file("key"), file("toml"));
    std::fs::write(&key, "a key of at least thirty-two bytes, which this is").unwrap();
    std::fs::write(&config, format!("[security]\nsecret_file = {:?}\n", key.display().to_string())).unwrap();
    config.display().to_string()
}

/// Session state of another process is unknown to this process, which serves the session nevertheless.
fn assert_foreign(session: &Session, address: std::net::SocketAddr, last: &str) {
    let there = Session { address, ..session.clone() };
    assert_eq!(there.request(1, "ping", json!({})).status, 200);
    assert_eq!(there.request(1, "tools/list", json!({})).status, 200);
    let resumed = there.get(Some(last));
    // Official clients end without a stream at an error, so a new stream is opened.
    assert_eq!(resumed.status, 200, "an event of another process: {}", resumed.head);
    assert_eq!(there.get(None).status, 404, "its stream is unknown here");
    for method in ["resources/subscribe", "resources/unsubscribe"] {
        let mut reply = there.request(1, method, json!({"uri": "demo://counter"}));
        assert_eq!((reply.status, reply.error_code()), (404, -32001), "{method}");
    }
    // A new stream starts empty, and unsubscribing from an unknown subscription is not an error.
    let fresh = Session::open(address, LEGACY, json!({}));
    assert_eq!(fresh.get(None).status, 200);
    assert_eq!(fresh.request(1, "resources/subscribe", json!({"uri": "demo://counter"})).status, 200);
}

#[test]
fn event_ids_are_unknown_to_another_process_with_the_same_key() {
    let config = keyed("instances");
    let start = || ServerProcess::start(&["--config", &config, "--shards", "1"]);
    let server = start();
    let session = Session::open(server.address, LEGACY, json!({}));
    let mut stream = session.get(None);
    let last = stream.event().unwrap().id.unwrap();
    assert_eq!(session.request(1, "resources/subscribe", json!({"uri": "demo://counter"})).status, 200);
    drop(stream);
    assert_eq!(session.get(Some(&last)).status, 200, "known to the process that stored it");
    let second = start();
    assert_foreign(&session, second.address, &last);
    second.stop();
    server.stop();
    let restarted = start();
    // The first event on the first stream, which the old process would have numbered identically.
    let fresh = Session::open(restarted.address, LEGACY, json!({}));
    let own = fresh.get(None).event().unwrap().id.unwrap();
    assert_ne!(own, last);
    assert_foreign(&session, restarted.address, &last);
    let there = Session { address: restarted.address, ..session };
    assert_eq!(there.delete(), 204);
    assert_eq!(there.request(1, "ping", json!({})).status, 404);
    restarted.stop();
}
