//! Lines on stderr of a running server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{Read, Write},
    time::Duration,
};

use serde_json::{Value, json};
use support::{ServerProcess, example};

/// The lines written by a server while `work` runs.
fn lines(level: &str, work: impl FnOnce(&ServerProcess)) -> Vec<Value> {
    let server = ServerProcess::start(&["--shards", "1", "--log", level, "--log-format", "json"]);
    work(&server);
    server.signal("-TERM");
    let (status, _, stderr) = server.wait(Duration::from_secs(15));
    assert!(status.success());
    stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[test]
fn rejections_are_logged_at_a_limited_rate_and_the_rest_counted() {
    let work = |server: &ServerProcess| {
        let mut client = server.connect();
        for _ in 0..500 {
            client.post("", "{");
        }
        client.legacy("nope", json!({}));
        // Longer than the period of one second of the rate limit.
        std::thread::sleep(Duration::from_millis(1100));
        client.post("", "{");
    };
    let lines = lines("info", work);
    let of = |kind: &str| lines.iter().filter(|line| line["message"] == kind).collect::<Vec<_>>();
    let malformed = of("not_json");
    assert!((101..500).contains(&malformed.len()), "{} lines", malformed.len());
    let written = malformed.len() as u64;
    let suppressed: u64 = malformed.iter().filter_map(|line| line["suppressed"].as_u64()).sum();
    assert_eq!(written + suppressed, 501, "every suppressed line is counted");
    let unknown = of("unknown_method");
    assert_eq!((unknown.len(), &unknown[0]["shard"], &unknown[0]["level"]), (1, &json!(0), &json!("INFO")));
}

#[test]
fn client_errors_are_logged_only_at_level_debug() {
    let work = |server: &ServerProcess| {
        let mut client = server.connect();
        client.post("", "{");
        client.legacy("nope", json!({}));
    };
    let mut lines = lines("warn", work);
    // An unoptimised build on a loaded machine can be slow.
    lines.retain(|line| line["message"] != "slow_turn" && line["message"] != "shard_stuck");
    assert_eq!(lines, Vec::<Value>::new());
}

#[test]
fn unknown_tool_name_is_escaped_and_truncated_in_the_log() {
    let long = "x".repeat(5000);
    let work = |server: &ServerProcess| {
        let mut client = server.connect();
        for name in ["nope", "\u{1b}[31mred\nlines", &long] {
            client.legacy("tools/call", json!({"name": name, "arguments": {}}));
        }
    };
    let lines = lines("info", work);
    let unknown = lines.iter().filter(|line| line["message"] == "unknown_tool");
    let details: Vec<&str> = unknown.map(|line| line["detail"].as_str().unwrap()).collect();
    assert_eq!(details[..2], ["Unknown tool: nope", "Unknown tool: \u{1b}[31mred\nlines"]);
    assert!(details[2].starts_with("Unknown tool: xxx") && details[2].len() < 100, "{}", details[2]);
    // In the text format: one line without control characters.
    let server = ServerProcess::start(&["--shards", "1", "--log", "info"]);
    work(&server);
    server.signal("-TERM");
    let (_, _, stderr) = server.wait(Duration::from_secs(15));
    assert!(stderr.contains(r#"detail="Unknown tool: nope""#), "{stderr}");
    assert!(stderr.lines().any(|line| line.contains("red") && line.contains("lines")), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
}

#[test]
fn ring_messaging_support_is_logged_at_level_debug() {
    let server = ServerProcess::start(&["--shards", "1", "--log", "debug"]);
    let line = server.before.lines().find(|line| line.contains("io_uring has what is needed"));
    // Linux supports it since 5.18 and the project requires 6.1; a sandbox may deny it.
    assert!(line.is_some_and(|line| line.contains("msg_ring=")), "{}", server.before);
}

/// The tools of the server of panics, which differ in how they run.
const PANICKING: [&str; 3] = ["inline", "async", "blocking"];

/// Starts the server of panics, runs `work`, and returns its stderr.
fn stderr_of_panics(format: &str, work: impl FnOnce(&ServerProcess)) -> String {
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--log", "error", "--log-format", format];
    let mut command = example("panics", &arguments);
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
    let server = ServerProcess::spawn(command);
    work(&server);
    server.signal("-TERM");
    server.wait(Duration::from_secs(15)).2
}

/// Issue 12, A: with 30,000 calls a client wrote 30,000 lines.
#[test]
fn lines_about_panics_are_written_at_a_limited_rate_and_the_rest_counted() {
    const CALLS: usize = 1500;
    let mut began = std::time::Instant::now();
    let stderr = stderr_of_panics("json", |server| {
        let mut client = server.connect();
        began = std::time::Instant::now();
        for call in 0..CALLS {
            client.call(PANICKING[call % PANICKING.len()], json!({"text": "on purpose"}));
        }
        // Longer than the period of one second of the rate limit.
        std::thread::sleep(Duration::from_millis(1100));
        client.call("inline", json!({"text": "on purpose"}));
    });
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let lines: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (kind, all) in [("on purpose", CALLS + 1), ("tool_panicked", CALLS + 1)] {
        let of = |line: &&Value| line["message"].as_str().unwrap().contains(kind);
        let written: Vec<&Value> = lines.iter().filter(of).collect();
        assert!((101..=100 * seconds).contains(&written.len()), "{} lines of {kind}", written.len());
        let suppressed: u64 = written.iter().filter_map(|line| line["suppressed"].as_u64()).sum();
        assert_eq!(
            written.len() + usize::try_from(suppressed).unwrap(),
            all,
            "every line of {kind} is counted"
        );
    }
}

#[test]
fn text_of_a_panic_cannot_begin_a_line_or_control_a_terminal() {
    let forged = "a\r\n\0{\"level\":\"ERROR\"}\u{1b}[2K\u{85}\u{2028}\u{2029}\u{202e}\u{2066}";
    let long = "x".repeat(100_000);
    let work = |server: &ServerProcess| {
        for tool in PANICKING {
            for text in [forged, &long] {
                server.connect().call(tool, json!({"text": text}));
            }
        }
    };
    for format in ["text", "json"] {
        let stderr = stderr_of_panics(format, work);
        let is_control = |letter: char| letter != '\n' && letter.is_control();
        let reorders = |letter| matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(!stderr.contains(|letter| is_control(letter) || reorders(letter)), "{stderr:?}");
        // Of each panic a line of the hook and one of the shard.
        assert_eq!(stderr.lines().count(), 2 * 2 * PANICKING.len(), "{stderr}");
        assert!(stderr.lines().all(|line| line.len() < 5000), "{stderr}");
        match format {
            "text" => assert!(stderr.contains(r"\u{2028}\u{2029}\u{202e}"), "{stderr}"),
            _ => assert!(stderr.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{stderr}"),
        }
    }
}

/// Captures the log of this process.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn slow_turn_warning_names_the_tool() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let slow = |_: corelane::NoArguments, _: corelane::InlineContext<'_>| {
        std::thread::sleep(Duration::from_millis(200));
        "slow"
    };
    let server = corelane::Server::builder("log", "0").tool(corelane::Tool::new("lingers").run(slow)).build();
    let listen = vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()];
    let config = corelane::Config { listen, shards: Some(1), ..corelane::Config::default() };
    let running = server.start(&config).unwrap();
    let session =
        support::session::Session::open(running.addresses()[0], "2025-11-25", serde_json::json!({}));
    assert_eq!(session.call(1, "lingers", serde_json::json!({})).text(), "slow");
    running.stopper().drain();
    running.join().unwrap();
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("slow_turn")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("tool=\"lingers\""), "{line}");
}

#[test]
fn rejected_hosts_and_origins_are_warnings_with_the_value() {
    let work = |server: &ServerProcess| {
        let request = |host: &str, origin: &str| {
            format!(
                "POST /mcp HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
            )
        };
        for _ in 0..150 {
            assert_eq!(server.connect().send(request("mcp.evil.example", "")).read().status, 403);
        }
        let origin = "Origin: https://page.evil.example\r\n";
        assert_eq!(server.connect().send(request("localhost", origin)).read().status, 403);
    };
    let lines = lines("warn", work);
    let of = |kind: &str| lines.iter().filter(|line| line["message"] == kind).collect::<Vec<_>>();
    let hosts = of("host_forbidden");
    assert!((100..=150).contains(&hosts.len()), "{}", hosts.len());
    assert_eq!((&hosts[0]["level"], &hosts[0]["detail"]), (&json!("WARN"), &json!("mcp.evil.example")));
    let origins = of("origin_forbidden");
    assert_eq!((origins.len(), &origins[0]["detail"]), (1, &json!("https://page.evil.example")));
}

/// The lines of a kind, without those of other shards' work.
fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["message"] == kind).collect()
}

#[test]
fn line_about_a_request_has_peer_method_tool_id_code_status_and_duration() {
    let peer = std::sync::Mutex::new(None);
    let long_id = "i".repeat(500);
    let work = |server: &ServerProcess| {
        let mut client = server.connect();
        *peer.lock().unwrap() = Some(client.stream.local_addr().unwrap().to_string());
        // An unknown method; invalid arguments; a call past no deadline that its handler ends with an error.
        client.legacy("nope", json!({}));
        client.call("add", json!({"a": "one"}));
        client.call("touch", json!({"uri": "demo://other"}));
        let body = json!({"jsonrpc": "2.0", "id": long_id, "method": "nope"});
        client.post("", body.to_string());
        // No message at all.
        client.send("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").read();
    };
    let lines = lines("debug", work);
    let peer = peer.into_inner().unwrap();
    // Before Linux 6.7 a shard does not have the address.
    let peer = if corelane_ring::probe().unwrap().peer_address { json!(peer) } else { Value::Null };
    let unknown = of_kind(&lines, "unknown_method");
    assert_eq!(unknown.len(), 2, "{lines:#?}");
    let fields = |line: &Value| ["peer", "method", "tool", "code", "status"].map(|field| line[field].clone());
    let is_timed = |line: &Value| line["duration_us"].as_u64().is_some();
    assert_eq!(fields(unknown[0]), [peer.clone(), Value::Null, Value::Null, json!(-32601), json!(200)]);
    assert!(is_timed(unknown[0]) && unknown[0]["id"].is_string(), "{}", unknown[0]);
    let cut = unknown[1]["id"].as_str().unwrap();
    assert!(cut.len() < 80 && cut.ends_with('…'), "{cut}");
    let invalid = of_kind(&lines, "invalid_arguments")[0];
    assert_eq!(fields(invalid), [peer.clone(), json!("tools/call"), json!("add"), Value::Null, json!(200)]);
    assert!(is_timed(invalid) && invalid["id"].is_string(), "{invalid}");
    let failed = of_kind(&lines, "tool_error")[0];
    assert_eq!((&failed["peer"], &failed["tool"], is_timed(failed)), (&peer, &json!("touch"), true));
    let path = of_kind(&lines, "path_unknown");
    assert_eq!(
        path.iter().map(|line| (&line["peer"], &line["status"])).collect::<Vec<_>>(),
        [(&peer, &json!(404))]
    );
}

#[test]
fn call_that_ends_after_its_request_is_logged_with_the_same_fields() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("call_deadline.toml");
    std::fs::write(&directory, "[limits]\ncall_deadline = \"100ms\"").unwrap();
    let path = directory.to_str().unwrap();
    let server =
        ServerProcess::start(&["--shards", "1", "--log", "info", "--log-format", "json", "--config", path]);
    let mut client = server.connect();
    let local = client.stream.local_addr().unwrap().to_string();
    client.call("sleep", json!({"ms": 5000}));
    server.signal("-TERM");
    let (_, _, stderr) = server.wait(Duration::from_secs(15));
    let lines: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = of_kind(&lines, "deadline");
    assert_eq!(
        (line.len(), &line[0]["tool"], &line[0]["method"]),
        (1, &json!("sleep"), &json!("tools/call"))
    );
    assert!(line[0]["duration_us"].as_u64().unwrap() >= 100_000, "{}", line[0]);
    if corelane_ring::probe().unwrap().peer_address {
        assert_eq!(line[0]["peer"], local);
    }
}

#[test]
fn head_timeout_is_logged_with_the_peers_address() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("head_timeout.toml");
    std::fs::write(&path, "[limits]\nhead_timeout = \"200ms\"").unwrap();
    let path = path.to_str().unwrap();
    let server =
        ServerProcess::start(&["--shards", "1", "--log", "info", "--log-format", "json", "--config", path]);
    let mut client = std::net::TcpStream::connect(server.address).unwrap();
    client.write_all(b"POST /mcp HT").unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
    server.signal("-TERM");
    let (_, _, stderr) = server.wait(Duration::from_secs(15));
    let mut lines = stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines.find(|line| line["message"] == "head_timeout").expect("no line about the timeout");
    // Before Linux 6.7 a shard does not have the address.
    if corelane_ring::probe().unwrap().peer_address {
        assert_eq!(line["peer"], client.local_addr().unwrap().to_string(), "{line}");
    }
}
