//! Conditions that a shard must survive: many simultaneous timeouts, time limits beyond the range of the clock, a panic
//! within a turn, a client that subscribes without end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/panicking_log.rs"]
mod panicking_log;
mod support;

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use corelane::{
    CacheScope, Config, Limits, NoArguments, Prompt, Resource, ResourceTemplate, Running, Server, TaskTerms,
    Tool, config::Endpoint,
};
use panicking_log::PanickingLog;
use serde_json::json;
use support::{Client, ServerProcess, session::Session};

/// Time limit of every wait on a loaded machine.
const WAIT_MAX: Duration = Duration::from_secs(120);

fn start(server: &Server, shards: usize, limits: Limits) -> Running {
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
    server.start(&Config { listen, shards: Some(shards), limits, ..Config::default() }).unwrap()
}

#[test]
fn thousands_of_simultaneous_cross_shard_timeouts_are_answered() {
    const CONNECTIONS: usize = 3000;
    /// Stack size of each thread in bytes. An unoptimised shard needs half; one frame per request would exceed it.
    const STACK: &str = "786432";
    if env::var("RUST_MIN_STACK").as_deref() != Ok(STACK) {
        // Read once, before the first thread: only another process has threads of that size.
        let name = "thousands_of_simultaneous_cross_shard_timeouts_are_answered";
        let mut test = Command::new(env::current_exe().unwrap());
        let output = test.args(["--exact", name]).env("RUST_MIN_STACK", STACK).output().unwrap();
        let text =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
        return;
    }
    // Longer than one shard waits for another.
    const HELD: Duration = Duration::from_secs(8);
    let hold = Tool::new("hold").run(|_: NoArguments, _| {
        thread::sleep(HELD);
        "held"
    });
    let server = Server::builder("held", "0").tool(hold).build();
    let running = start(&server, 2, Limits::default());
    let address = running.addresses()[0];
    let session = Session::open(address, "2025-11-25", json!({}));
    let mut waiting: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut holding = Client::connect(address);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hold", "arguments": {}}});
    holding.send(support::post(&format!("Mcp-Session-Id: {}\r\n", session.id), call.to_string()));
    let level =
        json!({"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "error"}})
            .to_string();
    let headers = format!("Mcp-Session-Id: {}\r\nMCP-Protocol-Version: 2025-11-25\r\n", session.id);
    let request = support::post(&headers, &level);
    for connection in &mut waiting {
        connection.write_all(&request).unwrap();
    }
    let mut timed_out = 0;
    for connection in &mut waiting {
        connection.set_read_timeout(Some(WAIT_MAX)).unwrap();
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 "), "{line:?}");
        timed_out += usize::from(line.contains(" 503 "));
    }
    // The kernel distributes connections over the shards about evenly.
    assert!(timed_out > CONNECTIONS / 10, "{timed_out} timed out");
    drop(waiting);
    assert_eq!(Client::connect(address).legacy("ping", json!({})).status, 200);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn out_of_range_timeout_is_rejected_with_its_name_and_limit() {
    let terms = |ttl, poll_interval| TaskTerms { ttl, poll_interval };
    let second = Duration::from_secs(1);
    let named =
        |name: &'static str| Server::builder("times", "0").tool(Tool::new(name).run(|_: NoArguments, _| ""));
    let task = |terms| {
        let tool = Tool::new("t").task(terms).run_async(async |_: NoArguments, _| "");
        Server::builder("times", "0").tool(tool)
    };
    let servers = [
        (Tool::new("t").deadline(Duration::MAX).run(|_: NoArguments, _| ""), "deadline"),
        (Tool::new("t").deadline(Duration::ZERO).run(|_: NoArguments, _| ""), "deadline"),
    ]
    .map(|(tool, what)| (Server::builder("times", "0").tool(tool), what));
    let others = [
        (task(terms(Some(Duration::MAX), second)), "task ttl"),
        (task(terms(None, Duration::MAX)), "task poll_interval"),
        (
            named("x").resource(Resource::new("test://a", "a").deadline(Duration::MAX).run(|_, _| "a")),
            "deadline",
        ),
        (
            named("x").resource(
                Resource::new("test://a", "a").cache(Duration::MAX, CacheScope::Public).run(|_, _| "a"),
            ),
            "cache ttl",
        ),
        (
            named("x")
                .template(ResourceTemplate::new("test://{a}", "a").deadline(Duration::MAX).run(|_, _| "a")),
            "deadline",
        ),
        (
            named("x").prompt(Prompt::new("p").deadline(Duration::MAX).run(|_: NoArguments, _| "p")),
            "deadline",
        ),
    ];
    for (server, what) in servers.into_iter().chain(others) {
        let error = server.build().start(&Config::default()).err().expect("it is refused").to_string();
        assert!(error.contains(what) && error.contains("31536000s"), "{error}");
    }
}

#[test]
fn maximum_time_limits_do_not_overflow_the_clock() {
    let limits = Limits { call_deadline: Duration::MAX, task_ttl: Duration::MAX, ..Limits::default() };
    let tool = Tool::new("later").run_async(async |_: NoArguments, _| "done");
    let endless = TaskTerms { ttl: Some(Duration::MAX), poll_interval: Duration::ZERO };
    let task = Tool::new("task").run_async(async move |_: NoArguments, cx| match cx.become_task(endless) {
        Ok(_) => "task",
        Err(_) => "no task",
    });
    let running = start(&Server::builder("limits", "0").tool(tool).tool(task).build(), 1, limits);
    let mut client = Client::connect(running.addresses()[0]);
    for tool in ["later", "task"] {
        assert!(client.call(tool, json!({}))["content"][0]["text"].is_string(), "{tool}");
    }
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn panic_in_a_connection_closes_only_that_connection() {
    // This event is written on the thread of the shard, outside every handler.
    let refused_host = PanickingLog(|event| event.contains("host_forbidden"));
    tracing::subscriber::set_global_default(refused_host).unwrap();
    let echo = Tool::new("later").run_async(async |_: NoArguments, _| "done");
    let running = start(&Server::builder("panics", "0").tool(echo).build(), 1, Limits::default());
    let address = running.addresses()[0];
    let mut other = Client::connect(address);
    assert_eq!(other.legacy("ping", json!({})).status, 200);
    for _ in 0..3 {
        let mut guilty = TcpStream::connect(address).unwrap();
        guilty.set_read_timeout(Some(WAIT_MAX)).unwrap();
        guilty.write_all(b"POST /mcp HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        // The end, or a reset if unread data remained.
        let _ = guilty.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    assert_eq!(other.legacy("ping", json!({})).status, 200);
    assert_eq!(other.call("later", json!({}))["content"][0]["text"], "done");
    running.stopper().drain();
    let metrics = running.join().unwrap();
    assert!(metrics.events("connection_panicked") >= 1);
}

#[test]
fn legacy_subscriptions_of_a_json_lines_connection_are_bounded_and_slots_are_reused() {
    let item = ResourceTemplate::new("test://{item}", "item").run(|_, _| "item");
    let lines = vec!["tcp://127.0.0.1:0".parse().unwrap()];
    let limits = Limits { subscription_topics_max: 3, ..Limits::default() };
    let config = Config { listen: lines, shards: Some(1), limits, ..Config::default() };
    let running = Server::builder("bounded", "0").template(item).build().start(&config).unwrap();
    let Endpoint::Tcp(address) = running.listeners()[0].endpoint else { panic!("no address") };
    let mut input = TcpStream::connect(address).unwrap();
    input.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut output = BufReader::new(input.try_clone().unwrap());
    let mut ask = |method: &str, params: serde_json::Value| {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        input.write_all(format!("{message}\n").as_bytes()).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    ask("initialize", support::session::handshake("2025-11-25", json!({})));
    let mut subscribe = |method: &str, item: usize| {
        let answer = ask(method, json!({"uri": format!("test://{item}")}));
        answer["error"]["code"].as_i64()
    };
    for item in 0..3 {
        assert_eq!(subscribe("resources/subscribe", item), None);
    }
    assert_eq!(subscribe("resources/subscribe", 3), Some(-32603));
    assert_eq!(subscribe("resources/subscribe", 1), None, "already subscribed to this URI");
    assert_eq!(subscribe("resources/unsubscribe", 1), None);
    assert_eq!(subscribe("resources/subscribe", 3), None);
    running.stopper().drain();
    assert_eq!(running.join().unwrap().refusals("too_many_subscriptions"), 1);
}

#[test]
fn topics_of_a_json_lines_connection_are_bounded() {
    let lines = vec!["tcp://127.0.0.1:0".parse().unwrap()];
    let limits = Limits { subscription_topics_max: 3, ..Limits::default() };
    let config = Config { listen: lines, shards: Some(1), limits, ..Config::default() };
    let resource = Resource::new("test://a", "a").run(|_, _| "a");
    let running = Server::builder("bounded", "0").resource(resource).build().start(&config).unwrap();
    let Endpoint::Tcp(address) = running.listeners()[0].endpoint else { panic!("no address") };
    let mut input = TcpStream::connect(address).unwrap();
    input.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut output = BufReader::new(input.try_clone().unwrap());
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    });
    let mut id = 0;
    let mut listen = |resources: usize, tasks: usize| {
        id += 1;
        let names = |count| (0..count).map(|name| format!("test://{id}/{name}")).collect::<Vec<_>>();
        let notifications = json!({"resourcesListChanged": true, "resourceSubscriptions": names(resources),
            "taskIds": names(tasks)});
        let params = json!({"_meta": meta, "notifications": notifications});
        let ask = json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": params});
        input.write_all(format!("{ask}\n").as_bytes()).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()["error"]["code"].as_i64()
    };
    assert_eq!(listen(2, 2), Some(-32603), "four topics in one subscription");
    assert_eq!(listen(1, 1), None);
    assert_eq!(listen(2, 0), Some(-32603), "four topics in two subscriptions");
    assert_eq!(listen(0, 1), None);
    assert_eq!(listen(1, 0), Some(-32603));
    assert_eq!(listen(0, 0), None, "list topics are not limited");
    running.stopper().drain();
    assert_eq!(running.join().unwrap().refusals("too_many_subscriptions"), 3);
}

#[test]
fn empty_subscriptions_of_a_json_lines_connection_are_bounded() {
    let server =
        ServerProcess::spawn(support::corelane(&["serve", "--listen", "tcp://127.0.0.1:0", "--shards", "1"]));
    let mut input = TcpStream::connect(server.address).unwrap();
    input.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut output = BufReader::new(input.try_clone().unwrap());
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let listen = |id: usize| {
        json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen",
            "params": {"_meta": meta, "notifications": {}}})
    };
    let mut ask = |message: serde_json::Value, answered: bool| {
        input.write_all(format!("{message}\n").as_bytes()).unwrap();
        let mut line = String::new();
        if answered {
            output.read_line(&mut line).unwrap();
        }
        line
    };
    for id in 0..64 {
        assert!(ask(listen(id), true).contains("acknowledged"), "{id}");
    }
    for id in 64..70 {
        assert!(ask(listen(id), true).contains("-32603"), "{id}");
    }
    // The slots are free again.
    ask(
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"_meta": meta, "requestId": 3}}),
        false,
    );
    assert!(ask(listen(70), true).contains("acknowledged"));
    server.stop();
}
