//! Faults in a bounded form: each is survived, and a server or a bystander that fails is reported.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use serde_json::Value;
use support::{CommandOutput, run, scratch};

/// A short load, and bars that no machine is too slow for: the tests check what happens, not how fast.
const BOUNDED: [&str; 8] =
    ["-d", "500ms", "--rate", "200", "--detected-max", "10min", "--recovered-max", "10min"];
const ANY_P99: [&str; 2] = ["--p99-max", "10min"];

fn chaos(arguments: &[&str]) -> CommandOutput {
    run(&[&["chaos"][..], arguments, &BOUNDED].concat())
}

/// Injects a fault and checks its outcome.
fn assert_survived(fault: &str) {
    let path = scratch(&format!("chaos-{fault}")).join("chaos.json");
    let json = ["--json", "-o", path.to_str().unwrap()];
    let output = chaos(&[&[fault][..], &ANY_P99, &json].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let outcome = &file["faults"][0];
    assert_eq!(outcome["fault"], fault);
    if outcome["status"] == "skipped" {
        let reason = format!("{fault} SKIPPED: needs root");
        assert!(output.out.contains(&reason), "{}", output.out);
        eprintln!("{}", output.out);
        return;
    }
    assert_eq!(outcome["status"], "passed", "{outcome:#}");
    assert!(
        outcome["detected_ms"].as_f64().unwrap() >= 0.0 && outcome["recovered_ms"].is_f64(),
        "{outcome:#}"
    );
    assert_eq!((&outcome["lost"], &outcome["cascade"]), (&0.into(), &Value::Null));
    let bystander = &outcome["bystander"];
    assert!(
        bystander["requests"].as_u64().unwrap() > 0 && bystander["p99_during_us"].is_f64(),
        "{outcome:#}"
    );
}

#[test]
fn panicking_tools_are_survived() {
    assert_survived("tool_panic");
}

#[test]
fn vanished_clients_are_survived() {
    assert_survived("peer_vanishes");
}

#[test]
fn memory_pressure_is_survived() {
    assert_survived("memory_pressure");
}

#[test]
fn flood_of_calls_is_survived() {
    assert_survived("message_flood_10x");
}

#[test]
fn invalid_payloads_are_survived() {
    assert_survived("invalid_payload");
}

#[test]
fn leaked_connections_are_survived() {
    assert_survived("connection_leak");
}

#[test]
fn slow_consumers_are_survived() {
    assert_survived("slow_consumer");
}

#[test]
fn death_of_a_shard_is_survived() {
    assert_survived("shard_death");
}

#[test]
fn full_disk_is_survived() {
    assert_survived("disk_full");
}

#[test]
fn saturated_core_is_survived() {
    assert_survived("cpu_saturation");
}

#[test]
fn large_payloads_are_survived() {
    assert_survived("large_payload_100mb");
}

#[test]
fn every_listed_fault_has_a_test() {
    let list = run(&["chaos", "list"]).out;
    let own = std::fs::read_to_string(file!().replace("loadgen/", "")).unwrap();
    for fault in list.lines().filter_map(|line| line.split(' ').next()) {
        assert!(own.contains(&format!("assert_survived(\"{fault}\")")), "{fault}");
    }
    assert_eq!(list.lines().count(), 11);
}

/// The limit is above the number of connections, so that none is refused.
#[test]
fn fault_that_the_server_does_not_refuse_exits_with_1() {
    let output = chaos(&[&["connection_leak", "--limit", "connections_max=1000"][..], &ANY_P99].concat());
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.out.contains("connection_leak failed: not detected"), "{}", output.out);
    assert!(
        output.out.contains("connection_leak failed: 150 connections were accepted at once"),
        "{}",
        output.out
    );
}

/// Without shares of clients the flood takes the places of the bystander's calls.
#[test]
fn bystander_that_loses_calls_exits_with_1() {
    let output = chaos(&[&["message_flood_10x", "--limit", "peer_share_percent=100"][..], &ANY_P99].concat());
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.out.contains("message_flood_10x failed") && output.out.contains("calls were lost"),
        "{}",
        output.out
    );
    assert!(output.out.contains("calls of the bystander failed"), "{}", output.out);
}

#[test]
fn slow_bystander_exits_with_1() {
    let output = chaos(&["tool_panic", "--p99-max", "1ns"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.out.contains("tool_panic failed: the bystander's p99 during the fault was"),
        "{}",
        output.out
    );
}

/// The file is the table of `docs/RELIABILITY.md`.
#[test]
fn output_without_json_is_a_markdown_table() {
    let path = scratch("chaos-markdown").join("chaos.md");
    let output = chaos(&[&["invalid_payload", "-o", path.to_str().unwrap()][..], &ANY_P99].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.starts_with("| fault |") && text.contains("\n| `invalid_payload` |"), "{text}");
}

#[test]
fn unusable_arguments_of_chaos_are_one_line() {
    for (arguments, words) in [
        (&["chaos", "tool_panics"][..], "no fault \"tool_panics\"; the nearest name is tool_panic,"),
        (&["chaos", "shard_dead"], "shard_death"),
        (&["chaos", "tool_panic", "--server-core", "4000"], "core"),
        (&["chaos", "tool_panic", "-o", "/proc/no/such"], "/proc/no/such"),
    ] {
        let output = run(arguments);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.err.contains(words) && output.err.lines().count() == 1, "{}", output.err);
    }
    assert_eq!(run(&["chaos", "tool_panic", "--limit", "nothing"]).code, Some(2));
}
