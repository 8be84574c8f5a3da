//! Tests of the admin interface: health, readiness, metrics.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::{HashMap, VecDeque},
    io::Write,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use corelane::{Config, Limits, NoArguments, Running, Server, StartError, Tool, demo};
use serde_json::json;
use support::{
    Client, Reply, await_calls_in_flight, await_metric, eventually, modern, post, session::Session,
};

fn config() -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Config { listen: vec![any.into()], admin: Some(any), shards: Some(2), ..Config::default() }
}

fn ask(running: &Running, request: &str, headers: &str) -> Reply {
    let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    Client::connect(running.admin_address().unwrap()).send(request).read()
}

fn get(running: &Running, path: &str) -> Reply {
    ask(running, &format!("GET {path}"), "")
}

fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.clone()).unwrap()
}

/// Parses the samples of a Prometheus page, by name and labels.
fn samples(text: &str) -> HashMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

/// The sum over all shards of the samples whose name starts with `name`.
fn sum(samples: &HashMap<String, f64>, start: &str) -> f64 {
    samples.iter().filter(|(name, _)| name.starts_with(start)).map(|(_, value)| value).sum()
}

#[test]
fn metrics_are_counted_by_method_tool_reason_and_shard() {
    let running = demo::server().build().start(&config()).unwrap();
    for _ in 0..10 {
        let mut client = Client::connect(running.addresses()[0]);
        client.call("echo", json!({"message": "x"}));
        client.call("sleep", json!({"ms": 20}));
        client.legacy("tools/call", json!({"name": "nope"}));
        client.legacy("ping", json!({}));
        client.call("echo", json!({}));
    }
    let kept = Client::connect(running.addresses()[0]);
    await_metric(running.admin_address().unwrap(), "corelane_connections_accepted_total", 11.0);
    await_metric(running.admin_address().unwrap(), "corelane_connections", 1.0);
    let reply = get(&running, "/metrics");
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = text(&reply);
    let samples = samples(&text);
    let get = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{name} is not in\n{text}"));
    assert_eq!(get("corelane_request_duration_seconds_count{method=\"tools/call\"}"), 40.0);
    assert_eq!(get("corelane_request_duration_seconds_count{method=\"ping\"}"), 10.0);
    assert_eq!(get("corelane_tool_duration_seconds_count{tool=\"echo\"}"), 10.0);
    assert_eq!(get("corelane_tool_duration_seconds_bucket{tool=\"sleep\",le=\"0.01\"}"), 0.0);
    assert_eq!(get("corelane_tool_duration_seconds_bucket{tool=\"sleep\",le=\"+Inf\"}"), 10.0);
    for quantile in ["0.5", "0.9", "0.99", "0.999", "0.9999"] {
        let name =
            format!("corelane_tool_duration_quantile_seconds{{tool=\"sleep\",quantile=\"{quantile}\"}}");
        assert!(get(&name) >= 0.02, "{name}");
    }
    assert_eq!(sum(&samples, "corelane_refusals_total{"), 20.0);
    assert!(text.contains("reason=\"unknown_tool\""), "{text}");
    assert_eq!(sum(&samples, "corelane_connections_accepted_total{"), 11.0);
    assert!(sum(&samples, "corelane_connections{") >= 1.0);
    assert_eq!(sum(&samples, "corelane_requests_total{"), 50.0);
    assert_eq!(sum(&samples, "corelane_shard_up{"), 2.0);
    assert!(get("corelane_schemas_compiled_total") >= 3.0, "schemas of the tools");
    assert_eq!(get("corelane_log_lines_unwritten_total"), 0.0);
    assert!(sum(&samples, "corelane_shard_run_delay_seconds_total{") >= 0.0);
    assert!(get("process_cpu_seconds_total") >= 0.0);
    assert!(get("process_resident_memory_bytes") > 1e6);
    assert!(get("process_virtual_memory_bytes") >= get("process_resident_memory_bytes"));
    assert!(get("process_open_fds") > 3.0 && get("process_max_fds") > get("process_open_fds"));
    assert!(get("process_threads") >= 3.0, "two shards and the admin thread");
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
        - get("process_start_time_seconds");
    // The kernel rounds the start time of a process to seconds.
    assert!((-2.0..3600.0).contains(&age), "{age} s");
    let build = text.lines().find(|line| line.starts_with("corelane_build_info{")).unwrap();
    let version = format!("{{version=\"{}\",commit=\"", env!("CARGO_PKG_VERSION"));
    assert!(build.contains(&version) && build.contains("\",rustc=\"rustc 1."), "{build}");
    assert!(build.contains("\",features=\"") && build.ends_with("\"} 1"), "{build}");
    let commit = build.split_once("commit=\"").and_then(|(_, rest)| rest.split('"').next()).unwrap();
    let is_hexadecimal = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A package unpacked without `.git` may have no revision.
    let may_be_unknown = !std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists();
    assert!(is_hexadecimal || may_be_unknown, "{build}");
    assert_eq!(get("corelane_limit{limit=\"body_bytes_max\"}"), 4_194_304.0);
    assert_eq!(get("corelane_limit{limit=\"drain_grace\"}"), 0.25);
    assert!(
        !text.contains("duration_seconds_count{tool=\"digest\""),
        "a tool without calls has no histogram"
    );
    for reason in ["error", "timeout", "invalid_arguments", "busy", "panic", "invalid_output"] {
        assert_eq!(get(&format!("corelane_tool_errors_total{{tool=\"digest\",reason=\"{reason}\"}}")), 0.0);
    }
    assert_eq!(get("corelane_tool_errors_total{tool=\"echo\",reason=\"invalid_arguments\"}"), 10.0);
    for name in
        ["refusals_total{shard=\"0\",reason=\"busy\"}", "events_total{shard=\"1\",event=\"cancelled\"}"]
    {
        assert_eq!(get(&format!("corelane_{name}")), 0.0, "exported before the first event");
    }
    assert_eq!(get("corelane_request_duration_seconds_bucket{method=\"ping\",le=\"50\"}"), 10.0);
    assert!(sum(&samples, "corelane_received_bytes_total{") > 1000.0);
    assert!(sum(&samples, "corelane_sent_bytes_total{") > 1000.0);
    assert!(sum(&samples, "corelane_shard_busy_seconds_total{") > 0.0);
    drop(kept);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn promtool_accepts_the_metrics_page() {
    let fails = Tool::new("names-may.have_these")
        .run(|_: NoArguments, _| -> () { panic!("\"quoted\" \\ and\nbroken") });
    let running = demo::server().tool(fails).build().start(&config()).unwrap();
    let address = running.addresses()[0];
    let session = Session::open(address, "2025-11-25", json!({}));
    let stream = session.get(None);
    let listening = modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let mut listener = Client::connect(address);
    listener.send(post(&listening.0, listening.1));
    let calls = [
        ("echo", json!({"message": "x"})),
        ("echo", json!({})),
        ("sleep", json!({"ms": 1})),
        ("names-may.have_these", json!({})),
        ("no\"such\\tool\n", json!({})),
    ];
    for (tool, arguments) in calls {
        session.call(2, tool, arguments.clone());
        Client::connect(address).modern("tools/call", json!({"name": tool, "arguments": arguments}));
    }
    for method in ["tools/list", "resources/list", "prompts/list", "ping", "no\"such\\method\n"] {
        Client::connect(address).modern(method, json!({}));
    }
    for request in [
        "GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "\"\\\r\n\r\n",
        "GET /mcp HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        Client::connect(address).send(request).read();
    }
    assert_eq!(get(&running, "/\"no\\").status, 404);
    let metrics = get(&running, "/metrics");
    let samples = samples(&text(&metrics));
    assert!(
        sum(&samples, "corelane_tool_errors_total{tool=\"names-may.have_these\",reason=\"panic\"}") >= 1.0
    );
    drop((stream, listener));
    running.stopper().drain();
    running.join().unwrap();
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut promtool) = command.spawn() else {
        return support::missing::report("promtool", "scripts/test.sh installs it");
    };
    promtool.stdin.take().unwrap().write_all(&metrics.body).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let found = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && found.is_empty(), "{found}");
}

#[test]
fn queue_depth_threads_and_open_streams_are_reported() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let block = Tool::new("block").run_blocking(move |_: NoArguments, _| _ = released.lock().unwrap().recv());
    let limits = Limits { blocking_threads_max: 1, ..Limits::default() };
    let config = Config { blocking_threads: Some(1), limits, ..config() };
    let running = Server::builder("test", "0").tool(block).build().start(&config).unwrap();
    let address = running.addresses()[0];
    let until = |wanted: &[(&str, f64)]| {
        eventually(&format!("{wanted:?}"), || {
            let samples = samples(&text(&get(&running, "/metrics")));
            wanted.iter().all(|(name, value)| sum(&samples, name) == *value)
        });
    };
    let queue = "corelane_queue_depth{queue=\"blocking\"}";
    let idle = "corelane_blocking_threads{state=\"idle\"}";
    let busy = "corelane_blocking_threads{state=\"running\"}";
    until(&[(queue, 0.0), (idle, 1.0), (busy, 0.0), ("corelane_replay_streams_attached{", 0.0)]);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "block"}});
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(address)).collect();
    clients.iter_mut().for_each(|client| _ = client.send(post("", call.to_string())));
    until(&[(queue, 2.0), (idle, 0.0), (busy, 1.0), ("corelane_calls_in_flight{", 3.0)]);
    let session = Session::open(address, "2025-11-25", json!({}));
    let stream = session.get(None);
    until(&[("corelane_replay_streams_attached{", 1.0), ("corelane_mailbox_messages{", 0.0)]);
    drop(stream);
    until(&[("corelane_replay_streams_attached{", 0.0), ("corelane_replay_streams{", 1.0)]);
    drop(release);
    clients.iter_mut().for_each(|client| assert_eq!(client.read().status, 200));
    until(&[(queue, 0.0), (idle, 1.0), (busy, 0.0), ("corelane_calls_in_flight{", 0.0)]);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn connections_are_reported_by_state() {
    let wait = Tool::new("wait").run_async(async |_: NoArguments, _| std::future::pending::<()>().await);
    let body = Tool::new("body").run(|_: NoArguments, _| "x".repeat(64 << 20));
    let limits = Limits {
        outbox_bytes_max: 128 << 20,
        linger_timeout: Duration::from_secs(60),
        drain_timeout: Duration::ZERO,
        ..Limits::default()
    };
    let config = Config { shards: Some(1), limits, ..config() };
    let running = Server::builder("states", "0").tool(wait).tool(body).build().start(&config).unwrap();
    let address = running.addresses()[0];
    let call = |tool: &str| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}})
            .to_string()
    };
    let connect = |count: usize, bytes: &[u8]| -> Vec<Client> {
        let one = |_| {
            let mut client = Client::connect(address);
            client.send(bytes);
            client
        };
        (0..count).map(one).collect()
    };
    let listen = modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let idle = connect(5, b"");
    let reading = connect(4, b"POST /mcp HTTP/1.1\r\n");
    let handling = connect(3, &post("", call("wait")));
    // More bytes than the socket buffers hold.
    let writing = connect(1, &post("", call("body")));
    let streaming = connect(2, &post(&listen.0, listen.1));
    // A rejected request: the server waits for the client to close.
    let closing = connect(1, b"nonsense\r\n\r\n");
    let expected: [(&str, f64); 6] = [
        ("idle", 5.0),
        ("reading", 4.0),
        ("handling", 3.0),
        ("writing", 1.0),
        ("streaming", 2.0),
        ("closing", 1.0),
    ];
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let samples = samples(&text(&get(&running, "/metrics")));
        let state =
            |state: &str| samples[&format!("corelane_connection_states{{shard=\"0\",state=\"{state}\"}}")];
        if expected.iter().all(|(name, count)| state(name) == *count) {
            assert_eq!(sum(&samples, "corelane_connections{"), 16.0);
            break;
        }
        assert!(Instant::now() < deadline, "{:?}", expected.map(|(name, _)| (name, state(name))));
        thread::sleep(Duration::from_millis(5));
    }
    drop((idle, reading, handling, writing, streaming, closing));
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn admin_interface_rejects_forbidden_hosts_and_origins() {
    let running = demo::server().build().start(&config()).unwrap();
    for path in ["/healthz", "/readyz", "/metrics", "/other"] {
        let evil = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        assert_eq!(Client::connect(running.admin_address().unwrap()).send(evil).read().status, 403, "{path}");
        for origin in ["http://evil.example", "null", "http://localhost:3000"] {
            let reply = ask(&running, &format!("GET {path}"), &format!("Origin: {origin}\r\n"));
            let expected = if path == "/other" && origin == "http://localhost:3000" { 404 } else { 403 };
            assert_eq!(reply.status, expected, "{path} {origin}: the admin address accepts no web pages");
        }
    }
    assert_eq!(ask(&running, "GET /metrics", "Host: localhost\r\n").status, 400, "two hosts");
    for verb in ["POST", "DELETE", "OPTIONS"] {
        let reply = ask(&running, &format!("{verb} /metrics"), "");
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")), "{verb}");
    }
    let reply = ask(&running, "POST /metrics", "Content-Length: 1000000\r\n");
    assert_eq!(reply.status, 405, "answered without waiting for a body");
    assert_eq!(get(&running, "/mcp").status, 404);
    assert_eq!(get(&running, "/healthz?verbose").status, 200);
    let malformed = Client::connect(running.admin_address().unwrap()).send("GET\r\n\r\n").read();
    assert_eq!(malformed.status, 400);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn health_and_readiness_fail_for_a_stuck_shard_or_a_drain() {
    let (begun, sticking) = mpsc::channel();
    let stuck = Tool::new("stick").run(move |_: NoArguments, _| {
        begun.send(()).unwrap();
        thread::sleep(Duration::from_secs(3));
    });
    let wait = Tool::new("wait").run_async(async |_: NoArguments, _| {
        corelane::time::sleep(Duration::from_secs(1)).await;
    });
    let server = Server::builder("test", "0").tool(stuck).tool(wait).build();
    let running = server.start(&Config { shards: Some(1), ..config() }).unwrap();
    for path in ["/healthz", "/livez", "/readyz"] {
        let reply = get(&running, path);
        assert_eq!((reply.status, text(&reply).as_str()), (200, "ok\n"), "{path}");
        let mut head = Client::connect(running.admin_address().unwrap());
        head.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let mut reply = String::new();
        std::io::Read::read_to_string(&mut head.stream, &mut reply).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("\r\n\r\n"), "no body: {reply}");
    }
    let call = |tool: &str| {
        post(
            "",
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}).to_string(),
        )
    };
    let mut client = Client::connect(running.addresses()[0]);
    client.send(call("stick"));
    sticking.recv_timeout(Duration::from_secs(20)).unwrap();
    let reply = get(&running, "/healthz");
    assert_eq!((reply.status, text(&reply).as_str()), (503, "no answer from shard 0\n"));
    assert!(text(&get(&running, "/metrics")).contains("corelane_shard_up{shard=\"0\"} 0"));
    assert_eq!(client.read().status, 200);
    assert_eq!(get(&running, "/healthz").status, 200, "the shard recovered");
    let metrics = text(&get(&running, "/metrics"));
    assert!(metrics.contains("corelane_events_total{shard=\"0\",event=\"slow_turn\"} 1"), "{metrics}");
    client.send(call("wait"));
    await_calls_in_flight(&running, 1);
    running.stopper().unready();
    let reply = get(&running, "/readyz");
    assert_eq!((reply.status, text(&reply).as_str()), (503, "draining\n"));
    assert_eq!(get(&running, "/healthz").status, 200);
    running.stopper().drain();
    // Free for another process while the call is in flight.
    drop(std::net::TcpListener::bind(running.admin_address().unwrap()).unwrap());
    assert_eq!(client.read().status, 200, "the call in flight completes");
    running.join().unwrap();
}

#[test]
fn admin_connections_are_bounded_in_number_and_time() {
    let limits =
        Limits { admin_connections_max: 2, head_timeout: Duration::from_millis(500), ..Limits::default() };
    let running = demo::server().build().start(&Config { limits, ..config() }).unwrap();
    let address = running.admin_address().unwrap();
    let half = || {
        let mut client = Client::connect(address);
        client.send("GET /healthz HT");
        client
    };
    let (mut first, mut second) = (half(), half());
    assert_eq!(get(&running, "/healthz").status, 200, "beyond the limit");
    assert!(first.is_closed(), "the oldest one without a whole request is evicted");
    assert_eq!(second.read().status, 408, "the time limit of a head");
    let text = text(&get(&running, "/metrics"));
    assert!(text.contains("corelane_admin_refusals_total{reason=\"connection_evicted\"} 1\n"), "{text}");
    assert!(text.contains("corelane_admin_refusals_total{reason=\"head_timeout\"} 1\n"), "{text}");
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn health_is_answered_while_partial_requests_fill_the_admin_port() {
    let running = demo::server().build().start(&config()).unwrap();
    let address = running.admin_address().unwrap();
    let (opened, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut half: VecDeque<TcpStream> = VecDeque::new();
            while !done.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHo").unwrap();
                half.push_back(stream);
                if opened.fetch_add(1, Ordering::Relaxed) > 200 {
                    half.pop_front();
                }
                thread::sleep(Duration::from_micros(200));
            }
        });
        eventually("more connections than the maximum", || opened.load(Ordering::Relaxed) > 32);
        for _ in 0..100 {
            assert_eq!(get(&running, "/healthz").status, 200);
        }
        done.store(true, Ordering::Relaxed);
    });
    let samples = samples(&text(&get(&running, "/metrics")));
    assert!(samples["corelane_admin_refusals_total{reason=\"connection_evicted\"}"] > 0.0);
    running.stopper().drain();
    running.join().unwrap();
}

/// Starts a server of these shards, one of which is stuck until the returned sender is dropped. Returns its number.
fn with_stuck_shard(shards: usize) -> (Running, usize, mpsc::Sender<()>, Client) {
    let ((begun, sticking), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
    let released = Mutex::new(released);
    let stick = Tool::new("stick").run(move |_: NoArguments, cx| {
        begun.send(cx.caller().shard).unwrap();
        _ = released.lock().unwrap().recv();
    });
    let server = Server::builder("test", "0").tool(stick).build();
    let running = server.start(&Config { shards: Some(shards), ..config() }).unwrap();
    let mut client = Client::connect(running.addresses()[0]);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "stick"}});
    client.send(post("", call.to_string()));
    let stuck = sticking.recv_timeout(Duration::from_secs(20)).unwrap();
    (running, stuck, release, client)
}

#[test]
fn health_names_only_the_stuck_shard() {
    let (running, stuck, release, mut client) = with_stuck_shard(4);
    for _ in 0..2 {
        let reply = get(&running, "/healthz");
        assert_eq!((reply.status, text(&reply)), (503, format!("no answer from shard {stuck}\n")));
    }
    drop(release);
    assert_eq!(client.read().status, 200);
    assert_eq!(get(&running, "/healthz").status, 200);
    drop(client);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn health_is_answered_while_scrapes_wait_for_a_stuck_shard() {
    let (running, stuck, release, mut client) = with_stuck_shard(2);
    let address = running.admin_address().unwrap();
    // Twice as many as may be open.
    let scrape = |_| {
        let mut scrape = Client::connect(address);
        scrape.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        scrape
    };
    let mut scrapes: Vec<Client> = (0..64).map(scrape).collect();
    let reply = get(&running, "/healthz");
    assert_eq!((reply.status, text(&reply)), (503, format!("no answer from shard {stuck}\n")));
    let statuses: Vec<u16> = scrapes.iter_mut().map(|scrape| scrape.read().status).collect();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    drop(release);
    assert_eq!(client.read().status, 200);
    drop((client, scrapes));
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn admin_address_accepts_ip_and_configured_hosts() {
    let hosts = vec!["probe.example".to_owned(), "scrape.example:9464".to_owned()];
    let config = Config { admin_allowed_hosts: hosts, ..config() };
    let running = demo::server().build().start(&config).unwrap();
    let status = |host: &str| {
        let request = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Client::connect(running.admin_address().unwrap()).send(request).read().status
    };
    for host in [
        "10.1.2.3:9464",
        "10.1.2.3",
        "[2001:db8::1]:9464",
        "[fe80::1]",
        "probe.example:1",
        "scrape.example:9464",
    ] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in ["evil.example", "scrape.example", "10.1.2.3.evil.example", "2001:db8::1"] {
        assert_eq!(status(host), 403, "{host}");
    }
    let text = text(&get(&running, "/metrics"));
    assert!(text.contains("corelane_admin_refusals_total{reason=\"host_forbidden\"} 4"), "{text}");
    assert!(text.contains("corelane_admin_refusals_total{reason=\"head_timeout\"} 0"), "{text}");
    // An address of the server is not an allowed host of the protocol endpoint.
    let mut client = Client::connect(running.addresses()[0]);
    let request = String::from_utf8(support::post("", support::echo("x"))).unwrap();
    assert_eq!(client.send(request.replace("localhost", "10.1.2.3")).read().status, 403);
    drop(client);
    running.stopper().drain();
    running.join().unwrap();
}

#[test]
fn admin_port_in_use_is_a_start_error_naming_the_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config { admin: Some(taken.local_addr().unwrap()), ..config() };
    let error = demo::server().build().start(&config).err().unwrap();
    assert!(matches!(error, StartError::ListenAdmin { .. }), "{error}");
    assert!(error.to_string().contains("--admin"), "{error}");
}

#[test]
fn maximum_admin_timeouts_do_not_overflow_the_clock() {
    let limits = Limits { head_timeout: Duration::MAX, linger_timeout: Duration::MAX, ..Limits::default() };
    let running = demo::server().build().start(&Config { limits, ..config() }).unwrap();
    assert_eq!(get(&running, "/livez").status, 200);
    running.stopper().drain();
    running.join().unwrap();
}
