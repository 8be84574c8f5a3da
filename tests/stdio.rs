//! The server on standard input and output.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    corelane, run,
    schema::{NEWEST_LEGACY, check_message},
};

#[test]
fn end_of_input_ends_the_process_and_stdout_has_only_messages() {
    assert_eq!(run(corelane(&["stdio"])), (Some(0), String::new(), String::new()));
    let (code, stdout, stderr) = run(corelane(&["stdio", "--log", "info"]));
    assert_eq!((code, stdout.as_str()), (Some(0), ""));
    assert!(stderr.contains("started") && !stderr.contains("listening"), "{stderr}");
}

#[test]
fn stdio_server_has_an_admin_interface_only_when_configured() {
    let mut command = corelane(&["stdio", "--log", "info", "--config", "corelane.toml"]);
    // Neither the file nor the environment enables it, because many servers are started this way.
    command.env("CORELANE_ADMIN", "127.0.0.1:0");
    let (code, _, stderr) = run(command);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stderr.contains("admin"), "{stderr}");
    let (code, _, stderr) = run(corelane(&["stdio", "--log", "info", "--admin", "127.0.0.1:0"]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("admin=127.0.0.1:"), "{stderr}");
}

#[test]
fn stdio_configuration_error_is_printed_on_one_line() {
    let (code, stdout, stderr) = run(corelane(&["stdio", "--config", "/nowhere.toml"]));
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
    assert!(stderr.contains("/nowhere.toml"), "{stderr}");
}

/// A running `corelane stdio`, driven line by line.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The negotiated legacy revision.
    revision: String,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut command = corelane(&["stdio"]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output, revision: NEWEST_LEGACY.to_owned() }
    }

    fn send(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn request(&mut self, id: impl Into<Value>, method: &str, params: Value) {
        self.send(
            &json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params}).to_string(),
        );
    }

    /// Sends a request of 2026-07-28.
    fn modern(&mut self, id: impl Into<Value>, method: &str, mut params: Value) {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}
        });
        self.request(id, method, params);
    }

    fn shake_hands(&mut self, revision: &str) {
        let params = json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
        revision.clone_into(&mut self.revision);
        self.request("hello", "initialize", params);
        assert_eq!(self.receive()["result"]["protocolVersion"], revision);
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "the server has exited");
        self.checked(&line)
    }

    fn checked(&self, line: &str) -> Value {
        let message = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        check_message(&self.revision, &message);
        message
    }

    /// Closes the input: the remaining output and the exit code.
    fn end(mut self) -> (Vec<Value>, Option<i32>) {
        drop(self.input.take());
        let lines: Vec<String> = self.output.by_ref().lines().map(Result::unwrap).collect();
        let rest = lines.iter().map(|line| self.checked(line)).collect();
        (rest, self.child.wait().unwrap().code())
    }
}

#[test]
fn era_is_decided_for_each_line() {
    let mut process = Process::start(&[]);
    process.request(1, "tools/list", json!({}));
    assert_eq!(process.receive()["error"]["code"], -32600, "a handshake must come first");
    process.request(2, "ping", json!({}));
    assert_eq!(process.receive()["result"], json!({}));
    process.modern(3, "server/discover", json!({}));
    assert_eq!(process.receive()["result"]["supportedVersions"][0], "2026-07-28", "without any header");
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2099-01-01", "io.modelcontextprotocol/clientCapabilities": {}});
    process.request(4, "tools/list", json!({"_meta": meta}));
    assert_eq!(process.receive()["error"]["code"], -32022);
    process.request(
        5,
        "tools/list",
        json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}),
    );
    assert_eq!(process.receive()["error"]["code"], -32602);
    process.shake_hands("2025-06-18");
    process.request(6, "tools/call", json!({"name": "echo", "arguments": {"message": "old"}}));
    let old = process.receive();
    assert_eq!((&old["id"], old["result"].get("resultType")), (&json!(6), None));
    process.modern("7", "tools/call", json!({"name": "echo", "arguments": {"message": "new"}}));
    let new = process.receive();
    assert_eq!((&new["id"], &new["result"]["resultType"]), (&json!("7"), &json!("complete")));
    process.send("nonsense");
    let refused = process.receive();
    assert_eq!(
        (&refused["error"]["code"], refused.get("id")),
        (&json!(-32700), None),
        "a parse error has no id"
    );
    process.send(r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#);
    assert_eq!(process.receive()["error"]["code"], -32600, "no batches");
    assert_eq!(process.end(), (vec![], Some(0)));
}

#[test]
fn calls_on_stdio_are_answered_on_completion_and_never_after_cancellation() {
    let mut process = Process::start(&[]);
    process.shake_hands("2025-11-25");
    let sleep = |ms: u32| json!({"name": "sleep", "arguments": {"ms": ms}});
    process.request("slow", "tools/call", sleep(300));
    process.request("long", "tools/call", sleep(60_000));
    process.modern("modern", "tools/call", sleep(60_000));
    process.request("quick", "tools/call", sleep(1));
    assert_eq!(process.receive()["id"], "quick");
    for id in ["long", "modern", "never asked"] {
        process.send(
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})
                .to_string(),
        );
    }
    assert_eq!(process.receive()["id"], "slow");
    process.request("last", "ping", json!({}));
    assert_eq!(process.receive()["id"], "last");
    // A cancelled call is never answered; a call in flight at the end of input is answered with its result if it completes soon.
    process.request("soon", "tools/call", sleep(200));
    process.request("too late", "tools/call", sleep(60_000));
    let began = Instant::now();
    let (rest, code) = process.end();
    assert_eq!((rest.len(), &rest[0]["id"], code), (2, &json!("soon"), Some(3)));
    assert_eq!((&rest[1]["id"], &rest[1]["error"]["code"]), (&json!("too late"), &json!(-32000)));
    assert!(began.elapsed() < Duration::from_secs(20), "the process exits before the call ends");
}

#[test]
fn subscriptions_of_both_eras_share_a_connection() {
    let mut process = Process::start(&[]);
    process.shake_hands("2025-11-25");
    process.request(1, "resources/subscribe", json!({"uri": "demo://counter"}));
    assert_eq!(process.receive()["result"], json!({}));
    process.modern(
        "l",
        "subscriptions/listen",
        json!({"notifications": {"resourceSubscriptions": ["demo://counter"]}}),
    );
    assert_eq!(process.receive()["method"], "notifications/subscriptions/acknowledged");
    process.request(2, "tools/call", json!({"name": "touch", "arguments": {"uri": "demo://counter"}}));
    let mut updates: Vec<Value> = (0..3).map(|_| process.receive()).collect();
    updates.retain(|message| message["method"] == "notifications/resources/updated");
    let ids: Vec<&Value> = updates
        .iter()
        .map(|message| &message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"])
        .collect();
    assert!(ids.len() == 2 && ids.contains(&&Value::Null) && ids.contains(&&json!("l")), "{updates:?}");
    let (_, code) = process.end();
    assert_eq!(code, Some(0));
}

#[test]
fn json_lines_over_sockets_match_stdio_and_reject_http() {
    let path = std::env::temp_dir().join(format!("corelane-lines-{}.sock", std::process::id()));
    let listen = format!("unix:{}", path.display());
    let server = support::ServerProcess::start(&[
        "--listen",
        &listen,
        "--listen",
        "tcp://127.0.0.1:0",
        "--shards",
        "2",
        "--log",
        "info",
    ]);
    for _ in 0..8 {
        let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut lines = BufReader::new(stream);
        let mut ask = |line: &str| {
            writeln!(lines.get_mut(), "{line}").unwrap();
            let mut answer = String::new();
            lines.read_line(&mut answer).unwrap();
            answer
        };
        assert_eq!(
            ask(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#),
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n"
        );
        // Web pages must not call tools: the line is refused, and the connection closed.
        assert!(ask("POST / HTTP/1.1").contains("not HTTP"));
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        // A half-closed connection receives its reply.
        let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
        write!(stream, r#"{{"jsonrpc":"2.0","id":8,"method":"ping"}}"#).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "{\"jsonrpc\":\"2.0\",\"id\":8,\"result\":{}}\n");
    }
    server.signal("-TERM");
    let (status, _, _) = server.wait(Duration::from_secs(15));
    assert!(status.success() && !path.exists());
}
