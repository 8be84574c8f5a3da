//! What clients of other makers send, and must be answered: over HTTP, newline-delimited JSON and stdio, in both eras.

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
};

const MODERN: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;
const LEGACY: &str = "2025-11-25";

/// A client over one transport, in one era; what it sends is written by the test, byte for byte.
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

    /// The text of the next answer; of a stream of events, its last message.
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

    /// A request whose id and parameters are JSON texts; the envelope of the era is added.
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
    fn ask(&mut self, method: &str, params: &str) -> Value {
        let text = self.ask_text("1", method, params);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", self.name))
    }

    #[track_caller]
    fn result(&mut self, method: &str, params: &str) -> Value {
        let answer = self.ask(method, params);
        assert!(answer["result"].is_object(), "{} {method} {params}: {answer}", self.name);
        answer["result"].clone()
    }

    fn is_http(&self) -> bool {
        matches!(self.io, Io::Http { .. })
    }
}

/// Servers for every transport, ended with it.
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
fn uri_expanded_with_encode_uri_component_finds_its_template() {
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
            assert!(wire.ask("resources/read", &params)["error"].is_object(), "{} {uri}", wire.name);
        }
    }
}

/// A batch of 2025-03-26 whose calls end at different times; the second notification has no answer.
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
fn pending_batch_is_one_json_array_for_a_client_that_reads_no_events() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let body = batch().to_string();
    for accept in
        ["application/json", "application/json, text/event-stream;q=0", "*/*, text/event-stream;q=0.0"]
    {
        let mut client = server.connect();
        // The connection goes on, and what is pipelined behind the batch is answered behind it.
        let ping = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
        client.send(raw("1.1", &format!("Accept: {accept}\r\n"), &body)).send(raw("1.1", "", ping));
        assert_whole_batch(&client.read());
        assert_eq!(client.read().json()["id"], 9, "{accept}");
    }
    let mut reading = support::session::Reading::of(
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
    // Nor does one that asks for a stream.
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
fn connection_close_ends_the_connection_whatever_stands_beside_it() {
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
fn version_header_that_is_no_date_is_an_unsupported_version() {
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
    // A later date is a later revision: the body must say so too.
    let reply = client
        .post("MCP-Protocol-Version: 2027-01-01\r\n", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert_eq!((reply.status, reply.error_code()), (400, -32602));
    server.stop();
}
