//! Fairness of a shard's turns: a connection with many expensive requests does not hold the others back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use corelane::{Config, Limits, NoArguments, Running, Server, Tool};
use serde_json::{Value, json};
use support::{
    Client,
    peer::{Peer, PeerRequest, config, connect, end},
    post,
};

/// Time that each expensive call occupies its shard for.
const EXPENSIVE: Duration = Duration::from_millis(2);
/// Expensive calls that one connection sends at once: eight times `requests_per_turn_max`.
const CALLS: usize = 256;

/// A server of one shard. `count` is the number of expensive calls that were handled; the tool `count` returns it.
fn start(listen: &str) -> (Running, Arc<AtomicUsize>) {
    let count = Arc::<AtomicUsize>::default();
    let (handled, seen) = (Arc::clone(&count), Arc::clone(&count));
    let expensive = Tool::new("expensive").run(move |_: NoArguments, _| {
        let began = Instant::now();
        while began.elapsed() < EXPENSIVE {
            std::hint::spin_loop();
        }
        handled.fetch_add(1, Ordering::SeqCst);
        "done"
    });
    let count_tool = Tool::new("count").run(move |_: NoArguments, _| seen.load(Ordering::SeqCst).to_string());
    let config = Config { listen: vec![listen.parse().unwrap()], ..config(1, Limits::default()) };
    let server = Server::builder("test", "0").tool(expensive).tool(count_tool);
    (server.build().start(&config).unwrap(), count)
}

fn expensive(id: usize) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "expensive"}})
}

/// Sends requests one after another until all expensive calls are handled. Returns how many were between two of them, in ascending
/// order.
fn handled_between(bystander: &mut Peer) -> Vec<usize> {
    let mut between = Vec::new();
    let mut before = None;
    while before.is_none_or(|before| before < CALLS) {
        let now = bystander.request(&PeerRequest::call("count", json!({}))).text().parse().unwrap();
        between.extend(before.map(|before: usize| now - before));
        before = Some(now);
    }
    // The last interval is cut short by the end.
    between.pop();
    between.sort_unstable();
    between
}

/// Checks that usually few calls are between two requests. A busy machine delays the requests now and then, not all the time.
fn assert_usual(between: &[usize]) {
    let usual = between.get(between.len() / 4);
    assert!(usual.is_some_and(|usual| *usual <= 8), "expensive calls between two requests: {between:?}");
}

#[test]
fn bystander_is_served_between_the_pipelined_requests_of_another_connection() {
    let (running, count) = start("127.0.0.1:0");
    let mut bystander = connect(&running);
    let mut flooding = Client::connect(running.addresses()[0]);
    let pipelined: Vec<u8> = (0..CALLS).flat_map(|id| post("", expensive(id).to_string())).collect();
    flooding.send(pipelined);
    support::eventually("the first expensive call", || count.load(Ordering::SeqCst) > 0);
    let handled_between = handled_between(&mut bystander);
    assert_usual(&handled_between);
    for id in 0..CALLS {
        assert_eq!(flooding.read().json()["id"], id, "pipelined replies are in order");
    }
    drop((bystander, flooding));
    end(running);
}

#[test]
fn client_with_many_connections_does_not_hold_another_one_back() {
    let (running, count) = start("127.0.0.1:0");
    let address = running.addresses()[0];
    if !corelane_ring::probe().unwrap().peer_address {
        eprintln!("SKIPPED: the server reads no addresses before Linux 6.7");
        return;
    }
    // Another address of loopback.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut bystander = Peer::over(socket.into());
    let calls_each = CALLS / 32;
    let mut flooding: Vec<_> = (0..32).map(|_| Client::connect(address)).collect();
    for client in &mut flooding {
        let pipelined = (0..calls_each).flat_map(|id| post("", expensive(id).to_string()));
        client.send(pipelined.collect::<Vec<_>>());
    }
    support::eventually("the first expensive call", || count.load(Ordering::SeqCst) > 0);
    let handled_between = handled_between(&mut bystander);
    for client in &mut flooding {
        (0..calls_each).for_each(|id| assert_eq!(client.read().json()["id"], id));
    }
    drop((bystander, flooding));
    end(running);
    assert_usual(&handled_between);
}

#[test]
fn lines_behind_a_used_up_turn_are_answered_in_order() {
    let (running, _) = start("tcp://127.0.0.1:0");
    let mut stream =
        TcpStream::connect(running.listeners()[0].to_string().trim_start_matches("tcp://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let initialize = json!({"jsonrpc": "2.0", "id": "first", "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}});
    // Messages without an answer, which leave the outbox empty, between those with one.
    let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let lines: Vec<String> =
        (0..CALLS / 4).map(|id| format!("{note}\n{}\n{note}\n{note}\n", expensive(id))).collect();
    stream.write_all(format!("{initialize}\n{}", lines.concat()).as_bytes()).unwrap();
    let mut answers =
        BufReader::new(stream).lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(answers.next().unwrap()["id"], "first");
    for id in 0..CALLS / 4 {
        assert_eq!(answers.next().unwrap()["id"], id);
    }
    drop(answers);
    end(running);
}

#[test]
fn requests_behind_a_used_up_turn_are_answered_during_a_drain() {
    let (running, count) = start("127.0.0.1:0");
    let mut clients: Vec<_> = (0..32).map(|_| Client::connect(running.addresses()[0])).collect();
    // Open before the drain.
    clients.iter_mut().for_each(|client| assert_eq!(client.legacy("ping", json!({})).status, 200));
    for (id, client) in clients.iter_mut().enumerate() {
        client.send(post("", expensive(id).to_string()));
    }
    support::eventually("the first expensive call", || count.load(Ordering::SeqCst) > 0);
    running.stopper().drain();
    for (id, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.read().json()["id"], id);
    }
    drop(clients);
    running.join().unwrap();
}
