//! Both ends of newline-delimited JSON: a client, a server on standard input and output, sockets, and messages.

#![allow(unreachable_pub, dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    config_file, corelane, example, exit_status,
    schema::{NEWEST_LEGACY, check_message},
};

/// Time limit of every wait on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(20);
/// Time without a message after which a connection counts as silent.
pub const SILENCE: Duration = Duration::from_millis(300);

/// One end of a connection of JSON lines. A thread reads, so that a test can wait for silence.
pub struct Peer {
    pub input: Option<Box<dyn Write + Send>>,
    pub output: Receiver<String>,
    /// The negotiated legacy revision.
    pub revision: String,
}

impl Peer {
    pub fn over(input: impl Write + Send + 'static, output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { input: Some(Box::new(input)), output: lines, revision: NEWEST_LEGACY.to_owned() }
    }

    pub fn send_text(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.input.as_mut().unwrap().write_all(text.as_ref()).unwrap();
        self
    }

    pub fn send(&mut self, message: &Value) -> &mut Self {
        self.send_text(format!("{message}\n"))
    }

    /// The next line, which is a message.
    pub fn next(&mut self) -> Value {
        let line = self.output.recv_timeout(LIMIT).expect("no line received");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        check_message(&self.revision, &message);
        message
    }

    pub fn request(&mut self, message: &Value) -> Value {
        self.send(message).next()
    }

    /// The next two messages, a notification first; their order is unspecified.
    pub fn next_two(&mut self) -> [Value; 2] {
        let mut both = [self.next(), self.next()];
        both.sort_by_key(|message| message.get("id").is_some());
        both
    }

    /// Opens the connection with the legacy handshake.
    pub fn initialize(&mut self, version: &str, capabilities: &Value) -> &mut Self {
        let params = json!({"protocolVersion": version, "capabilities": capabilities,
            "clientInfo": {"name": "test", "version": "0"}});
        version.clone_into(&mut self.revision);
        let agreed = self.request(&legacy(0, "initialize", params));
        assert_eq!(agreed["result"]["protocolVersion"], version, "{agreed}");
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    }

    /// Checks that no message arrives.
    pub fn is_silent(&mut self) {
        match self.output.recv_timeout(SILENCE) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("expected silence, got {other:?}"),
        }
    }

    /// Closes the input of the server.
    pub fn close(&mut self) -> &mut Self {
        self.input = None;
        self
    }

    /// Checks that the server closes the connection within `limit`, without another message.
    pub fn has_ended(&mut self, limit: Duration) {
        match self.output.recv_timeout(limit) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("expected the end, got {other:?}"),
        }
    }
}

/// A server on standard input and output.
pub struct Piped {
    pub child: Child,
    pub peer: Peer,
}

impl Piped {
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let peer = Peer::over(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, peer }
    }

    pub fn demo() -> Self {
        Self::start(corelane(&["stdio"]))
    }

    pub fn talking() -> Self {
        Self::start(example("talking", &["stdio"]))
    }

    pub fn terminate(&self) {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits for the process to exit: its status, and its stderr.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> (ExitStatus, String) {
        let status = exit_status(&mut self.child, limit);
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status, stderr)
    }

    /// Closes the input; the server exits before the deadline of a pending call.
    pub fn end(mut self) {
        let began = Instant::now();
        self.peer.close().has_ended(LIMIT);
        let (status, stderr) = self.wait(LIMIT);
        assert_eq!(status.code(), Some(0), "{stderr}");
        assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn legacy(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
}

pub fn modern_as(version: &Value, id: impl Into<Value>, method: &str, mut params: Value) -> Value {
    let meta = &mut params["_meta"];
    meta["io.modelcontextprotocol/protocolVersion"] = version.clone();
    if meta["io.modelcontextprotocol/clientCapabilities"].is_null() {
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    }
    legacy(id, method, params)
}

pub fn modern(id: impl Into<Value>, method: &str, params: Value) -> Value {
    modern_as(&json!("2026-07-28"), id, method, params)
}

/// A request of either era.
pub const ERAS: [fn(i64, &str, Value) -> Value; 2] =
    [|id, method, params| legacy(id, method, params), |id, method, params| modern(id, method, params)];

pub fn call(tool: &str, arguments: Value) -> Value {
    json!({"name": tool, "arguments": arguments})
}

pub fn sleep(ms: u64) -> Value {
    call("sleep", json!({"ms": ms}))
}

pub fn echo() -> Value {
    call("echo", json!({"message": "x"}))
}

pub fn cancel(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id.into()}})
}

pub fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

pub fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{answer}"))
}

/// Writes a configuration of limits to its own file.
pub fn limits(name: &str, limits: &str) -> String {
    config_file(
        &format!("lines-{name}"),
        &format!(
            "[limits]
{limits}
"
        ),
    )
}

pub const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

pub fn listen(id: impl Into<Value>) -> Value {
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["book://page"]});
    modern(id, "subscriptions/listen", json!({"notifications": wanted}))
}
