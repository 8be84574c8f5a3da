//! Ctrl-C: completed work is reported without a verdict, the exit code is 0, and no server remains.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    CommandOutput, Fixture, MEASURING, StubReply, echo_reply, loadgen, run, scratch, start_publisher,
    wait_for_exit, wait_for_line, wait_for_lines,
};

/// Starts a command in a process group of its own, like a shell at a terminal.
fn start(arguments: &[&str]) -> Child {
    loadgen(arguments).process_group(0).spawn().unwrap()
}

/// Sends SIGINT to the whole group, like Ctrl-C at a terminal.
fn interrupt(child: Child) -> CommandOutput {
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().unwrap().success());
    wait_for_exit(child, Duration::from_secs(60))
}

/// Interrupts when a progress line contains all of these words.
fn interrupt_at(arguments: &[&str], words: &[&str]) -> CommandOutput {
    let mut child = start(arguments);
    wait_for_line(&mut child, words);
    interrupt(child)
}

/// The child processes of a process.
fn children(of: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).unwrap();
    let children = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    let children: Vec<String> = children.collect();
    children.iter().flat_map(|text| text.split_whitespace()).map(|id| id.parse().unwrap()).collect()
}

/// The process group of a process.
fn group(of: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{of}/stat")).unwrap();
    // After the name: state, parent, group.
    let (_, behind) = stat.rsplit_once(')').unwrap();
    behind.split_whitespace().nth(2).unwrap().parse().unwrap()
}

fn runs(path: &std::path::Path) -> Vec<Value> {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["runs"].as_array().unwrap().clone()
}

fn assert_interrupted(what: &str, run: &Value) {
    assert_eq!(run["outcome"], "interrupted", "{what}");
    assert_eq!(run["errors_count"], json!({}), "{what}: {}", run["first_error"]);
    assert!(run["replies_count"].as_u64().unwrap() > 0, "{what}");
    assert!(run.get("checks").is_none(), "{what}: {}", run["checks"]);
}

#[test]
fn interrupted_load_of_every_kind_is_reported_without_checks() {
    let server = Fixture::start();
    for arguments in [
        &["run", &server.url, "--rate", "200", "-d", "60s"][..],
        &["soak", &server.url, "--rate", "100", "-d", "60s"],
        &["storm", &server.url, "-c", "2", "-d", "60s", "--warmup", "0s"],
        &["idle", &server.url, "-c", "100", "--rate", "2", "-d", "60s"],
        &["run", &server.url, "--workload", "discover", "--scale", "0.01", "-d", "60s"],
    ] {
        let path = scratch(&format!("interrupted-{}-{}", arguments[0], arguments.len())).join("result.json");
        let outputs = ["--slo", "p50<1ns", "--json", path.to_str().unwrap()];
        let output = interrupt_at(&[arguments, &outputs].concat(), &[MEASURING]);
        assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        assert!(output.out.contains("It was interrupted"), "{arguments:?}: {}", output.out);
        assert_interrupted(arguments[0], &runs(&path)[0]);
    }
}

#[test]
fn interrupted_fan_out_is_reported() {
    let (stub, _listeners) = start_publisher(|request| StubReply::Json(echo_reply(request)));
    let path = scratch("interrupted-fanout").join("result.json");
    let url = stub.url();
    let arguments = ["fanout", &url, "--subscribers", "5", "--rate", "20", "-d", "60s", "--slo", "p50<1ns"];
    let child = start(&[&arguments[..], &["--json", path.to_str().unwrap()]].concat());
    // The warm-up of one second is over.
    while stub.requests.load(Ordering::SeqCst) < 60 {
        thread::yield_now();
    }
    let output = interrupt(child);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_interrupted("fanout", &runs(&path)[0]);
}

#[test]
fn interrupted_suites_report_their_runs_without_a_verdict() {
    let home = scratch("interrupted-suites");
    let kept = home.join("kept.json");
    let server = Fixture::start();
    let make = ["run", &server.url, "--workload", "canonical_closed_8", "-d", "500ms", "--json"];
    let output = run(&[&make[..], &[kept.to_str().unwrap()]].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let before = std::fs::read_to_string(&kept).unwrap();
    let path = kept.to_str().unwrap();
    let common = ["--only", "canonical_closed_8,discover", "--duration", "60s", "--scale", "0.1"];
    // Each command starts a server of its own, which must run until the report is complete.
    let baseline = [&["baseline", "--output", path][..], &common].concat();
    let regression = [&["regression", "--baseline", path][..], &common].concat();
    for (arguments, words) in
        [(baseline, "was not changed"), (regression, "nothing was compared with the baseline")]
    {
        let mut child = start(&arguments);
        wait_for_line(&mut child, &["canonical_closed_8: ", MEASURING]);
        let servers = children(child.id());
        assert_eq!(servers.len(), 1, "{servers:?}");
        assert_eq!(group(servers[0]), servers[0], "Ctrl-C at the terminal would reach the server");
        let output = interrupt(child);
        assert!(!std::fs::exists(format!("/proc/{}", servers[0])).unwrap(), "the server is left");
        assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        assert!(
            output.out.contains("interrupted: ") && output.out.contains(words),
            "{arguments:?}: {}",
            output.out
        );
        assert!(output.out.contains("! canonical_closed_8, corelane: interrupted"), "{}", output.out);
        assert!(!output.out.contains("FAILED") && !output.out.contains("gone"), "{}", output.out);
    }
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), before);
}

#[test]
fn interrupted_self_test_has_no_verdict() {
    let mut child = start(&["compare", "--self-test"]);
    // A run has at most two progress lines, so the first run is complete.
    wait_for_lines(&mut child, &["self_test: "], 3);
    let output = interrupt(child);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(!output.out.contains('✗') && !output.out.contains("found"), "{}", output.out);
    assert!(output.out.contains("interrupted: the planted delay was not checked"), "{output:?}");
}

#[test]
fn interrupted_turn_of_a_peer_keeps_its_runs() {
    let home = scratch("interrupted-peers");
    let path = home.join("peers.json");
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/peers/peers.toml");
    let arguments =
        ["peers", list, "--corelane", env!("CARGO_BIN_EXE_corelane-fixture"), "--only", "corelane"];
    let options = ["--connections", "8", "--duration", "6s", "--json", path.to_str().unwrap()];
    // The closed loop of the same turn is complete.
    let output = interrupt_at(&[&arguments[..], &options].concat(), &["canonical_open_500: "]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.out.contains("interrupted: nothing was compared"), "{}", output.out);
    let runs = runs(&path);
    assert_eq!(runs[0]["workload"], "canonical_closed_8");
    assert_eq!(runs[0]["outcome"], "complete");
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[1]["outcome"], "interrupted");
}

#[test]
fn sighup_ends_a_run_unless_under_nohup() {
    let server = Fixture::start();
    let arguments = ["run", &server.url, "--rate", "100", "-d", "60s", "--warmup", "0s"];
    let mut child = start(&arguments);
    wait_for_line(&mut child, &[MEASURING]);
    let signal = |name: &str, child: &Child| {
        Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    };
    signal("-HUP", &child);
    let output = wait_for_exit(child, Duration::from_secs(60));
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.out.contains("It was interrupted"), "{}", output.out);
    let mut child = Command::new("nohup")
        .arg(env!("CARGO_BIN_EXE_corelane-loadgen"))
        .args(["run", &server.url, "--rate", "100", "-d", "3s", "--warmup", "0s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child, &[MEASURING]);
    signal("-HUP", &child);
    let output = wait_for_exit(child, Duration::from_secs(60));
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(!output.out.contains("interrupted"), "{}", output.out);
}
