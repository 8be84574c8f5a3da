//! `corelane ctl top` with the real binary: lines of JSON, and the view on a terminal.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{ServerProcess, corelane, echo, eventually, run};

/// A server with a control socket at a path of its own.
struct Served {
    server: ServerProcess,
    socket: PathBuf,
}

impl Served {
    fn new(name: &str) -> Self {
        let socket = env::temp_dir().join(format!("cltop-{name}-{}.sock", std::process::id()));
        let _ = fs::remove_file(&socket);
        let mut command = corelane(&["serve", "--listen", "127.0.0.1:0", "--shards", "2"]);
        command.arg("--control").arg(&socket);
        Self { server: ServerProcess::observed(command), socket }
    }

    /// `ctl top`, not yet started.
    fn top(&self, arguments: &[&str]) -> Command {
        let mut command = corelane(&["ctl", "top", "--socket"]);
        command.arg(&self.socket).args(arguments);
        command
    }
}

/// A command on a terminal that `script` makes, with `stty` applied to it before.
struct OnTerminal {
    child: Child,
    output: Receiver<Vec<u8>>,
    /// Everything that was written to the terminal.
    seen: String,
}

impl OnTerminal {
    fn spawn(command: &Command, size: &str) -> Self {
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap());
        let words: Vec<String> =
            [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
        // Shows whether the terminal is in its former mode afterwards.
        let line = format!(
            "stty {size}; tty; {}; code=$?; stty -a | grep -o -- '-\\?icanon'; exit $code",
            words.join(" ")
        );
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        script.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = script.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { child, output, seen: String::new() }
    }

    /// Waits until a text was written.
    #[track_caller]
    fn await_text(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!("{text:?} was not written: {:?}", self.seen),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.seen.clear();
        self.child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end. Returns the exit code and what was written since the last key.
    fn end(mut self) -> (Option<i32>, String) {
        let mut code = None;
        eventually("the end of top", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        while let Ok(bytes) = self.output.recv() {
            self.seen += &String::from_utf8_lossy(&bytes);
        }
        (code.unwrap().code(), self.seen)
    }
}

fn tool<'a>(sample: &'a Value, name: &str) -> Option<&'a Value> {
    sample["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == name)
}

#[test]
fn lines_of_json_count_each_request_once() {
    let served = Served::new("json");
    let mut top = served.top(&["--json", "--interval", "100ms"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let first = next();
    assert_eq!((&first["pid"], &first["total"]["requests"]), (&json!(served.server.id()), &json!(0)));
    assert_eq!(first["total"]["p99_us"], Value::Null);
    let mut client = served.server.connect();
    for _ in 0..20 {
        assert_eq!(client.post("", echo("x")).status, 200);
    }
    client.call("echo", json!({}));
    let (mut requests, mut echoed, mut failed, mut by_shard, mut refused) = (0, 0, 0, 0, 0);
    let count = |value: &Value| value.as_u64().unwrap();
    while requests < 21 {
        let sample = next();
        let total = &sample["total"];
        requests += count(&total["requests"]);
        if count(&total["requests"]) > 0 {
            assert!(
                total["p50_us"].as_f64() > Some(0.0) && total["p50_us"].as_f64() <= total["p99_us"].as_f64()
            );
            assert!(
                total["requests_per_second"].as_f64() > Some(0.0) && total["busy_share"].as_f64() > Some(0.0)
            );
            assert_eq!(total["connections"], 1, "{sample}");
        }
        assert_eq!(sample["shards"].as_array().unwrap().len(), 2);
        by_shard +=
            sample["shards"].as_array().unwrap().iter().map(|shard| count(&shard["requests"])).sum::<u64>();
        let echo = tool(&sample, "echo");
        echoed += echo.map_or(0, |tool| count(&tool["requests"]));
        failed += echo.map_or(0, |tool| count(&tool["errors"]));
        refused += sample["refusals"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["name"] == "invalid_arguments")
            .count();
        let flags = sample["flags"].as_array().unwrap();
        assert!(
            flags.iter().any(|flag| flag["flag"] == "json_backend" && flag["position"] == "simd"),
            "{sample}"
        );
    }
    assert_eq!((requests, by_shard, failed, refused), (21, 21, 1, 1));
    assert!((20..=21).contains(&echoed), "{echoed}");
    // Calls in flight, by tool.
    client.send(support::post(
        "",
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "sleep", "arguments": {"ms": 1000}}})
            .to_string(),
    ));
    eventually("a call in flight", || {
        tool(&next(), "sleep").is_some_and(|tool| tool["calls_in_flight"] == 1)
    });
    top.kill().unwrap();
    top.wait().unwrap();
    served.server.stop();
}

#[test]
fn count_ends_the_lines_and_a_reader_that_has_gone_is_no_error() {
    let served = Served::new("count");
    let (code, stdout, stderr) = run(served.top(&["--json", "--interval", "0.05", "--count", "3"]));
    assert_eq!((code, stdout.lines().count(), stderr.as_str()), (Some(0), 3, ""));
    let mut top = served.top(&["--json", "--interval", "0.05"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(top.stdout.take());
    eventually("the end of top", || top.try_wait().unwrap().is_some_and(|status| status.success()));
    served.server.stop();
}

#[test]
fn view_follows_the_terminal_and_ends_with_q() {
    let served = Served::new("view");
    let mut client = served.server.connect();
    assert_eq!(client.post("", echo("x")).status, 200);
    let mut top = OnTerminal::spawn(&served.top(&["--interval", "100ms"]), "rows 30 cols 100");
    top.await_text("quit");
    let terminal = top.seen.lines().find(|line| line.starts_with("/dev/")).unwrap().trim().to_owned();
    for text in ["requests/s", "shards: 2", "echo", "calls in flight"] {
        top.await_text(text);
    }
    top.press("p");
    top.await_text("PAUSED");
    top.press("p");
    // Only a wide terminal has room for this column.
    assert!(!top.seen.contains("mailbox "));
    assert!(Command::new("stty").args(["-F", &terminal, "cols", "160"]).status().unwrap().success());
    top.await_text("mailbox");
    top.press("q");
    let (code, rest) = top.end();
    assert_eq!(code, Some(0), "{rest}");
    // Leaves the alternate screen, and shows the cursor. The mode of the terminal is the former one.
    assert!(rest.contains("\u{1b}[?1049l") && rest.contains("\u{1b}[?25h"), "{rest:?}");
    assert!(rest.trim_end().ends_with("icanon") && !rest.contains("-icanon"), "{rest:?}");
    served.server.stop();
}

#[test]
fn view_ends_with_one_line_when_the_server_has_gone() {
    let served = Served::new("gone");
    let mut top = OnTerminal::spawn(&served.top(&["--interval", "100ms"]), "rows 24 cols 80");
    top.await_text("shards: 2");
    top.press("p");
    let mut lines = served
        .top(&["--json", "--interval", "100ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(lines.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    served.server.signal("-KILL");
    let (code, rest) = top.end();
    assert_eq!(code, Some(1), "{rest}");
    let (_, after) = rest.split_once("\u{1b}[?1049l").unwrap();
    assert_eq!(after.matches("error: ").count(), 1, "{after:?}");
    assert!(after.contains("the server") && !after.contains("-icanon"), "{after:?}");
    let output = lines.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
}

#[test]
fn view_without_a_terminal_names_json() {
    let served = Served::new("noterm");
    let (code, stdout, stderr) = run(served.top(&[]));
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
    assert!(stderr.contains("--json"), "{stderr}");
    for arguments in [&["--interval", "0"][..], &["--interval", "2h"], &["--count", "0"]] {
        assert_eq!(run(served.top(arguments)).0, Some(2), "{arguments:?}");
    }
    served.server.stop();
}

#[test]
fn interval_out_of_range_is_refused_by_the_server() {
    let served = Served::new("range");
    // Each refusal is logged.
    for milliseconds in [0, 60_001] {
        let mut stream = std::os::unix::net::UnixStream::connect(&served.socket).unwrap();
        let request = json!({"version": 1, "request": {"command": "sample", "milliseconds": milliseconds}});
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        assert!(reply.contains("\"interval_out_of_range\""), "{reply}");
    }
}
