//! Every kind of invalid request receives its status and error, the connection continues or closes as RFC 9112
//! requires, and the shard serves the next request.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{io::Write, thread, time::Duration};

use serde_json::{Value, json};
use support::{Client, ServerProcess, echo, post};

/// Checks that the server still replies on a new connection.
fn is_unharmed(server: &ServerProcess) {
    let mut client = server.connect();
    assert_eq!(client.call("echo", json!({"message": "still here"}))["content"][0]["text"], "still here");
}

#[test]
fn malformed_head_is_answered_and_closes_the_connection() {
    let server = ServerProcess::start(&["--shards", "1", "--stats"]);
    let json = "Content-Type: application/json";
    let cases = [
        ("garbage\r\n\r\n".to_owned(), 400),
        ("GET\r\n\r\n".to_owned(), 400),
        ("POST /mcp HTTP/3.0\r\nHost: localhost\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("POST /mcp HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n{json}\r\n\r\n"), 400),
        (
            format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\n{json}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
            ),
            400,
        ),
        (
            format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\n{json}\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            ),
            400,
        ),
        (format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{json}\r\nTransfer-Encoding: gzip\r\n\r\n"), 501),
        (
            format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\n{json}\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"
            ),
            400,
        ),
        (format!("POST /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(9000)), 414),
        (format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "x".repeat(9000)), 431),
        (format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(120)), 431),
        (format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\nA: {}", "b\r\nA: ".repeat(8000)), 431),
        (format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{json}\r\nContent-Length: 4194305\r\n\r\n"), 413),
        (format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{json}\r\nExpect: miracles\r\n\r\n"), 417),
        ("POST /mcp HTTP/1.1\nHost: localhost\n\n".to_owned(), 400),
    ];
    for (bytes, status) in &cases {
        let mut client = server.connect();
        let reply = client.send(bytes).read();
        let start: String = bytes.chars().take(120).collect();
        assert_eq!((reply.status, reply.header("connection")), (*status, Some("close")), "{start:?}");
        assert!(reply.json().get("id").is_none(), "the error has no id");
        assert!(client.is_closed(), "{start:?}");
    }
    is_unharmed(&server);
    let stats = server.stop();
    for reason in [
        "malformed_head",
        "http_version_not_supported",
        "host_missing",
        "length_ambiguous",
        "malformed_chunk",
    ] {
        assert!(stats.contains(&format!("refused {reason}: ")), "{reason} is not counted: {stats}");
    }
    for reason in [
        "transfer_encoding_unknown",
        "target_too_long",
        "head_too_large",
        "body_too_large",
        "expectation_unknown",
    ] {
        assert!(stats.contains(&format!("refused {reason}: ")), "{reason} is not counted: {stats}");
    }
}

#[test]
fn rejection_reaches_a_client_that_is_still_sending() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    client.send("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        for _ in 0..100 {
            if writer.write_all(&[b'x'; 10_000]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(client.read().status, 413, "the reply is not lost to a reset");
    writing.join().unwrap();
    is_unharmed(&server);
    server.stop();
}

#[test]
fn wrong_path_or_verb_without_a_body_keeps_the_connection_open() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    let request = |verb: &str, path: &str, headers: &str| {
        format!("{verb} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
    };
    assert_eq!(client.send(request("GET", "/", "")).read().status, 404);
    for verb in ["PUT", "BREW"] {
        let reply = client.send(request(verb, "/mcp", "")).read();
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, Some("POST, GET, DELETE, OPTIONS")),
            "{verb}"
        );
    }
    client.send(request("HEAD", "/mcp", ""));
    let head = client.read();
    assert_eq!((head.status, head.header("content-length")), (405, Some("0")), "a reply to HEAD has no body");
    let evil =
        request("POST", "/mcp", "Content-Type: application/json\r\n").replace("localhost", "evil.example");
    assert_eq!(client.send(evil).read().status, 403, "forbidden host");
    assert_eq!(client.post("Origin: http://localhost:3000\r\n", echo("x")).status, 200);
    for (headers, status) in [
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Type: application/json\r\nOrigin: http://evil.example\r\n", 403),
    ] {
        for body in ["", "{", "{}"] {
            let mut client = server.connect();
            client.send(request("POST", "/mcp", &format!("{headers}Content-Length: 2\r\n")) + body);
            assert_eq!(client.read().status, status, "rejected before the body arrived: {body:?}");
            assert!(client.is_closed());
        }
    }
    server.stop();
}

#[test]
fn body_that_is_not_json_is_a_parse_error() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    let deep = "[".repeat(100_000);
    let deep_object = "{\"a\":".repeat(100_000);
    for body in ["", "{", "nonsense", "{\"a\":1,}", "\u{feff}{}", "{}{}", "\"\u{1}\"", &deep, &deep_object] {
        let reply = client.post("", body);
        assert_eq!((reply.status, reply.error_code()), (400, -32700), "{:.40}", body);
        assert!(reply.json().get("id").is_none(), "the error has no id");
    }
    let invalid_utf8 = client.post("", b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}");
    assert_eq!((invalid_utf8.status, invalid_utf8.error_code()), (400, -32700));
    let many = format!("[{}1]", "1,".repeat(200_000));
    assert_eq!(client.post("", many).error_code(), -32600, "too many values");
    is_unharmed(&server);
    server.stop();
}

#[test]
fn json_beyond_its_limits_is_rejected_and_counted_by_reason() {
    let server = ServerProcess::start(&["--shards", "1", "--stats"]);
    let mut client = server.connect();
    let limits = corelane::Limits::default();
    let ping = |member: &str| format!(r#"{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{{member}}}}}"#);
    let digits = |count: usize| ping(&format!(r#""x":0.{}"#, "1".repeat(count - 2)));
    let key = |count: usize| ping(&format!(r#""{}":1"#, "k".repeat(count)));
    // The five members and the four names outside count as ten values, the array and its name as two.
    let nodes = |count: usize| ping(&format!(r#""x":[{}1]"#, "1,".repeat(count - 12)));
    let depth = |count: usize| ping(&format!(r#""x":{}{}"#, "[".repeat(count - 2), "]".repeat(count - 2)));
    for (fits, beyond, code, id) in [
        (
            digits(limits.json_number_digits_max),
            digits(limits.json_number_digits_max + 1),
            -32600,
            Value::Null,
        ),
        (key(limits.json_key_bytes_max), key(limits.json_key_bytes_max + 1), -32600, json!(7)),
        (nodes(limits.json_nodes_max), nodes(limits.json_nodes_max + 1), -32600, json!(7)),
        (depth(limits.json_depth_max), depth(limits.json_depth_max + 1), -32700, Value::Null),
        (ping(r#""x":{"a":1,"A":1}"#), ping(r#""x":{"a":1,"a":1}"#), -32600, json!(7)),
    ] {
        let reply = client.post("", &fits);
        assert_eq!((reply.status, &reply.json()["result"]), (200, &json!({})), "{fits:.80}");
        let reply = client.post("", &beyond);
        assert_eq!((reply.status, reply.error_code()), (400, code), "{beyond:.80}");
        assert_eq!(reply.json()["id"], id, "{beyond:.80}");
    }
    let many = |last: &str| {
        let members: Vec<_> = (0..1000).map(|number| format!(r#""{number}":0"#)).collect();
        ping(&format!(r#"{},"{last}":1"#, members.join(",")))
    };
    assert_eq!(client.post("", many("1000")).status, 200);
    assert_eq!(client.post("", many("500")).error_code(), -32600);
    let two_ids = client.post("", r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}"#);
    assert_eq!((two_ids.error_code(), two_ids.json().get("id")), (-32600, None), "the error has no id");
    is_unharmed(&server);
    let stats = server.stop();
    for (reason, count) in [
        ("json_number_too_long", 1),
        ("json_key_too_long", 1),
        ("json_too_many_nodes", 1),
        ("not_json", 1),
        ("json_repeated_key", 3),
    ] {
        assert!(stats.contains(&format!("refused {reason}: {count}\n")), "{reason}: {stats}");
    }
}

#[test]
fn invalid_calls_are_distinguished_by_cause() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    for era in [Client::legacy, Client::modern] {
        let unknown = era(&mut client, "tools/call", json!({"name": "nope", "arguments": {}}));
        assert_eq!(
            (unknown.status, unknown.error_code()),
            (200, -32602),
            "an unknown tool is a protocol error"
        );
        assert_eq!(unknown.json()["error"]["message"], "Unknown tool: nope");
        for params in [json!({}), json!({"name": 1}), json!({"name": "echo", "arguments": []})] {
            let reply = era(&mut client, "tools/call", params.clone());
            assert!(matches!(reply.status, 200 | 400), "{params}");
            assert!(matches!(reply.error_code(), -32602 | -32020), "{params}");
        }
        let cursor = era(&mut client, "tools/list", json!({"cursor": "nonsense"}));
        assert_eq!(cursor.error_code(), -32602, "an invalid cursor");
    }
    let wrong = client.call("add", json!({"a": "x", "c": 1}));
    assert_eq!(wrong["isError"], true, "a result that the model can correct");
    let text = wrong["content"][0]["text"].as_str().unwrap();
    for part in ["/a: ", "\"b\"", "\"c\""] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(
        client.call("echo", Value::Null)["isError"],
        true,
        "null counts as absent, and the tool names the field"
    );
    server.stop();
}

#[test]
fn request_in_single_bytes_or_chunks_is_served() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    let bytes = post("", echo("slowly"));
    for byte in &bytes {
        client.send([*byte]);
    }
    assert_eq!(client.read().json()["result"]["content"][0]["text"], "slowly");
    let body = echo("in chunks");
    let (first, second) = body.split_at(30);
    client.send("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(format!("{:x}\r\n{first}\r\n{:x};a=b\r\n{second}\r\n0\r\n\r\n", first.len(), second.len()));
    assert_eq!(client.read().json()["result"]["content"][0]["text"], "in chunks");
    let big = "y".repeat(3_000_000);
    assert_eq!(client.post("", echo(&big)).json()["result"]["content"][0]["text"], big);
    let head =
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n";
    let body = echo("expected");
    client.send(format!("{head}Content-Length: {}\r\n\r\n", body.len()));
    assert_eq!(client.read().status, 100);
    assert_eq!(client.send(&body).read().json()["result"]["content"][0]["text"], "expected");
    server.stop();
}

#[test]
fn slow_heads_and_bodies_time_out() {
    let server = ServerProcess::start(&["--shards", "1", "--stats"]);
    let mut head = server.connect();
    head.send("POST /mcp HTTP/1.1\r\nHo");
    let mut body = server.connect();
    body.send("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\nab");
    // A trickle of bytes does not extend the header timeout.
    for _ in 0..5 {
        // Shorter than the header timeout; their sum exceeds it.
        thread::sleep(Duration::from_millis(500));
        head.send("x");
    }
    assert_eq!(head.read().status, 408);
    assert!(head.is_closed());
    assert_eq!(body.read().status, 408);
    assert!(body.is_closed());
    let stats = server.stop();
    assert!(
        stats.contains("refused head_timeout: 1") && stats.contains("refused body_timeout: 1"),
        "{stats}"
    );
}

#[test]
fn hostile_connections_leave_no_memory_or_descriptors() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let hostile: [&[u8]; 6] = [
        b"\xff\xfe\xfd",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"half",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{\"a",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffff\r\n",
        b"",
    ];
    const CROWD: usize = 30;
    const WARM: usize = 100;
    const ROUNDS: usize = 500;
    let mut baseline = None;
    for round in 0..ROUNDS {
        let mut clients: Vec<Client> = (0..CROWD).map(|_| server.connect()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let _ = client.stream.write_all(hostile[number % hostile.len()]);
            if number % 2 == 0 {
                let _ = socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
            }
        }
        drop(clients);
        if round == WARM {
            baseline = Some((server.status("VmRSS"), server.descriptors()));
        }
    }
    is_unharmed(&server);
    let (memory, descriptors) = baseline.unwrap();
    assert_eq!(server.descriptors(), descriptors);
    // The kernel grants memory in pages of up to 2 MiB, so small growth proves nothing; growth beyond this bound does.
    let grown = server.status("VmRSS").saturating_sub(memory) * 1024;
    let each = grown / ((ROUNDS - WARM) * CROWD) as u64;
    assert!(each < 512, "{each} bytes left behind by each connection");
    server.stop();
}
