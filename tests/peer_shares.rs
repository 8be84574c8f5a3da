//! One client cannot use up a table that all clients of a shard share. A second client, from another address, is served.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{net::SocketAddr, time::Duration};

use corelane::{
    Config, Context, Limits, ListRoots, NoArguments, ResourceTemplate, Running, Server, TaskTerms, Tool, time,
};
use serde_json::{Value, json};
use support::{
    Client, Reply, await_calls_in_flight, eventually,
    peer::{Peer, PeerRequest, end},
    session::{Session, handshake},
    stream_from,
};

/// The address of the other client.
const OTHER: &str = "127.0.0.2";

/// Maximum number of calls in flight.
const CALLS_MAX: u32 = 64;

/// Maximum number of calls in flight of a client that is alone, and of one that is not.
const ALONE_MAX: u32 = CALLS_MAX - CALLS_MAX / 16;
const SHARE: u32 = CALLS_MAX / 4;

/// Calls of one client that go on without a connection: 5 % of [`CALLS_MAX`].
const ORPHANS_MAX: u32 = 3;

/// Length of the result of a task.
const RESULT_BYTES: usize = 10_000;

/// A server with one shard, and with tools that are not inline: one takes 20 s, one asks its client, one ends at once, one becomes a
/// task that ends at once.
fn start() -> Running {
    start_with(Limits {
        calls_in_flight_max: CALLS_MAX as usize,
        drain_timeout: Duration::from_millis(200),
        ..Limits::default()
    })
}

fn start_with(limits: Limits) -> Running {
    let config = Config {
        listen: vec!["127.0.0.1:0".parse::<SocketAddr>().unwrap().into()],
        admin: Some("127.0.0.1:0".parse().unwrap()),
        shards: Some(1),
        limits,
        ..Config::default()
    };
    let hold = Tool::new("hold").run_async(async |_: NoArguments, _| {
        time::sleep(Duration::from_secs(20)).await;
        "held"
    });
    let ask = Tool::new("ask")
        .run_async(async |_: NoArguments, cx: Context| format!("{:?}", cx.ask(ListRoots::default()).await));
    let soon = Tool::new("soon").run_async(async |_: NoArguments, _| "done");
    let terms = TaskTerms { ttl: Some(Duration::from_secs(3600)), poll_interval: Duration::from_millis(5) };
    let large = Tool::new("task").task(terms).run_async(async |_: NoArguments, _| "x".repeat(RESULT_BYTES));
    let pages = ResourceTemplate::new("page://{number}", "page").run(|_, _| "text");
    let server = Server::builder("shares", "1").tool(hold).tool(ask).tool(soon).tool(large).template(pages);
    server.build().start(&config).unwrap()
}

fn call(tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}})
}

/// Sends a request and does not read the reply.
fn begin(address: SocketAddr, source: &str, headers: &str, body: &Value) -> Client {
    let mut client = Client::connect_from(source, address);
    client.send(support::post(headers, body.to_string()));
    client
}

/// Calls a tool that ends at once from the other client.
#[track_caller]
fn assert_other_is_served(running: &Running) {
    let mut other = Client::connect_from(OTHER, running.addresses()[0]);
    let reply = other.post("", call("soon").to_string());
    assert_eq!(reply.json()["result"]["content"][0]["text"], "done", "{}", reply.json());
}

#[test]
fn calls_in_flight_of_one_client_leave_room_for_another() {
    let running = start();
    let address = running.addresses()[0];
    let held: Vec<Client> = (0..ALONE_MAX).map(|_| begin(address, "127.0.0.1", "", &call("hold"))).collect();
    await_calls_in_flight(&running, ALONE_MAX);
    let mut refused = begin(address, "127.0.0.1", "", &call("hold"));
    let refusal = refused.read();
    assert_eq!((refusal.status, refusal.error_code()), (503, -32000), "{}", refusal.json());
    assert_eq!(refusal.header("retry-after"), Some("1"));
    for _ in 0..20 {
        assert_other_is_served(&running);
    }
    // Legacy calls go on without their connections, the oldest of them are cancelled.
    drop(held);
    await_calls_in_flight(&running, ORPHANS_MAX);
    let others: Vec<Client> =
        (0..CALLS_MAX / 2 - ORPHANS_MAX).map(|_| begin(address, OTHER, "", &call("hold"))).collect();
    await_calls_in_flight(&running, CALLS_MAX / 2);
    // The table is half full, and this client has its share with the calls that go on.
    let own: Vec<Client> =
        (0..SHARE - ORPHANS_MAX).map(|_| begin(address, "127.0.0.1", "", &call("hold"))).collect();
    await_calls_in_flight(&running, CALLS_MAX / 2 + SHARE - ORPHANS_MAX);
    assert_eq!(begin(address, "127.0.0.1", "", &call("hold")).read().status, 503);
    drop((own, others));
    let metrics = end(running);
    assert_eq!(metrics.refusals("peer_share"), 2);
    assert_eq!(metrics.refusals("busy"), 0);
}

#[test]
fn legacy_calls_of_reset_connections_are_bounded_per_client() {
    let running = start();
    let address = running.addresses()[0];
    for _ in 0..3 {
        for _ in 0..ALONE_MAX {
            begin(address, "127.0.0.1", "", &call("hold")).reset();
        }
        assert_other_is_served(&running);
        await_calls_in_flight(&running, ORPHANS_MAX);
        assert_other_is_served(&running);
    }
    let metrics = end(running);
    assert!(metrics.refusals("orphan_limit") > 0);
}

#[test]
fn batches_of_reset_connections_are_bounded_per_client() {
    let running = start();
    let address = running.addresses()[0];
    let batch = Value::from(vec![call("hold"); ALONE_MAX as usize / 2]);
    for _ in 0..6 {
        begin(address, "127.0.0.1", "MCP-Protocol-Version: 2025-03-26\r\n", &batch).reset();
        assert_other_is_served(&running);
    }
    await_calls_in_flight(&running, ORPHANS_MAX);
    let metrics = end(running);
    assert!(metrics.refusals("orphan_limit") > 0);
    assert_eq!(metrics.refusals("peer_share"), 0);
}

#[test]
fn questions_to_a_client_that_has_closed_are_bounded_per_client() {
    let running = start();
    let session = Session::open(running.addresses()[0], "2025-11-25", json!({"roots": {}}));
    for _ in 0..3 * ALONE_MAX {
        let mut call = session.call(7, "ask", json!({}));
        // The question.
        call.message();
        drop(call);
    }
    assert_other_is_served(&running);
    await_calls_in_flight(&running, ORPHANS_MAX);
    assert_eq!(end(running).refusals("peer_share"), 0);
}

/// A client may close its sending side and wait for the reply: its calls count like those without a connection.
#[test]
fn half_closed_connections_get_their_replies_within_the_bound() {
    let running = start();
    let address = running.addresses()[0];
    let begin_half = || {
        let client = begin(address, "127.0.0.1", "", &call("hold"));
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        client
    };
    let mut oldest = begin_half();
    await_calls_in_flight(&running, 1);
    let newer: Vec<Client> = (0..ORPHANS_MAX).map(|_| begin_half()).collect();
    let reply = oldest.read();
    assert_eq!((reply.status, reply.error_code()), (503, -32000), "{}", reply.json());
    await_calls_in_flight(&running, ORPHANS_MAX);
    drop(newer);
    end(running);
}

#[test]
fn resumed_call_is_not_cancelled_for_lack_of_a_connection() {
    let running = start();
    let session = Session::open(running.addresses()[0], "2025-11-25", json!({"roots": {}}));
    let mut first = session.call(7, "ask", json!({}));
    let question = std::iter::from_fn(|| first.event()).find(|event| event.data.is_some()).unwrap();
    drop(first);
    let mut resumed = session.get(question.id.as_deref());
    for _ in 0..2 * ORPHANS_MAX {
        session.call(8, "ask", json!({})).message();
    }
    await_calls_in_flight(&running, ORPHANS_MAX + 1);
    assert_eq!(session.answer(&question.data.unwrap()["id"], json!({"roots": []})), 202);
    assert!(
        resumed.message()["result"]["content"][0]["text"].as_str().unwrap().contains("Ok"),
        "{}",
        resumed.head
    );
    end(running);
}

const TASKS: &str = "io.modelcontextprotocol/tasks";

fn connect_from(running: &Running, source: &str) -> Peer {
    Peer::over(stream_from(source, running.addresses()[0]))
}

/// Calls a tool that becomes a task and ends; returns its id, or the status and code of the refusal.
fn task(peer: &mut Peer) -> Result<Value, (u16, i64)> {
    let answer = peer.request(&PeerRequest::call("task", json!({})).can(json!({"extensions": {TASKS: {}}})));
    match answer.last().get("result") {
        Some(result) => Ok(result["taskId"].clone()),
        None => Err(answer.refused()),
    }
}

/// The task, once it has ended.
#[track_caller]
fn ended(peer: &mut Peer, task: &Value) -> Value {
    let ask = PeerRequest::new("tasks/get", json!({"taskId": task})).can(json!({"extensions": {TASKS: {}}}));
    let mut view = Value::Null;
    eventually("the end of the task", || {
        view = peer.request(&ask).result().clone();
        view["status"] != "working"
    });
    view
}

#[test]
fn task_table_filled_by_one_client_has_room_for_another() {
    let running = start_with(Limits { tasks_max: 64, ..Limits::default() });
    let mut heavy = connect_from(&running, "127.0.0.1");
    for _ in 0..60 {
        let id = task(&mut heavy).unwrap();
        ended(&mut heavy, &id);
    }
    assert_eq!(task(&mut heavy), Err((503, -32000)));
    let mut other = connect_from(&running, OTHER);
    for _ in 0..16 {
        let id = task(&mut other).unwrap();
        assert_eq!(ended(&mut other, &id)["status"], "completed");
    }
    assert_eq!(task(&mut other), Err((503, -32000)), "above its share");
    let metrics = end(running);
    assert_eq!((metrics.refusals("peer_share"), metrics.refusals("busy")), (2, 0));
}

#[test]
fn task_results_of_one_client_leave_memory_for_those_of_another() {
    // Room for 32 results, of which one client may keep 30.
    let running = start_with(Limits { task_results_bytes_max: 33 * RESULT_BYTES, ..Limits::default() });
    let mut heavy = connect_from(&running, "127.0.0.1");
    let tasks: Vec<Value> = (0..40)
        .map(|_| {
            let id = task(&mut heavy).unwrap();
            assert_eq!(ended(&mut heavy, &id)["status"], "completed");
            id
        })
        .collect();
    // The oldest results make room for newer ones.
    let first = ended(&mut heavy, &tasks[0]);
    assert_eq!((&first["status"], &first["error"]["code"]), (&json!("failed"), &json!(-32603)), "{first}");
    let mut other = connect_from(&running, OTHER);
    let kept: Vec<Value> = (0..8).map(|_| task(&mut other).unwrap()).collect();
    for id in &kept {
        assert_eq!(ended(&mut other, id)["status"], "completed");
    }
    let statuses: Vec<Value> = tasks.iter().map(|id| ended(&mut heavy, id)["status"].clone()).collect();
    let completed = statuses.iter().filter(|status| **status == "completed").count();
    assert!((20..=30).contains(&completed), "{completed}");
    assert!(end(running).refusals("task_results_bytes_max") >= 10);
}

/// A `subscriptions/listen` request for `count` pages.
fn listen(first: usize, count: usize) -> PeerRequest {
    let pages: Vec<String> = (first..first + count).map(|number| format!("page://{number}")).collect();
    PeerRequest::listen(json!({"resourceSubscriptions": pages}))
}

#[test]
fn subscriptions_of_one_client_leave_room_for_those_of_another() {
    let running = start_with(Limits { subscriptions_max: 160, ..Limits::default() });
    let mut heavy: Vec<Peer> = Vec::new();
    for number in 0..15 {
        let mut peer = connect_from(&running, "127.0.0.1");
        peer.open(&listen(number * 10, 10));
        heavy.push(peer);
    }
    let refused = connect_from(&running, "127.0.0.1").request(&listen(150, 10));
    assert_eq!(refused.refused(), (503, -32000), "{:?}", refused.error());
    let mut other = connect_from(&running, OTHER);
    other.open(&listen(200, 10));
    // A legacy session of the other client, too.
    drop(heavy.split_off(5));
    eventually("room for the lists", || {
        let session = Session::open(running.addresses()[0], "2025-11-25", json!({}));
        session.get(None).status == 200
    });
    assert_eq!(end(running).refusals("peer_share"), 1);
}

#[test]
fn uris_of_one_client_leave_memory_for_those_of_another() {
    let running = start_with(Limits {
        subscription_uri_bytes_max: 2048,
        subscriber_bytes_max: 16 * 1024,
        subscription_bytes_max: 160 * 1024,
        ..Limits::default()
    });
    let long = |number: usize| {
        let pages: Vec<String> =
            (0..10).map(|page| format!("page://{number}-{page}{}", "x".repeat(1000))).collect();
        PeerRequest::listen(json!({"resourceSubscriptions": pages}))
    };
    let mut heavy: Vec<Peer> = Vec::new();
    let refusal = loop {
        let mut peer = connect_from(&running, "127.0.0.1");
        peer.send(long(heavy.len()).bytes());
        let mut status = [0; 12];
        std::io::Read::read_exact(&mut peer.stream, &mut status).unwrap();
        if &status[9..] != b"200" {
            break String::from_utf8_lossy(&status[9..]).into_owned();
        }
        heavy.push(peer);
    };
    assert_eq!((refusal.as_str(), heavy.len()), ("503", 15));
    connect_from(&running, OTHER).open(&long(100));
    assert_eq!(end(running).refusals("peer_share"), 1);
}

/// Opens a session from an address and subscribes it to a page; returns the session's header line.
fn subscribed_session(running: &Running, source: &str) -> String {
    let mut client = Client::connect_from(source, running.addresses()[0]);
    let opened = client.legacy("initialize", handshake("2025-11-25", json!({})));
    let header = format!("Mcp-Session-Id: {}\r\n", opened.header("mcp-session-id").unwrap());
    assert_eq!(subscribe(&mut client, &header).status, 200);
    header
}

fn subscribe(client: &mut Client, session: &str) -> Reply {
    let body =
        json!({"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": "page://1"}});
    client.post(session, body.to_string())
}

#[test]
fn sessions_of_one_client_do_not_evict_those_of_another() {
    let running = start_with(Limits { sessions_kept_max: 16, ..Limits::default() });
    let kept = subscribed_session(&running, OTHER);
    for _ in 0..40 {
        subscribed_session(&running, "127.0.0.1");
    }
    let mut other = Client::connect_from(OTHER, running.addresses()[0]);
    assert_eq!(subscribe(&mut other, &kept).status, 200, "an evicted session has ended");
    assert!((0..3).all(|_| !subscribed_session(&running, OTHER).is_empty()));
    assert_eq!(subscribe(&mut other, &kept).status, 200);
    end(running);
}
