//! Listeners other than HTTP over TCP, and the files of Unix sockets.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use corelane::{
    Config, NoArguments, Server, StartError, Tool,
    config::{Endpoint, Listen, Transport},
};
use serde_json::json;
use support::{Client, ServerProcess, await_metric, corelane, echo, post};

/// A unique unused path. Not in the build directory: its path may be too long.
fn place(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("corelane-listen-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory.join(name)
}

fn connect(path: &Path) -> Client<UnixStream> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    Client::over(stream)
}

fn serve(listen: &[&str]) -> Command {
    let mut command = corelane(&["serve", "--shards", "2"]);
    for listen in listen {
        command.args(["--listen", listen]);
    }
    command
}

fn http(path: &Path) -> String {
    format!("http+unix:{}", path.display())
}

/// The single error line of a server that could not start.
fn refused(mut command: Command, words: &[&str]) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: ") && text.lines().count() == 1, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
}

#[test]
fn unix_socket_serves_http_and_is_removed_at_exit() {
    let path = place("http.sock");
    let server = ServerProcess::spawn(serve(&[&http(&path)]));
    let line = format!("listening on {} (HTTP at /mcp, 2 shards on core", http(&path));
    assert!(server.ready.starts_with(&line), "{}", server.ready);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600,
        "accessible to its owner only"
    );
    let mut clients: Vec<_> = (0..20).map(|_| connect(&path)).collect();
    for client in &mut clients {
        assert_eq!(client.call("echo", json!({"message": "x"}))["content"][0]["text"], "x");
        assert_eq!(client.modern("tools/list", json!({})).status, 200);
    }
    // More than a socket buffers in either direction.
    let large = "x".repeat(1_000_000);
    assert_eq!(clients[0].call("echo", json!({"message": large}))["content"][0]["text"], large);
    let evil = String::from_utf8(post("", echo("x"))).unwrap().replace("localhost", "evil.example");
    assert_eq!(clients[0].send(evil).read().status, 403, "hosts are checked here too");
    drop(clients);
    server.stop();
    assert!(!path.exists(), "the file is removed");
}

#[test]
fn drain_over_a_unix_socket_completes_calls_in_flight() {
    let path = place("drain.sock");
    let server = ServerProcess::observed(serve(&[&http(&path)]));
    let mut busy = connect(&path);
    busy.send(post(
        "",
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sleep","arguments":{"ms":1000}}}"#,
    ));
    await_metric(server.admin(), "corelane_calls_in_flight", 1.0);
    server.signal("-TERM");
    let reply = busy.read();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(busy.is_closed());
    let (status, _, stderr) = server.wait(Duration::from_secs(10));
    assert!(status.success(), "{stderr}");
    assert!(!path.exists());
}

/// The kernel connects clients before the server accepts them. They are not lost when it stops.
#[test]
fn sigterm_loses_no_unix_connection_of_clients_that_open_one_per_request() {
    let path = place("per-request.sock");
    let server = ServerProcess::spawn(serve(&[&http(&path)]));
    let client = |path: PathBuf| {
        let (mut answered, mut lost) = (0, 0);
        while let Ok(mut stream) = UnixStream::connect(&path) {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut start = [0; 12];
            let replied = stream.write_all(&post("", echo("x"))).and_then(|()| stream.read_exact(&mut start));
            match replied {
                Ok(()) if start == *b"HTTP/1.1 200" => answered += 1,
                _ => lost += 1,
            }
        }
        (answered, lost)
    };
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || client(path))
        })
        .collect();
    // Under load for a while.
    std::thread::sleep(Duration::from_millis(200));
    server.signal("-TERM");
    let counts: Vec<(usize, usize)> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert!(counts.iter().all(|(answered, lost)| *answered > 0 && *lost == 0), "{counts:?}");
    let (status, _, stderr) = server.wait(Duration::from_secs(15));
    assert!(status.success(), "{stderr}");
}

#[test]
fn unix_socket_connections_are_distributed_over_shards() {
    let path = place("spread.sock");
    let tool = Tool::new("shard").run(|_: NoArguments, cx| cx.caller().shard.to_string());
    let config = Config { listen: vec![http(&path).parse().unwrap()], shards: Some(4), ..Config::default() };
    let running = Server::builder("test", "0").tool(tool).build().start(&config).unwrap();
    assert_eq!(running.listeners(), config.listen);
    assert_eq!(running.addresses(), []);
    let mut clients = Vec::new();
    let mut shards: HashMap<String, usize> = HashMap::new();
    for _ in 0..80 {
        let mut client = connect(&path);
        let shard = client.call("shard", json!({}))["content"][0]["text"].as_str().unwrap().to_owned();
        *shards.entry(shard).or_default() += 1;
        clients.push(client);
    }
    assert_eq!(shards.len(), 4, "{shards:?}");
    assert!(shards.values().all(|&count| count >= 5), "{shards:?}");
    drop(clients);
    running.stopper().drain();
    running.join().unwrap();
    assert!(!path.exists());
}

#[test]
fn stale_unix_socket_is_replaced() {
    let path = place("stale.sock");
    let first = ServerProcess::spawn(serve(&[&http(&path)]));
    first.signal("-KILL");
    first.wait(Duration::from_secs(10));
    assert!(path.exists(), "a killed server does not remove its file");
    let second = ServerProcess::spawn(serve(&[&http(&path)]));
    connect(&path).call("echo", json!({"message": "x"}));
    second.stop();
    assert!(!path.exists());
}

#[test]
fn unix_socket_in_use_is_not_replaced() {
    let path = place("live.sock");
    let server = ServerProcess::spawn(serve(&[&http(&path)]));
    refused(
        serve(&[&http(&path)]),
        &[path.to_str().unwrap(), "a server listens on the path", "stop", "--listen"],
    );
    let unix = format!("unix:{}", path.display());
    refused(serve(&[&unix]), &[&unix, "a server listens on the path"]);
    assert_eq!(connect(&path).call("echo", json!({"message": "x"}))["content"][0]["text"], "x");
    server.stop();
    refused(serve(&[&http(&path), &http(&path)]), &["a server listens on the path"]);
    assert!(!path.exists(), "a server that could not start leaves no file");
    // Any listener counts, including one that never replies.
    let other = UnixListener::bind(&path).unwrap();
    refused(serve(&[&http(&path)]), &["a server listens on the path"]);
    drop(other);
}

#[test]
fn invalid_socket_path_is_reported_with_its_remedy() {
    let path = place("plain.txt");
    fs::write(&path, "precious").unwrap();
    refused(serve(&[&http(&path)]), &["is not a socket", "remove it", "--listen"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let nowhere = place("nowhere/a.sock");
    refused(serve(&[&http(&nowhere)]), &["No such file", "make the directory"]);
}

#[test]
fn invalid_listen_values_are_usage_errors_on_one_line() {
    let long = format!("unix:/{}", "x".repeat(107));
    for (listen, word) in [
        ("nonsense", "\"nonsense\""),
        ("unix:", "path of a socket"),
        ("udp://127.0.0.1:1", "udp"),
        ("tcp://127.0.0.1", "tcp://127.0.0.1"),
        ("http://127.0.0.1:1/mcp/tools", "/mcp/tools"),
        ("localhost:http", "localhost:http"),
        (&long, "108 bytes"),
    ] {
        let output = serve(&[listen]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        let line = text.lines().next().unwrap();
        for word in [word, "--listen", "http+unix:PATH", "tcp://ADDR:PORT"] {
            assert!(line.contains(word), "{listen}: {text}");
        }
    }
}

#[test]
fn json_lines_over_tcp_require_loopback_regardless_of_allowed_hosts() {
    for listen in ["tcp://0.0.0.0:0", "tcp://[::]:0"] {
        refused(serve(&[listen]), &[listen, "loopback", "proxy", "HTTP"]);
    }
    let config = Config {
        listen: vec!["tcp://0.0.0.0:0".parse().unwrap()],
        allowed_hosts: vec!["mcp.example.com".to_owned()],
        ..Config::default()
    };
    let refusal = Server::builder("test", "0").build().start(&config).map(drop).unwrap_err();
    assert!(matches!(refusal, StartError::LinesNotLoopback(_)), "{refusal}");
}

#[test]
fn every_listener_is_reported_with_its_transport() {
    let [web, lines] = ["all-http.sock", "all-lines.sock"].map(place);
    let listen = [
        "127.0.0.1:0".to_owned(),
        http(&web),
        "tcp://127.0.0.1:0".to_owned(),
        format!("unix:{}", lines.display()),
    ];
    let mut command = serve(&listen.iter().map(String::as_str).collect::<Vec<_>>());
    command.stdin(Stdio::null());
    let server = ServerProcess::spawn(command);
    assert!(server.ready.starts_with("listening on http://127.0.0.1:"), "{}", server.ready);
    assert!(server.ready.contains("/mcp (2 shards on core"), "{}", server.ready);
    server.connect().call("echo", json!({"message": "x"}));
    connect(&web).call("echo", json!({"message": "x"}));
    server.signal("-TERM");
    let (status, _, stderr) = server.wait(Duration::from_secs(15));
    assert!(status.success(), "{stderr}");
    let announced: Vec<&str> = stderr.lines().filter(|line| line.starts_with("listening on ")).collect();
    assert_eq!(announced.len(), 3, "{stderr}");
    assert!(
        announced[0].starts_with(&format!("listening on {} (HTTP at /mcp, ", http(&web))),
        "{announced:?}"
    );
    assert!(announced[1].starts_with("listening on tcp://127.0.0.1:"), "{announced:?}");
    assert!(announced[1].contains(" (newline-delimited JSON, 2 shards on core"), "{announced:?}");
    assert!(
        announced[2].starts_with(&format!("listening on {} (newline-delimited JSON, ", listen[3])),
        "{announced:?}"
    );
    assert!(!web.exists() && !lines.exists());
}

#[test]
fn running_server_reports_its_bound_ports() {
    let config = Config {
        listen: ["127.0.0.1:0", "tcp://127.0.0.1:0"].map(|listen| listen.parse().unwrap()).into(),
        shards: Some(1),
        ..Config::default()
    };
    let running = Server::builder("test", "0").build().start(&config).unwrap();
    let [http, lines] = running.listeners() else { panic!("{:?}", running.listeners()) };
    assert_eq!(Listen::from(running.addresses()[0]), *http);
    assert_eq!(running.addresses().len(), 1);
    let Endpoint::Tcp(address) = lines.endpoint else { panic!("{lines}") };
    assert_eq!((lines.transport, address.port() != 0), (Transport::JsonLines, true));
    running.stopper().drain();
    running.join().unwrap();
}
