//! Large results are validated against the `outputSchema` of their tool on the blocking pool, while the shard serves other clients.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use corelane::{Config, Limits, Running, Server, ServerBuilder, Structured, TaskTerms, Tool};
use serde_json::{Value, json};
use support::{
    Client, await_calls_in_flight, eventually, hold,
    peer::{Peer, PeerRequest, end},
    post,
};

/// Elements of a large result. It takes more work than [`limits`] allow on the shard.
const LARGE: usize = 1000;

/// Header lines of a batch whose replies are sent as one array.
const BATCHES: &str = "MCP-Protocol-Version: 2025-03-26\r\nAccept: application/json\r\n";

const TASKS: &str = "io.modelcontextprotocol/tasks";

fn limits() -> Limits {
    Limits { validation_inline_work_max: 1000, blocking_threads_max: 1, ..Limits::default() }
}

/// A server of one shard and one thread for blocking calls; over HTTP, and newline-delimited.
fn start(server: ServerBuilder, limits: Limits) -> Running {
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap(), "tcp://127.0.0.1:0".parse().unwrap()],
        admin: Some("127.0.0.1:0".parse().unwrap()),
        shards: Some(1),
        blocking_threads: Some(1),
        limits,
        ..Config::default()
    };
    server.build().start(&config).unwrap()
}

#[derive(serde::Deserialize)]
struct Wanted {
    length: usize,
    last: Value,
}

impl Wanted {
    /// A list of ones that ends with `last`.
    fn list(self) -> Structured<Value> {
        let mut list = vec![json!(1); self.length];
        list.push(self.last);
        Structured(json!({"list": list}))
    }
}

/// Tools of each kind that return a list, whose elements have to be integers.
fn server() -> ServerBuilder {
    let tool = |name| {
        let output = json!({"type": "object", "properties": {"list": {"items": {"type": "integer"}}}});
        Tool::new(name).input_schema::<Wanted>(json!({"type": "object"})).output_schema(output)
    };
    let terms = TaskTerms { ttl: None, poll_interval: Duration::from_millis(50) };
    let server = Server::builder("test", "0")
        .tool(tool("inline").run(|wanted, cx| {
            cx.progress(1.0, None, None);
            wanted.list()
        }))
        .tool(tool("async").run_async(async |wanted, _| wanted.list()))
        .tool(tool("blocking").run_blocking(|wanted, _| wanted.list()))
        .tool(tool("task").task(terms).run_async(async |wanted, _| wanted.list()));
    #[cfg(feature = "tokio")]
    let server = server.tool(tool("tokio").run_tokio(async |wanted: Wanted, _| wanted.list()));
    server
}

/// The names of the tools that reply themselves.
fn kinds() -> Vec<&'static str> {
    let mut kinds = vec!["inline", "async", "blocking"];
    if cfg!(feature = "tokio") {
        kinds.push("tokio");
    }
    kinds
}

fn message(id: usize, tool: &str, length: usize, last: &Value) -> Value {
    let arguments = json!({"length": length, "last": last});
    let params = json!({"name": tool, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

fn modern(tool: &str, length: usize, last: &Value) -> PeerRequest {
    PeerRequest::call(tool, json!({"length": length, "last": last})).token("progress")
}

/// A newline-delimited connection: to send, and to read lines.
fn lines(running: &Running) -> (TcpStream, impl FnMut() -> Value + use<>) {
    let address = running.listeners()[1].to_string();
    let stream = TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut next = move || serde_json::from_str(&reader.next().unwrap().unwrap()).unwrap();
    let initialize = json!({"jsonrpc": "2.0", "id": "first", "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}});
    writeln!(&stream, "{initialize}").unwrap();
    let initialized: Value = next();
    assert_eq!(initialized["id"], "first");
    (stream, next)
}

/// Checks the response to a call with a large list that ends with `last`.
#[track_caller]
fn check(response: &Value, last: &Value) {
    if last.is_i64() {
        // The revision with batches has no structured content.
        let text = response["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{response}"));
        let list = &serde_json::from_str::<Value>(text).unwrap()["list"];
        assert!(list.as_array().unwrap().len() == LARGE + 1 && list[LARGE] == *last, "{response}");
    } else {
        let message = response["error"]["message"].as_str().unwrap_or_else(|| panic!("{response}"));
        assert!(message.contains("outputSchema") && message.contains("/list/1000"), "{message}");
        assert_eq!(response["error"]["code"], -32603);
    }
}

#[test]
fn shard_serves_other_clients_while_large_results_wait_for_the_pool() {
    let (hold, entered, leave) = hold();
    let running = start(server().tool(hold), limits());
    let connect = || Client::connect(running.addresses()[0]);
    let (mut holding, mut other) = (connect(), connect());
    holding.send(post(
        "",
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hold"}}).to_string(),
    ));
    entered.wait();
    let kinds: Vec<&str> = kinds().into_iter().filter(|kind| *kind != "blocking").collect();
    let last = json!(7);
    let mut legacy: Vec<_> = kinds.iter().map(|_| connect()).collect();
    let mut newest: Vec<_> = kinds.iter().map(|_| Peer::connect(running.addresses()[0])).collect();
    for ((kind, legacy), newest) in kinds.iter().zip(&mut legacy).zip(&mut newest) {
        legacy.send(post("", message(1, kind, LARGE, &last).to_string()));
        newest.send(modern(kind, LARGE, &last).bytes());
    }
    let mut batching = connect();
    let batch = Value::from_iter(kinds.iter().enumerate().map(|(id, kind)| message(id, kind, LARGE, &last)));
    batching.send(post(BATCHES, batch.to_string()));
    let (mut sender, mut next) = lines(&running);
    for (id, kind) in kinds.iter().enumerate() {
        writeln!(sender, "{}", message(id, kind, LARGE, &last)).unwrap();
    }
    await_calls_in_flight(&running, 1 + 4 * u32::try_from(kinds.len()).unwrap());
    for _ in 0..10 {
        let small = other.call("inline", json!({"length": 0, "last": 3}));
        assert_eq!(small["content"][0]["text"], "{\"list\":[3]}");
    }
    leave.wait();
    for ((kind, legacy), newest) in kinds.iter().zip(&mut legacy).zip(&mut newest) {
        check(&legacy.read().json(), &last);
        let answer = newest.answer(&modern(kind, LARGE, &last));
        check(answer.last(), &last);
        assert_eq!(answer.notes().len(), usize::from(*kind == "inline"), "progress precedes the result");
    }
    let replies = batching.read().json();
    assert_eq!(replies.as_array().unwrap().len(), kinds.len());
    replies.as_array().unwrap().iter().for_each(|reply| check(reply, &last));
    kinds.iter().for_each(|_| check(&next(), &last));
    holding.read();
    end(running);
}

#[test]
fn large_results_of_each_kind_are_sent_or_refused_with_their_violations() {
    let running = start(server(), limits());
    let mut client = Client::connect(running.addresses()[0]);
    let mut peer = Peer::connect(running.addresses()[0]);
    let (mut sender, mut next) = lines(&running);
    let mut refused = 0;
    for last in [json!(7), json!("seven")] {
        for kind in kinds() {
            check(&client.post("", message(1, kind, LARGE, &last).to_string()).json(), &last);
            check(peer.request(&modern(kind, LARGE, &last)).last(), &last);
            writeln!(sender, "{}", message(1, kind, LARGE, &last)).unwrap();
            check(&next(), &last);
            let batch = json!([message(1, kind, LARGE, &last), message(2, "inline", 0, &json!(1))]);
            let replies = client.post(BATCHES, batch.to_string()).json();
            let large = replies.as_array().unwrap().iter().find(|reply| reply["id"] == 1).unwrap();
            check(large, &last);
            refused += 4 * u64::from(!last.is_i64());
        }
        let with_tasks = json!({"extensions": {TASKS: {}}});
        let created = peer.request(&modern("task", LARGE, &last).can(with_tasks.clone()));
        let about =
            PeerRequest::new("tasks/get", json!({"taskId": created.result()["taskId"]})).can(with_tasks);
        let mut task = Value::Null;
        eventually("the end of the task", || {
            task = peer.request(&about).result().clone();
            task["status"] != "working"
        });
        check(&task, &last);
        refused += u64::from(!last.is_i64());
    }
    drop((client, peer, sender, next));
    assert_eq!(end(running).refusals("invalid_output"), refused);
}

#[test]
fn large_results_that_find_the_queue_of_the_pool_full_wait_for_their_validation() {
    let (hold, entered, leave) = hold();
    let running = start(server().tool(hold), Limits { blocking_queue_max: 1, ..limits() });
    let connect = || Client::connect(running.addresses()[0]);
    let mut holding = connect();
    holding.send(post(
        "",
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hold"}}).to_string(),
    ));
    entered.wait();
    let kinds = ["inline", "async", "inline", "async"];
    let mut waiting = kinds.map(|kind| {
        let mut client = connect();
        client.send(post("", message(1, kind, LARGE, &json!(7)).to_string()));
        client
    });
    await_calls_in_flight(&running, 5);
    leave.wait();
    waiting.iter_mut().for_each(|client| check(&client.read().json(), &json!(7)));
    holding.read();
    end(running);
}

#[test]
fn results_beyond_the_second_budget_are_refused_without_validation() {
    let running = start(server(), Limits { validation_work_max: 1000, ..limits() });
    let mut client = Client::connect(running.addresses()[0]);
    for kind in kinds() {
        let reply = client.post("", message(1, kind, LARGE, &json!(7)).to_string());
        assert_eq!((reply.status, reply.error_code()), (200, -32603), "{kind}");
        assert!(reply.json()["error"]["message"].as_str().unwrap().contains("validation_work_max"));
    }
    assert_eq!(end(running).refusals("output_work"), kinds().len() as u64);
}
