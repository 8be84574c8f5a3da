//! Servers on standard input and output: each connection is a process, and none outlives the run.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{MEASURING, loadgen, run, run_measured, scratch, wait_for_exit, wait_for_line};

const CORELANE: &str = concat!(env!("CARGO_BIN_EXE_corelane-fixture"), " stdio");

/// A server of 2025-11-25 that answers calls after random delays, so that replies arrive in any order. Arguments: a
/// directory in which each process creates a file named by its id, a number of calls, and the behavior after them.
const PYTHON: &str = r#"
import json, os, random, signal, subprocess, sys, threading, time
home, after, then = sys.argv[1], int(sys.argv[2]), sys.argv[3]
open(os.path.join(home, str(os.getpid())), "w").close()
if then == "stay":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    open(os.path.join(home, str(child.pid)), "w").close()
lock = threading.Lock()
def say(message):
    with lock:
        print(json.dumps(message), flush=True)
def answer(request):
    method = request["method"]
    if method == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "python", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "called"}})
        time.sleep(random.random() / 200)
        result = {"content": [{"type": "text", "text": request["params"]["arguments"]["message"]}]}
    else:
        return say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "no such method"}})
    say({"jsonrpc": "2.0", "id": request["id"], "result": result})
calls = 0
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    calls += request["method"] == "tools/call"
    if after and calls > after and then == "exit":
        print("out of order", file=sys.stderr)
        os._exit(7)
    if after and calls > after and then == "babble":
        print("Listening on stdout", flush=True)
    threading.Thread(target=answer, args=(request,)).start()
if then == "stay":
    time.sleep(1000)
"#;

/// The command line of the server above, and the directory with its process ids.
fn python(name: &str, after: u32, then: &str) -> (String, std::path::PathBuf) {
    let home = scratch(&format!("stdio-{name}"));
    let script = home.join("server.py");
    std::fs::write(&script, PYTHON).unwrap();
    let pids = home.join("pids");
    std::fs::create_dir(&pids).unwrap();
    (format!("python3 '{}' '{}' {after} {then}", script.display(), pids.display()), pids)
}

fn assert_all_ended(pids: &Path, at_least: usize) {
    let pids: Vec<String> = std::fs::read_dir(pids)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .collect();
    assert!(pids.len() >= at_least, "{pids:?}");
    for pid in &pids {
        // A killed grandchild is reaped by init after some time.
        let until = Instant::now() + Duration::from_secs(10);
        while let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            assert!(stat.contains("(sleep)") && Instant::now() < until, "{pid} is left: {stat}");
            if stat.contains(") Z ") {
                break;
            }
            thread::yield_now();
        }
    }
}

fn assert_clean(result: &Value) {
    assert_eq!(result["outcome"], "complete");
    assert_eq!(result["errors_count"], json!({}), "{}", result["first_error"]);
    let count = result["requests_count"].as_u64().unwrap();
    assert!(count > 0);
    assert_eq!(result["replies_count"], count);
    assert_eq!(result["latency"]["count"], count);
}

#[test]
fn stdio_servers_are_measured_in_both_loops_and_revisions() {
    let mix = r#"echo={"message":"{{random:9}} {{counter}}"}"#;
    for era in ["2026-07-28", "2025-11-25"] {
        for pace in [&["--rate", "50"][..], &["--closed"], &["--closed", "--pipeline", "4"]] {
            let arguments =
                [&["run", "--stdio", CORELANE, "--era", era, "-c", "2", "-d", "1s", "--tool", mix][..], pace]
                    .concat();
            let (result, output) = run_measured(&format!("stdio-{era}-{}", pace.len()), &arguments);
            assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
            assert_clean(&result);
            assert_eq!(result["server"]["url"], format!("stdio:{CORELANE}"));
            assert_eq!(result["contestant"], "corelane");
            assert_eq!(result["parameters"]["era"], era);
        }
    }
}

#[test]
fn stdio_replies_in_any_order_are_matched_by_id() {
    let (command, pids) = python("order", 0, "serve");
    let mix = r#"echo={"message":"{{random:9}}"}"#;
    for pace in [&["--rate", "100"][..], &["--closed"]] {
        let arguments = [
            &["run", "--stdio", &command, "--pipeline", "8", "-c", "2", "-d", "1s", "--tool", mix][..],
            pace,
        ]
        .concat();
        let (result, output) = run_measured(&format!("stdio-order{}", pace[0]), &arguments);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_clean(&result);
        assert_eq!(result["parameters"]["era"], "2025-11-25");
    }
    assert_all_ended(&pids, 6);
}

#[test]
fn stdio_servers_are_measured_by_every_applicable_command() {
    for arguments in [
        &["soak", "--stdio", CORELANE, "--rate", "100", "-c", "2", "-d", "1s"][..],
        &["idle", "--stdio", CORELANE, "-c", "2", "--rate", "10", "-d", "1s"],
        &["run", "--stdio", CORELANE, "--workload", "schema_complex", "--scale", "0.02", "-d", "1s"],
    ] {
        let (result, output) = run_measured(&format!("stdio-{}", arguments[0]), arguments);
        assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        assert_clean(&result);
    }
    let search = ["saturate", "--stdio", CORELANE, "--slo", "p50<1s", "--rate-max", "50", "--trial", "300ms"];
    let output = run(&[&search[..], &["-c", "2"]].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let kept = scratch("stdio-baseline").join("kept.json");
    let output = run(&[
        "baseline",
        "--stdio",
        CORELANE,
        "--only",
        "discover,fanout_1k,idle_50k",
        "--repeats",
        "1",
        "--scale",
        "0.2",
        "--duration",
        "500ms",
        "--output",
        kept.to_str().unwrap(),
    ]);
    // The generator may be the limit on this machine.
    assert!(output.out.contains("not run: fanout_1k: a server on stdio has one client"), "{output:?}");
    assert!(output.out.contains("not run: idle_50k: --stdio starts a process for each"), "{output:?}");
    assert!(output.out.contains("discover"), "{output:?}");
}

#[test]
fn unusable_stdio_servers_are_errors_with_the_cause() {
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["run", "--closed", "--stdio", "/no/such/command -x"], "No such file or directory"),
        (
            vec!["run", "--closed", "--stdio", "sh -c 'echo the key is missing >&2; exit 3'"],
            "the server ended (exit status: 3): the key is missing",
        ),
        (vec!["run", "--closed", "--stdio", "sh -c 'kill -KILL $$'"], "the server ended (signal: 9"),
        (
            vec!["run", "--closed", "--stdio", "sh -c 'echo Listening; cat >/dev/null'"],
            "a line that is not a JSON-RPC message: Listening",
        ),
        (
            vec!["run", "--closed", "--timeout", "300ms", "--stdio", "sleep 1000"],
            "does not reply within 300ms",
        ),
        (vec!["run", "--closed", "--stdio", "server 'x"], "a quote is not closed"),
        (vec!["run", "--closed", "--stdio", ""], "the command is empty"),
        (vec!["run", "--closed", "--stdio", CORELANE, "--plain"], "--plain needs HTTP"),
        (vec!["idle", "--stdio", CORELANE], "the maximum is 1024"),
        (vec!["storm", "--stdio", CORELANE], "--stdio has none"),
        (vec!["fanout", "--stdio", CORELANE], "has one client"),
    ];
    for (arguments, words) in cases {
        let output = run(&arguments);
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
        assert_eq!(output.err.lines().count(), 1, "{arguments:?}: {}", output.err);
        assert!(output.err.contains(words), "{arguments:?}: {}", output.err);
    }
    for arguments in [
        &["run", "http://127.0.0.1:9/mcp", "--closed", "--stdio", CORELANE][..],
        &["run", "--closed", "--stdio", CORELANE, "--header", "A: b"],
        &["baseline", "--stdio", CORELANE, "--url", "http://127.0.0.1:9/mcp"],
    ] {
        assert_eq!(run(arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn failing_stdio_servers_are_counted_and_restarted() {
    for (then, kind, words) in [
        ("exit", "connection_closed", "the server ended (exit status: 7): out of order"),
        ("babble", "reply_broken", "not a JSON-RPC message: Listening on stdout"),
    ] {
        let (command, pids) = python(then, 20, then);
        let arguments =
            ["run", "--stdio", &command, "--rate", "100", "-c", "1", "-d", "2s", "--warmup", "0s"];
        let (result, output) = run_measured(&format!("stdio-fails-{then}"), &arguments);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(result["errors_count"][kind].as_u64().unwrap() > 0, "{}", result["errors_count"]);
        assert!(result["first_error"].as_str().unwrap().contains(words), "{}", result["first_error"]);
        assert!(result["reconnects_count"].as_u64().unwrap() > 0);
        assert!(result["replies_count"].as_u64().unwrap() > 20, "it was started again");
        assert_all_ended(&pids, 3);
    }
}

#[test]
fn interrupted_stdio_run_leaves_no_process_and_is_reported() {
    // The second kind exits neither at the end of its input nor on SIGTERM, and has a child process.
    for then in ["serve", "stay"] {
        let (command, pids) = python(&format!("interrupted-{then}"), 0, then);
        let path = scratch(&format!("stdio-interrupted-{then}-result")).join("result.json");
        let arguments =
            ["run", "--stdio", &command, "--rate", "50", "-c", "2", "--warmup", "0s", "-d", "60s", "--json"];
        let mut child = loadgen(&[&arguments[..], &[path.to_str().unwrap()]].concat())
            // Ctrl-C at a terminal is sent to the whole group.
            .process_group(0)
            .spawn()
            .unwrap();
        wait_for_line(&mut child, &[MEASURING]);
        let group = format!("-{}", child.id());
        Command::new("kill").args(["-INT", "--", &group]).status().unwrap();
        let output = wait_for_exit(child, Duration::from_secs(30));
        assert_eq!(output.code, Some(0), "{output:?}");
        let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let result = &file["runs"][0];
        assert_eq!(result["outcome"], "interrupted");
        assert_eq!(result["errors_count"], json!({}), "{}", result["first_error"]);
        assert_all_ended(&pids, 4);
    }
}

#[test]
fn second_interruption_kills_the_servers() {
    let (command, pids) = python("killed", 0, "stay");
    let arguments = ["run", "--stdio", &command, "--rate", "50", "-c", "2", "-d", "60s"];
    let mut child = loadgen(&arguments).spawn().unwrap();
    wait_for_line(&mut child, &[MEASURING]);
    let id = child.id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &id]).status().unwrap();
    signal("-INT");
    // Two pending signals are merged to one; terminating these servers after the first takes four seconds.
    let pending = || {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap().trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap() & 2 != 0
    };
    while pending() {
        thread::yield_now();
    }
    signal("-TERM");
    let output = wait_for_exit(child, Duration::from_secs(10));
    assert_eq!(output.code, None, "{output:?}");
    let until = Instant::now() + Duration::from_secs(10);
    let is_left = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    for entry in std::fs::read_dir(&pids).unwrap() {
        let pid = entry.unwrap().file_name().to_str().unwrap().to_owned();
        while is_left(&pid) {
            assert!(Instant::now() < until, "{pid} is left");
            thread::yield_now();
        }
    }
}
