//! Newline-delimited JSON over TCP: many calls on one connection, matched by their ids.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::net::TcpListener;

use support::{Fixture, run, run_measured};

/// A fixture server that also listens for newline-delimited JSON, and that URL.
fn listening() -> (Fixture, String) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("tcp://{free}");
    (Fixture::start_with(&["--listen", &url]), url)
}

#[test]
fn calls_on_one_connection_run_at_the_same_time() {
    let (_server, url) = listening();
    let arguments = ["run", &url, "--workload", "async_100x5ms_lines", "-d", "2s"];
    let (result, output) = run_measured("lines-async", &arguments);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(result["errors_count"], serde_json::json!({}), "{}", result["first_error"]);
    assert_eq!(result["parameters"]["connections_count"], 1);
    assert_eq!(result["parameters"]["pipeline_depth"], 100);
    // One after the other they take 500 ms.
    let makespan_ms = result["figures"]["makespan_ms"].as_f64().unwrap();
    assert!((5.0..250.0).contains(&makespan_ms), "{makespan_ms}");
}

#[test]
fn both_revisions_are_measured_on_lines() {
    let (_server, url) = listening();
    for era in ["2026-07-28", "2025-11-25"] {
        let arguments =
            ["run", &url, "--era", era, "--rate", "300", "-d", "1s", "-c", "3", "--pipeline", "8"];
        let (result, output) = run_measured(&format!("lines-{era}"), &arguments);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_eq!((&result["requests_count"], &result["replies_count"]), (&300.into(), &300.into()));
        assert_eq!(result["server"]["name"], "corelane");
        assert_eq!(result["server"]["flags"]["async_tools"], true);
    }
}

#[test]
fn loads_that_need_http_are_refused_on_lines() {
    let (server, url) = listening();
    for (arguments, words) in [
        (vec!["storm", &url, "-d", "1s"], "needs HTTP"),
        (vec!["fanout", &url, "-d", "1s"], "need HTTP"),
        (vec!["run", &url, "--plain", "--rate", "10", "-d", "1s"], "needs HTTP"),
        (
            vec!["run", &server.url, "--workload", "async_100x5ms_lines", "-d", "1s"],
            "needs the address of newline-delimited JSON",
        ),
    ] {
        let output = run(&arguments);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.err.contains(words) && output.err.lines().count() == 1, "{}", output.err);
    }
}

#[test]
fn encodings_of_an_update_are_counted() {
    let server = Fixture::start();
    let arguments = ["fanout", &server.url, "--subscribers", "20", "--rate", "20", "-d", "2s"];
    let (result, output) = run_measured("fanout-encodings", &arguments);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(result["figures"]["encodings_per_update"], 1.0);
    assert_eq!(result["server"]["flags"]["batch_notifications"], true);
}
