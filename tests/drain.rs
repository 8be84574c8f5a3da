//! Signals to the binary, and the drain: calls in flight, open connections, readiness, and exit codes.

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
use support::{
    Client, ServerProcess, await_metric, config_file, corelane, echo, eventually, post, serve, uninterrupted,
};

/// The status of `/readyz`.
fn readiness(server: &ServerProcess) -> u16 {
    Client::connect(server.admin()).send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").read().status
}

/// Waits until the drain has begun after a signal. The admin address is released after every shard has the command.
fn await_drain(server: &ServerProcess) {
    eventually("the release of the admin address", || TcpStream::connect(server.admin()).is_err());
}

#[test]
fn sigterm_drains_calls_in_flight_and_exits_with_zero() {
    for signal in ["-INT", "-TERM"] {
        let server = ServerProcess::observed(serve(&["--stats"]));
        let mut idle = server.connect();
        idle.call("echo", json!({"message": "x"}));
        let mut busy = server.connect();
        busy.send(post("", r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sleep","arguments":{"ms":1000}}}"#));
        await_metric(server.admin(), "corelane_calls_in_flight", 1.0);
        server.signal(signal);
        assert!(idle.is_closed(), "an idle connection is closed without a reset");
        let reply = busy.read();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
        assert_eq!(reply.json()["id"], 7);
        assert!(busy.is_closed());
        let address = server.address;
        let (status, stdout, stderr) = server.wait(Duration::from_secs(5));
        assert_eq!(status.code(), Some(0));
        assert!(stderr.lines().all(|line| line.contains(" INFO ")), "{stderr}");
        assert!(stdout.contains("tools/call                2"), "--stats: {stdout}");
        assert!(std::net::TcpStream::connect(address).is_err(), "the listener is closed");
    }
}

#[test]
fn drain_does_not_wait_for_an_idle_client() {
    let server = ServerProcess::observed(serve(&["--shards", "1"]));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut client = Client::over(std::net::TcpStream::from(socket));
    // More than the socket buffers hold while the client does not read: the reply has begun at the signal and cannot
    // complete before the client reads.
    client.send(post("", echo(&"x".repeat(3_900_000))));
    assert_eq!(uninterrupted(|| client.stream.peek(&mut [0])).unwrap(), 1);
    server.signal("-TERM");
    await_drain(&server);
    assert_eq!(client.read().status, 200);
    // The client stays connected and sends nothing more.
    let (status, _, _) = server.wait(Duration::from_secs(4));
    assert_eq!(status.code(), Some(0));
    drop(client);
}

#[test]
fn second_signal_exits_immediately() {
    let server = ServerProcess::observed(serve(&[]));
    let mut busy = server.connect();
    busy.send(post("", r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sleep","arguments":{"ms":60000}}}"#));
    await_metric(server.admin(), "corelane_calls_in_flight", 1.0);
    server.signal("-INT");
    // A second signal at once would count as an echo of the first.
    server.signal("-INT");
    // Beyond the time in which a second signal counts as an echo of the first.
    thread::sleep(Duration::from_millis(500));
    server.signal("-INT");
    let (status, _, _) = server.wait(Duration::from_secs(3));
    assert_eq!(status.code(), Some(130));
}

#[test]
fn drain_bounds_the_wait_for_a_partial_request() {
    let server = ServerProcess::observed(serve(&["--shards", "1"]));
    let mut half = server.connect();
    let head = "POST /mcp HTTP/1.1\r\nHost: loc";
    half.send(head);
    let mut finished = server.connect();
    let bytes = post("", echo("late"));
    finished.send(&bytes[..40]);
    await_metric(server.admin(), "corelane_received_bytes_total", (head.len() + 40) as f64);
    let asked = Instant::now();
    server.signal("-TERM");
    await_drain(&server);
    finished.send(&bytes[40..]);
    assert_eq!(
        finished.read().json()["result"]["content"][0]["text"],
        "late",
        "completed within the grace period"
    );
    assert_eq!(half.read().status, 408);
    drop(half);
    let (status, _, _) = server.wait(Duration::from_secs(15));
    assert!(status.success() && asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
}

#[test]
fn drain_answers_every_request_of_a_busy_client_without_resets() {
    let server = ServerProcess::start(&["--shards", "2"]);
    let address = server.address;
    let (under_way, all) = std::sync::mpsc::channel();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let under_way = under_way.clone();
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut answered = 0;
                loop {
                    let reply = client.post("", echo("x"));
                    assert_eq!(reply.status, 200);
                    answered += 1;
                    if answered == 2 {
                        under_way.send(()).unwrap();
                    }
                    if reply.header("connection") == Some("close") {
                        return answered;
                    }
                }
            })
        })
        .collect();
    (0..16).for_each(|_| all.recv_timeout(Duration::from_secs(20)).unwrap());
    server.signal("-TERM");
    for client in clients {
        assert!(client.join().expect("every request that was sent was answered") > 1);
    }
    let (status, _, _) = server.wait(Duration::from_secs(15));
    assert!(status.success());
}

/// Opens a connection for each request until none can be opened. Returns how many requests were answered, and how many connections
/// were opened and then closed without a reply.
fn connect_per_request(address: SocketAddr) -> (usize, usize) {
    let (mut answered, mut lost) = (0, 0);
    let request = post("", echo("x"));
    // During a drain the kernel ignores the first SYN, and refuses the one that the client repeats a second later.
    while let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(20)) {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut start = [0; 12];
        let replied = uninterrupted(|| stream.write_all(&request))
            .and_then(|()| uninterrupted(|| stream.read_exact(&mut start)));
        match replied {
            Ok(()) if start == *b"HTTP/1.1 200" => answered += 1,
            _ => lost += 1,
        }
    }
    (answered, lost)
}

/// The kernel accepts connections before the server does. They are not lost when it stops.
#[test]
fn sigterm_resets_no_connection_of_clients_that_open_one_per_request() {
    const SIGNALS: usize = 5;
    // A client thread may wait long for a processor.
    let config = config_file("connection-per-request", "[limits]\ndrain_grace = \"1s\"\n");
    let (mut answered, mut lost) = (0, 0);
    for _ in 0..SIGNALS {
        let server = ServerProcess::start(&["--shards", "2", "--config", &config]);
        let address = server.address;
        let clients: Vec<_> = (0..8).map(|_| thread::spawn(move || connect_per_request(address))).collect();
        // Under load for a while.
        thread::sleep(Duration::from_millis(200));
        server.signal("-TERM");
        for client in clients {
            let (of_client, lost_of_client) = client.join().unwrap();
            answered += of_client;
            lost += lost_of_client;
        }
        let (status, _, stderr) = server.wait(Duration::from_secs(15));
        assert!(status.success(), "{stderr}");
    }
    println!("{answered} answered, {lost} lost in {SIGNALS} signals");
    assert!(answered > 0);
    assert_eq!(lost, 0, "of {answered}");
}

const SLEEP: &str =
    r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sleep","arguments":{"ms":60000}}}"#;

#[test]
fn call_beyond_the_drain_timeout_is_answered_and_the_exit_code_is_three() {
    let config = config_file("answered", "[limits]\ndrain_timeout = \"300ms\"\n");
    let server = ServerProcess::observed(serve(&["--shards", "2", "--config", &config]));
    let mut legacy = server.connect();
    legacy.send(post("", SLEEP));
    let mut modern = server.connect();
    let (headers, body) = support::modern("tools/call", json!({"name": "sleep", "arguments": {"ms": 60000}}));
    modern.send(post(&headers, body));
    await_metric(server.admin(), "corelane_calls_in_flight", 2.0);
    server.signal("-TERM");
    for client in [&mut legacy, &mut modern] {
        let reply = client.read();
        assert_eq!((reply.status, reply.error_code()), (503, -32000));
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(client.is_closed());
    }
    let (status, _, stderr) = server.wait(Duration::from_secs(15));
    assert_eq!(status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("calls_abandoned") && stderr.contains("sleep"), "{stderr}");
    assert!(stderr.ends_with("remedy: a longer drain_timeout\n"), "{stderr}");
}

#[test]
fn client_that_has_left_does_not_hold_the_drain() {
    let config = config_file(
        "left",
        "[limits]\ndrain_timeout = \"60s\"\nwrite_timeout = \"60s\"\nlinger_timeout = \"500ms\"\n",
    );
    let server = ServerProcess::observed(serve(&["--shards", "1", "--config", &config]));
    // Its closed connection looks like one whose client awaits the reply.
    let mut left = server.connect();
    left.send(post("", SLEEP));
    await_metric(server.admin(), "corelane_calls_in_flight", 1.0);
    drop(left);
    // Awaits its reply after it has closed its sending side.
    let mut half = server.connect();
    half.send(post("", SLEEP.replace("60000", "4000")));
    half.stream.shutdown(Shutdown::Write).unwrap();
    await_metric(server.admin(), "corelane_calls_in_flight", 2.0);
    // Reads nothing of a reply that the buffers of the socket do not hold.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut stuck = Client::over(TcpStream::from(socket));
    stuck.send(post("", echo(&"x".repeat(3_900_000))));
    assert_eq!(uninterrupted(|| stuck.stream.peek(&mut [0])).unwrap(), 1);
    // Leaves during the drain.
    let mut leaving = server.connect();
    leaving.send(post("", SLEEP));
    await_metric(server.admin(), "corelane_calls_in_flight", 3.0);
    server.signal("-TERM");
    await_drain(&server);
    drop(leaving);
    let mut reply = half.read();
    while reply.status == 100 {
        reply = half.read();
    }
    assert_eq!(reply.status, 200);
    let (status, _, stderr) = server.wait(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{stderr}");
    drop(stuck);
}

#[test]
fn new_process_starts_while_the_old_one_drains() {
    let old = ServerProcess::observed(serve(&["--shards", "2"]));
    let (address, admin) = (old.address.to_string(), old.admin().to_string());
    let mut busy = old.connect();
    busy.send(post("", SLEEP.replace("60000", "5000")));
    await_metric(old.admin(), "corelane_calls_in_flight", 1.0);
    old.signal("-TERM");
    let mut starts = 0;
    let new = loop {
        let mut command = corelane(&["serve", "--shards", "2", "--listen", &address, "--admin", &admin]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        if line.starts_with("listening on ") {
            break child;
        }
        child.wait().unwrap();
        // The listeners of the old process are open for drain_grace, its admin address is free.
        let is_port_in_use = line.contains("Address already in use") && !line.contains("admin interface");
        assert!(is_port_in_use && starts < 100, "{line}");
        starts += 1;
        thread::sleep(Duration::from_millis(50));
    };
    let mut new = new;
    let health = Client::connect(admin.parse().unwrap())
        .send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .read();
    assert_eq!(health.status, 200, "the new process");
    assert_eq!(busy.read().status, 200, "the old process");
    let (status, _, stderr) = old.wait(Duration::from_secs(15));
    assert!(status.success(), "{stderr}");
    new.kill().unwrap();
    new.wait().unwrap();
}

#[test]
fn signals_that_do_not_stop_the_server_are_ignored_and_logged_once() {
    let server = ServerProcess::start(&["--shards", "1"]);
    let ignored = ["USR1", "USR2", "ALRM", "VTALRM", "IO", "XFSZ"];
    for signal in ignored.iter().chain(&["PIPE"]) {
        for _ in 0..2 {
            server.signal(&format!("-{signal}"));
            // A signal that is pending is not queued again.
            server.connect().call("echo", json!({"message": "x"}));
        }
    }
    server.signal("-QUIT");
    let (status, _, stderr) = server.wait(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "SIGQUIT drains: {stderr}");
    for signal in ignored {
        let name = format!("SIG{signal} is ignored");
        assert_eq!(stderr.matches(&name).count(), 1, "{name}: {stderr}");
    }
}

#[test]
fn sighup_is_logged_and_ignored() {
    let server = ServerProcess::start(&["--shards", "1"]);
    server.signal("-HUP");
    server.signal("-HUP");
    server.connect().call("echo", json!({"message": "x"}));
    server.signal("-TERM");
    let (status, _, stderr) = server.wait(Duration::from_secs(15));
    assert!(status.success(), "{status}");
    assert!(stderr.contains("WARN") && stderr.contains("SIGHUP is ignored"), "{stderr}");
}

#[test]
fn drain_fails_readiness_first_and_keeps_listening_for_drain_delay() {
    let config = config_file("drain-delay", "[limits]\ndrain_delay = \"1h\"\n");
    let server = ServerProcess::observed(serve(&["--shards", "1", "--config", &config]));
    assert_eq!(readiness(&server), 200);
    server.signal("-TERM");
    eventually("the end of readiness", || readiness(&server) == 503);
    server.connect().call("echo", json!({"message": "new connections are served"}));
    // Beyond the time in which a second signal counts as an echo of the first.
    std::thread::sleep(Duration::from_millis(400));
    server.signal("-TERM");
    let (status, _, _) = server.wait(Duration::from_secs(15));
    assert_eq!(status.code(), Some(128 + 15), "the second signal exits immediately");
}
