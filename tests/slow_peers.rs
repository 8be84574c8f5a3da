//! Clients that read slowly, not at all, or that disappear without closing their connection.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use corelane::{Config, Limits, NoArguments, Running, Server, Tool};
use serde_json::json;
use support::{
    Client, ServerProcess, config_file, corelane, eventually,
    peer::{PeerRequest, end},
    post, uninterrupted,
};

/// Length of the large result, in bytes.
const LARGE: usize = 6 * 1024 * 1024;

fn start(limits: Limits) -> Running {
    let large = Tool::new("large").run(|_: NoArguments, _| "x".repeat(LARGE));
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(1), limits, ..Config::default() };
    Server::builder("test", "0").tool(large).build().start(&config).unwrap()
}

/// Requests the large result and reads `step` bytes of it every 50 ms. Returns the number of bytes read until the result or the
/// connection ended, and the time it took.
fn read_slowly(address: SocketAddr, step: usize) -> (usize, Duration) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // A small window, so that the server's socket holds most of the result.
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut client = Client::over(TcpStream::from(socket));
    client.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "large"}});
    client.send(post("", call.to_string()));
    let (mut read, mut part, asked) = (0, vec![0; step], Instant::now());
    while read < LARGE {
        match uninterrupted(|| client.stream.read(&mut part)) {
            Ok(0) | Err(_) => break,
            Ok(count) => read += count,
        }
        thread::sleep(Duration::from_millis(50));
    }
    (read, asked.elapsed())
}

#[test]
fn slow_steady_reader_receives_a_large_result_whole() {
    let limits = Limits { write_timeout: Duration::from_secs(1), ..Limits::default() };
    let running = start(limits);
    let (read, took) = read_slowly(running.addresses()[0], 32 * 1024);
    assert!(read >= LARGE, "{read} of {LARGE} bytes after {took:?}");
    assert!(took > 4 * limits.write_timeout, "too fast to show anything: {took:?}");
    let metrics = end(running);
    assert_eq!((metrics.refusals("write_timeout"), metrics.refusals("write_too_slow")), (0, 0));
}

#[test]
fn reader_below_the_minimum_rate_is_closed_and_counted() {
    let timeout = Duration::from_secs(1);
    let minimum = 100 * LARGE;
    let running =
        start(Limits { write_timeout: timeout, write_bytes_per_second_min: minimum, ..Limits::default() });
    let (read, took) = read_slowly(running.addresses()[0], 32 * 1024);
    assert!(read < LARGE, "{read} bytes after {took:?}");
    let metrics = end(running);
    assert_eq!((metrics.refusals("write_timeout"), metrics.refusals("write_too_slow")), (0, 1));
}

/// TCP connections of a process's network namespace that are established from the port of `server`.
fn established(server: &ServerProcess) -> usize {
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", server.id())).unwrap();
    let local = format!(":{:04X}", server.address.port());
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[1].ends_with(&local) && row[3] == "01").count()
}

/// Opens twenty connections: ten with a stream, ten that are idle after a reply. Prints the status line of each.
const CLIENTS: &str = r#"
    for number in $(seq 10); do
        for request in "$1" "$2"; do
            exec {connection}<>"/dev/tcp/127.0.0.1/$0"
            printf '%s' "$request" >&"$connection"
            read -r status <&"$connection"
            echo "$status"
        done
    done
    exec sleep 60
"#;

/// A network namespace whose loopback interface goes down loses packets of both directions without a FIN or a reset.
#[test]
fn peer_that_vanishes_without_a_fin_is_closed_and_counted() {
    let namespace = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    if !namespace.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: needs root, unshare and ip for a network namespace");
        return;
    }
    let limits = "[limits]\nwrite_timeout = \"1s\"\nstream_keep_alive = \"1s\"\n";
    let serve = corelane(&["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--log", "info"]);
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    command.arg(serve.get_program()).args(serve.get_args());
    command
        .args(["--config", &config_file("vanished", limits)])
        .env("CORELANE_ADMIN", "none")
        .env("CORELANE_CONTROL", "none");
    let server = ServerProcess::spawn(command);
    let inside = |program: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &server.id().to_string()]).args(program);
        command
    };
    let listen = PeerRequest::listen(json!({"toolsListChanged": true})).bytes();
    let ping = post("", r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    let mut clients = inside(&["bash", "-c", CLIENTS])
        .arg(server.address.port().to_string())
        .args([listen, ping].map(|request| String::from_utf8(request).unwrap()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut statuses = BufReader::new(clients.stdout.take().unwrap()).lines().map_while(Result::ok);
    for _ in 0..20 {
        assert_eq!(statuses.next().as_deref().map(str::trim_end), Some("HTTP/1.1 200 OK"));
    }
    assert_eq!(established(&server), 20);
    assert!(inside(&["ip", "link", "set", "lo", "down"]).status().unwrap().success());
    eventually("the end of all connections", || established(&server) == 0);
    clients.kill().unwrap();
    clients.wait().unwrap();
    server.signal("-TERM");
    let (status, _, log) = server.wait(Duration::from_secs(15));
    assert!(status.success(), "{status} {log}");
    assert_eq!(log.matches("peer_lost").count(), 20, "{log}");
}
