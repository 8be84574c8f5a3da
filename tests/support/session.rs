//! A legacy client with a session: posts, reads JSON or event streams with ids, answers server requests.

#![allow(unreachable_pub)]
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

use super::{schema::check_message, uninterrupted};

/// A session and the address of its server.
#[derive(Clone)]
pub struct Session {
    pub address: SocketAddr,
    pub id: String,
    /// The negotiated revision.
    pub revision: String,
}

/// One reply being read.
pub struct SessionReply {
    reader: BufReader<TcpStream>,
    pub status: u16,
    pub head: String,
    revision: String,
    chunked: bool,
    decoded: Vec<u8>,
    length: usize,
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub retry: Option<u64>,
    /// `None` for an event without data.
    pub data: Option<Value>,
}

/// The parameters of `initialize`.
pub fn handshake(revision: &str, capabilities: Value) -> Value {
    json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "0"}})
}

impl Session {
    pub fn open(address: SocketAddr, revision: &str, capabilities: Value) -> Self {
        let without = Self { address, id: String::new(), revision: revision.to_owned() };
        let mut reply = without.request(1, "initialize", handshake(revision, capabilities));
        assert_eq!(reply.status, 200, "{}", reply.head);
        let id =
            reply.header("mcp-session-id").unwrap_or_else(|| panic!("no session: {}", reply.head)).to_owned();
        let agreed = reply.json()["result"]["protocolVersion"].as_str().unwrap().to_owned();
        let session = Self { address, id, revision: agreed };
        assert_eq!(session.notify("notifications/initialized", json!({})), 202);
        session
    }

    fn headers(&self) -> String {
        if self.id.is_empty() { String::new() } else { format!("Mcp-Session-Id: {}\r\n", self.id) }
    }

    /// A client without a session, under the revision that servers assume for a request without one.
    pub fn stateless(address: SocketAddr) -> Self {
        Self { address, id: String::new(), revision: "2025-03-26".to_owned() }
    }

    /// Sends a body on its own connection.
    pub fn post(&self, body: &Value) -> SessionReply {
        self.post_with("Accept: application/json, text/event-stream\r\n", body)
    }

    /// As [`Session::post`], with other header lines.
    pub fn post_with(&self, headers: &str, body: &Value) -> SessionReply {
        let body = body.to_string();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             {headers}{}Content-Length: {}\r\n\r\n{body}",
            self.headers(),
            body.len()
        );
        SessionReply::of(self.address, &self.revision, &head)
    }

    /// Requests a stream with other header lines.
    pub fn get_with(&self, headers: &str) -> SessionReply {
        let head = format!("GET /mcp HTTP/1.1\r\nHost: localhost\r\n{headers}{}\r\n", self.headers());
        SessionReply::of(self.address, &self.revision, &head)
    }

    pub fn request(&self, id: impl Into<Value>, method: &str, params: Value) -> SessionReply {
        self.post(&json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params}))
    }

    pub fn call(&self, id: impl Into<Value>, tool: &str, arguments: Value) -> SessionReply {
        self.request(id, "tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// Sends a notification; returns the status of the reply.
    pub fn notify(&self, method: &str, params: Value) -> u16 {
        self.post(&json!({"jsonrpc": "2.0", "method": method, "params": params})).status
    }

    pub fn answer(&self, id: &Value, result: Value) -> u16 {
        self.post(&json!({"jsonrpc": "2.0", "id": id, "result": result})).status
    }

    /// Opens the stream of the session, or resumes one.
    pub fn get(&self, last: Option<&str>) -> SessionReply {
        let last = last.map_or(String::new(), |last| format!("Last-Event-ID: {last}\r\n"));
        self.get_with(&format!("Accept: text/event-stream\r\n{last}"))
    }

    /// Deletes the session; returns the status of the reply.
    pub fn delete(&self) -> u16 {
        SessionReply::of(
            self.address,
            &self.revision,
            &format!("DELETE /mcp HTTP/1.1\r\nHost: localhost\r\n{}\r\n", self.headers()),
        )
        .status
    }
}

impl SessionReply {
    pub fn of(address: SocketAddr, revision: &str, request: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "closed instead of a reply: {head}");
        }
        let status = head[9..12].parse().unwrap();
        let mut reading = Self {
            reader,
            status,
            head,
            revision: revision.to_owned(),
            chunked: false,
            decoded: Vec::new(),
            length: 0,
        };
        reading.chunked = reading.header("transfer-encoding") == Some("chunked");
        reading.length = reading.header("content-length").map_or(0, |length| length.parse().unwrap());
        reading
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    /// The body, which is JSON.
    pub fn json(&mut self) -> Value {
        assert!(!self.is_stream(), "{}", self.head);
        let mut body = vec![0; self.length];
        self.reader.read_exact(&mut body).unwrap();
        let message: Value = serde_json::from_slice(&body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&body)));
        check_message(&self.revision, &message);
        message
    }

    /// The response, in JSON or on a stream.
    pub fn response(&mut self) -> Value {
        if !self.is_stream() {
            return self.json();
        }
        loop {
            let event = self.event().unwrap_or_else(|| panic!("the stream ended without a response"));
            if let Some(message) = event.data.filter(|message| message.get("method").is_none()) {
                return message;
            }
        }
    }

    pub fn error_code(&mut self) -> i64 {
        let message = self.response();
        message["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {message}"))
    }

    pub fn text(&mut self) -> String {
        let message = self.response();
        let text = message["result"]["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("no text: {message}")).to_owned()
    }

    /// The next message of the stream.
    pub fn message(&mut self) -> Value {
        loop {
            let event = self.event().unwrap_or_else(|| panic!("the stream has ended"));
            if let Some(message) = event.data {
                return message;
            }
        }
    }

    /// The next event; `None` at the end of the stream.
    pub fn event(&mut self) -> Option<Event> {
        assert!(self.is_stream(), "{}", self.head);
        loop {
            if let Some(end) = self.decoded.windows(2).position(|window| window == b"\n\n") {
                let text = String::from_utf8(self.decoded.drain(..end + 2).collect()).unwrap();
                assert!(!text.contains(['\r', '\u{2028}', '\u{2029}']), "a line is cut: {text:?}");
                let mut event = Event { id: None, retry: None, data: None };
                let mut is_comment = true;
                for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
                    is_comment = false;
                    let (field, value) = line.split_once(": ").unwrap();
                    match field {
                        "id" => event.id = Some(value.to_owned()),
                        "retry" => event.retry = Some(value.parse().unwrap()),
                        "data" if !value.is_empty() => {
                            let message = serde_json::from_str(value).unwrap();
                            check_message(&self.revision, &message);
                            event.data = Some(message);
                        }
                        "data" | "event" => {}
                        other => panic!("{other}"),
                    }
                }
                if !is_comment {
                    return Some(event);
                }
                continue;
            }
            self.chunk()?;
        }
    }

    /// Whether nothing arrives for a while.
    pub fn is_quiet(&mut self) -> bool {
        self.wait_for(Duration::from_millis(150), |error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        }) == Err(true)
    }

    /// Closes the connection with a reset, which the server cannot mistake for a half-close.
    pub fn reset(self) {
        socket2::SockRef::from(self.reader.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether the server closed the connection, rather than only ended the reply.
    pub fn is_closed(&mut self) -> bool {
        self.wait_for(Duration::from_secs(2), |_| false) == Ok(0)
    }

    fn wait_for(&mut self, limit: Duration, is_expected: fn(&std::io::Error) -> bool) -> Result<usize, bool> {
        self.reader.get_ref().set_read_timeout(Some(limit)).unwrap();
        let came =
            uninterrupted(|| self.reader.fill_buf().map(<[u8]>::len)).map_err(|error| is_expected(&error));
        self.reader.get_ref().set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        came
    }

    fn chunk(&mut self) -> Option<()> {
        if !self.chunked {
            // All of it has been received already.
            let mut body = vec![0; std::mem::take(&mut self.length)];
            self.reader.read_exact(&mut body).unwrap();
            self.decoded.extend_from_slice(&body);
            return (!body.is_empty()).then_some(());
        }
        let mut line = String::new();
        if self.reader.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("no chunk: {line:?}"));
        let mut chunk = vec![0; length + 2];
        self.reader.read_exact(&mut chunk).unwrap();
        chunk.truncate(length);
        self.decoded.extend_from_slice(&chunk);
        (length > 0).then_some(())
    }
}
