//! Newline-delimited JSON over TCP and Unix sockets: several connections, backpressure, and timeouts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/line_peer.rs"]
mod line_peer;
mod support;

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use line_peer::{
    LIMIT, Peer, SUBSCRIPTION, call, cancel, code, echo, legacy, limits, listen, modern, sleep, text,
};
use serde_json::json;
use support::{Client, ServerProcess, corelane, example};

/// A connected socket.
trait Socket: Read + Write + Send + Sized + 'static {
    fn copy(&self) -> Self;
    /// Shuts down the sending side.
    fn end(&self);
}

impl Socket for TcpStream {
    fn copy(&self) -> Self {
        self.try_clone().unwrap()
    }

    fn end(&self) {
        // The server may have closed the connection already.
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Socket for UnixStream {
    fn copy(&self) -> Self {
        self.try_clone().unwrap()
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// The sending half, shut down on drop.
struct Half<S: Socket>(S);

impl<S: Socket> Write for Half<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<S: Socket> Drop for Half<S> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn peer(socket: impl Socket) -> Peer {
    let output = socket.copy();
    Peer::over(Half(socket), output)
}

/// A server that listens on two shards, over TCP or at a Unix socket.
struct Listening {
    server: ServerProcess,
    path: Option<PathBuf>,
}

impl Listening {
    fn start(path: Option<PathBuf>, make: &impl Fn(&[&str]) -> Command) -> Self {
        let listen =
            path.as_ref().map_or("tcp://127.0.0.1:0".to_owned(), |path| format!("unix:{}", path.display()));
        let server = ServerProcess::spawn(make(&["serve", "--listen", &listen, "--shards", "2"]));
        Self { server, path }
    }

    /// One server of each kind.
    fn both(make: impl Fn(&[&str]) -> Command) -> [Self; 2] {
        // Not in the build directory: its path may be too long.
        let directory = std::env::temp_dir().join(format!("corelane-lines-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let name = thread::current().name().unwrap().to_owned();
        [Self::start(None, &make), Self::start(Some(directory.join(name)), &make)]
    }

    fn demo(config: &str) -> [Self; 2] {
        Self::both(|arguments| corelane(&[arguments, &["--config", config]].concat()))
    }

    fn connect(&self) -> Peer {
        match &self.path {
            Some(path) => peer(UnixStream::connect(path).unwrap()),
            None => peer(TcpStream::connect(self.server.address).unwrap()),
        }
    }
}

#[test]
fn json_lines_connections_have_separate_handshakes_and_ids() {
    for listening in Listening::both(corelane) {
        let mut peers: Vec<Peer> = (0..16).map(|_| listening.connect()).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            if number % 2 == 0 {
                peer.initialize("2025-11-25", &json!({}));
                peer.send(&legacy(1, "tools/call", sleep(500)));
            } else {
                assert_eq!(code(&peer.request(&legacy(1, "tools/list", json!({})))), -32600);
                peer.send(&modern(1, "tools/call", sleep(500)));
            }
        }
        // A cancellation affects the call of its own connection only, not others with the same id.
        peers[15].send(&cancel(1));
        for peer in &mut peers[..15] {
            assert_eq!(text(&peer.next()), "slept 500 ms");
        }
        peers[15].is_silent();
        for mut peer in peers {
            peer.close().has_ended(Duration::from_secs(1));
        }
        listening.server.stop();
    }
}

#[test]
fn changes_are_published_to_json_lines_connections_on_every_shard() {
    for listening in Listening::both(|arguments| example("talking", arguments)) {
        let mut listeners: Vec<Peer> = (0..12).map(|_| listening.connect()).collect();
        for (number, peer) in listeners.iter_mut().enumerate() {
            if number % 2 == 0 {
                peer.initialize("2025-11-25", &json!({}));
                let page = json!({"uri": "book://page"});
                assert_eq!(peer.request(&legacy(1, "resources/subscribe", page))["result"], json!({}));
            } else {
                assert_eq!(peer.request(&listen(1))["params"]["_meta"][SUBSCRIPTION], 1);
            }
        }
        let mut changing = listening.connect();
        assert_eq!(changing.request(&modern(1, "tools/call", call("turn", json!({}))))["id"], 1);
        for peer in &mut listeners {
            assert_eq!(peer.next()["method"], "notifications/resources/updated");
        }
        assert_eq!(changing.request(&modern(2, "tools/call", call("grow", json!({}))))["id"], 2);
        for peer in &mut listeners {
            assert_eq!(peer.next()["method"], "notifications/tools/list_changed");
        }
        // Subscriptions of the 2026 era receive their result, and every connection is closed.
        listening.server.signal("-TERM");
        for (number, peer) in listeners.iter_mut().enumerate() {
            if number % 2 == 1 {
                assert_eq!(peer.next()["result"]["_meta"][SUBSCRIPTION], 1);
            }
            peer.has_ended(LIMIT);
        }
        assert!(listening.server.wait(LIMIT).0.success());
    }
}

#[test]
fn flooding_connection_is_paused_and_others_continue() {
    for listening in Listening::demo(&limits("flood", "calls_per_line_max = 4")) {
        let mut others: Vec<Peer> = (0..8).map(|_| listening.connect()).collect();
        let mut flooding = listening.connect();
        let began = Instant::now();
        for id in 0..40 {
            flooding.send(&modern(id, "tools/call", sleep(150)));
        }
        for peer in &mut others {
            assert_eq!(text(&peer.request(&modern(1, "tools/call", echo()))), "x");
        }
        let others_done = began.elapsed();
        let mut answered: Vec<_> = (0..40).map(|_| flooding.next()["id"].as_i64().unwrap()).collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..40).collect::<Vec<_>>());
        // Four calls at a time: forty take ten times as long as one.
        assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
        assert!(others_done < Duration::from_millis(1500), "{others_done:?}");
        flooding.close().has_ended(Duration::from_secs(1));
        listening.server.stop();
    }
}

#[test]
fn half_closed_json_lines_connection_receives_its_responses() {
    for listening in Listening::demo(&limits("half", "calls_per_line_max = 2")) {
        let mut peer = listening.connect();
        // The requests queued behind the first two are answered too.
        for id in 0..6 {
            peer.send(&modern(id, "tools/call", sleep(150)));
        }
        peer.close();
        for _ in 0..6 {
            assert_eq!(text(&peer.next()), "slept 150 ms");
        }
        peer.has_ended(Duration::from_secs(1));
        listening.server.stop();
    }
}

#[test]
fn http_request_to_json_lines_is_counted_and_reaches_no_tool() {
    let mut command = corelane(&["serve", "--listen", "tcp://127.0.0.1:0", "--shards", "1"]);
    // The admin address uses a free port, which the log names.
    command.args(["--admin", "127.0.0.1:0", "--log", "info"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let (mut listen, mut admin): (Option<SocketAddr>, Option<SocketAddr>) = (None, None);
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = |line: &str, before: &str| {
        let rest = line.split_once(before)?.1;
        rest.split(' ').next()?.trim_matches('"').parse().ok()
    };
    while listen.is_none() || admin.is_none() {
        let line = stderr.next().unwrap().unwrap();
        listen = listen.or_else(|| address(&line, "listening on tcp://"));
        admin = admin.or_else(|| address(&line, "admin="));
    }
    let evil = modern(1, "tools/call", echo());
    for verb in ["POST", "GET", "OPTIONS"] {
        let mut page = peer(TcpStream::connect(listen.unwrap()).unwrap());
        page.send_text(format!("{verb} / HTTP/1.1\r\nHost: localhost\r\n\r\n{evil}\n"));
        assert_eq!(page.next()["error"]["code"], -32600, "an error without the result of a tool");
        page.has_ended(LIMIT);
    }
    let asked = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let metrics = String::from_utf8(Client::connect(admin.unwrap()).send(asked).read().body).unwrap();
    let counted = metrics.lines().find(|line| line.contains("lines_not_http"));
    assert!(counted.is_some_and(|line| line.ends_with(" 3")), "{counted:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The rest of the log of a server that is stopped.
fn log_of(listening: Listening) -> String {
    listening.server.signal("-TERM");
    let (status, _, log) = listening.server.wait(LIMIT);
    assert!(status.success(), "{status} {log}");
    log
}

#[test]
fn paused_slow_or_endless_line_is_answered_with_an_error_and_closed() {
    let config = limits(
        "line_timeout",
        "body_timeout = \"500ms\"\nbody_total_timeout = \"2s\"\nbody_bytes_per_second_min = 1000",
    );
    let logged =
        |arguments: &[&str]| corelane(&[arguments, &["--config", &config, "--log", "info"]].concat());
    for listening in Listening::both(logged) {
        let mut other = listening.connect();
        let half = format!("{{\"x\":\"{}", "y".repeat(200_000));
        let mut paused: Vec<Peer> = (0..20).map(|_| listening.connect()).collect();
        for peer in &mut paused {
            peer.send(&modern(1, "tools/call", echo()));
            assert_eq!(text(&peer.next()), "x");
            peer.send_text(&half);
        }
        // A part every 50 ms: 200 bytes a second are too few, and 40,000 take too long.
        let slow = [10, 2000].map(|part| (listening.connect(), "z".repeat(part)));
        let dripped = slow.map(|(mut peer, part)| {
            thread::spawn(move || {
                let began = Instant::now();
                // Fails once the server has closed the connection.
                while peer.input.as_mut().unwrap().write_all(part.as_bytes()).is_ok() {
                    if let Ok(line) = peer.output.recv_timeout(Duration::from_millis(50)) {
                        assert_eq!(code(&serde_json::from_str(&line).unwrap()), -32600, "{line}");
                        return began.elapsed();
                    }
                    assert!(began.elapsed() < LIMIT, "the line is never rejected");
                }
                panic!("closed without an error");
            })
        });
        for peer in &mut paused {
            let refused = peer.next();
            assert_eq!((code(&refused), &refused["error"]["message"]), (-32600, &json!("Line timeout")));
            peer.has_ended(LIMIT);
        }
        let [too_slow, too_long] = dripped.map(|thread| thread.join().unwrap());
        assert!(too_long >= Duration::from_millis(1900) && too_long > too_slow, "{too_slow:?} {too_long:?}");
        assert_eq!(text(&other.request(&modern(1, "tools/call", echo()))), "x");
        other.close().has_ended(LIMIT);
        assert_eq!(log_of(listening).matches("line_timeout").count(), 22);
    }
}

#[test]
fn idle_json_lines_connection_is_closed_unless_a_call_or_a_subscription_is_open() {
    for listening in Listening::demo(&limits("line_idle", "keep_alive_timeout = \"500ms\"")) {
        let mut silent = listening.connect();
        let mut modern_client = listening.connect();
        assert_eq!(text(&modern_client.request(&modern(1, "tools/call", echo()))), "x");
        let answered = Instant::now();
        let mut calling = listening.connect();
        calling.send(&modern(1, "tools/call", sleep(1500)));
        let mut listens = listening.connect();
        assert_eq!(listens.request(&listen(1))["params"]["_meta"][SUBSCRIPTION], 1);
        let mut legacy_client = listening.connect();
        legacy_client.initialize("2025-11-25", &json!({}));
        silent.has_ended(LIMIT);
        modern_client.has_ended(LIMIT);
        assert!(answered.elapsed() >= Duration::from_millis(450), "{:?}", answered.elapsed());
        assert_eq!(text(&calling.next()), "slept 1500 ms");
        let answered = Instant::now();
        calling.has_ended(LIMIT);
        assert!(answered.elapsed() >= Duration::from_millis(400), "{:?}", answered.elapsed());
        listens.is_silent();
        assert_eq!(legacy_client.request(&legacy(1, "ping", json!({})))["result"], json!({}));
        drop((listens, legacy_client));
        listening.server.stop();
    }
}
