//! Input of third-party clients that must be accepted: over HTTP, newline-delimited JSON and stdio, in both eras.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    Client, Reply, ServerProcess, corelane, post,
    session::{Session, handshake},
    uninterrupted,
};

const MODERN: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;
const LEGACY: &str = "2025-11-25";

/// A client over one transport, in one era; each test writes its input byte for byte.
struct Wire {
    name: &'static str,
    is_modern: bool,
    io: Io,
}

enum Io {
    Http { client: Client, session: String },
    Lines { input: Box<dyn Write>, output: BufReader<Box<dyn Read>> },
}

impl Wire {
    /// Sends a body or a line.
    fn send(&mut self, headers: &str, body: &str) {
        match &mut self.io {
            Io::Http { client, session } => {
                client.send(post(&format!("{session}{headers}"), body));
            }
            Io::Lines { input, .. } => input.write_all(format!("{body}\n").as_bytes()).unwrap(),
        }
    }

    /// The text of the next reply; of an event stream, its last message.
    fn answer(&mut self) -> String {
        match &mut self.io {
            Io::Http { client, .. } => String::from_utf8(client.read().body).unwrap(),
            Io::Lines { output, .. } => {
                let mut line = String::new();
                assert!(output.read_line(&mut line).unwrap() > 0, "{}: the server closed", self.name);
                line.trim_end().to_owned()
            }
        }
    }

    /// A request whose id and parameters are JSON texts; adds the metadata of the era.
    fn request(&mut self, id: &str, method: &str, params: &str) {
        let mut headers = String::new();
        let mut params = params.to_owned();
        if self.is_modern {
            let read: Value = serde_json::from_str(&params).unwrap();
            headers = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n");
            let name = read["name"].as_str().or(read["uri"].as_str());
            if let Some(name) = name.filter(|_| method != "completion/complete") {
                headers.push_str(&format!("Mcp-Name: {name}\r\n"));
            }
            params = if params.contains(r#""_meta":{"#) {
                params.replacen(r#""_meta":{"#, &format!(r#""_meta":{{{MODERN},"#), 1)
            } else {
                let rest = params.trim_start_matches('{');
                let comma = if rest == "}" { "" } else { "," };
                format!(r#"{{"_meta":{{{MODERN}}}{comma}{rest}"#)
            };
        }
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        self.send(&headers, &body);
    }

    fn ask_text(&mut self, id: &str, method: &str, params: &str) -> String {
        self.request(id, method, params);
        self.answer()
    }

    #[track_caller]
    fn exchange(&mut self, method: &str, params: &str) -> Value {
        let text = self.ask_text("1", method, params);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", self.name))
    }

    #[track_caller]
    fn result(&mut self, method: &str, params: &str) -> Value {
        let answer = self.exchange(method, params);
        assert!(answer["result"].is_object(), "{} {method} {params}: {answer}", self.name);
        answer["result"].clone()
    }

    fn is_http(&self) -> bool {
        matches!(self.io, Io::Http { .. })
    }
}

/// Servers for every transport, stopped with this value.
struct Servers {
    http: ServerProcess,
    tcp: ServerProcess,
    children: Vec<Child>,
}

impl Servers {
    fn start() -> Self {
        let http = ServerProcess::start(&["--shards", "1"]);
        let tcp =
            ServerProcess::spawn(corelane(&["serve", "--shards", "1", "--listen", "tcp://127.0.0.1:0"]));
        Self { http, tcp, children: Vec::new() }
    }

    fn tcp(&self) -> Io {
        let stream = TcpStream::connect(self.tcp.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Io::Lines { input: Box::new(stream.try_clone().unwrap()), output: BufReader::new(Box::new(stream)) }
    }

    fn stdio(&mut self) -> Io {
        let mut command = corelane(&["stdio"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        self.children.push(child);
        Io::Lines { input: Box::new(input), output: BufReader::new(Box::new(output)) }
    }

    fn legacy_http(&self) -> Io {
        let session = Session::open(self.http.address, LEGACY, json!({})).id;
        Io::Http { client: self.http.connect(), session: format!("Mcp-Session-Id: {session}\r\n") }
    }

    /// Every transport in every era.
    fn wires(&mut self) -> Vec<Wire> {
        let modern_http = Io::Http { client: self.http.connect(), session: String::new() };
        let mut wires = vec![
            Wire { name: "HTTP, legacy", is_modern: false, io: self.legacy_http() },
            Wire { name: "HTTP, 2026-07-28", is_modern: true, io: modern_http },
            Wire { name: "tcp, legacy", is_modern: false, io: self.tcp() },
            Wire { name: "tcp, 2026-07-28", is_modern: true, io: self.tcp() },
            Wire { name: "stdio, legacy", is_modern: false, io: self.stdio() },
            Wire { name: "stdio, 2026-07-28", is_modern: true, io: self.stdio() },
        ];
        for wire in wires.iter_mut().filter(|wire| !wire.is_modern && !wire.is_http()) {
            wire.result("initialize", &handshake(LEGACY, json!({})).to_string());
        }
        wires
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

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
    assert_eq!(rest, b"");
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
    // Official clients give up at an error, so that a new stream is opened.
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
