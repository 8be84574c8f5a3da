//! Newline-delimited JSON against the real binary: over standard input and output, TCP and Unix sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{
    Client, ServerProcess, config_file, corelane, example, exit_status,
    schema::{NEWEST_LEGACY, check_message},
};

/// Time limit of every wait on a loaded machine.
const LIMIT: Duration = Duration::from_secs(20);
/// Time without a message after which a connection counts as silent.
const SILENCE: Duration = Duration::from_millis(300);

/// One end of a connection of JSON lines. A thread reads, so that a test can wait for silence.
struct Peer {
    input: Option<Box<dyn Write + Send>>,
    output: Receiver<String>,
    /// The negotiated legacy revision.
    revision: String,
}

impl Peer {
    fn over(input: impl Write + Send + 'static, output: impl Read + Send + 'static) -> Self {
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

    fn send_text(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        self.input.as_mut().unwrap().write_all(text.as_ref()).unwrap();
        self
    }

    fn send(&mut self, message: &Value) -> &mut Self {
        self.send_text(format!("{message}\n"))
    }

    /// The next line, which is a message.
    fn next(&mut self) -> Value {
        let line = self.output.recv_timeout(LIMIT).expect("no line received");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        check_message(&self.revision, &message);
        message
    }

    fn request(&mut self, message: &Value) -> Value {
        self.send(message).next()
    }

    /// The next two messages, a notification first; their order is unspecified.
    fn next_two(&mut self) -> [Value; 2] {
        let mut both = [self.next(), self.next()];
        both.sort_by_key(|message| message.get("id").is_some());
        both
    }

    /// Opens the connection with the legacy handshake.
    fn initialize(&mut self, version: &str, capabilities: &Value) -> &mut Self {
        let params = json!({"protocolVersion": version, "capabilities": capabilities,
            "clientInfo": {"name": "test", "version": "0"}});
        version.clone_into(&mut self.revision);
        let agreed = self.request(&legacy(0, "initialize", params));
        assert_eq!(agreed["result"]["protocolVersion"], version, "{agreed}");
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    }

    /// Checks that no message arrives.
    fn is_silent(&mut self) {
        match self.output.recv_timeout(SILENCE) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("expected silence, got {other:?}"),
        }
    }

    /// Closes the input of the server.
    fn close(&mut self) -> &mut Self {
        self.input = None;
        self
    }

    /// Checks that the server closes the connection within `limit`, without another message.
    fn has_ended(&mut self, limit: Duration) {
        match self.output.recv_timeout(limit) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("expected the end, got {other:?}"),
        }
    }
}

/// A server on standard input and output.
struct Piped {
    child: Child,
    peer: Peer,
}

impl Piped {
    fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let peer = Peer::over(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, peer }
    }

    fn demo() -> Self {
        Self::start(corelane(&["stdio"]))
    }

    fn talking() -> Self {
        Self::start(example("talking", &["stdio"]))
    }

    fn terminate(&self) {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits for the process to exit: its status, and its stderr.
    #[track_caller]
    fn wait(mut self, limit: Duration) -> (ExitStatus, String) {
        let status = exit_status(&mut self.child, limit);
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status, stderr)
    }

    /// Closes the input; the server exits before the deadline of a pending call.
    fn end(mut self) {
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

fn legacy(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
}

fn modern_as(version: &Value, id: impl Into<Value>, method: &str, mut params: Value) -> Value {
    let meta = &mut params["_meta"];
    meta["io.modelcontextprotocol/protocolVersion"] = version.clone();
    if meta["io.modelcontextprotocol/clientCapabilities"].is_null() {
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    }
    legacy(id, method, params)
}

fn modern(id: impl Into<Value>, method: &str, params: Value) -> Value {
    modern_as(&json!("2026-07-28"), id, method, params)
}

/// A request of either era.
const ERAS: [fn(i64, &str, Value) -> Value; 2] =
    [|id, method, params| legacy(id, method, params), |id, method, params| modern(id, method, params)];

fn call(tool: &str, arguments: Value) -> Value {
    json!({"name": tool, "arguments": arguments})
}

fn sleep(ms: u64) -> Value {
    call("sleep", json!({"ms": ms}))
}

fn echo() -> Value {
    call("echo", json!({"message": "x"}))
}

fn cancel(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id.into()}})
}

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{answer}"))
}

/// Writes a configuration of limits to its own file.
fn limits(name: &str, limits: &str) -> String {
    config_file(
        &format!("lines-{name}"),
        &format!(
            "[limits]
{limits}
"
        ),
    )
}

#[test]
fn requests_are_answered_in_order_of_completion() {
    let mut server = Piped::demo();
    server.peer.initialize("2025-11-25", &json!({}));
    for request in ERAS {
        server.peer.send(&request(1, "tools/call", sleep(600)));
        server.peer.send(&request(2, "tools/call", sleep(200)));
        server.peer.send(&request(3, "tools/call", echo()));
        for id in [3, 2, 1] {
            assert_eq!(server.peer.next()["id"], id);
        }
    }
    server.end();
}

#[test]
fn line_before_initialize_must_name_a_known_revision() {
    let mut server = Piped::demo();
    let peer = &mut server.peer;
    assert_eq!(code(&peer.request(&legacy(1, "tools/list", json!({})))), -32600);
    assert_eq!(code(&peer.request(&modern_as(&json!(7), 2, "tools/list", json!({})))), -32602);
    let bare = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
    assert_eq!(code(&peer.request(&legacy(3, "tools/list", bare))), -32602);
    for unknown in ["2099-01-01", "2025-11-25"] {
        let refused = peer.request(&modern_as(&json!(unknown), 4, "tools/list", json!({})));
        assert_eq!(code(&refused), -32022);
        let data = &refused["error"]["data"];
        assert_eq!(data["requested"], unknown);
        assert!(data["supported"].as_array().unwrap().contains(&json!("2026-07-28")), "{refused}");
    }
    // None of the above has made this a legacy connection.
    assert_eq!(code(&peer.request(&legacy(5, "tools/list", json!({})))), -32600);
    // Only this method needs no handshake.
    assert_eq!(peer.request(&legacy(6, "ping", json!({})))["result"], json!({}));
    server.end();
}

#[test]
fn eras_alternate_on_one_connection() {
    for discovers_first in [true, false] {
        let mut server = Piped::demo();
        let peer = &mut server.peer;
        if discovers_first {
            let discovered = peer.request(&modern(1, "server/discover", json!({})));
            assert_eq!(discovered["result"]["supportedVersions"][0], "2026-07-28", "{discovered}");
        }
        peer.initialize("2025-06-18", &json!({}));
        let discovered = peer.request(&modern(2, "server/discover", json!({})));
        assert_eq!(discovered["result"]["resultType"], "complete");
        for round in 0..3 {
            let old = peer.request(&legacy(10 + round, "tools/list", json!({})));
            assert!(old["result"]["tools"].is_array() && old["result"].get("resultType").is_none(), "{old}");
            let new = peer.request(&modern(20 + round, "tools/list", json!({})));
            assert_eq!(new["result"]["resultType"], "complete");
        }
        assert_eq!(peer.request(&legacy(30, "ping", json!({})))["result"], json!({}));
        // The 2026 era has no ping.
        assert_eq!(code(&peer.request(&modern(31, "ping", json!({})))), -32601);
        server.end();
    }
}

#[test]
fn cancelled_call_is_not_answered_and_has_no_pending_reply() {
    let mut server = Piped::demo();
    server.peer.initialize("2025-11-25", &json!({}));
    for (id, request) in (1..).zip(ERAS) {
        server.peer.send(&request(id, "tools/call", sleep(30_000))).send(&cancel(id));
        // Cancellations of unknown or completed calls and malformed ones are ignored.
        server.peer.send(&cancel("nobody")).send(&cancel(0)).send(&cancel(Value::Null));
        assert_eq!(text(&server.peer.request(&request(9, "tools/call", echo()))), "x");
    }
    server.peer.is_silent();
    server.end();
}

#[test]
fn cancelled_calls_free_their_slots_of_the_connection() {
    let config = limits("places", "calls_per_line_max = 4");
    let mut server = Piped::start(corelane(&["stdio", "--config", &config]));
    for id in 0..20 {
        server.peer.send(&modern(id, "tools/call", sleep(30_000))).send(&cancel(id));
    }
    assert_eq!(text(&server.peer.request(&modern(99, "tools/call", echo()))), "x");
    server.end();
}

#[test]
fn invalid_line_is_answered_without_an_id_and_the_connection_continues() {
    let mut server = Piped::demo();
    let peer = &mut server.peer;
    for (line, expected) in [
        ("{nope", -32700),
        ("\u{0}", -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping""#, -32700),
        ("5", -32600),
        ("[]", -32600),
        (r#"{"jsonrpc":"1.0"}"#, -32600),
    ] {
        let refused = peer.send_text(line).send_text("\n").next();
        assert_eq!((code(&refused), refused.get("id")), (expected, None), "{line}: {refused}");
    }
    // Empty lines are not messages; a carriage return is part of the line end.
    peer.send_text("\n\r\n\n").send_text(format!("{}\r\n", modern(1, "tools/list", json!({}))));
    assert_eq!(peer.next()["id"], 1);
    let whole = format!("{}\n", modern(2, "tools/list", json!({})));
    for part in whole.as_bytes().chunks(40) {
        peer.send_text(part);
        // A pause between the parts makes the server read most of them separately.
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(peer.next()["id"], 2);
    // The last line needs no line feed.
    peer.send_text(modern(3, "tools/list", json!({})).to_string()).close();
    assert_eq!(peer.next()["id"], 3);
    server.end();
}

#[test]
fn oversized_line_is_rejected_and_skipped() {
    let config = limits("bytes", "line_bytes_max = 1024");
    let mut server = Piped::start(corelane(&["stdio", "--config", &config]));
    for length in [1025, 200_000] {
        let refused = server.peer.send_text(format!("{}\n", "x".repeat(length))).next();
        assert_eq!((code(&refused), refused.get("id")), (-32600, None), "{refused}");
    }
    assert_eq!(server.peer.request(&modern(1, "tools/list", json!({})))["id"], 1);
    server.end();
}

#[test]
fn stdout_has_only_messages_when_tools_log_or_print() {
    let mut server = Piped::start(example("talking", &["stdio", "--log", "trace"]));
    // Every line is parsed as a message; nothing follows the last response.
    for id in 0..5 {
        let turned = server.peer.request(&modern(id, "tools/call", call("turn", json!({}))));
        assert!(text(&turned).starts_with("page "), "{turned}");
    }
    // The test must read the log, or the process could not exit.
    let mut stderr = server.child.stderr.take().unwrap();
    let reading = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    server.peer.close().has_ended(LIMIT);
    let stderr = reading.join().unwrap();
    assert!(stderr.contains("turned to page 2") && stderr.contains("started"), "{stderr}");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn end_of_input_waits_for_short_calls() {
    let mut server = Piped::demo();
    server.peer.send(&modern(1, "tools/call", sleep(300)));
    server.peer.send(&modern(2, "tools/call", call("digest", json!({"text": "x", "rounds": 10_000}))));
    server.peer.send(&modern(3, "tools/call", echo())).close();
    let mut answered: Vec<_> = (0..3).map(|_| server.peer.next()["id"].as_i64().unwrap()).collect();
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3]);
    server.end();
}

#[test]
fn end_of_input_waits_for_calls_within_the_drain_timeout() {
    // Longer than a rejected connection lingers.
    let config = limits("ended", "linger_timeout = \"50ms\"");
    let mut server = Piped::start(corelane(&["stdio", "--config", &config]));
    server.peer.send(&modern(1, "tools/call", sleep(1000))).close();
    assert_eq!(text(&server.peer.next()), "slept 1000 ms");
    let (status, stderr) = server.wait(LIMIT);
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn calls_beyond_the_drain_timeout_are_answered_with_an_error_and_named() {
    let config = limits("abandoned", "drain_timeout = \"300ms\"");
    for signalled in [false, true] {
        let mut server = Piped::start(corelane(&["stdio", "--config", &config]));
        server.peer.send(&modern(1, "tools/call", sleep(60_000)));
        assert_eq!(
            server.peer.request(&modern(2, "tools/list", json!({})))["id"],
            2,
            "the call is in flight"
        );
        if signalled {
            server.terminate();
        } else {
            server.peer.close();
        }
        let answer = server.peer.next();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32000)), "{answer}");
        let (status, stderr) = server.wait(LIMIT);
        assert_eq!(status.code(), Some(3), "{stderr}");
        assert!(stderr.contains("calls_abandoned") && stderr.contains("sleep"), "{stderr}");
        assert!(stderr.contains("limits.drain_timeout"), "{stderr}");
    }
}

#[test]
fn sigterm_completes_calls_in_flight_on_stdio() {
    let mut server = Piped::demo();
    server.peer.send(&modern(1, "tools/call", sleep(600)));
    assert_eq!(server.peer.request(&modern(2, "tools/list", json!({})))["id"], 2);
    server.terminate();
    assert_eq!(text(&server.peer.next()), "slept 600 ms");
    server.peer.has_ended(LIMIT);
    let (status, stderr) = server.wait(LIMIT);
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

fn listen(id: impl Into<Value>) -> Value {
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": ["book://page"]});
    modern(id, "subscriptions/listen", json!({"notifications": wanted}))
}

#[test]
fn subscription_on_json_lines_is_acknowledged_notified_and_cancelled_by_id() {
    let mut server = Piped::talking();
    let peer = &mut server.peer;
    for id in [json!(7), json!("seven")] {
        let acknowledged = peer.request(&listen(id.clone()));
        assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(acknowledged["params"]["_meta"][SUBSCRIPTION], id);
    }
    peer.send(&modern(1, "tools/call", call("turn", json!({}))));
    peer.send(&modern(2, "tools/call", call("grow", json!({}))));
    let messages: Vec<_> = (0..6).map(|_| peer.next()).collect();
    let notifications = messages.iter().filter(|message| message.get("id").is_none());
    let mut events: Vec<_> = notifications
        .map(|events| {
            format!("{} {}", events["method"].as_str().unwrap(), events["params"]["_meta"][SUBSCRIPTION])
        })
        .collect();
    events.sort_unstable();
    assert_eq!(
        events,
        [
            "notifications/resources/updated \"seven\"",
            "notifications/resources/updated 7",
            "notifications/tools/list_changed \"seven\"",
            "notifications/tools/list_changed 7",
        ]
    );
    // One is cancelled and receives nothing more; the server ends the other.
    peer.send(&cancel(7)).send(&modern(3, "tools/call", call("turn", json!({}))));
    assert_eq!(peer.next_two()[0]["params"]["_meta"][SUBSCRIPTION], "seven");
    peer.is_silent();
    server.terminate();
    let ended = server.peer.next();
    assert_eq!((&ended["id"], &ended["result"]["resultType"]), (&json!("seven"), &json!("complete")));
    assert_eq!(ended["result"]["_meta"][SUBSCRIPTION], "seven");
    server.peer.has_ended(LIMIT);
    assert!(server.wait(LIMIT).0.success());
}

#[test]
fn legacy_json_lines_connection_receives_list_changes_and_subscribed_updates() {
    let mut server = Piped::talking();
    let peer = &mut server.peer;
    peer.initialize("2025-11-25", &json!({}));
    let turn = |id: i64| legacy(id, "tools/call", call("turn", json!({})));
    assert_eq!(peer.request(&turn(1))["id"], 1);
    let page = json!({"uri": "book://page"});
    assert_eq!(peer.request(&legacy(2, "resources/subscribe", page.clone()))["result"], json!({}));
    let [notification, _] = peer.send(&turn(3)).next_two();
    assert_eq!(notification["method"], "notifications/resources/updated");
    assert_eq!(notification["params"], page);
    assert_eq!(peer.request(&legacy(4, "resources/unsubscribe", page))["result"], json!({}));
    let [notification, _] = peer.send(&legacy(5, "tools/call", call("grow", json!({})))).next_two();
    assert_eq!(notification["method"], "notifications/tools/list_changed");
    assert_eq!(peer.request(&turn(6))["id"], 6);
    peer.is_silent();
    server.end();
}

#[test]
fn legacy_json_lines_client_answers_server_requests_during_a_call() {
    let mut server = Piped::talking();
    let peer = &mut server.peer;
    peer.initialize("2025-11-25", &json!({"elicitation": {}, "roots": {}}));
    let question = peer.request(&legacy(1, "tools/call", call("ask_name", json!({}))));
    assert_eq!(
        (&question["method"], &question["params"]["mode"]),
        (&json!("elicitation/create"), &json!("form"))
    );
    // Other calls continue meanwhile.
    assert_eq!(peer.request(&legacy(2, "ping", json!({})))["id"], 2);
    let accepted = json!({"action": "accept", "content": {"name": "Ann"}});
    let accept = json!({"jsonrpc": "2.0", "id": question["id"], "result": accepted});
    let answer = peer.request(&accept);
    assert_eq!((&answer["id"], text(&answer)), (&json!(1), "Hello, Ann!"));
    // A second response matches no open request.
    peer.send(&accept);
    let question = peer.request(&legacy(3, "tools/call", call("ask_roots", json!({}))));
    assert_eq!(question["method"], "roots/list");
    let refusal = json!({"code": -32603, "message": "not today"});
    let answer = peer.request(&json!({"jsonrpc": "2.0", "id": question["id"], "error": refusal}));
    assert_eq!(answer["id"], 3);
    assert!(answer.to_string().contains("not today"), "{answer}");
    // The client did not declare this capability.
    let refused = peer.request(&legacy(4, "tools/call", call("ask_model", json!({"question": "?"}))));
    assert_eq!(refused["id"], 4);
    assert!(refused.to_string().contains("sampling"), "{refused}");
    server.end();
}

#[test]
fn responses_are_read_at_the_call_limit() {
    let config = limits("asking", "calls_per_line_max = 1");
    let mut server = Piped::start(example("talking", &["stdio", "--config", &config]));
    let peer = &mut server.peer;
    peer.initialize("2025-11-25", &json!({"elicitation": {}}));
    let question = peer.request(&legacy(1, "tools/call", call("ask_name", json!({}))));
    let refused = peer.request(&legacy(2, "tools/call", call("ask_name", json!({}))));
    assert_eq!((&refused["id"], code(&refused)), (&json!(2), -32000));
    assert_eq!(peer.request(&legacy(3, "ping", json!({})))["id"], 3);
    let accepted = json!({"action": "accept", "content": {"name": "Ann"}});
    let answer = peer.request(&json!({"jsonrpc": "2.0", "id": question["id"], "result": accepted}));
    assert_eq!((&answer["id"], text(&answer)), (&json!(1), "Hello, Ann!"));
    // The slot is free again.
    let question = peer.request(&legacy(4, "tools/call", call("ask_name", json!({}))));
    assert_eq!(question["method"], "elicitation/create");
    let declined = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}});
    assert_eq!(peer.request(&declined)["id"], 4);
    server.end();
}

#[test]
fn call_that_needs_input_is_retried_on_json_lines() {
    let mut server = Piped::talking();
    let can = json!({"elicitation": {"form": {}}});
    let mut params = call("ask_name", json!({}));
    params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": can});
    let asked = server.peer.request(&modern(1, "tools/call", params.clone()))["result"].clone();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let (key, question) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(question["method"], "elicitation/create");
    params["inputResponses"] = json!({key: {"action": "accept", "content": {"name": "Ann"}}});
    params["requestState"] = asked["requestState"].clone();
    let answer = server.peer.request(&modern(2, "tools/call", params));
    assert_eq!((&answer["id"], text(&answer)), (&json!(2), "Hello, Ann!"));
    server.end();
}

#[test]
fn progress_and_log_messages_precede_the_response() {
    let mut server = Piped::talking();
    server.peer.initialize("2025-11-25", &json!({}));
    let level = legacy(1, "logging/setLevel", json!({"level": "info"}));
    assert_eq!(server.peer.request(&level)["result"], json!({}));
    for request in ERAS {
        let mut params = call("count", json!({"to": 2}));
        params["_meta"] = json!({"progressToken": "p", "io.modelcontextprotocol/logLevel": "info"});
        server.peer.send(&request(2, "tools/call", params));
        for number in [1, 2] {
            let progress = server.peer.next();
            assert_eq!(progress["method"], "notifications/progress");
            assert_eq!(
                (&progress["params"]["progressToken"], &progress["params"]["progress"]),
                (&json!("p"), &json!(number))
            );
            assert_eq!(server.peer.next()["method"], "notifications/message");
        }
        assert_eq!(text(&server.peer.next()), "counted to 2");
    }
    server.end();
}

#[test]
fn line_of_2025_03_26_may_be_a_batch() {
    let ids = |answers: &Value| -> Vec<i64> {
        let answers = answers.as_array().unwrap_or_else(|| panic!("{answers}"));
        answers.iter().map(|answer| answer["id"].as_i64().unwrap()).collect()
    };
    let mut server = Piped::demo();
    let peer = &mut server.peer;
    peer.initialize("2025-03-26", &json!({}));
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let ping = |id: i64| legacy(id, "ping", json!({}));
    assert_eq!(ids(&peer.request(&json!([ping(1), initialized, legacy(2, "tools/call", echo())]))), [1, 2]);
    // A slow call answers later and does not delay others.
    assert_eq!(ids(&peer.request(&json!([legacy(3, "tools/call", sleep(200)), ping(4)]))), [4]);
    assert_eq!(peer.next()["id"], 3);
    // Responses are in the order of the requests.
    let page = json!({"uri": "demo://counter"});
    assert_eq!(ids(&peer.request(&json!([legacy(5, "resources/subscribe", page), ping(6)]))), [5, 6]);
    peer.send(&json!([initialized]));
    assert_eq!(code(&peer.request(&json!([]))), -32600);
    peer.is_silent();
    server.end();
    // Later revisions have no batches.
    let mut server = Piped::demo();
    server.peer.initialize("2025-06-18", &json!({}));
    assert_eq!(code(&server.peer.request(&json!([ping(1)]))), -32600);
    server.end();
}

/// A connected socket.
trait Socket: Read + Write + Send + Sized + 'static {
    fn copy(&self) -> Self;
    /// Shuts down the sending side.
    fn end(&self);
}

impl Socket for TcpStream {
    fn copy(&self) -> Self {
        self.try_clone().unwrap()
    }

    fn end(&self) {
        // The server may have closed the connection already.
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Socket for UnixStream {
    fn copy(&self) -> Self {
        self.try_clone().unwrap()
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// The sending half, shut down on drop.
struct Half<S: Socket>(S);

impl<S: Socket> Write for Half<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<S: Socket> Drop for Half<S> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn peer(socket: impl Socket) -> Peer {
    let output = socket.copy();
    Peer::over(Half(socket), output)
}

/// A server that listens on two shards, over TCP or at a Unix socket.
struct Listening {
    server: ServerProcess,
    path: Option<PathBuf>,
}

impl Listening {
    fn start(path: Option<PathBuf>, make: &impl Fn(&[&str]) -> Command) -> Self {
        let listen =
            path.as_ref().map_or("tcp://127.0.0.1:0".to_owned(), |path| format!("unix:{}", path.display()));
        let server = ServerProcess::spawn(make(&["serve", "--listen", &listen, "--shards", "2"]));
        Self { server, path }
    }

    /// One server of each kind.
    fn both(make: impl Fn(&[&str]) -> Command) -> [Self; 2] {
        // Not in the build directory: its path may be too long.
        let directory = std::env::temp_dir().join(format!("corelane-lines-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let name = thread::current().name().unwrap().to_owned();
        [Self::start(None, &make), Self::start(Some(directory.join(name)), &make)]
    }

    fn demo(config: &str) -> [Self; 2] {
        Self::both(|arguments| corelane(&[arguments, &["--config", config]].concat()))
    }

    fn connect(&self) -> Peer {
        match &self.path {
            Some(path) => peer(UnixStream::connect(path).unwrap()),
            None => peer(TcpStream::connect(self.server.address).unwrap()),
        }
    }
}

#[test]
fn json_lines_connections_have_separate_handshakes_and_ids() {
    for listening in Listening::both(corelane) {
        let mut peers: Vec<Peer> = (0..16).map(|_| listening.connect()).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            if number % 2 == 0 {
                peer.initialize("2025-11-25", &json!({}));
                peer.send(&legacy(1, "tools/call", sleep(500)));
            } else {
                assert_eq!(code(&peer.request(&legacy(1, "tools/list", json!({})))), -32600);
                peer.send(&modern(1, "tools/call", sleep(500)));
            }
        }
        // A cancellation affects the call of its own connection only, not others with the same id.
        peers[15].send(&cancel(1));
        for peer in &mut peers[..15] {
            assert_eq!(text(&peer.next()), "slept 500 ms");
        }
        peers[15].is_silent();
        for mut peer in peers {
            peer.close().has_ended(Duration::from_secs(1));
        }
        listening.server.stop();
    }
}

#[test]
fn changes_are_published_to_json_lines_connections_on_every_shard() {
    for listening in Listening::both(|arguments| example("talking", arguments)) {
        let mut listeners: Vec<Peer> = (0..12).map(|_| listening.connect()).collect();
        for (number, peer) in listeners.iter_mut().enumerate() {
            if number % 2 == 0 {
                peer.initialize("2025-11-25", &json!({}));
                let page = json!({"uri": "book://page"});
                assert_eq!(peer.request(&legacy(1, "resources/subscribe", page))["result"], json!({}));
            } else {
                assert_eq!(peer.request(&listen(1))["params"]["_meta"][SUBSCRIPTION], 1);
            }
        }
        let mut changing = listening.connect();
        assert_eq!(changing.request(&modern(1, "tools/call", call("turn", json!({}))))["id"], 1);
        for peer in &mut listeners {
            assert_eq!(peer.next()["method"], "notifications/resources/updated");
        }
        assert_eq!(changing.request(&modern(2, "tools/call", call("grow", json!({}))))["id"], 2);
        for peer in &mut listeners {
            assert_eq!(peer.next()["method"], "notifications/tools/list_changed");
        }
        // Subscriptions of the 2026 era receive their result, and every connection is closed.
        listening.server.signal("-TERM");
        for (number, peer) in listeners.iter_mut().enumerate() {
            if number % 2 == 1 {
                assert_eq!(peer.next()["result"]["_meta"][SUBSCRIPTION], 1);
            }
            peer.has_ended(LIMIT);
        }
        assert!(listening.server.wait(LIMIT).0.success());
    }
}

#[test]
fn flooding_connection_is_paused_and_others_continue() {
    for listening in Listening::demo(&limits("flood", "calls_per_line_max = 4")) {
        let mut others: Vec<Peer> = (0..8).map(|_| listening.connect()).collect();
        let mut flooding = listening.connect();
        let began = Instant::now();
        for id in 0..40 {
            flooding.send(&modern(id, "tools/call", sleep(150)));
        }
        for peer in &mut others {
            assert_eq!(text(&peer.request(&modern(1, "tools/call", echo()))), "x");
        }
        let others_done = began.elapsed();
        let mut answered: Vec<_> = (0..40).map(|_| flooding.next()["id"].as_i64().unwrap()).collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..40).collect::<Vec<_>>());
        // Four calls at a time: forty take ten times as long as one.
        assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
        assert!(others_done < Duration::from_millis(1500), "{others_done:?}");
        flooding.close().has_ended(Duration::from_secs(1));
        listening.server.stop();
    }
}

#[test]
fn half_closed_json_lines_connection_receives_its_responses() {
    for listening in Listening::demo(&limits("half", "calls_per_line_max = 2")) {
        let mut peer = listening.connect();
        // The requests queued behind the first two are answered too.
        for id in 0..6 {
            peer.send(&modern(id, "tools/call", sleep(150)));
        }
        peer.close();
        for _ in 0..6 {
            assert_eq!(text(&peer.next()), "slept 150 ms");
        }
        peer.has_ended(Duration::from_secs(1));
        listening.server.stop();
    }
}

#[test]
fn http_request_to_json_lines_is_counted_and_reaches_no_tool() {
    let mut command = corelane(&["serve", "--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
    // The admin address uses a free port, which the log names.
    command.args(["--admin", "127.0.0.1:0", "--log", "info"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let (mut listen, mut admin): (Option<SocketAddr>, Option<SocketAddr>) = (None, None);
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = |line: &str, before: &str| {
        let rest = line.split_once(before)?.1;
        rest.split(' ').next()?.trim_matches('"').parse().ok()
    };
    while listen.is_none() || admin.is_none() {
        let line = stderr.next().unwrap().unwrap();
        listen = listen.or_else(|| address(&line, "listening on tcp://"));
        admin = admin.or_else(|| address(&line, "admin="));
    }
    let evil = modern(1, "tools/call", echo());
    for verb in ["POST", "GET", "OPTIONS"] {
        let mut page = peer(TcpStream::connect(listen.unwrap()).unwrap());
        page.send_text(format!("{verb} / HTTP/1.1\r\nHost: localhost\r\n\r\n{evil}\n")).has_ended(LIMIT);
    }
    let asked = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let metrics = String::from_utf8(Client::connect(admin.unwrap()).send(asked).read().body).unwrap();
    let counted = metrics.lines().find(|line| line.contains("lines_not_http"));
    assert!(counted.is_some_and(|line| line.ends_with(" 3")), "{counted:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The rest of the log of a server that is stopped.
fn log_of(listening: Listening) -> String {
    listening.server.signal("-TERM");
    let (status, _, log) = listening.server.wait(LIMIT);
    assert!(status.success(), "{status} {log}");
    log
}

#[test]
fn paused_slow_or_endless_line_is_answered_with_an_error_and_closed() {
    let config = limits(
        "line_timeout",
        "body_timeout = \"500ms\"\nbody_total_timeout = \"2s\"\nbody_bytes_per_second_min = 1000",
    );
    let logged =
        |arguments: &[&str]| corelane(&[arguments, &["--config", &config, "--log", "info"]].concat());
    for listening in Listening::both(logged) {
        let mut other = listening.connect();
        let half = format!("{{\"x\":\"{}", "y".repeat(200_000));
        let mut paused: Vec<Peer> = (0..20).map(|_| listening.connect()).collect();
        for peer in &mut paused {
            peer.send(&modern(1, "tools/call", echo()));
            assert_eq!(text(&peer.next()), "x");
            peer.send_text(&half);
        }
        // A part every 50 ms: 200 bytes a second are too few, and 40,000 take too long.
        let slow = [10, 2000].map(|part| (listening.connect(), "z".repeat(part)));
        let dripped = slow.map(|(mut peer, part)| {
            thread::spawn(move || {
                let began = Instant::now();
                // Fails once the server has closed the connection.
                while peer.input.as_mut().unwrap().write_all(part.as_bytes()).is_ok() {
                    if let Ok(line) = peer.output.recv_timeout(Duration::from_millis(50)) {
                        assert_eq!(code(&serde_json::from_str(&line).unwrap()), -32600, "{line}");
                        return began.elapsed();
                    }
                    assert!(began.elapsed() < LIMIT, "the line is never rejected");
                }
                panic!("closed without an error");
            })
        });
        for peer in &mut paused {
            let refused = peer.next();
            assert_eq!((code(&refused), &refused["error"]["message"]), (-32600, &json!("Line timeout")));
            peer.has_ended(LIMIT);
        }
        let [too_slow, too_long] = dripped.map(|thread| thread.join().unwrap());
        assert!(too_long >= Duration::from_millis(1900) && too_long > too_slow, "{too_slow:?} {too_long:?}");
        assert_eq!(text(&other.request(&modern(1, "tools/call", echo()))), "x");
        other.close().has_ended(LIMIT);
        assert_eq!(log_of(listening).matches("line_timeout").count(), 22);
    }
}

#[test]
fn idle_json_lines_connection_is_closed_unless_a_call_or_a_subscription_is_open() {
    for listening in Listening::demo(&limits("line_idle", "keep_alive_timeout = \"500ms\"")) {
        let mut silent = listening.connect();
        let mut modern_client = listening.connect();
        assert_eq!(text(&modern_client.request(&modern(1, "tools/call", echo()))), "x");
        let answered = Instant::now();
        let mut calling = listening.connect();
        calling.send(&modern(1, "tools/call", sleep(1500)));
        let mut listens = listening.connect();
        assert_eq!(listens.request(&listen(1))["params"]["_meta"][SUBSCRIPTION], 1);
        let mut legacy_client = listening.connect();
        legacy_client.initialize("2025-11-25", &json!({}));
        silent.has_ended(LIMIT);
        modern_client.has_ended(LIMIT);
        assert!(answered.elapsed() >= Duration::from_millis(450), "{:?}", answered.elapsed());
        assert_eq!(text(&calling.next()), "slept 1500 ms");
        let answered = Instant::now();
        calling.has_ended(LIMIT);
        assert!(answered.elapsed() >= Duration::from_millis(400), "{:?}", answered.elapsed());
        listens.is_silent();
        assert_eq!(legacy_client.request(&legacy(1, "ping", json!({})))["result"], json!({}));
        drop((listens, legacy_client));
        listening.server.stop();
    }
}

#[test]
fn standard_input_has_no_timeouts() {
    let config = limits("stdio_timeouts", "keep_alive_timeout = \"100ms\"\nbody_timeout = \"100ms\"");
    let mut server = Piped::start(corelane(&["stdio", "--config", &config]));
    thread::sleep(Duration::from_millis(500));
    let line = format!("{}\n", modern(1, "tools/call", echo()));
    let (first, rest) = line.split_at(20);
    server.peer.send_text(first).is_silent();
    server.peer.is_silent();
    assert_eq!(text(&server.peer.send_text(rest).next()), "x");
    server.end();
}
