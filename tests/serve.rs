//! The binary as a black box: its behaviour towards clients and operators.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{Client, ServerProcess, corelane, echo, eventually, metric, post, serve, settled};

#[test]
fn demo_tools_reply_in_both_eras() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    let calls = [
        ("echo", json!({"message": "a \"quoted\"\nlane é"}), "a \"quoted\"\nlane é"),
        ("add", json!({"a": 2, "b": 40.5}), "{\"sum\":42.5}"),
        ("sleep", json!({"ms": 1}), "slept 1 ms"),
        (
            "digest",
            json!({"text": "abc"}),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
    ];
    for (tool, arguments, text) in calls {
        let params = json!({"name": tool, "arguments": arguments});
        let block = json!([{"type": "text", "text": text}]);
        let legacy = client.legacy("tools/call", params.clone()).json();
        assert_eq!(legacy["result"]["content"], block);
        assert_eq!(legacy["result"].get("resultType"), None, "legacy results have no result type");
        let modern = client.modern("tools/call", params).json();
        assert_eq!((&modern["jsonrpc"], &modern["id"]), (&json!("2.0"), &json!(1)));
        assert_eq!(modern["result"]["content"], block);
        assert_eq!(modern["result"]["resultType"], "complete", "a complete result");
        let info = &modern["result"]["_meta"]["io.modelcontextprotocol/serverInfo"];
        assert_eq!(info["name"], "corelane", "the server names itself");
        if tool == "add" {
            assert_eq!(modern["result"]["structuredContent"], json!({"sum": 42.5}));
        }
    }
    let listed = client.modern("tools/list", json!({})).json();
    let names: Vec<_> =
        listed["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(names, ["echo", "add", "sleep", "digest", "touch"]);
    assert_eq!(
        (&listed["result"]["cacheScope"], listed["result"]["ttlMs"].is_u64()),
        (&json!("public"), true)
    );
    assert_eq!(listed["result"]["tools"][1]["outputSchema"]["properties"]["sum"]["type"], "number");
    let discovered = client.modern("server/discover", json!({})).json();
    assert_eq!(discovered["result"]["supportedVersions"][0], "2026-07-28");
    assert_eq!(discovered["result"]["capabilities"]["tools"], json!({"listChanged": true}));
    server.stop();
}

#[test]
fn legacy_initialize_negotiates_a_revision() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    for (asked, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ] {
        let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let result = client.legacy("initialize", params).json()["result"].clone();
        assert_eq!(
            (&result["protocolVersion"], &result["serverInfo"]["name"]),
            (&json!(agreed), &json!("corelane"))
        );
        assert_eq!(result["capabilities"]["tools"], json!({"listChanged": true}));
    }
    let accepted = client.post("", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!((accepted.status, accepted.body.len()), (202, 0), "accepted without a body");
    assert_eq!(client.legacy("ping", json!({})).json()["result"], json!({}), "an empty result");
    server.stop();
}

#[test]
fn pipelined_requests_are_answered_in_order_behind_a_slow_one() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut client = server.connect();
    let slow = r#"{"jsonrpc":"2.0","id":"slow","method":"tools/call","params":{"name":"sleep","arguments":{"ms":100}}}"#;
    let mut bytes = post("", echo("first"));
    bytes.extend(post("", slow));
    for number in 0..500 {
        bytes.extend(post("", echo(&number.to_string())));
    }
    client.send(&bytes);
    assert_eq!(client.read().json()["result"]["content"][0]["text"], "first");
    assert_eq!(client.read().json()["id"], "slow");
    for number in 0..500 {
        assert_eq!(client.read().json()["result"]["content"][0]["text"], number.to_string());
    }
    server.stop();
}

#[test]
fn pipelining_client_that_does_not_read_is_paused_without_loss() {
    let server = ServerProcess::observed(serve(&["--shards", "1"]));
    let mut client = server.connect();
    const REQUESTS: usize = 4000;
    let request = post("", echo(&"x".repeat(8000)));
    let mut writer = client.stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        for _ in 0..REQUESTS {
            std::io::Write::write_all(&mut writer, &request).unwrap();
        }
    });
    settled("the bytes sent", || metric(server.admin(), "corelane_sent_bytes_total"));
    let held = server.status("VmRSS");
    for _ in 0..REQUESTS {
        assert_eq!(client.read().body.len(), 8073);
    }
    writing.join().unwrap();
    assert!(held < 100 * 1024, "{held} KiB while 32 MB of replies were owed");
    server.stop();
}

#[test]
fn sleeping_calls_overlap_on_one_shard() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let started = Instant::now();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = server.connect();
            thread::spawn(move || client.call("sleep", json!({"ms": 500})))
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap()["content"][0]["text"], "slept 500 ms");
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "twenty times 500 ms, one after the other, are ten seconds"
    );
    server.stop();
}

#[test]
fn blocking_tool_does_not_delay_other_calls() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let mut busy = server.connect();
    let slow = json!({"name": "digest", "arguments": {"text": "x", "rounds": 500_000}});
    busy.send(post(
        "",
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": slow}).to_string(),
    ));
    let mut other = server.connect();
    for _ in 0..10 {
        assert_eq!(other.call("echo", json!({"message": "hi"}))["content"][0]["text"], "hi");
    }
    busy.stream.set_nonblocking(true).unwrap();
    let waiting = std::io::Read::read(&mut busy.stream, &mut [0; 1]);
    assert_eq!(waiting.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "the digest is still running");
    busy.stream.set_nonblocking(false).unwrap();
    assert_eq!(busy.read().status, 200);
    server.stop();
}

#[test]
fn connection_close_header_ends_the_connection() {
    let server = ServerProcess::start(&[]);
    let mut client = server.connect();
    let reply = client.post("Connection: close\r\n", echo("last"));
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(client.is_closed());

    let mut old = server.connect();
    let request = |extra: &str| {
        let body = echo("old");
        format!(
            "POST /mcp HTTP/1.0\r\nContent-Type: application/json\r\n{extra}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let reply = old.send(request("Connection: keep-alive\r\n")).read();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("keep-alive")));
    assert_eq!(old.send(request("")).read().header("connection"), Some("close"));
    assert!(old.is_closed());

    let mut half = server.connect();
    half.send(post(
        "",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"sleep","arguments":{"ms":50}}}"#,
    ));
    half.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(half.read().status, 200, "a half-closed connection receives its reply");
    assert!(half.is_closed());
    server.stop();
}

#[test]
fn shards_share_a_port_and_all_reply() {
    let server = ServerProcess::start(&["--shards", "4"]);
    let clients: Vec<Client> = (0..64).map(|_| server.connect()).collect();
    for mut client in clients {
        assert_eq!(client.call("echo", json!({"message": "x"}))["content"][0]["text"], "x");
    }
    let stdout = server.stop();
    assert_eq!(stdout, "", "histograms only with --stats");
}

#[test]
fn every_listen_address_is_printed_on_its_own_line() {
    let mut command = corelane(&["serve", "--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--shards", "1"]);
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let lines: Vec<String> = (0..2).map(|_| lines.next().unwrap().unwrap()).collect();
    assert!(lines[0].starts_with("listening on http://127.0.0.1:"), "{lines:?}");
    assert!(lines[1].starts_with("listening on http://[::1]:"), "{lines:?}");
    assert!(lines[0].contains("/mcp (1 shard on "), "{lines:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn idle_server_uses_no_cpu() {
    let server = ServerProcess::start(&[]);
    let mut clients: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.call("echo", json!({"message": "x"}));
    }
    let before = settled("the time of the processor", || server.cpu_time());
    // The measured interval.
    thread::sleep(Duration::from_secs(2));
    let used = server.cpu_time() - before;
    assert!(used <= Duration::from_millis(20), "{used:?} of CPU in two idle seconds");
    server.stop();
}

/// A server whose standard output and error are these, which prints as much as it can.
fn with_output(stdout: Stdio, stderr: Stdio) -> (std::process::Child, SocketAddr) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = corelane(&["serve", "--listen", &free.to_string(), "--stats", "--log", "trace"]);
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
    eventually("the start", || TcpStream::connect(free).is_ok());
    (child, free)
}

#[test]
fn full_or_closed_output_does_not_end_the_server() {
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let (_unread, pipe) = std::io::pipe().unwrap();
    for (stdout, stderr) in [(full(), full()), (closed(), closed()), (full(), Stdio::from(pipe))] {
        let (mut child, address) = with_output(stdout, stderr);
        for number in 0..2000 {
            let mut client = Client::connect(address);
            // Every request is logged.
            let name = format!("unknown-{number}-{}", "x".repeat(100));
            assert_eq!(client.legacy("tools/call", json!({"name": name})).status, 200);
        }
        let terminate = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(terminate.unwrap().success());
        let status = support::exit_status(&mut child, Duration::from_secs(20));
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn log_lines_that_stderr_does_not_take_are_counted() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, admin) = (free(), free());
    let mut command = corelane(&["serve", "--listen", &address.to_string(), "--admin", &admin.to_string()]);
    let full = Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let mut child = command
        .args(["--log", "info"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(full)
        .spawn()
        .unwrap();
    eventually("the start", || TcpStream::connect(address).is_ok() && TcpStream::connect(admin).is_ok());
    let count = || {
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.starts_with("corelane_log_lines_unwritten_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = count();
    for _ in 0..10 {
        assert_eq!(Client::connect(address).legacy("tools/call", json!({"name": "unknown"})).status, 200);
    }
    eventually("ten lines to be counted", || count() >= before + 10);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn of_several_starts_at_the_same_moment_exactly_one_listens() {
    const ROUNDS: usize = 40;
    for round in 0..ROUNDS {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = free.to_string();
        let start = |_| {
            let mut command = corelane(&["serve", "--shards", "2", "--listen", &listen]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut children: Vec<_> = (0..4).map(start).collect();
        let lines: Vec<String> = children
            .iter_mut()
            .map(|child| {
                let mut line = String::new();
                BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
                line
            })
            .collect();
        let listening = lines.iter().filter(|line| line.starts_with("listening on ")).count();
        let refused = lines.iter().filter(|line| line.contains("Address already in use")).count();
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!((listening, refused), (1, 3), "round {round}: {lines:?}");
    }
}

/// Stopping and continuing a process interrupts reads of sockets with a timeout (signal(7)).
#[test]
fn admin_request_survives_a_stopped_and_continued_process() {
    let server = ServerProcess::observed(serve(&["--shards", "1"]));
    let mut client = Client::connect(server.admin());
    client.send("GET /healthz HTTP/1.1\r\n");
    thread::sleep(Duration::from_millis(100));
    server.signal("-STOP");
    thread::sleep(Duration::from_millis(50));
    server.signal("-CONT");
    thread::sleep(Duration::from_millis(50));
    assert_eq!(client.send("Host: localhost\r\n\r\n").read().status, 200);
}
