//! Servers that close connections: each announced or delivered reply is counted, and every run ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    Stub, StubReply, echo_reply, loadgen, run, run_measured, scratch, standard_reply, start_publisher,
    wait_for_exit,
};

/// The framing of a server's replies, and the number of replies after which it closes the connection; 0 for never.
#[derive(Clone, Copy, Debug)]
struct ClosingBehavior {
    name: &'static str,
    status_line: &'static str,
    headers: &'static str,
    has_length: bool,
    closes_after: usize,
}

const BEHAVIORS: &[ClosingBehavior] = &[
    ClosingBehavior {
        name: "announced",
        status_line: "HTTP/1.1 200 OK",
        headers: "Connection: close\r\n",
        has_length: true,
        closes_after: 1,
    },
    ClosingBehavior {
        name: "list",
        status_line: "HTTP/1.1 200 OK",
        headers: "Connection: TE, Close\r\n",
        has_length: true,
        closes_after: 1,
    },
    ClosingBehavior {
        name: "lines",
        status_line: "HTTP/1.1 200 OK",
        headers: "connection: TE\r\nCONNECTION: CLOSE\r\n",
        has_length: true,
        closes_after: 1,
    },
    ClosingBehavior {
        name: "unannounced",
        status_line: "HTTP/1.1 200 OK",
        headers: "",
        has_length: true,
        closes_after: 1,
    },
    ClosingBehavior {
        name: "every-third",
        status_line: "HTTP/1.1 200 OK",
        headers: "",
        has_length: true,
        closes_after: 3,
    },
    ClosingBehavior {
        name: "until-close",
        status_line: "HTTP/1.1 200 OK",
        headers: "",
        has_length: false,
        closes_after: 1,
    },
    ClosingBehavior {
        name: "http-1.0",
        status_line: "HTTP/1.0 200 OK",
        headers: "",
        has_length: true,
        closes_after: 1,
    },
    ClosingBehavior {
        name: "http-1.0-until-close",
        status_line: "HTTP/1.0 200 OK",
        headers: "",
        has_length: false,
        closes_after: 1,
    },
    ClosingBehavior {
        name: "http-1.0-keep-alive",
        status_line: "HTTP/1.0 200 OK",
        headers: "Connection: Keep-Alive\r\n",
        has_length: true,
        closes_after: 0,
    },
];

/// Starts a server with this behavior; it has one thread per connection.
fn start(behavior: ClosingBehavior) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap(), behavior));
        }
    });
    address
}

fn serve(mut stream: TcpStream, behavior: ClosingBehavior) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for number in 1.. {
        let Some(request) = read_request(&mut reader) else { return };
        let reply = match standard_reply(&request) {
            Some(StubReply::Json(value)) => value,
            _ if request["method"] == "initialize" => initialized(&request),
            _ => echo_reply(&request),
        };
        let body = if request.get("id").is_some() { reply.to_string() } else { String::new() };
        let length =
            if behavior.has_length { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        let ClosingBehavior { status_line, headers, .. } = behavior;
        let reply = format!("{status_line}\r\nContent-Type: application/json\r\n{headers}{length}\r\n{body}");
        if stream.write_all(reply.as_bytes()).is_err() || number == behavior.closes_after {
            return;
        }
    }
}

fn initialized(request: &Value) -> Value {
    let result = json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
        "serverInfo": {"name": "closing", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": request["id"], "result": result})
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn assert_all_answered(what: &str, result: &Value) {
    assert_eq!(result["errors_count"], json!({}), "{what}: {}", result["first_error"]);
    assert_eq!(result["outcome"], "complete", "{what}");
    let count = result["requests_count"].as_u64().unwrap();
    assert!(count > 0, "{what}");
    assert_eq!(result["replies_count"], count, "{what}");
    let sum = |name: &str| -> u64 {
        result["intervals"].as_array().unwrap().iter().map(|part| part[name].as_u64().unwrap()).sum()
    };
    assert_eq!(sum("replies_count"), count, "{what}");
}

#[test]
fn requests_to_closing_servers_are_all_answered() {
    thread::scope(|scope| {
        for behavior in BEHAVIORS {
            scope.spawn(|| answers_every_request(behavior));
        }
    });
}

fn answers_every_request(behavior: &ClosingBehavior) {
    let url = format!("http://{}/mcp", start(*behavior));
    for pace in [&["--rate", "200"][..], &["--closed"]] {
        for era in ["2026-07-28", "2025-11-25"] {
            let what = format!("{} {pace:?} {era}", behavior.name);
            let mut arguments = vec!["run", &url, "-c", "4", "-d", "1s", "--warmup", "100ms", "--era", era];
            arguments.extend(pace);
            let (result, output) = run_measured(&format!("{}-{}-{era}", behavior.name, pace[0]), &arguments);
            assert_all_answered(&what, &result);
            let reconnects = result["reconnects_count"].as_u64().unwrap();
            assert_eq!(reconnects > 0, behavior.closes_after > 0, "{what}: {reconnects} reconnects");
            assert_eq!(output.out.contains("reconnect"), behavior.closes_after > 0, "{what}: {}", output.out);
        }
    }
}

#[test]
fn closing_servers_are_measured_by_every_command() {
    let url = format!("http://{}/mcp", start(BEHAVIORS[0]));
    for arguments in [
        &["soak", &url, "--rate", "100", "-c", "4", "-d", "1s"][..],
        &["storm", &url, "-c", "4", "-d", "1s"],
        &["idle", &url, "-c", "4", "--rate", "10", "-d", "1s"],
    ] {
        let (result, output) = run_measured(&format!("closing-{}", arguments[0]), arguments);
        assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        assert_all_answered(arguments[0], &result);
    }
    let output =
        run(&["saturate", &url, "--slo", "p50<1s", "--rate-max", "50", "--trial", "300ms", "-c", "4"]);
    assert_eq!(output.code, Some(0), "{output:?}");
}

#[test]
fn fan_out_continues_after_its_connection_is_closed() {
    for is_announced in [true, false] {
        let touches = AtomicUsize::new(0);
        let (stub, _listeners) =
            start_publisher(move |request| match touches.fetch_add(1, Ordering::SeqCst) % 3 {
                2 => StubReply::Last { reply: echo_reply(request), is_announced },
                _ => StubReply::Json(echo_reply(request)),
            });
        let url = stub.url();
        let arguments = ["fanout", &url, "--subscribers", "5", "--rate", "20", "-d", "2s"];
        let (result, output) = run_measured(&format!("fanout-closing-{is_announced}"), &arguments);
        assert_eq!(output.code, Some(0), "{output:?}");
        let published = result["requests_count"].as_u64().unwrap();
        assert!((38..=42).contains(&published), "{published}");
        assert_eq!(result["replies_count"], published * 5);
        assert!(result["reconnects_count"].as_u64().unwrap() >= 10, "{}", result["reconnects_count"]);
        assert!(output.out.contains("reconnects"), "{}", output.out);
    }
}

/// Starts a server that reads every fifth request of a connection and closes instead of replying.
fn start_unreliable(reply: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                for number in 1.. {
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    if number % 5 == 0 || stream.write_all(reply.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn unanswered_get_is_sent_again_and_call_is_not() {
    let url = format!("http://{}/", start_unreliable("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    let arguments = ["run", &url, "--plain", "--rate", "200", "-c", "2", "-d", "1s", "--warmup", "0s"];
    let (result, output) = run_measured("unreliable-get", &arguments);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_all_answered("get", &result);
    assert!(result["resent_count"].as_u64().unwrap() > 10, "{}", result["resent_count"]);
    let stub = Stub::start(|request, number| {
        standard_reply(request).unwrap_or_else(|| {
            if number % 5 == 4 { StubReply::Close } else { StubReply::Json(echo_reply(request)) }
        })
    });
    let url = stub.url();
    let arguments = ["run", &url, "--rate", "200", "-c", "2", "-d", "1s", "--warmup", "0s"];
    let (result, output) = run_measured("unreliable-call", &arguments);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(result["errors_count"]["connection_closed"].as_u64().unwrap() > 10, "{}", result["errors_count"]);
    assert_eq!(result["resent_count"], 0);
}

#[test]
fn python_http_server_is_measured_in_both_loops() {
    let home = scratch("python");
    let mut python = Command::new("python3")
        .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
        .arg(&home)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(python.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    for pace in [&["--rate", "50"][..], &["--closed"]] {
        let arguments =
            [&["run", &url, "--plain", "-c", "4", "-d", "1s", "--warmup", "0s"][..], pace].concat();
        let (result, output) = run_measured(&format!("python{}", pace[0]), &arguments);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert_all_answered(pace[0], &result);
        assert!(result["reconnects_count"].as_u64().unwrap() > 0);
    }
    python.kill().unwrap();
    python.wait().unwrap();
}

/// Starts a server that stops replying after this many connections: the first of the load, or that of the probe.
fn start_until(connections: usize, then: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            if number < connections {
                thread::spawn(move || serve(stream, BEHAVIORS[0]));
            } else {
                then(stream);
            }
        }
    });
    address
}

#[test]
fn runs_end_with_silent_and_disconnecting_servers() {
    let (kept, held) = std::sync::mpsc::channel();
    let silent = start_until(2, move |stream| kept.send(stream).unwrap());
    let rude = start_until(2, drop);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = listener.local_addr().unwrap();
    for address in [silent, rude, deaf] {
        let url = format!("http://{address}/mcp");
        for pace in [&["--rate", "50"][..], &["--closed"]] {
            let arguments =
                [&["run", &url, "--timeout", "500ms", "-c", "2", "-d", "1s", "--warmup", "0s"][..], pace]
                    .concat();
            let output = wait_for_exit(loadgen(&arguments).spawn().unwrap(), Duration::from_secs(20));
            assert!(matches!(output.code, Some(1 | 2)), "{address} {pace:?}: {output:?}");
        }
    }
    drop(held);
}
