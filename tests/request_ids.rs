//! Request ids in any notation of JSON: echoed as written, matched by value; the same for progress tokens.
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic#requests>

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;
#[path = "support/wire.rs"]
mod wire;

use std::time::Duration;

use serde_json::{Value, json};
use support::{ServerProcess, uninterrupted};
use wire::{Io, Servers, Wire};

/// Integers in other notations than plain digits, and their values.
const WRITTEN: [(&str, i64); 8] = [
    ("1.0", 1),
    ("1e3", 1000),
    ("1E3", 1000),
    ("10e-1", 1),
    ("-0", 0),
    ("-0.0", 0),
    ("1.50e2", 150),
    ("-2.5E+1", -25),
];

#[test]
fn integral_number_id_is_echoed_byte_for_byte() {
    let mut servers = Servers::start();
    for mut wire in servers.wires() {
        let call = r#"{"name":"echo","arguments":{"message":"a\"b\\\u00e9\n1e3"}}"#;
        for (id, _) in
            WRITTEN.into_iter().chain([("18446744073709551615.0", 0), ("-9223372036854775808e0", 0)])
        {
            // An escape before the id moves the decoded text from where it was received.
            for (method, params) in [
                ("tools/call", call),
                ("tools/call", r#"{"name":"\u0061dd","arguments":{"a":1.0,"b":2e0}}"#),
                ("tools/list", "{}"),
                ("resources/read", r#"{"uri":"demo://none"}"#),
                ("nothing", "{}"),
            ] {
                let params = params.replace(r"\u0061dd", "add");
                let answer = wire.ask_text(id, method, &params);
                assert!(answer.contains(&format!(r#""id":{id},"#)), "{} {method}: {answer}", wire.name);
                if params == call {
                    assert!(answer.contains(r#"a\"b\\é\n1e3"#), "{answer}");
                }
                if params.contains("add") {
                    assert!(answer.contains(r#""structuredContent":{"sum":3"#), "{answer}");
                }
            }
            let pending = wire.ask_text(id, "tools/call", r#"{"name":"sleep","arguments":{"ms":1}}"#);
            assert!(pending.contains(&format!(r#""id":{id},"result""#)), "{}: {pending}", wire.name);
        }
        for id in [
            "1.5",
            "18446744073709551616",
            "1e20",
            "18446744073709551616.0",
            "-9223372036854775809.0",
            "1e400",
            "1e-1",
            "null",
            "true",
            "{}",
            "[1]",
        ] {
            // One above the range of a double is not valid JSON for some parsers.
            let answer = wire.ask_text(id, "tools/list", "{}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer.get("id"), None, "{} {id}: {answer}", wire.name);
            assert!([-32600, -32700].contains(&answer["error"]["code"].as_i64().unwrap()), "{id}: {answer}");
        }
    }
}

#[test]
fn integral_number_ids_of_a_batch_are_echoed_byte_for_byte() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    let body = r#"[{"jsonrpc":"2.0","id":1e0,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"},
        {"jsonrpc":"2.0","id":1.5,"method":"ping"},
        {"jsonrpc":"2.0","id":3.0,"method":"tools/call","params":{"name":"sleep","arguments":{"ms":1}}}]"#;
    let reply = client.post("Accept: application/json\r\n", body);
    let text = String::from_utf8(reply.body).unwrap();
    for part in [
        r#""id":1e0,"result""#,
        r#""id":2,"result""#,
        r#"{"jsonrpc":"2.0","error":{"code":-32600"#,
        r#""id":3.0,"result""#,
    ] {
        assert!(text.contains(part), "{text}");
    }
    server.stop();
}

#[test]
fn request_is_cancelled_by_the_value_of_its_id() {
    let mut servers = Servers::start();
    for mut wire in servers.wires() {
        for (id, other) in
            [("1e3", "1000"), ("1000", "1e3"), ("1000.0", "10.00e2"), ("-0", "0"), (r#""1""#, r#""\u0031""#)]
        {
            let sleep = r#"{"name":"sleep","arguments":{"ms":20000}}"#;
            let cancel = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{other}}}}}"#
            );
            match &wire.io {
                Io::Lines { .. } => {
                    wire.request(id, "tools/call", sleep);
                    wire.send("", &cancel);
                    // The next line is the reply to the next request.
                    let next = wire.ask_text("7", "tools/list", "{}");
                    assert!(next.contains(r#""id":7,"#), "{} {id}: {next}", wire.name);
                }
                // In the 2026 era a call over HTTP is cancelled with its connection.
                Io::Http { .. } if wire.is_modern => {}
                Io::Http { session, .. } => {
                    let mut other = servers.http.connect();
                    let session = session.clone();
                    wire.request(id, "tools/call", sleep);
                    // Until the call has started there is nothing to cancel.
                    let mut cancelled = false;
                    wire_timeout(&mut wire, Some(Duration::from_millis(50)));
                    for _ in 0..200 {
                        assert_eq!(other.post(&session, &cancel).status, 202);
                        if has_bytes(&wire) {
                            cancelled = true;
                            break;
                        }
                    }
                    assert!(cancelled, "{id}");
                    wire_timeout(&mut wire, Some(Duration::from_secs(20)));
                    assert_eq!(wire.answer(), "");
                }
            }
        }
    }
}

fn wire_timeout(wire: &mut Wire, limit: Option<Duration>) {
    if let Io::Http { client, .. } = &mut wire.io {
        client.stream.set_read_timeout(limit).unwrap();
    }
}

fn has_bytes(wire: &Wire) -> bool {
    matches!(&wire.io, Io::Http { client, .. } if uninterrupted(|| client.stream.peek(&mut [0])).is_ok_and(|count| count > 0))
}

#[test]
fn subscription_is_cancelled_by_the_value_of_its_id() {
    let servers = Servers::start();
    let mut wire = Wire { name: "tcp, 2026-07-28", is_modern: true, io: servers.tcp() };
    let listen = r#"{"notifications":{"resourceSubscriptions":["demo://counter"],"toolsListChanged":null,"taskIds":null}}"#;
    let acknowledged = wire.ask_text("1e3", "subscriptions/listen", listen);
    assert!(acknowledged.contains(r#""io.modelcontextprotocol/subscriptionId":1e3}"#), "{acknowledged}");
    wire.send("", r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1000}}"#);
    let touched =
        wire.ask_text("2", "tools/call", r#"{"name":"touch","arguments":{"uri":"demo://counter"}}"#);
    assert!(touched.contains(r#""id":2,"#), "{touched}");
    assert!(wire.ask_text("3", "tools/list", "{}").contains(r#""id":3,"#));
}

#[test]
fn id_longer_than_a_kibibyte_is_refused_without_id() {
    let mut servers = Servers::start();
    let long = format!("\"{}\"", "x".repeat(1025));
    let longest = format!("\"{}\"", "x".repeat(1024));
    for mut wire in servers.wires() {
        assert!(wire.ask_text(&longest, "tools/list", "{}").contains(&longest), "{}", wire.name);
        let refused = |answer: String| {
            let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"));
            assert_eq!((answer.get("id"), &answer["error"]["code"]), (None, &json!(-32600)), "{answer}");
        };
        refused(wire.ask_text(&long, "tools/list", "{}"));
        refused(wire.ask_text(&format!("1.{}", "0".repeat(1023)), "tools/list", "{}"));
        for message in [
            format!(r#"{{"jsonrpc":"2.0","id":{long},"result":{{}}}}"#),
            format!(r#"{{"jsonrpc":"2.0","id":{long},"error":{{"code":1,"message":""}}}}"#),
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{long}}}}}"#
            ),
            format!(r#"{{"id":{long},"a":1,"a":2}}"#),
        ] {
            wire.send("", &message);
            refused(wire.answer());
        }
        let listen = format!(r#"{{"notifications":{{}},"_meta":{{"progressToken":{long}}}}}"#);
        for (method, params) in [
            ("tools/list", format!(r#"{{"_meta":{{"progressToken":{long}}}}}"#)),
            (
                "tools/call",
                format!(
                    r#"{{"name":"echo","arguments":{{"message":"x"}},"_meta":{{"progressToken":{long}}}}}"#
                ),
            ),
            ("tools/call", listen),
        ] {
            let answer: Value = serde_json::from_str(&wire.ask_text("4", method, &params)).unwrap();
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(4), &json!(-32602)), "{answer}");
        }
        let token = format!(r#"{{"_meta":{{"progressToken":{longest}}}}}"#);
        wire.result("tools/list", &token);
    }
    // In a batch too.
    let mut client = servers.http.connect();
    let body = format!(
        r#"[{{"jsonrpc":"2.0","id":{long},"method":"ping"}},{{"jsonrpc":"2.0","id":1,"method":"ping"}}]"#
    );
    let answers = client.post("", body).json();
    assert_eq!((answers[0].get("id"), &answers[0]["error"]["code"]), (None, &json!(-32600)));
    assert_eq!(answers[1]["id"], 1);
}

#[test]
fn integral_number_token_is_a_token() {
    let mut servers = Servers::start();
    for mut wire in servers.wires() {
        for (token, _) in WRITTEN {
            wire.result("tools/list", &format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#));
            // With an id in another notation too.
            let params = format!(
                r#"{{"name":"echo","arguments":{{"message":"x"}},"_meta":{{"progressToken":{token}}}}}"#
            );
            let answer = wire.ask_text("5e0", "tools/call", &params);
            assert!(answer.contains(r#""id":5e0,"result""#), "{} {token}: {answer}", wire.name);
        }
        for token in ["1.5", "true", "{}", "[]", "1e30", "18446744073709551616.0"] {
            let answer = wire.exchange("tools/list", &format!(r#"{{"_meta":{{"progressToken":{token}}}}}"#));
            assert_eq!(answer["error"]["code"], -32602, "{} {token}: {answer}", wire.name);
        }
    }
}
