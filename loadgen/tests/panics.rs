//! The log of a panic anywhere in the server contains the stack, with the function that panicked.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

use corelane_loadgen::fault_injection;
use serde_json::{Value, json};

/// A fixture server whose log panics at one message, and the unread rest of its log.
struct Server {
    child: Child,
    address: String,
    log: BufReader<ChildStderr>,
}

impl Server {
    /// Starts the server. `backtrace`: value of RUST_BACKTRACE.
    fn start(panics_at: &str, backtrace: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane-fixture"));
        for name in ["CONFIG", "LISTEN", "SHARDS", "CPUS", "ADMIN", "LOG"] {
            command.env_remove(format!("CORELANE_{name}"));
        }
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        command.envs(backtrace.map(|value| ("RUST_BACKTRACE", value)));
        command
            .env(fault_injection::PANICS_VARIABLE, panics_at)
            .env(fault_injection::DELAY_VARIABLE, "300000");
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "none", "--shards", "1"]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("listening on ") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "not ready");
        }
        let address = line.split(['/', ' ']).nth(4).unwrap().to_owned();
        Self { child, address, log }
    }

    /// Sends a request and reads until the server closes.
    fn send(&self, request: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        // The read ends with the stream, or with a reset if the server left bytes unread.
        let _ = connection.read_to_end(&mut reply);
        String::from_utf8(reply).unwrap()
    }

    fn call(&self, tool: &str) -> String {
        let params = json!({"name": tool, "arguments": {}});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
        self.send(&format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// The next log line whose message starts with `message`.
    fn line(&mut self, message: &str) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "{message} is not in the log");
            // Lines that are not JSON are output of the program itself.
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["message"].as_str().is_some_and(|text| text.starts_with(message)) {
                return line;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn names(line: &Value, function: &str) -> bool {
    line["backtrace"].as_str().is_some_and(|stack| stack.contains(function))
}

const FOREIGN: &str = "POST /mcp HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n";

#[test]
fn panic_of_a_tool_is_logged_with_its_stack_when_rust_backtrace_is_set() {
    let mut server = Server::start("none", Some("1"));
    for tool in ["panic_inline", "panic_async", "panic_blocking"] {
        assert!(server.call(tool).contains("-32603"), "{tool}");
        let line = server.line("panicked at");
        assert!(names(&line, &format!("corelane_fixture::{tool}")), "{line:#}");
    }
}

#[test]
fn panic_of_a_tool_is_logged_without_a_stack_by_default() {
    let mut server = Server::start("none", None);
    for tool in ["panic_inline", "panic_async", "panic_blocking"] {
        assert!(server.call(tool).contains("-32603"), "{tool}");
        let line = server.line("panicked at");
        assert!(line.get("backtrace").is_none(), "{line:#}");
    }
}

#[test]
fn panic_while_a_connection_is_handled_is_logged_with_the_stack_of_the_panic() {
    let mut server = Server::start("host_forbidden", None);
    assert_eq!(server.send(FOREIGN), "");
    let line = server.line("connection_panicked");
    assert!(names(&line, "corelane_fixture::panic_in_log"), "{line:#}");
    assert_eq!(line["detail"], "planted; the connection is dropped");
    // The shard continues to serve.
    assert!(server.call("panic_inline").contains("-32603"));
}

#[test]
fn panic_while_a_connection_is_handled_has_no_stack_if_rust_backtrace_is_0() {
    let mut server = Server::start("host_forbidden", Some("0"));
    assert_eq!(server.send(FOREIGN), "");
    let line = server.line("connection_panicked");
    assert!(line.get("backtrace").is_none(), "{line:#}");
}

#[test]
fn panic_in_a_turn_outside_every_connection_is_logged_with_its_stack() {
    let mut server = Server::start("slow_turn", None);
    server.call(fault_injection::TOOL);
    let line = server.line("shard_failed");
    assert!(names(&line, "corelane_fixture::panic_in_log"), "{line:#}");
    assert_eq!(line["shard"], 0);
    // The restarted shard serves.
    assert!(server.call("panic_inline").contains("-32603"));
}
