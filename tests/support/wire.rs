//! Servers over HTTP, newline-delimited JSON and stdio, and one client for all of them.

#![allow(unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    Client, ServerProcess, corelane, post,
    session::{Session, handshake},
};

pub const MODERN: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;
pub const LEGACY: &str = "2025-11-25";

/// A client over one transport, in one era; each test writes its input byte for byte.
pub struct Wire {
    pub name: &'static str,
    pub is_modern: bool,
    pub io: Io,
}

pub enum Io {
    Http { client: Client, session: String },
    Lines { input: Box<dyn Write>, output: BufReader<Box<dyn Read>> },
}

impl Wire {
    /// Sends a body or a line.
    pub fn send(&mut self, headers: &str, body: &str) {
        match &mut self.io {
            Io::Http { client, session } => {
                client.send(post(&format!("{session}{headers}"), body));
            }
            Io::Lines { input, .. } => input.write_all(format!("{body}\n").as_bytes()).unwrap(),
        }
    }

    /// The text of the next reply; of an event stream, its last message.
    pub fn answer(&mut self) -> String {
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
    pub fn request(&mut self, id: &str, method: &str, params: &str) {
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

    pub fn ask_text(&mut self, id: &str, method: &str, params: &str) -> String {
        self.request(id, method, params);
        self.answer()
    }

    #[track_caller]
    pub fn exchange(&mut self, method: &str, params: &str) -> Value {
        let text = self.ask_text("1", method, params);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", self.name))
    }

    #[track_caller]
    pub fn result(&mut self, method: &str, params: &str) -> Value {
        let answer = self.exchange(method, params);
        assert!(answer["result"].is_object(), "{} {method} {params}: {answer}", self.name);
        answer["result"].clone()
    }

    pub fn is_http(&self) -> bool {
        matches!(self.io, Io::Http { .. })
    }
}

/// Servers for every transport, stopped with this value.
pub struct Servers {
    pub http: ServerProcess,
    pub tcp: ServerProcess,
    pub children: Vec<Child>,
}

impl Servers {
    pub fn start() -> Self {
        let http = ServerProcess::start(&["--shards", "1"]);
        let tcp =
            ServerProcess::spawn(corelane(&["serve", "--shards", "1", "--listen", "tcp://127.0.0.1:0"]));
        Self { http, tcp, children: Vec::new() }
    }

    pub fn tcp(&self) -> Io {
        let stream = TcpStream::connect(self.tcp.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Io::Lines { input: Box::new(stream.try_clone().unwrap()), output: BufReader::new(Box::new(stream)) }
    }

    pub fn stdio(&mut self) -> Io {
        let mut command = corelane(&["stdio"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        self.children.push(child);
        Io::Lines { input: Box::new(input), output: BufReader::new(Box::new(output)) }
    }

    pub fn legacy_http(&self) -> Io {
        let session = Session::open(self.http.address, LEGACY, json!({})).id;
        Io::Http { client: self.http.connect(), session: format!("Mcp-Session-Id: {session}\r\n") }
    }

    /// Every transport in every era.
    pub fn wires(&mut self) -> Vec<Wire> {
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
