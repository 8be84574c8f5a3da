//! The flags of `[performance]`, over the wire: each fallback serves the same replies, its counters move, and a change takes effect
//! while the server runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/corpora.rs"]
mod corpora;
mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use corelane::{
    Config, Context, Flag, Flags, JsonBackend, Limits, NoArguments, Performance, Prompt, Running, Server,
    ServerBuilder, Tool, demo,
};
use serde_json::{Value, json};
use support::{
    Client, ServerProcess, await_metric, config_file, corelane, echo, eventually,
    peer::{Peer, PeerRequest, end},
    run,
};

// The corpora report what is missing.
use support::missing;

/// The text of `/metrics`.
fn metrics(admin: SocketAddr) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The sum of the samples of a metric that have all these labels.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let samples = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    });
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Requests that were handled with the flag in this position.
fn taken(text: &str, flag: Flag, is_on: bool) -> u64 {
    let labels = [("flag", flag.name()), ("position", flag.position(is_on))];
    sum(text, "corelane_flag_requests_total", &labels)
}

/// A server in this process with these flags.
fn start(server: ServerBuilder, flags: Performance) -> Running {
    let config = Config {
        listen: ["127.0.0.1:0", "tcp://127.0.0.1:0"].map(|text| text.parse().unwrap()).into(),
        admin: Some("127.0.0.1:0".parse().unwrap()),
        shards: Some(1),
        performance: flags,
        limits: Limits { body_bytes_max: 16 << 20, ..Limits::default() },
        ..Config::default()
    };
    server.build().start(&config).unwrap()
}

/// Changes a flag, and waits until the shard has it.
fn set(running: &Running, flag: Flag, is_on: bool) {
    running.set_flag(flag, is_on).unwrap();
    let admin = running.admin_address().unwrap();
    let labels = [("flag", flag.name())];
    eventually("the change of a flag", || sum(&metrics(admin), "corelane_flag", &labels) == u64::from(is_on));
}

fn off(flag: Flag) -> Performance {
    let mut performance = Performance::default();
    match flag {
        Flag::SchemaCache => performance.schema_cache = false,
        Flag::JsonBackend => performance.json_backend = JsonBackend::Serde,
        Flag::AsyncTools => performance.async_tools = false,
        Flag::BatchNotifications => performance.batch_notifications = false,
        Flag::ZeroCopy => performance.zero_copy = false,
        Flag::ServerPooling => performance.server_pooling = false,
    }
    performance
}

/// A newline-delimited connection.
struct Lines {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Lines {
    fn connect(running: &Running) -> Self {
        let text = running.listeners()[1].to_string();
        let stream = TcpStream::connect(text.strip_prefix("tcp://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = Self { stream, reader };
        let hello = json!({"protocolVersion": "2025-03-26", "capabilities": {},
                           "clientInfo": {"name": "flags", "version": "1"}});
        lines.send(&request("hello", "initialize", hello));
        assert_eq!(lines.next()["id"], "hello");
        lines.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        lines
    }

    fn send(&mut self, message: &Value) {
        self.stream.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    /// Sends messages so that they arrive together.
    fn send_all(&mut self, messages: &[Value]) {
        let text: String = messages.iter().map(|message| format!("{message}\n")).collect();
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn ids(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.next()["id"].clone()).collect()
    }
}

fn request(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
}

fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    request(id, "tools/call", json!({"name": tool, "arguments": arguments}))
}

/// Replies to one of each kind of request, without the date.
fn replies(mut client: Client) -> Vec<String> {
    let bodies = [
        echo("héllo \"world\" \u{1f600}"),
        echo("\\u0041\\n"),
        r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":-0,"method":"ping"}"#.to_owned(),
        call("\u{e9}", "add", json!({"a": 1.5, "b": -2})).to_string(),
        call(3, "add", json!({"a": "x"})).to_string(),
        call(4, "echo", json!({"message": 5})).to_string(),
        call(5, "digest", json!({"text": "x".repeat(100_000), "rounds": 2})).to_string(),
        call(6, "sleep", json!({"ms": 1})).to_string(),
        call(7, "nothing", json!({})).to_string(),
        call(8, "touch", json!({"uri": "demo://counter"})).to_string(),
        request(9, "resources/read", json!({"uri": "demo://greeting/Ada"})).to_string(),
        request(10, "prompts/get", json!({"name": "greet", "arguments": {"name": "Ada"}})).to_string(),
        request(11, "tools/list", json!({})).to_string(),
        "[1,".to_owned(),
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}".to_owned(),
        "[".repeat(1000),
    ];
    let mut replies = Vec::new();
    for body in bodies {
        let reply = client.post("", body);
        let head: String = reply.head.lines().filter(|line| !line.starts_with("Date:")).collect();
        replies.push(format!("{head}\n{}", String::from_utf8(reply.body).unwrap()));
        if replies.last().unwrap().contains("Connection: close") {
            panic!("{replies:?}");
        }
    }
    let modern = client.modern("tools/call", json!({"name": "add", "arguments": {"a": 1, "b": 2}}));
    replies.push(String::from_utf8(modern.body).unwrap());
    replies
}

#[test]
fn each_fallback_is_counted_and_its_replies_are_the_same() {
    let serve = |name: &str, text: &str| {
        let config = config_file(&format!("flags-{name}"), text);
        let mut command = corelane(&["serve", "--listen", "127.0.0.1:0"]);
        ServerProcess::observed({
            command.args(["--config", &config]);
            command
        })
    };
    let all_on = serve("on", "[server]\nshards = 1");
    let expected = replies(all_on.connect());
    let on = metrics(all_on.admin());
    let requests = expected.len() as u64;
    for flag in Flag::ALL {
        assert_eq!((taken(&on, *flag, true), taken(&on, *flag, false)), (requests, 0), "{flag}");
        assert_eq!(sum(&on, "corelane_flag", &[("flag", flag.name())]), 1, "{flag}");
        let value = if *flag == Flag::JsonBackend { "\"serde\"" } else { "false" };
        let server = serve(flag.name(), &format!("[server]\nshards = 1\n[performance]\n{flag} = {value}"));
        assert_eq!(replies(server.connect()), expected, "{flag}");
        let text = metrics(server.admin());
        assert_eq!((taken(&text, *flag, true), taken(&text, *flag, false)), (0, requests), "{flag}");
        assert_eq!(sum(&text, "corelane_flag", &[("flag", flag.name())]), 0, "{flag}");
        let moved = |name: &str| (sum(&on, name, &[]), sum(&text, name, &[]));
        let (hits, misses) =
            (moved("corelane_schema_cache_hits_total"), moved("corelane_schema_cache_misses_total"));
        let copied = moved("corelane_copied_bytes_total");
        assert!(hits.0 > 5 && misses.0 == 0 && copied.0 == 0, "{hits:?} {misses:?} {copied:?}");
        match flag {
            Flag::SchemaCache => {
                assert_eq!((hits.1, misses.1), (0, hits.0), "each validation is compiled for");
                let (before, after) = moved("corelane_schemas_compiled_total");
                assert!(after >= before + misses.1, "{before} {after} {misses:?}");
            }
            Flag::ZeroCopy => assert!(copied.1 > 100_000, "{copied:?}"),
            _ => assert_eq!((hits, misses.1, copied.1), ((hits.0, hits.0), 0, 0), "{flag}"),
        }
        server.stop();
    }
    all_on.stop();
}

#[test]
fn flag_changes_at_run_time_without_closing_a_connection() {
    let running = start(demo::server(), Performance::default());
    let admin = running.admin_address().unwrap();
    let mut client = Client::connect(running.addresses()[0]);
    let mut lines = Lines::connect(&running);
    // In flight during the changes.
    lines.send(&call("slow", "sleep", json!({"ms": 2000})));
    await_metric(admin, "corelane_calls_in_flight", 1.0);
    for flag in Flag::ALL.iter().filter(|flag| !flag.is_restart_only()) {
        for is_on in [false, true] {
            set(&running, *flag, is_on);
            assert_eq!(running.flags(), Flags::ALL.with(*flag, is_on));
            let before = taken(&metrics(admin), *flag, is_on);
            let labels = [("flag", flag.name())];
            assert_eq!(sum(&metrics(admin), "corelane_flag", &labels), u64::from(is_on), "{flag}");
            let result = client.call("echo", json!({"message": "same connection"}));
            assert_eq!(result["content"][0]["text"], "same connection");
            assert_eq!(taken(&metrics(admin), *flag, is_on), before + 1, "{flag}");
        }
    }
    let refused = running.set_flag(Flag::ServerPooling, false).unwrap_err();
    assert!(refused.to_string().contains("server_pooling"), "{refused}");
    assert_eq!(running.flags(), Flags::ALL);
    assert_eq!(lines.next()["id"], "slow");
    end(running);
}

#[test]
fn flags_survive_in_check_and_mistakes_are_one_line() {
    let path = config_file("flags-check", "[performance]\njson_backend = \"serde\"\nzero_copy = false");
    let (code, stdout, stderr) = run(corelane(&["check", &path]));
    assert_eq!(code, Some(0), "{stderr}");
    for line in ["[performance]", "json_backend = \"serde\"", "zero_copy = false", "schema_cache = true"] {
        assert!(stdout.lines().any(|written| written == line), "{line}: {stdout}");
    }
    let path = config_file("flags-unknown", "[performance]\nzerocopy = false");
    let (code, _, stderr) = run(corelane(&["check", &path]));
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("did you mean zero_copy?"), "{stderr}");
}

#[test]
fn without_server_pooling_there_is_one_shard() {
    let path = config_file("flags-pooling", "[server]\nshards = 3\n[performance]\nserver_pooling = false");
    let server = ServerProcess::start(&["--config", &path]);
    assert!(server.ready.contains("(1 shard on"), "{}", server.ready);
    server.stop();
}

/// A tool that records how many of its calls run at the same time.
fn counted(running: &Arc<AtomicUsize>, most: &Arc<AtomicUsize>) -> Tool {
    let (running, most) = (Arc::clone(running), Arc::clone(most));
    Tool::new("counted").run_async(async move |_: NoArguments, _: Context| {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        corelane::time::sleep(Duration::from_millis(10)).await;
        running.fetch_sub(1, Ordering::SeqCst);
        "done"
    })
}

#[test]
fn without_async_tools_a_connection_runs_one_tool_at_a_time() {
    let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let running = start(demo::server().tool(counted(&now, &most)), Performance::default());
    let admin = running.admin_address().unwrap();
    let mut lines = Lines::connect(&running);
    let ten: Vec<Value> = (0..10).map(|id| call(id, "counted", json!({}))).collect();
    lines.send_all(&ten);
    lines.ids(10);
    assert!(most.swap(0, Ordering::SeqCst) > 1, "with the flag on they run at the same time");
    assert_eq!(sum(&metrics(admin), "corelane_serialized_calls_total", &[]), 0);

    set(&running, Flag::AsyncTools, false);
    lines.send_all(&ten);
    lines.send(&call("inline", "echo", json!({"message": "in order"})));
    lines.send(&call("blocking", "digest", json!({"text": "abc"})));
    lines.send(&request("ping", "ping", json!({})));
    // A ping does not wait, nor does another connection.
    let ids = lines.ids(13);
    let mut expected: Vec<Value> = (0..10).map(Value::from).collect();
    expected.extend(["inline".into(), "blocking".into()]);
    assert_eq!(ids.iter().filter(|id| **id != "ping").cloned().collect::<Vec<_>>(), expected);
    assert_ne!(ids.last().unwrap(), "ping");
    assert_eq!(most.swap(0, Ordering::SeqCst), 1);
    assert!(sum(&metrics(admin), "corelane_serialized_calls_total", &[]) > 0);

    // The calls of a batch, on both transports.
    let batch = |range: std::ops::Range<u64>| -> Value {
        range
            .map(|id| call(id, "counted", json!({})))
            .chain([call("e", "echo", json!({"message": "é"}))])
            .collect()
    };
    lines.send(&batch(0..3));
    let mut answered = Vec::new();
    while answered.len() < 4 {
        match lines.next() {
            Value::Array(answers) => answered.extend(answers),
            answer => answered.push(answer),
        }
    }
    assert_eq!(most.swap(0, Ordering::SeqCst), 1);
    let mut client = Client::connect(running.addresses()[0]);
    let reply = client.post("Accept: application/json\r\n", batch(10..13).to_string());
    let answers = reply.json();
    assert_eq!(answers.as_array().map(Vec::len), Some(4), "{answers}");
    let echoed = answers.as_array().unwrap().iter().find(|answer| answer["id"] == "e").unwrap();
    assert_eq!(echoed["result"]["content"][0]["text"], "é");
    assert_eq!(most.swap(0, Ordering::SeqCst), 1);
    await_metric(admin, "corelane_calls_in_flight", 0.0);
    end(running);
}

#[test]
fn waiting_call_can_be_cancelled_and_ends_with_its_connection() {
    let running = start(demo::server(), off(Flag::AsyncTools));
    let admin = running.admin_address().unwrap();
    let mut lines = Lines::connect(&running);
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "cancelled"}});
    lines.send_all(&[
        call("first", "sleep", json!({"ms": 200})),
        call("cancelled", "sleep", json!({"ms": 1})),
        call("last", "sleep", json!({"ms": 1})),
        cancel,
    ]);
    assert_eq!(lines.ids(2), ["first", "last"]);
    // The flag comes on while calls wait: they still run, in order.
    lines.send_all(&[2000, 1, 1].map(|ms| call(ms, "sleep", json!({ "ms": ms }))));
    await_metric(admin, "corelane_calls_in_flight", 3.0);
    set(&running, Flag::AsyncTools, true);
    assert_eq!(lines.ids(3), [2000, 1, 1]);
    set(&running, Flag::AsyncTools, false);
    lines.send_all(&[0, 1, 2].map(|id| call(id, "sleep", json!({"ms": 5}))));
    drop(lines);
    await_metric(admin, "corelane_calls_in_flight", 0.0);
    end(running);
}

#[test]
fn without_batch_notifications_each_subscriber_has_its_own_encoding() {
    let running = start(demo::server(), Performance::default());
    let admin = running.admin_address().unwrap();
    let mut peers: Vec<Peer> = Vec::new();
    for id in 0..3 {
        let mut peer = Peer::connect(running.addresses()[0]);
        let filter = json!({"resourceSubscriptions": ["demo://counter"]});
        peer.open(&PeerRequest::listen(filter).id(id));
        peer.message();
        peers.push(peer);
    }
    let mut client = Client::connect(running.addresses()[0]);
    let count = |name: &str| sum(&metrics(admin), name, &[]);
    let mut messages = Vec::new();
    for (is_on, encodings) in [(true, 1), (false, 4)] {
        set(&running, Flag::BatchNotifications, is_on);
        let before = (count("corelane_notifications_encoded_total"), count("corelane_notifications_total"));
        client.call("touch", json!({"uri": "demo://counter"}));
        messages.push(peers.iter_mut().map(Peer::message).collect::<Vec<_>>());
        let after = (count("corelane_notifications_encoded_total"), count("corelane_notifications_total"));
        // Other tests of this process may publish too, unless each test has a process of its own.
        assert!(after.0 >= before.0 + encodings, "{is_on}: {before:?} {after:?}");
        assert_eq!(after.1, before.1 + 3, "{is_on}");
    }
    assert_eq!(messages[0], messages[1]);
    assert_eq!(messages[0].len(), 3);
    end(running);
}

#[test]
fn without_batch_notifications_a_change_of_a_list_is_not_collapsed() {
    let server = demo::server().build();
    let live = server.registry();
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        shards: Some(1),
        performance: off(Flag::BatchNotifications),
        ..Config::default()
    };
    let running = server.start(&config).unwrap();
    let mut peer = Peer::connect(running.addresses()[0]);
    peer.open(&PeerRequest::listen(json!({"promptsListChanged": true})));
    peer.message();
    for number in 0..5 {
        let prompt = Prompt::new(format!("p{number}")).run(|_: NoArguments, _cx| "");
        live.update(|registry| registry.add(prompt)).unwrap();
        assert_eq!(peer.message()["method"], "notifications/prompts/list_changed");
    }
    end(running);
}

/// A server with a tool that returns its arguments.
fn mirror() -> ServerBuilder {
    let schema = json!({"type": "object"});
    Server::builder("mirror", "1")
        .tool(Tool::new("mirror").input_schema::<Value>(schema).run(|arguments, _cx| arguments.to_string()))
}

#[test]
fn both_json_backends_give_the_same_replies_on_every_corpus() {
    let (simd, serde) = (start(mirror(), Performance::default()), start(mirror(), off(Flag::JsonBackend)));
    let mut clients = [&simd, &serde].map(|running| Client::connect(running.addresses()[0]));
    let mut documents = 0;
    let mut differing = Vec::new();
    for name in ["json-parsing", "json-schema", "http1"] {
        let Some(directory) = corpora::directory(name) else { continue };
        for (file, path) in corpora::files(&directory, "json") {
            let document = fs::read(path).unwrap();
            if document.len() > 4 << 20 {
                continue;
            }
            let wrapped = [
                br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"mirror","arguments":{"a":"#
                    .as_slice(),
                document.as_slice(),
                b"}}}",
            ]
            .concat();
            for body in [document, wrapped] {
                let [simd, serde] = clients.each_mut().map(|client| {
                    let reply = client.post("MCP-Protocol-Version: 2025-11-25\r\n", &body);
                    (reply.status, String::from_utf8(reply.body).unwrap())
                });
                documents += 1;
                if simd != serde {
                    differing.push(format!("{file}: {simd:?} {serde:?}"));
                }
            }
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    println!("{documents} documents");
    let taken_by_serde = taken(&metrics(serde.admin_address().unwrap()), Flag::JsonBackend, false);
    assert_eq!(taken_by_serde, documents, "none fell back to the other backend");
    end(simd);
    end(serde);
}
