//! A server on standard input and output as a process: its output, and its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/line_peer.rs"]
mod line_peer;
mod support;

use std::{io::Read, thread, time::Duration};

use line_peer::{LIMIT, Piped, call, echo, limits, modern, sleep, text};
use serde_json::json;
use support::{corelane, example};

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
