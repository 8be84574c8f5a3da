//! Stalls: a stopped process, a handler that holds its shard. Deadlines are checked after the input that arrived meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{net::SocketAddr, thread, time::Duration};

use corelane::{Config, Limits, NoArguments, Server, Tool};
use serde_json::json;
use support::{Client, ServerProcess, await_metric, config_file, corelane, echo, metric, post};

/// Timeout of heads, and of idle connections.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Length of the stall.
const STALL: Duration = Duration::from_secs(7);

/// Bytes of a head that are sent before the stall.
const HALF: usize = 40;

#[test]
fn requests_that_arrive_while_the_process_is_stopped_are_answered() {
    const EACH: usize = 300;
    let limits = "[limits]\nhead_timeout = \"5s\"\nkeep_alive_timeout = \"5s\"\nbody_timeout = \"5s\"\n";
    let config = config_file("stalls", limits);
    let server = ServerProcess::observed(corelane(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "2",
        "--config",
        &config,
    ]));
    let request = post("", echo("late"));
    let connect = || (0..EACH).map(|_| server.connect()).collect::<Vec<Client>>();
    let (mut whole, mut halves, mut silent) = (connect(), connect(), connect());
    for client in halves.iter_mut().chain(&mut silent) {
        client.send(&request[..HALF]);
    }
    await_metric(server.admin(), "corelane_received_bytes_total", (2 * EACH * HALF) as f64);
    server.signal("-STOP");
    for client in &mut whole {
        client.send(&request);
    }
    for client in &mut halves {
        client.send(&request[HALF..]);
    }
    // The subject of the test: a time without a turn that is longer than the timeouts.
    thread::sleep(STALL);
    server.signal("-CONT");
    for client in whole.iter_mut().chain(&mut halves) {
        assert_eq!(client.read().status, 200);
    }
    // Their bytes were not on the way; their time is extended by the stall.
    for client in &mut silent {
        assert_eq!(client.send(&request[HALF..]).read().status, 200);
    }
    assert_eq!(metric(server.admin(), "corelane_refusals_total"), 0.0);
    server.stop();
}

#[test]
fn requests_that_arrive_while_a_handler_holds_the_shard_are_answered() {
    const EACH: usize = 100;
    let hold = Tool::new("hold").run(|_: NoArguments, _| {
        thread::sleep(STALL);
        "held"
    });
    let limits = Limits { head_timeout: TIMEOUT, keep_alive_timeout: TIMEOUT, ..Limits::default() };
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
    let admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let config = Config { listen, admin, shards: Some(1), limits, ..Config::default() };
    let later = Tool::new("later").deadline(TIMEOUT).run_async(async |_: NoArguments, _| {
        corelane::time::sleep(Duration::from_secs(1)).await;
        "done"
    });
    let running = Server::builder("held", "0").tool(hold).tool(later).build().start(&config).unwrap();
    let (address, admin) = (running.addresses()[0], running.admin_address().unwrap());
    let request = |tool| {
        let params = json!({"name": tool, "arguments": {}});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        post("", call.to_string())
    };
    let mut halves: Vec<Client> = (0..EACH).map(|_| Client::connect(address)).collect();
    for client in &mut halves {
        client.send(&request("later")[..HALF]);
    }
    let mut pending = Client::connect(address);
    pending.send(request("later"));
    await_metric(admin, "corelane_calls_in_flight", 1.0);
    await_metric(admin, "corelane_received_bytes_total", (EACH * HALF + request("later").len()) as f64);
    let mut holder = Client::connect(address);
    holder.send(request("hold"));
    for client in &mut halves {
        client.send(&request("later")[HALF..]);
    }
    for client in halves.iter_mut().chain([&mut holder, &mut pending]) {
        let reply = client.read();
        assert!(reply.status == 200 && !reply.json()["result"].is_null(), "{reply:?}");
    }
    assert_eq!(metric(admin, "corelane_refusals_total"), 0.0);
    running.stopper().drain();
    assert!(running.join().unwrap().events("stalled") >= 1);
}
