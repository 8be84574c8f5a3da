//! Fairness of a shard's turns: a connection with many expensive requests does not hold the others back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use corelane::{Config, Limits, NoArguments, Running, Server, Tool, time};
use serde_json::{Value, json};
use support::{
    Client, ServerProcess, await_metric, config_file, corelane,
    peer::{Peer, PeerRequest, config, connect, end},
    post,
};

/// Time that each expensive call occupies its shard for.
const EXPENSIVE: Duration = Duration::from_millis(2);
/// Expensive calls that one connection sends at once: eight times `requests_per_turn_max`.
const CALLS: usize = 256;

/// A server of one shard. `count` is the number of expensive calls that were handled; the tool `count` returns it.
fn start(listen: &str) -> (Running, Arc<AtomicUsize>) {
    start_on(&[listen])
}

fn start_on(listen: &[&str]) -> (Running, Arc<AtomicUsize>) {
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
    let later = Tool::new("later").run_async(async |_: NoArguments, cx| {
        cx.progress(1.0, None, None);
        corelane::time::sleep(Duration::from_millis(1)).await;
        "later"
    });
    let limits = Limits { batch_messages_max: CALLS, ..Limits::default() };
    let listen = listen.iter().map(|address| address.parse().unwrap()).collect();
    let config = Config { listen, ..config(1, limits) };
    let server = Server::builder("test", "0").tool(expensive).tool(count_tool).tool(later);
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

const BATCHES: &str = "MCP-Protocol-Version: 2025-03-26\r\n";

/// A newline-delimited connection with batches.
fn batching_lines(running: &Running) -> BufReader<TcpStream> {
    let address = running.listeners()[1].to_string();
    let stream = TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(stream);
    let initialize = json!({"jsonrpc": "2.0", "id": "first", "method": "initialize", "params": {
        "protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}});
    writeln!(reader.get_ref(), "{initialize}").unwrap();
    assert_eq!(next_line(&mut reader)["id"], "first");
    reader
}

fn next_line(reader: &mut BufReader<TcpStream>) -> Value {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn ids(replies: &Value) -> Vec<u64> {
    let replies = replies.as_array().unwrap_or_else(|| panic!("not an array: {replies}"));
    replies.iter().map(|reply| reply["id"].as_u64().unwrap_or_else(|| panic!("{reply}"))).collect()
}

#[test]
fn bystander_is_served_between_the_messages_of_a_batch() {
    for is_http in [true, false] {
        let (running, count) = start_on(&["127.0.0.1:0", "tcp://127.0.0.1:0"]);
        let mut bystander = connect(&running);
        let mut flooding = Client::connect(running.addresses()[0]);
        let mut lines = batching_lines(&running);
        let batch = Value::from_iter((0..CALLS).map(expensive)).to_string();
        match is_http {
            true => drop(flooding.send(post(BATCHES, batch))),
            false => writeln!(lines.get_ref(), "{batch}").unwrap(),
        }
        support::eventually("the first expensive call", || count.load(Ordering::SeqCst) > 0);
        assert_usual(&handled_between(&mut bystander));
        let replies = if is_http { flooding.read().json() } else { next_line(&mut lines) };
        assert!(ids(&replies).iter().copied().eq(0..CALLS as u64), "one array in order: {replies}");
        drop((bystander, flooding, lines));
        end(running);
    }
}

/// A batch that takes several turns, with messages of each kind: notifications, errors, calls that end later, `initialize`, and
/// numbers that are read as text. The ids are the positions; those of messages with a reply are returned.
fn mixed_batch() -> (String, Vec<u64>) {
    let later = |id: usize| {
        let meta = json!({"progressToken": id});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "later", "_meta": meta}})
    };
    let messages: Vec<String> = (0..40)
        .map(|id| match id % 8 {
            1 => json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string(),
            3 => later(id).to_string(),
            5 => json!({"jsonrpc": "2.0", "id": id, "method": "initialize"}).to_string(),
            6 => json!({"jsonrpc": "2.0", "id": id, "method": "unknown \" ]},[ \\"}).to_string(),
            7 => format!("{{\"jsonrpc\":\"2.0\",\"id\":{id}e0,\"method\":\"ping\"}}"),
            _ => expensive(id).to_string(),
        })
        .collect();
    (format!("[{}]", messages.join(" ,\t")), (0..40).filter(|id| id % 8 != 1).collect())
}

/// The messages of a stream of events, to the last chunk.
fn events(stream: &mut TcpStream) -> Vec<Value> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n0\r\n\r\n") {
        let mut part = [0; 4096];
        let count = support::uninterrupted(|| stream.read(&mut part)).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&part[..count]);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("text/event-stream"), "{text}");
    text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

fn sorted(mut found: Vec<u64>) -> Vec<u64> {
    found.sort_unstable();
    found
}

#[test]
fn batch_that_takes_several_turns_is_answered_whole() {
    let (running, _) = start_on(&["127.0.0.1:0", "tcp://127.0.0.1:0"]);
    let (batch, expected) = mixed_batch();
    let ids = |replies: &str| {
        // `7e0` is a number of the same value.
        let replies: Vec<Value> = serde_json::from_str(replies).unwrap_or_else(|_| panic!("{replies}"));
        replies.iter().map(|reply| reply["id"].as_f64().unwrap() as u64).collect::<Vec<_>>()
    };
    // In one array where the client accepts no stream.
    let mut client = Client::connect(running.addresses()[0]);
    let plain = format!("{BATCHES}Accept: application/json\r\n");
    for _ in 0..2 {
        let reply = client.post(&plain, &batch);
        assert_eq!(sorted(ids(&String::from_utf8(reply.body).unwrap())), expected);
    }
    // Else as events, and progress before the end of a call.
    let mut streaming = Client::connect(running.addresses()[0]);
    let accepts = format!("{BATCHES}Accept: application/json, text/event-stream\r\n");
    streaming.send(post(&accepts, &batch));
    let messages = events(&mut streaming.stream);
    let found = messages.iter().filter_map(|message| message["id"].as_f64());
    assert_eq!(sorted(found.map(|id| id as u64).collect()), expected);
    let progress = messages.iter().filter(|message| message["method"] == "notifications/progress");
    assert_eq!(progress.count(), expected.iter().filter(|id| *id % 8 == 3).count());
    // Over newline-delimited JSON the calls that end later have lines of their own. The line behind the batch is answered after it.
    let mut lines = batching_lines(&running);
    writeln!(lines.get_ref(), "{batch}\n{}", json!({"jsonrpc": "2.0", "id": 1000, "method": "ping"}))
        .unwrap();
    let mut found = Vec::new();
    loop {
        let line = next_line(&mut lines);
        match line["id"].as_f64() {
            Some(1000.0) => break,
            Some(id) => found.push(id as u64),
            None if line.is_array() => found.extend(ids(&line.to_string())),
            None => assert_eq!(line["method"], "notifications/progress"),
        }
    }
    while found.len() < expected.len() {
        found.extend(next_line(&mut lines)["id"].as_u64());
    }
    assert_eq!(sorted(found), expected);
    drop((client, streaming, lines));
    end(running);
}

#[test]
fn client_that_leaves_ends_its_batch() {
    let (running, count) = start("127.0.0.1:0");
    let mut client = Client::connect(running.addresses()[0]);
    client.send(post(BATCHES, Value::from_iter((0..CALLS).map(expensive)).to_string()));
    support::eventually("the first expensive call", || count.load(Ordering::SeqCst) > 0);
    client.reset();
    let handled = support::settled("the number of calls", || count.load(Ordering::SeqCst));
    assert!(handled < CALLS, "{handled}");
    end(running);
}

/// Number of turns that took longer than `turn_slow`, 100 ms by default.
fn slow_turns(admin: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let of = |line: String| Some(line.strip_prefix("corelane_events_total{")?.to_owned());
    let values = lines.filter_map(of).filter(|line| line.contains("event=\"slow_turn\""));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Checks that no turn of `attempt` is slow at least once, of several times: a busy machine may interrupt a turn, but not every time.
#[track_caller]
fn assert_no_slow_turn<T>(admin: SocketAddr, prepare: impl Fn() -> T, attempt: impl Fn(T)) {
    let has_none = (0..8).any(|_| {
        let prepared = prepare();
        let before = slow_turns(admin);
        attempt(prepared);
        slow_turns(admin) == before
    });
    assert!(has_none, "turns are slow in every attempt");
}

/// In one turn they take 30 ms or more.
#[test]
fn large_results_that_are_ready_together_are_encoded_in_several_turns() {
    const RESULTS: u32 = 64;
    let at = Arc::new(Mutex::new(Instant::now()));
    let ready_at = Arc::clone(&at);
    let large = Tool::new("large").run_async(async move |_: NoArguments, _| {
        let at = *ready_at.lock().unwrap();
        time::sleep(at.saturating_duration_since(Instant::now())).await;
        "x".repeat(1_000_000)
    });
    let admin = Some("127.0.0.1:0".parse().unwrap());
    let limits = Limits { turn_slow: Duration::from_millis(10), ..Limits::default() };
    let running = Server::builder("test", "0")
        .tool(large)
        .build()
        .start(&Config { admin, ..config(1, limits) })
        .unwrap();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "large"}});
    let prepare = || {
        *at.lock().unwrap() = Instant::now() + Duration::from_secs(1);
        let connect = |_| {
            let mut client = Client::connect(running.addresses()[0]);
            client.send(post("", call.to_string()));
            client
        };
        (0..RESULTS).map(connect).collect::<Vec<Client>>()
    };
    assert_no_slow_turn(running.admin_address().unwrap(), prepare, |mut clients| {
        clients.iter_mut().for_each(|client| assert_eq!(client.read().status, 200));
    });
    end(running);
}

/// Clients of [`assert_departures_take_several_turns`], and the URIs of each, the removal of which takes 50 ms or more in one turn.
const DEPARTING: usize = 128;
const URIS: usize = 1024;

/// Opens clients that subscribe to the URIs they are passed, and checks that no turn is slow in which all of them leave.
#[track_caller]
fn assert_departures_take_several_turns<T>(listen: &str, open: impl Fn(SocketAddr, Vec<String>) -> T) {
    let config = config_file("slow-turns", "[limits]\nturn_slow = \"20ms\"\n");
    let arguments = ["serve", "--listen", listen, "--shards", "1", "--config", &config];
    let server = ServerProcess::observed(corelane(&arguments));
    let uris = |client| (0..URIS).map(|number| format!("demo://greeting/{client}-{number}")).collect();
    let prepare =
        || (0..DEPARTING).map(|client: usize| open(server.address, uris(client))).collect::<Vec<T>>();
    assert_no_slow_turn(server.admin(), prepare, |clients| {
        // All of them have left when the server goes on.
        server.signal("-STOP");
        drop(clients);
        server.signal("-CONT");
        await_metric(server.admin(), "corelane_subscription_bytes", 0.0);
    });
}

#[test]
fn subscriptions_of_clients_that_leave_together_are_removed_in_several_turns() {
    assert_departures_take_several_turns("127.0.0.1:0", |address, uris| {
        let mut peer = Peer::connect(address);
        peer.open(&PeerRequest::listen(json!({"resourceSubscriptions": uris})));
        peer
    });
}

#[test]
fn subscriptions_of_newline_delimited_clients_that_leave_together_are_removed_in_several_turns() {
    assert_departures_take_several_turns("tcp://127.0.0.1:0", |address, uris| {
        let stream = TcpStream::connect(address).unwrap();
        let listen = json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {
            "notifications": {"resourceSubscriptions": uris}, "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
                "io.modelcontextprotocol/clientCapabilities": {}}}});
        (&stream).write_all(format!("{listen}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        let mut lines = BufReader::new(stream);
        lines.read_line(&mut reply).unwrap();
        assert!(reply.contains("acknowledged"), "{reply}");
        lines
    });
}
