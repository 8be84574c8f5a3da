//! A client of 2026-07-28: sends requests, reads JSON or event streams, and validates every message against the
//! official schema.

#![allow(unreachable_pub)]
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use corelane::{Config, Limits, NoArguments, Running, ServerBuilder, ShardMetrics, Tool};
use serde_json::{Map, Value, json};

use super::{schema::check_modern, uninterrupted};

pub const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Starts a server in this process.
pub fn start(server: ServerBuilder, shards: usize, limits: Limits) -> Running {
    server.build().start(&config(shards, limits)).unwrap()
}

pub fn config(shards: usize, limits: Limits) -> Config {
    Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(shards), limits, ..Config::default() }
}

/// As [`config`], with an admin address.
pub fn observed_config(shards: usize, limits: Limits) -> Config {
    Config { admin: Some(([127, 0, 0, 1], 0).into()), ..config(shards, limits) }
}

pub fn connect(running: &Running) -> Peer {
    Peer::connect(running.addresses()[0])
}

/// Stops a server and returns its metrics.
pub fn end(running: Running) -> ShardMetrics {
    running.stopper().drain();
    running.join().unwrap()
}

/// A tool that returns the index of its shard, for [`connect_to`].
pub fn shard_tool() -> Tool {
    Tool::new("shard").run(|_: NoArguments, cx| cx.caller().shard.to_string())
}

/// A connection to this shard.
pub fn connect_to(running: &Running, shard: usize) -> Peer {
    // Held, because a new connection goes to the shard with the fewest.
    let mut others = Vec::new();
    for _ in 0..1000 {
        let mut peer = connect(running);
        if peer.request(&PeerRequest::call("shard", json!({}))).text() == shard.to_string() {
            return peer;
        }
        others.push(peer);
    }
    panic!("no connection reached shard {shard}");
}

/// A request.
#[derive(Clone)]
pub struct PeerRequest {
    pub method: &'static str,
    pub params: Value,
    id: Value,
    capabilities: Value,
    meta: Map<String, Value>,
    headers: String,
    version: &'static str,
}

impl PeerRequest {
    pub fn new(method: &'static str, params: Value) -> Self {
        Self {
            method,
            params,
            id: json!(1),
            capabilities: json!({}),
            meta: Map::new(),
            headers: String::new(),
            version: "HTTP/1.1",
        }
    }

    pub fn call(tool: &str, arguments: Value) -> Self {
        Self::new("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    pub fn read(uri: &str) -> Self {
        Self::new("resources/read", json!({"uri": uri}))
    }

    pub fn listen(filter: Value) -> Self {
        Self::new("subscriptions/listen", json!({"notifications": filter}))
    }

    pub fn id(mut self, id: impl Into<Value>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets the capabilities of the client.
    pub fn can(mut self, capabilities: Value) -> Self {
        self.capabilities = capabilities;
        self
    }

    pub fn meta(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.meta.insert(key.to_owned(), value.into());
        self
    }

    pub fn token(self, token: impl Into<Value>) -> Self {
        self.meta("progressToken", token)
    }

    pub fn header(mut self, line: &str) -> Self {
        self.headers.push_str(line);
        self.headers.push_str("\r\n");
        self
    }

    pub fn http_1_0(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// Adds a parameter.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.params[key] = value.into();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut params = self.params.clone();
        let mut meta = self.meta.clone();
        meta.insert(VERSION.into(), "2026-07-28".into());
        meta.insert(CAPABILITIES.into(), self.capabilities.clone());
        params["_meta"] = Value::Object(meta);
        let name = match self.method {
            "tools/call" | "prompts/get" => &params["name"],
            "resources/read" => &params["uri"],
            "tasks/get" | "tasks/update" | "tasks/cancel" => &params["taskId"],
            _ => &Value::Null,
        };
        let name =
            name.as_str().map_or(String::new(), |name| format!("Mcp-Name: {}\r\n", header_value(name)));
        let body =
            json!({"jsonrpc": "2.0", "id": self.id, "method": self.method, "params": params}).to_string();
        format!(
            "POST /mcp {}\r\nHost: localhost\r\nContent-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28\r\n\
             Mcp-Method: {}\r\n{name}{}Content-Length: {}\r\n\r\n{body}",
            self.version,
            self.method,
            self.headers,
            body.len()
        )
        .into_bytes()
    }
}

/// Encodes a value for a header.
/// <https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#value-encoding>
fn header_value(value: &str) -> String {
    if value.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) && value.trim() == value {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", BASE64_STANDARD.encode(value))
    }
}

/// A complete reply: notifications, then the response.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub is_stream: bool,
    pub messages: Vec<Value>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The response.
    #[track_caller]
    pub fn last(&self) -> &Value {
        self.messages.last().unwrap_or_else(|| panic!("no message: {}", self.head))
    }

    /// The notifications before the response.
    pub fn notes(&self) -> &[Value] {
        &self.messages[..self.messages.len() - 1]
    }

    #[track_caller]
    pub fn result(&self) -> &Value {
        assert!(self.last()["result"].is_object(), "no result: {}", self.last());
        &self.last()["result"]
    }

    /// The text of the first content block.
    #[track_caller]
    pub fn text(&self) -> String {
        self.result()["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{}", self.last())).to_owned()
    }

    /// Status and code of an error.
    #[track_caller]
    pub fn refused(&self) -> (u16, i64) {
        (self.status, self.error()["code"].as_i64().unwrap_or_else(|| panic!("no error: {}", self.last())))
    }

    pub fn error(&self) -> &Value {
        &self.last()["error"]
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// An item of an event stream.
#[derive(Debug, PartialEq)]
pub enum Event {
    Message(Value),
    Comment,
}

/// A connection.
pub struct Peer {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    /// The current stream, without chunk framing.
    decoded: Vec<u8>,
    is_over: bool,
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream, buffer: Vec::new(), decoded: Vec::new(), is_over: true }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Sends a request and reads the complete reply.
    #[track_caller]
    pub fn request(&mut self, ask: &PeerRequest) -> Answer {
        self.send(ask.bytes());
        self.answer(ask)
    }

    /// Reads the complete reply to the request that was sent.
    #[track_caller]
    pub fn answer(&mut self, ask: &PeerRequest) -> Answer {
        let head = self.head();
        let status = head[9..12].parse().unwrap();
        let is_stream =
            header(&head, "content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let length = header(&head, "content-length").map(|length| length.parse::<usize>().unwrap());
        let mut messages = Vec::new();
        if header(&head, "transfer-encoding") == Some("chunked") {
            assert!(length.is_none() && is_stream, "{head}");
            self.is_over = false;
            while let Some(event) = self.event() {
                if let Event::Message(message) = event {
                    messages.push(message);
                }
            }
        } else {
            let length = length.unwrap_or_else(|| panic!("neither chunks nor a length: {head}"));
            while self.buffer.len() < length {
                self.fill().expect("the reply is cut short");
            }
            let body: Vec<u8> = self.buffer.drain(..length).collect();
            if is_stream {
                self.decoded = body;
                while let Some(event) = self.parse_event() {
                    if let Event::Message(message) = event {
                        messages.push(message);
                    }
                }
                assert!(
                    self.decoded.is_empty(),
                    "an incomplete event: {:?}",
                    String::from_utf8_lossy(&self.decoded)
                );
            } else if !body.is_empty() {
                let text = String::from_utf8_lossy(&body).into_owned();
                messages.push(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")));
            }
        }
        if is_stream {
            assert_eq!(header(&head, "x-accel-buffering"), Some("no"), "{head}");
        }
        messages.iter().for_each(|message| check(ask, message));
        if let [before @ .., last] = messages.as_slice() {
            assert!(before.iter().all(|message| message.get("id").is_none()), "{messages:?}");
            assert_eq!(last["id"], ask.id, "{last}");
        }
        Answer { status, head, is_stream, messages }
    }

    /// Sends a request that is answered with a stream, and reads the head.
    #[track_caller]
    pub fn open(&mut self, ask: &PeerRequest) -> String {
        self.send(ask.bytes());
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(header(&head, "content-type"), Some("text/event-stream"), "{head}");
        assert_eq!(header(&head, "transfer-encoding"), Some("chunked"), "{head}");
        assert_eq!(header(&head, "x-accel-buffering"), Some("no"), "{head}");
        assert_eq!(header(&head, "mcp-session-id"), None, "{head}");
        self.is_over = false;
        head
    }

    fn head(&mut self) -> String {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().expect("the server closed instead of replying");
        };
        String::from_utf8(self.buffer.drain(..end).collect()).unwrap()
    }

    /// The next item of the stream; `None` at its end.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.parse_event() {
                if let Event::Message(message) = &event {
                    check_notification(message);
                }
                return Some(event);
            }
            if self.is_over {
                assert!(
                    self.decoded.is_empty(),
                    "an incomplete event: {:?}",
                    String::from_utf8_lossy(&self.decoded)
                );
                return None;
            }
            if !self.take_chunk() {
                self.fill().expect("the stream is cut short");
            }
        }
    }

    /// The next message; panics at the end of the stream.
    #[track_caller]
    pub fn message(&mut self) -> Value {
        loop {
            match self.event() {
                Some(Event::Message(message)) => return message,
                Some(Event::Comment) => {}
                None => panic!("the stream has ended"),
            }
        }
    }

    /// Whether only comments arrive for this time.
    #[track_caller]
    pub fn expect_quiet(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            while self.take_chunk() {}
            if let Some(Event::Message(message)) = self.parse_event() {
                panic!("not quiet: {message}");
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let mut part = [0; 4096];
            match uninterrupted(|| self.stream.read(&mut part)) {
                Ok(0) => panic!("closed"),
                Ok(count) => self.buffer.extend_from_slice(&part[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }

    /// Whether the server closed the connection without further bytes and without a reset.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().is_none()
    }

    /// Removes a complete chunk from the buffer, if there is one.
    fn take_chunk(&mut self) -> bool {
        if self.is_over {
            return false;
        }
        let Some(line) = self.buffer.windows(2).position(|window| window == b"\r\n") else { return false };
        let digits = std::str::from_utf8(&self.buffer[..line]).unwrap();
        let length = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("not a chunk: {digits:?}"));
        let end = line + 2 + length + 2;
        if self.buffer.len() < end {
            return false;
        }
        assert_eq!(&self.buffer[end - 2..end], b"\r\n");
        self.decoded.extend_from_slice(&self.buffer[line + 2..end - 2]);
        self.buffer.drain(..end);
        self.is_over = length == 0;
        true
    }

    fn parse_event(&mut self) -> Option<Event> {
        let end = self.decoded.windows(2).position(|window| window == b"\n\n")?;
        let text = String::from_utf8(self.decoded.drain(..end + 2).collect()).unwrap();
        let text = text.trim_end_matches('\n');
        assert!(!text.contains(['\r', '\u{2028}', '\u{2029}']), "a line is cut: {text:?}");
        if text.starts_with(':') {
            assert_eq!(text.lines().count(), 1, "{text}");
            return Some(Event::Comment);
        }
        // One data line per event, and no event id, because streams are not resumable.
        let data =
            text.strip_prefix("event: message\ndata: ").unwrap_or_else(|| panic!("not an event: {text}"));
        assert_eq!(data.lines().count(), 1, "{text}");
        Some(Event::Message(serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))))
    }

    fn fill(&mut self) -> Option<()> {
        let mut part = [0; 16 * 1024];
        let count = uninterrupted(|| self.stream.read(&mut part)).unwrap();
        self.buffer.extend_from_slice(&part[..count]);
        (count > 0).then_some(())
    }
}

/// Validates a notification against its type.
#[track_caller]
fn check_notification(message: &Value) {
    assert_eq!(message["jsonrpc"], "2.0", "{message}");
    let name = match message["method"].as_str() {
        None | Some("notifications/tasks") => return,
        Some("notifications/progress") => "ProgressNotification",
        Some("notifications/message") => "LoggingMessageNotification",
        Some("notifications/subscriptions/acknowledged") => "SubscriptionsAcknowledgedNotification",
        Some("notifications/resources/updated") => "ResourceUpdatedNotification",
        Some("notifications/resources/list_changed") => "ResourceListChangedNotification",
        Some("notifications/tools/list_changed") => "ToolListChangedNotification",
        Some("notifications/prompts/list_changed") => "PromptListChangedNotification",
        Some(other) => panic!("{other} on a stream of the 2026 era: {message}"),
    };
    assert!(message.get("id").is_none(), "a server sends no requests: {message}");
    check_modern(name, message);
}

/// Validates a response against the type of its result.
#[track_caller]
fn check(ask: &PeerRequest, message: &Value) {
    if message.get("method").is_some() {
        return check_notification(message);
    }
    if let Some(error) = message.get("error") {
        check_modern("JSONRPCErrorResponse", message);
        match error["code"].as_i64().unwrap() {
            -32602 => check_modern("InvalidParamsError", error),
            -32021 => check_modern("MissingRequiredClientCapabilityError", message),
            -32002 | -32042 => panic!("a code of the legacy era: {message}"),
            _ => {}
        }
        return;
    }
    check_modern("JSONRPCResultResponse", message);
    let result = &message["result"];
    let name = match (result["resultType"].as_str(), ask.method) {
        (Some("input_required"), "tools/call" | "prompts/get" | "resources/read") => "InputRequiredResult",
        (Some("complete"), "tools/call") => "CallToolResult",
        (Some("complete"), "prompts/get") => "GetPromptResult",
        (Some("complete"), "resources/read") => "ReadResourceResult",
        (Some("complete"), "tools/list") => "ListToolsResult",
        (Some("complete"), "resources/list") => "ListResourcesResult",
        (Some("complete"), "resources/templates/list") => "ListResourceTemplatesResult",
        (Some("complete"), "prompts/list") => "ListPromptsResult",
        (Some("complete"), "completion/complete") => "CompleteResult",
        (Some("complete"), "server/discover") => "DiscoverResult",
        (Some("complete"), "subscriptions/listen") => "SubscriptionsListenResult",
        (Some("complete"), "tasks/get" | "tasks/update" | "tasks/cancel") => "Result",
        (Some("task"), "tools/call") => "Result",
        other => panic!("no such result: {other:?}: {message}"),
    };
    check_modern(name, result);
    if ask.method != "subscriptions/listen" {
        assert!(result["_meta"][SERVER_INFO]["name"].is_string(), "{message}");
    }
}
