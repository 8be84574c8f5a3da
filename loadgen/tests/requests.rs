//! Sent requests, targets, and the width of the output.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;
use support::{Stub, StubReply, echo_reply, json_reply, run, run_measured, scratch, standard_reply};

/// A server that records every request.
struct Recorder {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let recorded = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let recorded = Arc::clone(&recorded);
                thread::spawn(move || record(&stream.unwrap(), &recorded));
            }
        });
        Self { url, requests }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn record(mut stream: &std::net::TcpStream, recorded: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let before = head.len();
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = head[before..].strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let request: Value = serde_json::from_slice(&body).unwrap();
        recorded.lock().unwrap().push(head + std::str::from_utf8(&body).unwrap());
        let reply = match standard_reply(&request) {
            Some(StubReply::Json(reply)) => reply,
            _ => echo_reply(&request),
        };
        if stream.write_all(&json_reply(&reply)).is_err() {
            return;
        }
    }
}

#[test]
fn equal_seeds_send_equal_requests() {
    let server = Recorder::start();
    let sent = |seed: &str| {
        server.take();
        let output = run(&[
            "run",
            &server.url,
            "--closed",
            "-c",
            "1",
            "-d",
            "300ms",
            "--warmup",
            "0s",
            "--seed",
            seed,
            "--tool",
            r#"echo={"message":"{{random:12}} {{counter}}"}=3"#,
            "--tool",
            r#"touch={"key":"{{random:4}}"}=2"#,
            "--list=1",
        ]);
        assert_eq!(output.code, Some(0), "{output:?}");
        let mut requests = server.take();
        assert!(requests.len() > 40, "{}", requests.len());
        requests.truncate(40);
        requests
    };
    let (first, again, other) = (sent("7"), sent("7"), sent("8"));
    assert_eq!(first, again);
    let names = |requests: &[String]| -> Vec<String> {
        let name =
            |request: &String| request.lines().find(|line| line.starts_with("Mcp-Method")).map(str::to_owned);
        requests.iter().filter_map(name).collect()
    };
    assert_ne!(first, other);
    assert_ne!(names(&first), names(&other), "the order of the mix is drawn too");
    for word in ["echo", "touch", "tools/list"] {
        assert!(first.iter().any(|request| request.contains(word)), "{word} is not in the mix");
    }
}

#[test]
fn header_lines_are_sent_with_every_request() {
    let server = Recorder::start();
    let headers =
        ["--header", "Authorization: Bearer a:b", "--header", "X-Two:  2 ", "--header", "Host: example"];
    let arguments = ["run", &server.url, "--rate", "50", "-c", "2", "-d", "500ms", "--warmup", "0s"];
    let output = run(&[&arguments[..], &headers].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let requests = server.take();
    assert!(requests.len() > 20, "{}", requests.len());
    for request in requests {
        let (head, _) = request.split_once("\r\n\r\n").unwrap();
        let lines: Vec<&str> = head.split("\r\n").collect();
        for line in ["Authorization: Bearer a:b", "X-Two: 2", "Host: example"] {
            assert_eq!(lines.iter().filter(|found| **found == line).count(), 1, "{line:?} in {head}");
        }
        assert_eq!(lines.iter().filter(|line| line.starts_with("Host:")).count(), 1, "{head}");
    }
}

#[test]
fn unix_sockets_are_measured() {
    let home = scratch("unix");
    let url = format!("http+unix:{}", home.join("server.sock").display());
    let mut server = Command::new(env!("CARGO_BIN_EXE_corelane-fixture"))
        .args(["serve", "--listen", &url, "--admin", "none", "--shards", "1"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(server.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("listening"), "{line}");
    for era in ["2026-07-28", "2025-11-25"] {
        for pace in [&["--rate", "200"][..], &["--closed"]] {
            let arguments = [&["run", &url, "--era", era, "-c", "3", "-d", "1s"][..], pace].concat();
            let (result, output) = run_measured(&format!("unix-{era}{}", pace[0]), &arguments);
            assert_eq!(output.code, Some(0), "{output:?}");
            assert_eq!(result["server"]["url"], url);
            assert_eq!(result["replies_count"], result["requests_count"]);
            assert!(result["replies_count"].as_u64().unwrap() > 0);
        }
    }
    let (result, output) = run_measured("unix-storm", &["storm", &url, "-c", "2", "-d", "500ms"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(result["replies_count"].as_u64().unwrap() > 0);
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Runs a command with its stdout on a terminal of the given width, and prints its output.
const TERMINAL: &str = "
import fcntl, os, pty, struct, subprocess, sys, termios
ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 40, int(sys.argv[1]), 0, 0))
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL)
os.close(theirs)
text = b''
while True:
    try:
        part = os.read(ours, 65536)
    except OSError:
        break
    if not part:
        break
    text += part
assert child.wait() == 0
sys.stdout.buffer.write(text.replace(b'\\r\\n', b'\\n'))
";

#[test]
fn report_has_the_width_of_the_terminal() {
    let stub = Stub::start(|request, _| {
        standard_reply(request).unwrap_or_else(|| StubReply::Json(echo_reply(request)))
    });
    let path = scratch("width").join("result.json");
    let arguments = ["run", &stub.url(), "--rate", "50", "-d", "500ms", "--warmup", "0s", "--name"];
    let name = "a server with a name of many words ".repeat(6);
    let output = run(&[&arguments[..], &[&name, "--json", path.to_str().unwrap()]].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    let on_terminal = |columns: &str| {
        let output = Command::new("python3")
            .args(["-c", TERMINAL, columns, env!("CARGO_BIN_EXE_corelane-loadgen"), "report"])
            .arg(&path)
            // The size of the terminal takes precedence over an exported variable.
            .env("COLUMNS", "77")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (narrow, wide) = (on_terminal("60"), on_terminal("140"));
    assert!((50..=60).contains(&widest(&narrow)), "{narrow}");
    assert!((110..=140).contains(&widest(&wide)), "{wide}");
    // Without a terminal the width is constant, so that files can be compared.
    assert!((90..=100).contains(&widest(&output.out)), "{}", output.out);
    let letters = |text: &str| text.chars().filter(|char| !char.is_whitespace() && *char != '─').count();
    assert_eq!(letters(&narrow), letters(&wide), "{narrow}\n{wide}");
}
