//! Failures of a shard: it is restarted, and the others go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/panicking_log.rs"]
mod panicking_log;
mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use corelane::{Config, Limits, NoArguments, Running, Server, ServerBuilder, Tool};
use panicking_log::PanickingLog;
use serde_json::json;
use support::{Client, eventually, metric, post, session::Session};

fn start(server: ServerBuilder, shards: usize) -> Running {
    static LOG: Once = Once::new();
    // This event is written between two connections, where a panic ends the shard.
    let slow_kill = PanickingLog(|event| event.contains("slow_turn") && event.contains("kill"));
    LOG.call_once(|| tracing::subscriber::set_global_default(slow_kill).unwrap());
    let kill = Tool::new("kill").run(|_: NoArguments, _| {
        thread::sleep(Duration::from_millis(20));
        "killed"
    });
    let wait = Tool::new("wait").run_async(async |_: NoArguments, _| {
        corelane::time::sleep(Duration::from_secs(25)).await;
        "waited"
    });
    let limits = Limits { turn_slow: Duration::from_millis(10), ..Limits::default() };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = vec![any.into()];
    let config = Config { listen, admin: Some(any), shards: Some(shards), limits, ..Config::default() };
    server.tool(kill).tool(wait).build().start(&config).unwrap()
}

fn call(tool: &str) -> Vec<u8> {
    let params = json!({"name": tool, "arguments": {}});
    post("", json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string())
}

/// Ends the shard of a new connection, and waits until that is closed.
fn kill(address: SocketAddr) {
    let mut guilty = TcpStream::connect(address).unwrap();
    guilty.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    guilty.write_all(&call("kill")).unwrap();
    // The reply may be on its way or not.
    let _ = guilty.read_to_end(&mut Vec::new());
}

fn health(admin: SocketAddr) -> String {
    get(admin, "/healthz")
}

fn get(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn failed_shard_is_restarted_and_the_others_go_on() {
    let running = start(Server::builder("dead", "0"), 2);
    let (address, admin) = (running.addresses()[0], running.admin_address().unwrap());
    let mut sessions: Vec<Session> =
        (0..40).map(|_| Session::open(address, "2025-11-25", json!({}))).collect();
    let deleted = sessions.split_off(20);
    assert!(deleted.iter().all(|session| session.delete() == 204));
    let mut waiting: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut waiting {
        stream.write_all(&call("wait")).unwrap();
    }
    support::await_calls_in_flight(&running, 20);
    kill(address);
    eventually("the restart", || metric(admin, "corelane_shard_up") == 2.0);
    // The calls of the shard are aborted, those of the other are in flight.
    let mut aborted = 0;
    for stream in &mut waiting {
        stream.set_nonblocking(true).unwrap();
        aborted += usize::from(
            !matches!(stream.read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        );
    }
    assert!((1..20).contains(&aborted), "{aborted} of 20 calls aborted");
    support::await_calls_in_flight(&running, 20 - aborted as u32);
    // Its sessions are unknown, on every shard; those of the other are not.
    let lost = sessions.iter().filter(|session| session.request(1, "ping", json!({})).status == 404).count();
    assert!((1..20).contains(&lost), "{lost} of 20 sessions lost");
    for _ in 0..4 {
        assert!(deleted.iter().all(|session| session.request(1, "ping", json!({})).status == 404));
    }
    let mut opened = (0..20).map(|_| Session::open(address, "2025-11-25", json!({})));
    assert!(opened.all(|session| session.request(1, "ping", json!({})).status == 200));
    assert!(health(admin).starts_with("HTTP/1.1 200"));
    drop(waiting);
    running.stopper().drain();
    assert_eq!(running.join().unwrap().events("shard_restarted"), 1);
}

#[test]
fn restarted_shard_takes_part_in_the_distribution_of_connections() {
    let optional = corelane_ring::probe().unwrap();
    if !(optional.msg_ring && optional.peer_address) {
        return;
    }
    let running = start(Server::builder("balance", "0"), 2);
    let (address, admin) = (running.addresses()[0], running.admin_address().unwrap());
    kill(address);
    eventually("the restart", || {
        metric(admin, "corelane_shard_up") == 2.0 && metric(admin, "corelane_connections") == 0.0
    });
    let mut clients = Vec::new();
    for _ in 0..24 {
        let mut client = Client::connect(address);
        assert_eq!(client.legacy("ping", json!({})).status, 200);
        clients.push(client);
    }
    let metrics = get(admin, "/metrics");
    let counts = metrics.lines().filter(|line| line.starts_with("corelane_connections{"));
    let counts: Vec<u32> = counts.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(counts.len() == 2 && counts[0].abs_diff(counts[1]) <= 1, "{counts:?}");
    drop(clients);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn shard_that_is_restarting_is_reported_and_keeps_its_backlog() {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let builds = AtomicUsize::new(0);
    let server = Server::builder("down", "0").shard_state(move |_| {
        // The second shard waits for the test.
        if builds.fetch_add(1, SeqCst) > 0 {
            released.lock().unwrap().recv().unwrap();
        }
    });
    let running = start(server, 1);
    let (address, admin) = (running.addresses()[0], running.admin_address().unwrap());
    kill(address);
    eventually("the failure to be reported", || {
        health(admin).contains("shard 0 failed and is being restarted")
    });
    let mut early = Client::connect(address);
    early.send(post("", json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string()));
    release.send(()).unwrap();
    assert_eq!(early.read().status, 200);
    eventually("health", || health(admin).starts_with("HTTP/1.1 200"));
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn shard_that_is_restarting_gets_no_new_connections_beside_others() {
    const CONNECTIONS: usize = 16;
    let is_released = Arc::new(AtomicBool::new(false));
    let (builds, released) = (AtomicUsize::new(0), Arc::clone(&is_released));
    let server = Server::builder("beside", "0").shard_state(move |_| {
        // The successor waits for the test.
        while builds.load(SeqCst) >= 2 && !released.load(SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        builds.fetch_add(1, SeqCst);
    });
    let running = start(server, 2);
    let address = running.addresses()[0];
    kill(address);
    let is_served = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream
            .write_all(&post("", json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string()))
            .unwrap();
        stream.read(&mut [0; 256]).is_ok_and(|length| length > 0)
    };
    eventually("only the other shard to get connections", || (0..CONNECTIONS).all(|_| is_served()));
    is_released.store(true, SeqCst);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn shards_that_are_stuck_are_reported_beside_those_that_are_restarting() {
    let is_released = Arc::new(AtomicBool::new(false));
    let builds = AtomicUsize::new(0);
    let released = Arc::clone(&is_released);
    let wait = move || {
        while !released.load(SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    };
    let hold = wait.clone();
    let hold = Tool::new("hold").run(move |_: NoArguments, _| {
        hold();
        "held"
    });
    let server = Server::builder("both", "0").tool(hold).shard_state(move |_| {
        // The successor of the first shard that fails waits for the test.
        if builds.fetch_add(1, SeqCst) >= 2 {
            wait();
        }
    });
    let running = start(server, 2);
    let (address, admin) = (running.addresses()[0], running.admin_address().unwrap());
    kill(address);
    eventually("the failure to be reported", || health(admin).contains("failed and is being restarted"));
    // Those that do not reach the other shard wait in the backlog.
    let mut held: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(address).unwrap()).collect();
    held.iter_mut().for_each(|stream| stream.write_all(&call("hold")).unwrap());
    eventually("both kinds to be reported", || {
        let text = health(admin);
        text.contains("failed and is being restarted") && text.contains("no answer from shard")
    });
    is_released.store(true, SeqCst);
    eventually("health", || health(admin).starts_with("HTTP/1.1 200"));
    drop(held);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn panic_of_a_detached_task_ends_only_the_task() {
    let detach = Tool::new("detach").run_async(async |_: NoArguments, _| {
        corelane::spawn_local(async { panic!("on purpose") }).detach();
        corelane::time::sleep(Duration::from_millis(5)).await;
        "detached"
    });
    let running = start(Server::builder("detached", "0").tool(detach), 1);
    let mut client = Client::connect(running.addresses()[0]);
    for _ in 0..3 {
        assert_eq!(client.call("detach", json!({}))["content"][0]["text"], "detached");
    }
    running.stopper().drain();
    assert_eq!(running.join().unwrap().events("shard_restarted"), 0);
}

#[test]
fn third_failure_within_a_minute_ends_the_server_with_its_reason() {
    let running = start(Server::builder("dying", "0"), 2);
    let address = running.addresses()[0];
    for _ in 0..3 {
        kill(address);
    }
    let error = running.join().err().expect("the server has failed").to_string();
    assert!(error.contains("the log is full") && error.contains("failure 3 within a minute"), "{error}");
}
