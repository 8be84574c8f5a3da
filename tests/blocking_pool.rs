//! One client cannot take the blocking pool from the others: neither its threads nor the room in its queue.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{ErrorKind, Read},
    net::SocketAddr,
    sync::Mutex,
};

use corelane::{Config, Limits, NoArguments, Server, Tool};
use serde_json::{Value, json};
use support::{
    Client, ServerProcess, await_calls_in_flight, corelane, eventually, metric,
    peer::{CAPABILITIES, VERSION, end},
    uninterrupted,
};

/// The address of the other client.
const OTHER: &str = "127.0.0.2";

fn is_peer_known() -> bool {
    corelane_ring::probe().unwrap().peer_address
}

/// A line that calls `digest`.
fn digest(id: u32, rounds: u32) -> String {
    let meta = json!({VERSION: "2026-07-28", CAPABILITIES: {}});
    let params = json!({"name": "digest", "arguments": {"text": "text", "rounds": rounds}, "_meta": meta});
    let mut line = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string();
    line.push('\n');
    line
}

fn read_line(client: &mut Client) -> Value {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        assert_eq!(uninterrupted(|| client.stream.read(&mut byte)).unwrap(), 1, "the server closed");
        line.extend_from_slice(&byte);
    }
    serde_json::from_slice(&line).unwrap()
}

#[test]
fn second_client_is_served_while_one_connection_has_200_long_digests_queued() {
    const LONG: u32 = 200;
    if !is_peer_known() {
        return;
    }
    let server = ServerProcess::observed(corelane(&["serve", "--listen", "tcp://127.0.0.1:0"]));
    let mut heavy = Client::connect_from("127.0.0.1", server.address);
    let lines: String = (0..LONG).map(|id| digest(id, 1_000_000)).collect();
    heavy.send(lines);
    eventually("the calls in flight", || {
        metric(server.admin(), "corelane_calls_in_flight") >= f64::from(LONG / 2)
    });
    let mut other = Client::connect_from(OTHER, server.address);
    for id in 0..10 {
        let reply = read_line(other.send(digest(id, 1)));
        assert_eq!((&reply["id"], &reply["result"]["isError"]), (&json!(id), &Value::Null), "{reply}");
    }
    // None of the calls of the second client waited for more than a few of the first one.
    heavy.stream.set_nonblocking(true).unwrap();
    let mut replies = vec![0; 1 << 20];
    let received = match uninterrupted(|| heavy.stream.read(&mut replies)) {
        Ok(length) => replies[..length].iter().filter(|byte| **byte == b'\n').count(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            0
        }
    };
    assert!(received < LONG as usize / 2, "{received} of {LONG} long calls ended first");
}

#[test]
fn full_share_of_the_queue_is_refused_and_leaves_room_for_a_second_client() {
    const QUEUE_MAX: u32 = 32;
    const ALONE_MAX: u32 = QUEUE_MAX - QUEUE_MAX / 16;
    if !is_peer_known() {
        return;
    }
    let config = Config {
        listen: vec!["127.0.0.1:0".parse::<SocketAddr>().unwrap().into()],
        admin: Some("127.0.0.1:0".parse().unwrap()),
        shards: Some(1),
        blocking_threads: Some(1),
        limits: Limits {
            blocking_queue_max: QUEUE_MAX as usize,
            blocking_threads_max: 1,
            ..Limits::default()
        },
        ..Config::default()
    };
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let hold = Tool::new("hold").run_blocking(move |_: NoArguments, _| {
        let _ = released.lock().unwrap().recv();
        "held"
    });
    let soon = Tool::new("soon").run_blocking(|_: NoArguments, _| "done");
    let running = Server::builder("pool", "1").tool(hold).tool(soon).build().start(&config).unwrap();
    let address = running.addresses()[0];
    let call = |tool: &str| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}).to_string()
    };
    // One runs, the others wait.
    let held: Vec<Client> = (0..=ALONE_MAX)
        .map(|number| {
            let mut client = Client::connect_from("127.0.0.1", address);
            client.send(support::post("", call("hold")));
            await_calls_in_flight(&running, number + 1);
            client
        })
        .collect();
    let refusal = Client::connect_from("127.0.0.1", address).post("", call("hold"));
    assert_eq!((refusal.status, refusal.error_code()), (503, -32000), "{}", refusal.json());
    let mut other = Client::connect_from(OTHER, address);
    for _ in 0..10 {
        let reply = other.post("", call("soon"));
        assert_eq!(reply.json()["result"]["content"][0]["text"], "done", "{}", reply.json());
    }
    drop(release);
    for mut client in held {
        assert_eq!(client.read().json()["result"]["content"][0]["text"], "held");
    }
    assert_eq!(end(running).refusals("peer_share"), 1);
}
