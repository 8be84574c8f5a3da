//! Every limit of a request, over the wire: a request at the limit is served, a request one past it is rejected with
//! its status and name. Limits of calls and connections are in `tools.rs`, limits of schemas beside the code, limits of
//! the admin interface in `admin.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    thread,
    time::{Duration, Instant},
};

use corelane::{Config, Limits, Running, Server, Tool, demo};
use serde_json::{Value, json};
use support::{Client, echo, peer::end, post, session::Session, uninterrupted};

fn start(limits: Limits) -> Running {
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(1), limits, ..Config::default() };
    demo::server().build().start(&config).unwrap()
}

fn connect(running: &Running) -> Client {
    Client::connect(running.addresses()[0])
}

/// A POST of `body` with exactly these lines between the first and the last header line.
fn request(target: &str, lines: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .replace("Host: a", "Host: localhost")
}

fn ping(lines: &str) -> String {
    request("/mcp", lines, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
}

fn head_bytes(request: &str) -> usize {
    request.find("\r\n\r\n").unwrap() + 4
}

fn chunked(body: &str, extension: &str, trailer: &str) -> String {
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{:x}{extension}\r\n{body}\r\n0\r\n{trailer}\r\n", body.len())
}

/// A request with `size` of the limited quantity.
type OfSize = fn(usize) -> String;

#[test]
fn request_at_a_limit_is_served_and_one_past_it_rejected_by_name() {
    const SIZE: usize = 300;
    let all = Limits::default();
    let rows: [(&str, Limits, OfSize, u16); 12] = [
        (
            "head_too_large",
            Limits { head_bytes_max: SIZE, ..all },
            |size| ping(&format!("X: {}\r\n", "x".repeat(size - head_bytes(&ping("X: \r\n"))))),
            431,
        ),
        (
            "target_too_long",
            Limits { target_bytes_max: SIZE, ..all },
            |size| {
                let target = format!("/mcp?{}", "x".repeat(size - 5));
                ping("").replace("POST /mcp ", &format!("POST {target} "))
            },
            414,
        ),
        (
            "head_too_large",
            Limits { header_bytes_max: SIZE, ..all },
            |size| ping(&format!("X: {}\r\n", "x".repeat(size - 1))),
            431,
        ),
        (
            "head_too_large",
            Limits { headers_max: 100, ..all },
            |size| ping(&"X: y\r\n".repeat(size - 200 - 3)),
            431,
        ),
        (
            "body_too_large",
            Limits { body_bytes_max: SIZE, ..all },
            |size| request("/mcp", "", &padded(size)),
            413,
        ),
        (
            "body_too_large",
            Limits { body_bytes_max: SIZE, ..all },
            |size| chunked(&padded(size), "", ""),
            413,
        ),
        (
            "body_too_large",
            Limits { chunk_extension_bytes_max: SIZE, ..all },
            |size| chunked(&padded(100), &format!(";{}", "x".repeat(size - 1)), ""),
            413,
        ),
        (
            "head_too_large",
            Limits { trailer_bytes_max: SIZE, ..all },
            |size| chunked(&padded(100), "", &format!("X: {}\r\n", "x".repeat(size - 3))),
            431,
        ),
        (
            "not_json",
            Limits { json_depth_max: 100, ..all },
            |size| {
                // The message and its params are two more levels.
                let levels = size - 200 - 2;
                with_extra(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)))
            },
            400,
        ),
        (
            "json_too_many_nodes",
            Limits { json_nodes_max: SIZE, ..all },
            |size| {
                let others = count(&with_extra("[]"));
                with_extra(&format!("[{}]", vec!["0"; size - others].join(",")))
            },
            400,
        ),
        (
            "json_number_too_long",
            Limits { json_number_digits_max: SIZE, ..all },
            |size| with_extra(&format!("0.{}", "1".repeat(size - 2))),
            400,
        ),
        (
            "json_key_too_long",
            Limits { json_key_bytes_max: SIZE, ..all },
            |size| with_extra(&format!("{{\"{}\":1}}", "k".repeat(size))),
            400,
        ),
    ];
    for (row, (name, limits, of_size, status)) in rows.into_iter().enumerate() {
        let running = start(limits);
        let at = connect(&running).send(of_size(SIZE)).read();
        assert_eq!(at.status, 200, "{row} {name}: {}", String::from_utf8_lossy(&at.body));
        let past = connect(&running).send(of_size(SIZE + 1)).read();
        assert_eq!(past.status, status, "{row} {name}: {}", String::from_utf8_lossy(&past.body));
        assert_eq!(end(running).refusals(name), 1, "{row} {name}");
    }
}

/// A ping in a body of `size` bytes.
fn padded(size: usize) -> String {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    format!("{body}{}", " ".repeat(size - body.len()))
}

/// A ping with additional parameters.
fn with_extra(extra: &str) -> String {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"extra":{extra}}}}}"#);
    request("/mcp", "", &body)
}

/// Values in the body of a request, keys included.
fn count(request: &str) -> usize {
    fn values(value: &Value) -> usize {
        match value {
            Value::Object(members) => 1 + members.values().map(|value| 1 + values(value)).sum::<usize>(),
            Value::Array(elements) => 1 + elements.iter().map(values).sum::<usize>(),
            _ => 1,
        }
    }
    values(&serde_json::from_str(&request[head_bytes(request)..]).unwrap())
}

/// Sends a body in parts. Returns the status and the time of the reply.
fn drip(running: &Running, part: usize, parts: usize, pause: Duration) -> (u16, Duration) {
    let body = echo(&"x".repeat(part * parts));
    let bytes = post("", &body);
    let (head, body) = bytes.split_at(bytes.len() - body.len());
    let mut client = connect(running);
    let started = Instant::now();
    client.send(head);
    client.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    for part in body.chunks(part) {
        // Rejected early: the rest is not sent.
        if uninterrupted(|| client.stream.peek(&mut [0])).is_ok() {
            break;
        }
        client.send(part);
        thread::sleep(pause);
    }
    client.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (client.read().status, started.elapsed())
}

#[test]
fn paused_slow_or_endless_body_times_out() {
    let (unit, pause) = (Duration::from_secs(2), Duration::from_millis(50));
    let limits = Limits {
        body_timeout: unit / 2,
        body_total_timeout: 3 * unit,
        body_bytes_per_second_min: 1000,
        ..Limits::default()
    };
    let running = start(limits);
    let (status, took) = drip(&running, 100, 40, pause);
    assert_eq!(status, 200, "2,000 bytes a second for two seconds");
    assert!(took > limits.body_timeout);
    assert_eq!(drip(&running, 100, 2, unit).0, 408, "a pause");
    let (status, took) = drip(&running, 10, 100, pause);
    assert_eq!(status, 408, "200 bytes a second");
    assert!(took < 3 * unit, "{took:?}");
    let (status, took) = drip(&running, 100, 200, pause);
    assert_eq!(status, 408, "fast enough, and too long");
    assert!(took > 5 * unit / 2 && took < 5 * unit, "{took:?}");
    assert_eq!(end(running).refusals("body_timeout"), 3);
}

#[test]
fn client_that_does_not_read_is_closed_and_counted() {
    let big = Tool::new("big").run(|_: corelane::NoArguments, _| "x".repeat(64 * 1024));
    let limits = Limits { write_timeout: Duration::from_millis(500), ..Limits::default() };
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(1), limits, ..Config::default() };
    let running = Server::builder("test", "0").tool(big).build().start(&config).unwrap();
    let call =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "big"}}).to_string();
    let mut slow = connect(&running);
    slow.send(post("", &call).repeat(1000));
    let mut other = connect(&running);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        assert_eq!(other.call("big", json!({}))["content"][0]["text"].as_str().unwrap().len(), 64 * 1024);
    }
    drop(other);
    assert_eq!(end(running).refusals("write_timeout"), 1);
}

#[test]
fn idle_connection_is_closed() {
    let running = start(Limits { keep_alive_timeout: Duration::from_millis(300), ..Limits::default() });
    let mut client = connect(&running);
    assert_eq!(client.post("", echo("x")).status, 200);
    let answered = Instant::now();
    assert!(client.is_closed());
    assert!(answered.elapsed() >= Duration::from_millis(250));
    end(running);
}

#[test]
fn many_small_values_that_are_validated_off_the_shard_are_counted_by_their_copy() {
    let schema = json!({"type": "object", "properties": {"list": {"items": {"multipleOf": 3}}}});
    let count = Tool::new("count")
        .input_schema::<Value>(schema)
        .run(|arguments: Value, _| arguments["list"].as_array().map_or(0, Vec::len).to_string());
    let limits = Limits { calls_bytes_max: 64 * 1024, validation_inline_work_max: 1000, ..Limits::default() };
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(1), limits, ..Config::default() };
    let running = Server::builder("test", "0").tool(count).build().start(&config).unwrap();
    let mut client = Client::connect(running.addresses()[0]);
    assert_eq!(client.call("count", json!({"list": vec![3; 2000]}))["content"][0]["text"], "2000");
    // 10 KB of text, of which a copy takes 120 KB.
    let params = json!({"name": "count", "arguments": {"list": vec![3; 5000]}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    assert_eq!(client.post("", body).json()["error"]["code"], -32000);
    end(running);
}

#[test]
fn calls_of_a_batch_count_their_part_of_its_bytes() {
    let slow = Tool::new("slow").input_schema(json!({"type": "object"})).run_blocking(|_: Value, _| {
        thread::sleep(Duration::from_secs(2));
        "slept"
    });
    let limits = Limits { calls_bytes_max: 64 * 1024, ..Limits::default() };
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(1), limits, ..Config::default() };
    let running = Server::builder("test", "0").tool(slow).build().start(&config).unwrap();
    // A call counts from 16 KiB on. Of the second batch the numbers are read as text, in a second pass.
    for first_id in ["1", "1e0"] {
        let session = Session::open(running.addresses()[0], "2025-03-26", json!({}));
        let mut calls: Vec<Value> = (1..=4)
            .map(|id| {
                json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                "params": {"name": "slow", "arguments": {"text": "x".repeat(40_000)}}})
            })
            .collect();
        calls[0]["id"] = serde_json::from_str(first_id).unwrap();
        let mut answers = session.post(&json!(calls));
        let mut busy = 0;
        while let Some(event) = answers.event() {
            busy += u32::from(event.data.unwrap()["error"]["code"] == -32000);
        }
        assert_eq!(busy, 3, "one of four calls of 40,000 bytes fits: {first_id}");
    }
    end(running);
}
