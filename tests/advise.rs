//! `corelane ctl bottlenecks` and `ctl advise` on a live server: each of the six ways to make it slow is named, with its flag.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use corelane::{
    Config, ControlSocket, Flag, JsonBackend, Limits, NoArguments, Performance, Running, Server,
    ServerBuilder, Tool, demo,
};
use serde_json::{Value, json};
use support::{
    corelane, eventually,
    peer::{Peer, PeerRequest, end},
    run,
};

/// A server in this process with a control socket.
struct Observed {
    running: Running,
    socket: PathBuf,
}

impl Observed {
    /// Starts a server with this flag off.
    fn start(name: &str, server: ServerBuilder, off: Option<Flag>) -> Self {
        let mut performance = Performance::default();
        match off {
            None => {}
            Some(Flag::SchemaCache) => performance.schema_cache = false,
            Some(Flag::JsonBackend) => performance.json_backend = JsonBackend::Serde,
            Some(Flag::AsyncTools) => performance.async_tools = false,
            Some(Flag::BatchNotifications) => performance.batch_notifications = false,
            Some(Flag::ZeroCopy) => performance.zero_copy = false,
            Some(Flag::ServerPooling) => performance.server_pooling = false,
        }
        // Short: the path of a socket has at most 107 bytes.
        let socket = std::env::temp_dir().join(format!("cladv-{name}-{}.sock", std::process::id()));
        let _ = fs::remove_file(&socket);
        let config = Config {
            listen: ["127.0.0.1:0", "tcp://127.0.0.1:0"].map(|text| text.parse().unwrap()).into(),
            shards: Some(if off == Some(Flag::ServerPooling) { 2 } else { 1 }),
            control: ControlSocket::Path(socket.clone()),
            performance,
            limits: Limits { stage_sample_interval: 4, ..Limits::default() },
            ..Config::default()
        };
        Self { running: server.build().start(&config).unwrap(), socket }
    }

    fn connect(&self) -> Peer {
        Peer::connect(self.running.addresses()[0])
    }

    /// Runs `ctl` with the control socket of this server.
    fn ctl(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = corelane(&["ctl", "--socket", self.socket.to_str().unwrap()]);
        command.args(arguments);
        run(command)
    }

    #[track_caller]
    fn json(&self, command: &str) -> Value {
        let (code, stdout, stderr) = self.ctl(&["--json", command, "--seconds", "2"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&stdout).unwrap()
    }

    /// Runs `load` until `observe` has returned. `load` calls its argument after each round, and ends when that is false.
    fn under<T>(&self, load: impl Fn(&dyn Fn() -> bool) + Sync, observe: impl FnOnce() -> T) -> T {
        let (ended, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
        let goes_on = || {
            rounds.fetch_add(1, Ordering::Relaxed);
            !ended.load(Ordering::Relaxed)
        };
        thread::scope(|scope| {
            scope.spawn(|| load(&goes_on));
            // Also when an assertion fails, because the scope waits for the load.
            let _end = EndLoad(&ended);
            eventually("load", || rounds.load(Ordering::Relaxed) >= 3);
            observe()
        })
    }

    fn end(self) {
        end(self.running);
    }
}

/// Ends the load when dropped.
struct EndLoad<'a>(&'a AtomicBool);

impl Drop for EndLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asserts that a server with this flag off is advised to turn it on.
#[track_caller]
fn assert_advised(
    branch: &str,
    flag: Flag,
    server: ServerBuilder,
    load: impl Fn(&Observed, &dyn Fn() -> bool) + Sync,
) {
    let observed = Observed::start(branch, server, Some(flag));
    let advice = observed.under(|goes_on| load(&observed, goes_on), || observed.json("advise"));
    let first = &advice["advice"][0];
    assert_eq!(first["branch"], branch, "{advice:#}");
    assert_eq!(first["setting"], format!("performance.{flag}"), "{advice:#}");
    assert_eq!(first["is_on"], false, "{advice:#}");
    assert!(
        first["evidence"].as_str().unwrap().contains(|letter: char| letter.is_ascii_digit()),
        "{advice:#}"
    );
    observed.end();
}

/// Calls a tool again and again.
fn call(observed: &Observed, arguments: &Value, goes_on: &dyn Fn() -> bool) {
    let mut peer = observed.connect();
    let request = PeerRequest::call("tool", arguments.clone());
    while goes_on() {
        assert!(peer.request(&request).error().is_null());
    }
}

/// A tool that only answers, with this schema.
fn tool(schema: Value) -> ServerBuilder {
    let tool = Tool::new("tool").input_schema::<()>(schema).run_raw(|_, _, reply| reply.text("ok"));
    Server::builder("advise", "0").tool(tool)
}

#[test]
fn schemas_compiled_on_every_call_are_advised_to_be_cached() {
    let property =
        |number| (format!("p{number}"), json!({"type": "string", "minLength": 1, "pattern": "^[a-z]+$"}));
    let properties: serde_json::Map<_, _> = (0..20).map(property).collect();
    let server = tool(json!({"type": "object", "properties": properties, "required": ["p0"]}));
    assert_advised("validation", Flag::SchemaCache, server, |observed, goes_on| {
        call(observed, &json!({"p0": "x", "p1": "y"}), goes_on);
    });
}

#[test]
fn serde_backend_under_large_documents_is_advised_to_be_simd() {
    let items: Vec<Value> =
        (0..500).map(|id| json!({"id": id, "name": "n", "tags": ["a", "b"], "score": 1.5})).collect();
    assert_advised("json", Flag::JsonBackend, tool(json!({"type": "object"})), |observed, goes_on| {
        call(observed, &json!({"items": items}), goes_on);
    });
}

#[test]
fn calls_that_wait_for_one_another_are_advised_to_be_async() {
    assert_advised("sequential_calls", Flag::AsyncTools, demo::server(), |observed, goes_on| {
        let text = observed.running.listeners()[1].to_string();
        let mut stream = TcpStream::connect(text.strip_prefix("tcp://").unwrap()).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut send = |message: Value| stream.write_all(format!("{message}\n").as_bytes()).unwrap();
        let params = json!({"protocolVersion": "2025-03-26", "capabilities": {},
                            "clientInfo": {"name": "advise", "version": "1"}});
        send(json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}));
        lines.next().unwrap().unwrap();
        send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        while goes_on() {
            for id in 1..=20 {
                let params = json!({"name": "sleep", "arguments": {"ms": 5}});
                send(json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}));
            }
            (1..=20).for_each(|_| _ = lines.next().unwrap().unwrap());
        }
    });
}

#[test]
fn notifications_encoded_for_each_subscriber_are_advised_to_be_batched() {
    assert_advised("fan_out", Flag::BatchNotifications, demo::server(), |observed, goes_on| {
        let subscribe = PeerRequest::listen(json!({"resourceSubscriptions": ["demo://counter"]}));
        let mut subscribers: Vec<Peer> = (0..200).map(|_| observed.connect()).collect();
        for subscriber in &mut subscribers {
            subscriber.open(&subscribe);
        }
        let mut peer = observed.connect();
        while goes_on() {
            peer.request(&PeerRequest::call("touch", json!({"uri": "demo://counter"})));
            // What the subscribers do not read stays in the buffers of their sockets.
            thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn copies_of_large_bodies_are_advised_to_be_avoided() {
    assert_advised("copies", Flag::ZeroCopy, tool(json!({"type": "object"})), |observed, goes_on| {
        call(observed, &json!({"text": "x".repeat(64 * 1024)}), goes_on);
    });
}

#[test]
fn single_saturated_shard_is_advised_to_be_pooled() {
    let tool = Tool::new("tool").run(|_: NoArguments, _| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(500) {}
    });
    let server = Server::builder("advise", "0").tool(tool);
    assert_advised("throughput", Flag::ServerPooling, server, |observed, goes_on| {
        let request = PeerRequest::call("tool", json!({})).bytes();
        let mut peers: Vec<Peer> = (0..64).map(|_| observed.connect()).collect();
        // Each connection has further requests while its replies are read.
        peers.iter_mut().for_each(|peer| _ = peer.send(request.repeat(8)));
        while goes_on() {
            for peer in &mut peers {
                peer.answer(&PeerRequest::call("tool", json!({})));
                peer.send(&request);
            }
        }
    });
}

#[test]
fn healthy_server_is_told_that_nothing_needs_a_change() {
    let observed = Observed::start("healthy", demo::server(), None);
    let load = |goes_on: &dyn Fn() -> bool| {
        let mut peer = observed.connect();
        while goes_on() {
            peer.request(&PeerRequest::call("echo", json!({"message": "x"})));
            thread::sleep(Duration::from_millis(5));
        }
    };
    let (json, text) =
        observed.under(load, || (observed.json("advise"), observed.ctl(&["advise", "--seconds", "1"])));
    assert_eq!(json["advice"], json!([]), "{json:#}");
    assert!(json["samples"].as_u64() > Some(0), "{json:#}");
    assert!(text.1.contains("nothing needs a change"), "{text:?}");
    observed.end();
}

#[test]
fn bottlenecks_are_those_of_the_interval() {
    let server = Server::builder("advise", "0")
        .tool(Tool::new("early").run_async(async |_: NoArguments, _| "early"))
        .tool(Tool::new("tool").run(|_: NoArguments, _| thread::sleep(Duration::from_millis(5))));
    let observed = Observed::start("bottlenecks", server, None);
    let mut peer = observed.connect();
    (0..20).for_each(|_| _ = peer.request(&PeerRequest::call("early", json!({}))));
    let load = |goes_on: &dyn Fn() -> bool| call(&observed, &json!({}), goes_on);
    let (json, text) = observed
        .under(load, || (observed.json("bottlenecks"), observed.ctl(&["bottlenecks", "--seconds", "1"])));
    let stages = json["stages"].as_array().unwrap();
    let stage = |name: &str| stages.iter().find(|row| row["stage"] == name);
    assert!(stage("run_pending").is_none(), "calls before the interval: {json:#}");
    let run = stage("run").unwrap();
    assert!(run["p50_us"].as_f64() >= Some(4700.0) && run["mean_us"].as_f64() >= Some(5000.0), "{json:#}");
    assert_eq!(
        (&run["priority"], run["work_share"].as_f64() > Some(0.5)),
        (&json!("high"), true),
        "{json:#}"
    );
    let sum = |field: &str| -> f64 { stages.iter().filter_map(|row| row[field].as_f64()).sum() };
    assert!((sum("share") - 1.0).abs() < 1e-6 && (sum("work_share") - 1.0).abs() < 1e-6, "{json:#}");
    let shard = &json["shards"][0];
    assert!(shard["busy"].as_f64() > Some(0.2), "the tool sleeps in its turn: {json:#}");
    assert!(shard["kernel"].is_number() && shard["user"].is_number(), "{json:#}");
    for word in ["stage", "fix", "run_blocking", "kernel CPU", "polling"] {
        assert!(text.1.contains(word), "{word}: {}", text.1);
    }
    let (code, _, stderr) = observed.ctl(&["bottlenecks", "--seconds", "0"]);
    assert_eq!(code, Some(2), "{stderr}");
    observed.end();
}

#[test]
fn length_of_an_observation_is_bounded_and_a_drain_ends_it() {
    let observed = Observed::start("bounds", demo::server(), None);
    for command in ["bottlenecks", "advise"] {
        for seconds in [0, 601] {
            let mut stream = UnixStream::connect(&observed.socket).unwrap();
            let request = json!({"version": 1, "request": {"command": command, "seconds": seconds}});
            stream.write_all(format!("{request}\n").as_bytes()).unwrap();
            let line = BufReader::new(stream).lines().next().unwrap().unwrap();
            let reply: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(reply["error"]["reason"], "seconds_out_of_range", "{reply}");
        }
    }
    let (code, seconds) = thread::scope(|scope| {
        let observing = scope.spawn(|| observed.ctl(&["--json", "bottlenecks", "--seconds", "600"]));
        // Whenever the drain starts, the reply comes or the socket is gone.
        thread::sleep(Duration::from_millis(500));
        observed.running.stopper().drain();
        let (code, stdout, _) = observing.join().unwrap();
        let reply: Value = serde_json::from_str(&stdout).unwrap_or_default();
        (code, reply["seconds"].as_f64())
    });
    assert!(code == Some(1) || seconds < Some(60.0), "{code:?} {seconds:?}");
    observed.end();
}
