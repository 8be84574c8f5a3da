//! Replies are identical to the byte however the request stream is split and wherever calls make it wait, except that a
//! request rejected by its head closes the connection while its body is pending.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "../benches/support/mod.rs"]
mod lane;

use std::{
    cell::RefCell,
    time::{Instant, SystemTime},
};

use corelane::{
    Limits, demo,
    internals::connection::{DeferredReply, Pipeline, Requests},
    internals::http1::{Flow, Framer, Handler, Progress, RejectReason, Request, RequestHead},
};
use corelane_ring::{PADDING_BYTES, SocketId};
use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

const CASES: u32 = 10_000;

struct Lane {
    pipeline: Pipeline,
    limits: Limits,
}

/// The output of a connection, and the state of its input at the end.
#[derive(Debug, PartialEq)]
struct Transcript {
    replies: String,
    end: &'static str,
}

/// The requests of a connection, some of which take time.
struct Waiting<'a> {
    requests: Requests<'a>,
    /// Indexes of the requests after which the connection waits as for a call.
    pauses: &'a [usize],
    number: usize,
    /// Waits for every body.
    is_patient: bool,
}

impl Handler for Waiting<'_> {
    fn wants_body(&mut self, head: &RequestHead, head_bytes: &[u8]) -> bool {
        self.is_patient || self.requests.wants_body(head, head_bytes)
    }

    fn handle(&mut self, request: Result<Request<'_>, RejectReason>) -> Flow {
        self.number += 1;
        match self.requests.handle(request) {
            Flow::Continue if self.pauses.contains(&self.number) => Flow::Pause,
            flow => flow,
        }
    }
}

impl Lane {
    fn new() -> Self {
        let limits = Limits { body_bytes_max: 4096, json_nodes_max: 100, ..Limits::default() };
        let server = demo::server().build();
        let mut pipeline = lane::pipeline(&server, &limits);
        pipeline.begin_turn(Instant::now(), SystemTime::UNIX_EPOCH);
        Self { pipeline, limits }
    }

    /// Feeds pieces to a new connection. After a request that pauses the connection, resumes with the next piece or the
    /// one after it.
    fn transcript(&mut self, pieces: &[&[u8]], pauses: &[usize], is_patient: bool) -> Transcript {
        let Self { pipeline, limits } = self;
        let mut framer = Framer::default();
        let mut out = Vec::new();
        let mut deferred = DeferredReply::default();
        let requests =
            Requests::new(pipeline, limits, (SocketId::default(), None), &mut deferred, &mut out, 0);
        let mut handler = Waiting { requests, pauses, number: 0, is_patient };
        let mut progress = Progress::Idle;
        for (position, piece) in pieces.iter().enumerate() {
            if progress == Progress::Paused && position % 2 == 0 {
                framer.hold(piece, Box::default);
                continue;
            }
            if progress == Progress::Paused {
                progress = framer.resume(limits, &mut handler);
            }
            match progress {
                Progress::Stopped => break,
                Progress::Paused => framer.hold(piece, Box::default),
                _ => {
                    let mut padded = piece.to_vec();
                    // Bytes that the kernel still holds.
                    padded.resize(piece.len() + PADDING_BYTES, b'7');
                    progress = framer.receive(&mut padded, piece.len(), limits, &mut handler);
                }
            }
        }
        while progress == Progress::Paused {
            progress = framer.resume(limits, &mut handler);
        }
        let end = match progress {
            Progress::Idle => "idle",
            Progress::Head => "head",
            Progress::Body { .. } => "body",
            Progress::Paused => "paused",
            Progress::Stopped => "stopped",
        };
        // Session ids are unique.
        let replies = String::from_utf8(out).unwrap();
        let replies = replies.split("\r\n").map(|line| match line.split_once("Mcp-Session-Id: ") {
            Some((before, id)) => format!("{before}Mcp-Session-Id: {} characters", id.trim().len()),
            None => line.to_owned(),
        });
        Transcript { replies: replies.collect::<Vec<_>>().join("\r\n"), end }
    }
}

/// Whether a connection without waiting for bodies has the same replies up to the rejection that closed it.
fn is_cut_short(impatient: &Transcript, patient: &Transcript) -> bool {
    const GUARDED: [&str; 6] = ["400 ", "403 ", "404 ", "405 ", "406 ", "415 "];
    let (before, last) = impatient.replies.rsplit_once("HTTP/1.1 ").unwrap_or_default();
    impatient.end == "stopped"
        && GUARDED.iter().any(|status| last.starts_with(status))
        && last.contains("Connection: close")
        && patient.replies.starts_with(before)
}

/// A body and its header lines.
fn message() -> impl Strategy<Value = (String, String)> {
    let text = prop_oneof![4 => "[ -~]{0,30}", 1 => any::<String>()];
    let id = prop_oneof![
        9 => select(vec![json!(1), json!("a\"b"), json!(-5)]),
        1 => select(vec![json!(null), json!(1.5)]),
    ];
    let arguments = prop_oneof![
        4 => text.prop_map(|message| json!({"name": "echo", "arguments": {"message": message}})),
        2 => any::<(f64, i32)>().prop_map(|(a, b)| json!({"name": "add", "arguments": {"a": a, "b": b}})),
        1 => Just(json!({"name": "add", "arguments": {"a": "x", "c": 1}})),
        1 => Just(json!({"name": "digest", "arguments": {"text": ""}})),
        1 => Just(json!({"name": "nope", "arguments": {}})),
        1 => Just(json!({"cursor": "0", "protocolVersion": "2025-06-18"})),
    ];
    let method = select(vec![
        "tools/call",
        "tools/call",
        "tools/call",
        "tools/call",
        "tools/list",
        "ping",
        "initialize",
        "server/discover",
        "notifications/initialized",
        "no/such/method",
    ]);
    let shaped = (id, method, arguments, any::<bool>(), 0..40_u8).prop_map(
        |(id, method, mut params, modern, twist)| {
            let mut headers = String::new();
            if modern {
                params["_meta"] = json!({
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                });
                let name = params["name"].as_str().unwrap_or("none");
                let named = if twist == 1 { "other" } else { name };
                headers = format!(
                    "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\nMcp-Name: {named}\r\n"
                );
            }
            let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
            if method.starts_with("notifications") || twist == 2 {
                message.as_object_mut().unwrap().shift_remove("id");
            }
            if twist == 3 {
                message["jsonrpc"] = Value::Null;
            }
            let mut body = message.to_string();
            match twist {
                4 => body = body.replacen('{', "{\"id\":7,", 1),
                5 => body = body.replace("\"params\":{", "\"params\":{\"x\":{\"y\":1,\"y\":2},"),
                6 => body.truncate(body.char_indices().nth(20).unwrap().0),
                7 => body = format!("[{body}]"),
                8 => body = format!(" \r\n\t{body}\n"),
                _ => {}
            }
            (headers, body)
        },
    );
    let shapeless = prop_oneof![
        Just(String::new()),
        "[\\[\\]{}:,\"0-9a-z ]{0,40}",
        Just("[".repeat(200)),
        Just(format!("[{}1]", "1,".repeat(200))),
        Just("1".repeat(2000)),
        Just(format!("{{\"{}\":1}}", "k".repeat(2000))),
    ];
    prop_oneof![9 => shaped, 1 => shapeless.prop_map(|body| (String::new(), body))]
}

/// A request that is valid HTTP most of the time.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        12 => Just("POST /mcp HTTP/1.1\r\nHost: localhost\r\n"),
        1 => Just("POST /mcp?x HTTP/1.0\r\nConnection: keep-alive\r\n"),
        1 => Just("\r\n\r\nPOST http://localhost/mcp HTTP/1.1\r\nHost: localhost\r\n"),
        1 => Just("POST http://other/mcp HTTP/1.1\r\nHost: localhost\r\n"),
        1 => Just("GET /mcp HTTP/1.1\r\nHost: localhost\r\n"),
        1 => Just("HEAD /other HTTP/1.1\r\nHost: localhost\r\n"),
        1 => Just("POST /mcp HTTP/1.1\r\nHost: evil.example\r\n"),
    ];
    let extra = prop_oneof![
        20 => Just(""),
        2 => Just("Expect: 100-continue\r\n"),
        1 => Just("Connection: close\r\n"),
        1 => Just("X: \t y\t \r\nAccept: */*\r\n"),
        1 => Just("Content-Type: text/plain\r\n"),
    ];
    (start, extra, message(), prop::option::of((prop::collection::vec(1_usize..60, 1..8), 0..4_u8))).prop_map(
        |(start, extra, (headers, body), chunks)| {
            let head = format!("{start}{extra}Content-Type: application/json\r\n{headers}");
            let Some((lengths, style)) = chunks else {
                return format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
            };
            let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            let mut rest = body.as_bytes();
            for length in lengths.iter().cycle() {
                let (chunk, behind) = rest.split_at((*length).min(rest.len()));
                rest = behind;
                let extension = ["", ";a", ";a=b;c=\"d;\\\"\"", ""][usize::from(style)];
                bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
                if chunk.is_empty() {
                    break;
                }
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(if style == 3 { b"A: b\r\nC: d\r\n\r\n" } else { b"\r\n" });
            bytes
        },
    )
}

/// Input that is not a request.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[ -~\r\n]{0,60}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..60),
        select(vec![
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1",
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n1",
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nzz\r\n",
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
            "POST /mcp HTTP/1.1\nHost: localhost\n\n",
            "GET /\0 HTTP/1.1\r\n",
            "GET / HTTP/3.0\r\n",
            "\x16\x03\x01\x02\x00",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

/// A few requests in sequence, some of them malformed.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![12 => request(), 1 => nonsense()];
    let damage = prop::option::weighted(0.2, (any::<Index>(), any::<u8>()));
    let cut = prop::option::weighted(0.1, any::<Index>());
    (prop::collection::vec(part, 1..6), damage, cut).prop_map(|(parts, damage, cut)| {
        let mut bytes = parts.concat();
        if let Some((place, byte)) = damage.filter(|_| !bytes.is_empty()) {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(end) = cut.filter(|_| !bytes.is_empty()) {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

#[test]
fn replies_are_independent_of_how_input_is_split() {
    let lane = RefCell::new(Lane::new());
    let totals = RefCell::new([0_usize; 3]);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let cuts = prop_oneof![
        19 => prop::collection::vec(any::<Index>(), 1..12),
        // Empty: the input is cut after every byte.
        1 => Just(Vec::new()),
    ];
    let pauses = prop::collection::vec(1_usize..6, 0..3);
    TestRunner::new(config)
        .run(&(stream(), cuts, pauses), |(bytes, cuts, pauses)| {
            let mut lane = lane.borrow_mut();
            let whole = lane.transcript(&[&bytes], &[], true);
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            if places.is_empty() {
                places = (0..bytes.len()).collect();
            }
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            places.dedup();
            let pieces: Vec<&[u8]> = places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
            let mut totals = totals.borrow_mut();
            totals[0] += pieces.len();
            totals[1] += whole.replies.matches("HTTP/1.1 2").count();
            totals[2] += whole.replies.matches("HTTP/1.1 4").count();
            let text = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(&lane.transcript(&pieces, &[], true), &whole, "{:?}", text);
            prop_assert_eq!(&lane.transcript(&pieces, &pauses, true), &whole, "{:?}", text);
            // The server does not wait for a pending body when the head is rejected.
            let served = lane.transcript(&pieces, &pauses, false);
            prop_assert!(
                served == whole || is_cut_short(&served, &whole),
                "{:?}: {:?}, not {:?}",
                text,
                served,
                whole
            );
            Ok(())
        })
        .unwrap();
    let [pieces, good, bad] = totals.into_inner();
    println!("{pieces} pieces, {good} replies to valid requests, {bad} rejections");
    assert!(good > 5000 && bad > 5000, "too little variety: {good} {bad}");
}
