//! Servers with wrong, late or missing replies: every failure is counted by its kind, and no run hangs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{thread, time::Duration};

use serde_json::{Value, json};
use support::{
    Fixture, Stub, StubReply, echo_reply, json_reply, loadgen, run, run_measured, scratch, standard_reply,
    start_publisher, wait_for_exit,
};

/// A server whose every tenth echo has another reply, but for the first 30: on a busy machine the generator may need several
/// attempts to open its four connections.
fn every_tenth(wrong: impl Fn(&Value) -> StubReply + Send + Sync + 'static) -> Stub {
    Stub::start(move |request, number| {
        standard_reply(request).unwrap_or_else(|| match number {
            30.. if number % 10 == 9 => wrong(request),
            _ => StubReply::Json(echo_reply(request)),
        })
    })
}

#[test]
fn wrong_replies_are_counted_by_kind_and_not_as_latencies() {
    let status = |line: &'static str| {
        move |_: &Value| {
            StubReply::Raw(format!("HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nno").into_bytes())
        }
    };
    let changed = |pointer: &'static str, value: Value| {
        move |request: &Value| {
            let mut reply = echo_reply(request);
            *reply.pointer_mut(pointer).unwrap() = value.clone();
            StubReply::Json(reply)
        }
    };
    let error = |request: &Value| {
        StubReply::Json(
            json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32603, "message": "x"}}),
        )
    };
    let short = |request: &Value| {
        let mut bytes = json_reply(&echo_reply(request));
        bytes.truncate(bytes.len() - 5);
        // The remaining bytes are never sent.
        StubReply::Raw(bytes)
    };
    let cases: Vec<(&str, Stub)> = vec![
        ("status_5xx", every_tenth(status("500 Internal Server Error"))),
        ("busy_503", every_tenth(status("503 Service Unavailable"))),
        ("status_other", every_tenth(status("429 Too Many Requests"))),
        ("reply_not_json", every_tenth(status("200 OK"))),
        ("reply_id_wrong", every_tenth(changed("/id", json!("1")))),
        ("echo_wrong", every_tenth(changed("/result/content/0/text", json!("hullo")))),
        ("result_incomplete", every_tenth(changed("/result/resultType", json!("input_required")))),
        ("jsonrpc_error", every_tenth(error)),
        ("connection_closed", every_tenth(|_| StubReply::Close)),
        ("reply_broken", every_tenth(|_| StubReply::Raw(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()))),
        ("timeout", every_tenth(short)),
    ];
    thread::scope(|scope| {
        for (kind, stub) in &cases {
            scope.spawn(move || {
                let url = stub.url();
                let arguments = [
                    "run",
                    &url,
                    "--rate",
                    "100",
                    "-d",
                    "1s",
                    "--warmup",
                    "0s",
                    "-c",
                    "4",
                    "--timeout",
                    "300ms",
                ];
                let (result, output) = run_measured(kind, &arguments);
                assert_eq!(output.code, Some(1), "{kind}: {output:?}");
                let errors = result["errors_count"].as_object().unwrap();
                assert!(errors.contains_key(*kind), "{kind}: {errors:?}");
                assert!(result["first_error"].is_string(), "{kind}");
                let counted: u64 = errors.values().map(|count| count.as_u64().unwrap()).sum();
                let late = errors.get("not_sent_in_time").map_or(0, |count| count.as_u64().unwrap());
                assert_eq!(
                    result["replies_count"].as_u64().unwrap() + counted,
                    result["requests_count"].as_u64().unwrap()
                );
                assert_eq!(
                    result["latency"]["count"].as_u64().unwrap(),
                    result["replies_count"].as_u64().unwrap() + late
                );
            });
        }
    });
}

#[test]
fn stall_is_charged_to_every_waiting_request() {
    // One connection, a request due every 2 ms, one stall of 600 ms: about 300 requests wait, of which one has been
    // sent.
    let stub = Stub::start(|request, number| {
        standard_reply(request).unwrap_or_else(|| match number {
            250 => StubReply::Late(Duration::from_millis(600), echo_reply(request)),
            _ => StubReply::Json(echo_reply(request)),
        })
    });
    let url = stub.url();
    let arguments = ["run", &url, "--rate", "500", "-d", "2s", "--warmup", "100ms", "-c", "1"];
    let (result, output) = run_measured("stall", &arguments);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(result["replies_count"], 1000);
    let at = |which: &str, name: &str| result[which][name].as_f64().unwrap();
    assert!(at("latency", "max_us") > 590_000.0);
    assert!(at("latency", "p90_us") > 200_000.0, "{}", result["latency"]["p90_us"]);
    assert!(at("latency_uncorrected", "p90_us") < 100_000.0, "{}", result["latency_uncorrected"]["p90_us"]);
}

#[test]
fn notifications_in_event_streams_are_skipped() {
    let stub = Stub::start(|request, _| {
        let note =
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1}});
        standard_reply(request)
            .unwrap_or_else(|| StubReply::Stream(vec![note.clone(), note, echo_reply(request)]))
    });
    let url = stub.url();
    let (result, output) = run_measured("stream", &["run", &url, "--closed", "-d", "1s", "-c", "2"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(result["replies_count"].as_u64().unwrap() > 10);
}

#[test]
fn updates_are_timed_to_every_and_to_the_last_subscriber() {
    let (stub, listeners) = start_publisher(|request| StubReply::Json(echo_reply(request)));
    let url = stub.url();
    let arguments = ["fanout", &url, "--subscribers", "20", "--rate", "20", "-d", "2s"];
    let (result, output) = run_measured("fanout", &arguments);
    assert_eq!(output.code, Some(0), "{output:?}");
    let published = result["requests_count"].as_u64().unwrap();
    assert!((38..=42).contains(&published), "{published}");
    assert_eq!(result["replies_count"], published * 20);
    assert_eq!(result["figures"]["stale_readers_count"], 0.0);
    assert!(result["figures"]["last_socket_p95_us"].as_f64().unwrap() > 0.0);
    assert_eq!(listeners.lock().unwrap().len(), 20);
}

#[test]
fn dying_server_is_a_reported_outcome() {
    // Number of requests of a warm-up of two seconds, and more than half a second of measuring.
    for (load, requests) in
        [(&["run", "--rate", "500"][..], 1500.0), (&["fanout", "--subscribers", "20", "--rate", "20"], 60.0)]
    {
        let mut server = Fixture::start();
        let path = scratch(&format!("dies-{}", load[0])).join("result.json");
        let arguments = [load, &[&server.url, "-d", "60s", "--json", path.to_str().unwrap()]].concat();
        let child = loadgen(&arguments).spawn().unwrap();
        server.await_requests(requests);
        server.child.kill().unwrap();
        let output = wait_for_exit(child, Duration::from_secs(20));
        assert_eq!(output.code, Some(1), "{output:?}");
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let run = &file["runs"][0];
        let after = run["outcome"]["server_gone"]["after_s"].as_f64().unwrap();
        assert!(after < 10.0, "{after}");
        assert!(run["replies_count"].as_u64().unwrap() > 100, "what ran is kept");
    }
}

#[test]
fn interrupted_search_reports_its_runs_without_a_rate() {
    let server = Fixture::start();
    let arguments = ["saturate", &server.url, "--slo", "p50<1ns", "--rate-max", "300", "--trial", "1s"];
    let mut child = loadgen(&arguments).spawn().unwrap();
    // The first trial is complete, so that there is a report.
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("does not hold") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stderr, &mut line).unwrap() > 0, "it ended early");
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = wait_for_exit(child, Duration::from_secs(20));
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.out.contains("interrupted: no rate was confirmed"), "{}", output.out);
    assert!(!output.out.contains("THE GENERATOR"), "{}", output.out);
}

#[test]
fn silent_server_is_an_error_after_the_timeout() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let output = run(&["run", &url, "--closed", "--timeout", "700ms"]);
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.err.contains("within 700ms"), "{}", output.err);
}

#[test]
fn errors_are_one_line_and_exit_code_2() {
    let server = Fixture::start();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}/mcp");
    let wrong_path = server.url.replace("/mcp", "/else");
    let tls = Stub::start(|_, _| StubReply::Raw(vec![0x15, 3, 1, 0, 2, 2, 70]));
    let web =
        Stub::start(|_, _| StubReply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec()));
    // A server that offers only tools.
    let bare = Stub::start(|request, _| match standard_reply(request) {
        Some(StubReply::Json(mut message)) => {
            if let Some(capabilities) = message["result"].get_mut("capabilities") {
                *capabilities = json!({"tools": {}});
            }
            StubReply::Json(message)
        }
        _ => StubReply::Json(echo_reply(request)),
    });
    let (tls, web, bare) = (tls.url(), web.url(), bare.url());
    let admin = closed.trim_start_matches("http://").trim_end_matches("/mcp");
    let budget = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/budget.toml");
    let secure = server.url.replace("http:", "https:");
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["run", &closed, "--closed"], "cannot be reached"),
        (vec!["run", &wrong_path, "--closed"], "is the path right?"),
        (vec!["run", &tls, "--closed"], "but TLS"),
        (vec!["run", &web, "--closed"], "is not an MCP server"),
        (vec!["run", &secure, "--closed"], "TLS is not supported"),
        (vec!["run", &server.url, "--closed", "--tool", "nope"], "has no tool \"nope\""),
        (vec!["run", &server.url, "--closed", "--tool", "echo={"], "echo"),
        (vec!["run", &server.url, "--closed", "--tool", "echo={}=0"], "weight 0"),
        (vec!["run", &server.url, "--closed", "--json", "/proc/nope/x.json"], "cannot be written"),
        (vec!["run", &server.url, "--closed", "--cpus", "4000"], "no core 4000"),
        (vec!["run", &server.url, "--workload", "resource_reads"], "the nearest name is resource_read,"),
        (vec!["run", &bare, "--workload", "resource_read"], "has no resources"),
        (vec!["run", &server.url, "--rate", "1e12"], "a generator with 1 threads cannot keep a schedule"),
        (vec!["run", &server.url, "--rate", "0.1", "-d", "1s"], "contains no request in 1s"),
        (vec!["run", &server.url, "--closed", "--server-pid", "999999999"], "no such process"),
        (vec!["run", &server.url, "--closed", "--admin", admin], "--admin"),
        (vec!["run", &server.url, "--closed", "--header", "no colon"], "NAME:VALUE"),
        (vec!["fanout", &bare], "has no subscriptions"),
        (vec!["budget", "no/such/file.json", "--budget", budget], "not a usable result"),
        (vec!["budget", "no/such/file.json", "--budget", "no/such/budget.toml"], "no/such/budget.toml"),
        (vec!["baseline", "--only", "idle_50"], "no workload \"idle_50\"; the nearest name is idle_50k,"),
        (vec!["regression", "--baseline", "no/such/file.json"], "not a usable result"),
    ];
    for (arguments, words) in cases {
        let output = run(&arguments);
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
        assert_eq!(output.err.lines().count(), 1, "{arguments:?}: {}", output.err);
        assert!(output.err.contains(words), "{arguments:?}: {}", output.err);
        assert_eq!(output.out, "", "{arguments:?}");
    }
    for arguments in [
        &["run", "--rate", "0"][..],
        &["run", "--rate", "5", "--closed"],
        &["run"],
        &["run", "--closed", "--poisson"],
        &["run", "--workload", "discover", "-c", "5"],
        &["run", "--closed", "--slo", "p98<1ms"],
        &["run", "--rate", "5", "-d", "soon"],
        &["run", "--rate", "5", "-d", "0s"],
        &["run", "--rate", "5", "--threads", "0"],
        &["run", "--rate", "5", "--timeout", "0s"],
    ] {
        assert_eq!(run(arguments).code, Some(2), "{arguments:?}");
    }
}
