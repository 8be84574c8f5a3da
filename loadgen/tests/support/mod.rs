//! Starts the real binaries, and stub servers with faults.

#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// A fixture server on a free port.
pub struct Fixture {
    pub child: Child,
    pub url: String,
    admin: SocketAddr,
    /// Kept open while the server may write to it.
    _log: BufReader<ChildStderr>,
}

impl Fixture {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with further arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane-fixture"));
        for name in ["CONFIG", "LISTEN", "SHARDS", "CPUS", "ADMIN", "LOG"] {
            command.env_remove(format!("CORELANE_{name}"));
        }
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "1"]);
        command.args(["--log", "info"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let url = line.split_whitespace().nth(2).unwrap_or_else(|| panic!("not ready: {line}")).to_owned();
        // A later line contains the admin address.
        while !line.contains(" admin=") && log.read_line(&mut line).unwrap() > 0 {}
        let admin = line.split_once(" admin=").and_then(|(_, rest)| rest.split_whitespace().next());
        let admin = admin.unwrap_or_else(|| panic!("not started: {line}")).parse().unwrap();
        Self { child, url, admin, _log: log }
    }

    /// Waits until this many requests have been answered.
    #[track_caller]
    pub fn await_requests(&self, count: f64) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let mut stream = TcpStream::connect(self.admin).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            let line = text.lines().find(|line| line.starts_with("corelane_requests_total{"));
            let answered: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
            if answered >= count {
                return;
            }
            assert!(Instant::now() < until, "{answered} of {count} requests");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exit code and output of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The load generator's command with these arguments.
pub fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane-loadgen"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the load generator until it exits.
pub fn run(arguments: &[&str]) -> CommandOutput {
    loadgen(arguments).output().unwrap().into()
}

/// Creates an empty directory for a test.
pub fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("loadgen-{name}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Runs the load generator and returns the only run of its JSON result, and its output.
pub fn run_measured(name: &str, arguments: &[&str]) -> (Value, CommandOutput) {
    let path = scratch(name).join("result.json");
    let mut all = arguments.to_vec();
    all.extend(["--json", path.to_str().unwrap()]);
    let output = run(&all);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("no result: {output:?}"));
    let file: Value = serde_json::from_str(&text).unwrap();
    (file["runs"][0].clone(), output)
}

/// The reply of a stub to a request.
pub enum StubReply {
    /// Status 200 with a JSON body.
    Json(Value),
    /// Status 200 with an event stream of these messages.
    Stream(Vec<Value>),
    /// Status 200 with an event stream of the messages of this channel, until its senders are dropped.
    Events(Receiver<Value>),
    /// These bytes.
    Raw(Vec<u8>),
    /// The reply after a delay, in which the stub sends nothing on this connection.
    Late(Duration, Value),
    /// Status 200 with a JSON body; then the connection is closed, with or without an announcement in the head.
    Last { reply: Value, is_announced: bool },
    /// The connection is closed.
    Close,
}

/// A stub server: a function from a request and its number to a reply.
pub struct Stub {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
}

impl Stub {
    pub fn start(reply_to: impl Fn(&Value, usize) -> StubReply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let (reply_to, counter) = (Arc::new(reply_to), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (reply_to, counter) = (Arc::clone(&reply_to), Arc::clone(&counter));
                thread::spawn(move || serve(stream.unwrap(), &*reply_to, &counter));
            }
        });
        Self { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

/// The reply to `server/discover` or `tools/list`; `None` for other methods.
pub fn standard_reply(request: &Value) -> Option<StubReply> {
    let result = match request["method"].as_str()? {
        "server/discover" => json!({
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}, "resources": {"subscribe": true}},
            "serverInfo": {"name": "stub", "version": "1"},
        }),
        "tools/list" => json!({"resultType": "complete", "tools": [
            {"name": "echo", "inputSchema": {"type": "object"}},
            {"name": "touch", "inputSchema": {"type": "object"}},
        ]}),
        _ => return None,
    };
    Some(StubReply::Json(json!({"jsonrpc": "2.0", "id": request["id"], "result": result})))
}

/// The streams of a stub's subscriptions.
pub type Listeners = Arc<Mutex<Vec<Sender<Value>>>>;

/// Starts a server with subscriptions. Each tool call publishes an update to all subscribers, and has the reply that
/// `reply_to` returns.
pub fn start_publisher(reply_to: impl Fn(&Value) -> StubReply + Send + Sync + 'static) -> (Stub, Listeners) {
    let listeners = Listeners::default();
    let subscribed = Arc::clone(&listeners);
    let notification =
        |name: &str| json!({"jsonrpc": "2.0", "method": format!("notifications/{name}"), "params": {}});
    let stub = Stub::start(move |request, _| match request["method"].as_str() {
        Some("subscriptions/listen") => {
            let (sender, events) = channel();
            sender.send(notification("subscriptions/acknowledged")).unwrap();
            subscribed.lock().unwrap().push(sender);
            StubReply::Events(events)
        }
        Some("tools/call") => {
            let update = notification("resources/updated");
            subscribed.lock().unwrap().iter().for_each(|listener| listener.send(update.clone()).unwrap());
            reply_to(request)
        }
        _ => standard_reply(request).unwrap(),
    });
    (stub, listeners)
}

/// The correct reply to an echo.
pub fn echo_reply(request: &Value) -> Value {
    let text = &request["params"]["arguments"]["message"];
    let result = json!({"resultType": "complete", "content": [{"type": "text", "text": text}]});
    json!({"jsonrpc": "2.0", "id": request["id"], "result": result})
}

fn serve(stream: TcpStream, reply_to: &dyn Fn(&Value, usize) -> StubReply, counter: &AtomicUsize) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 0) && line != "\r\n" {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        if line.is_empty() || reader.read_exact(&mut body).is_err() {
            return;
        }
        let request: Value = serde_json::from_slice(&body).unwrap_or_default();
        let bytes = match reply_to(&request, counter.fetch_add(1, Ordering::SeqCst)) {
            StubReply::Json(value) => json_reply(&value),
            StubReply::Late(time, value) => {
                thread::sleep(time);
                json_reply(&value)
            }
            StubReply::Stream(messages) => stream_reply(&messages),
            StubReply::Events(events) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n";
                let mut written = writer.write_all(head.as_bytes());
                for message in events {
                    written = written.and_then(|()| write!(writer, "data: {message}\n\n"));
                }
                return;
            }
            StubReply::Raw(bytes) => bytes,
            StubReply::Last { reply, is_announced } => {
                let reply = String::from_utf8(json_reply(&reply)).unwrap();
                let head = if is_announced { "OK\r\nConnection: close\r\n" } else { "OK\r\n" };
                let _ = writer.write_all(reply.replacen("OK\r\n", head, 1).as_bytes());
                return;
            }
            StubReply::Close => return,
        };
        if writer.write_all(&bytes).is_err() {
            return;
        }
    }
}

pub fn json_reply(value: &Value) -> Vec<u8> {
    let body = value.to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
    format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn stream_reply(messages: &[Value]) -> Vec<u8> {
    let events: String =
        messages.iter().map(|message| format!("event: message\ndata: {message}\n\n")).collect();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked";
    format!("{head}\r\n\r\n{:x}\r\n{events}\r\n0\r\n\r\n", events.len()).into_bytes()
}

/// Waits for a progress line that contains all of these words; later lines are discarded.
pub fn wait_for_line(child: &mut Child, words: &[&str]) {
    wait_for_lines(child, words, 1);
}

/// Like [`wait_for_line`], for several lines.
pub fn wait_for_lines(child: &mut Child, words: &[&str], count: usize) {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut seen = 0;
    while seen < count {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended before a line had {words:?}");
        seen += usize::from(words.iter().all(|word| line.contains(word)) && !line.contains("warm-up"));
    }
    // The pipe is drained, so that the process does not block.
    thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
}

/// Part of the progress lines while measuring.
pub const MEASURING: &str = "/s · p50";

/// Waits for a process to exit, and fails after the limit.
pub fn wait_for_exit(mut child: Child, limit: Duration) -> CommandOutput {
    let until = Instant::now() + limit;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("still running after {limit:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap().into()
}
