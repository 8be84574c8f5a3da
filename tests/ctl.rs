//! The control socket and `corelane ctl`, with the real binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use corelane::{Config, ControlSocket, Limits, Server, Tool};
use serde_json::{Value, json};
use support::{ServerProcess, config_file, corelane, echo, eventually, metric, run};

/// A directory of control sockets, removed when this is dropped.
struct Sockets(PathBuf);

impl Sockets {
    fn new(name: &str) -> Self {
        // Short: the path of a socket has at most 107 bytes.
        let path = std::env::temp_dir().join(format!("clctl-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// `serve` with a socket in this directory, not yet started.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = corelane(&["serve", "--listen", "127.0.0.1:0", "--shards", "2"]);
        command.args(arguments).env("CORELANE_CONTROL", "auto").env("CORELANE_RUNTIME_DIR", &self.0);
        command
    }

    fn serve(&self, arguments: &[&str]) -> ServerProcess {
        ServerProcess::spawn(self.command(arguments))
    }

    /// Runs `ctl`: exit code, stdout, stderr.
    fn ctl(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = corelane(&["ctl"]);
        command.args(arguments).env("CORELANE_RUNTIME_DIR", &self.0);
        run(command)
    }

    #[track_caller]
    fn text(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.ctl(arguments);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        stdout
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[&["--json"], arguments].concat());
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The error line of a request that fails.
    #[track_caller]
    fn error(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.ctl(arguments);
        assert_eq!(
            (code, stdout.as_str(), stderr.lines().count()),
            (Some(1), "", 1),
            "{arguments:?}: {stderr}"
        );
        stderr
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn only_socket(&self) -> PathBuf {
        let sockets: Vec<_> = self
            .files()
            .into_iter()
            .filter(|path| path.metadata().unwrap().file_type().is_socket())
            .collect();
        assert_eq!(sockets.len(), 1, "{sockets:?}");
        sockets[0].clone()
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sends bytes to a socket and reads all lines until the server closes it.
fn exchange(socket: &Path, bytes: &[u8]) -> Vec<Value> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may close the socket before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
}

/// Number of rejections for a reason.
fn refused(server: &ServerProcess, reason: &str) -> f64 {
    let mut client = support::Client::connect(server.admin());
    let reply = client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").read();
    let text = String::from_utf8(reply.body).unwrap();
    let name = format!("corelane_admin_refusals_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

const STATUS: &str = "{\"version\":1,\"request\":{\"command\":\"status\"}}\n";

#[test]
fn each_command_answers_in_text_and_in_json() {
    let sockets = Sockets::new("each");
    let server = sockets.serve(&[]);
    let mut client = server.connect();
    assert_eq!(client.post("", echo("x")).status, 200);
    for (command, word) in [
        (&["status"][..], "listen"),
        (&["connections"], "1 connection\n"),
        (&["sessions"], "0 sessions"),
        (&["memory", "--top", "3"], "use and limits by shard"),
        (&["buffers"], "no connection keeps"),
        (&["buffers", "--shrink"], "freed"),
        (&["fragmentation"], "allocator"),
        (&["log-level"], "warn"),
    ] {
        let text = sockets.text(command);
        assert!(text.contains(word), "{command:?}: {text}");
        assert!(sockets.json(command).is_object(), "{command:?}");
    }
    let status = sockets.json(&["status"]);
    assert_eq!(status["pid"], server.id());
    assert_eq!(status["shards"].as_array().unwrap().len(), 2);
    assert!(status["shards"].as_array().unwrap().iter().all(|shard| shard["state"] == "running"), "{status}");
    let replies: u64 =
        status["shards"].as_array().unwrap().iter().map(|shard| shard["replies"].as_u64().unwrap()).sum();
    assert_eq!(replies, 1, "{status}");
    let connections = sockets.json(&["connections"]);
    assert_eq!(connections["total"], 1);
    let local = client.stream.local_addr().unwrap().to_string();
    assert!([json!(local), Value::Null].contains(&connections["connections"][0]["peer"]), "{connections}");
    let memory = sockets.json(&["memory", "--top", "2"]);
    assert_eq!(memory["tools"].as_array().unwrap().len(), 2, "{memory}");
    assert!(memory["resident_bytes"].as_u64() > Some(1 << 20), "{memory}");
    server.stop();
}

#[test]
fn sessions_and_their_subscriptions_are_listed() {
    let sockets = Sockets::new("sessions");
    let server = sockets.serve(&[]);
    let mut client = server.connect();
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let reply = client.legacy("initialize", params);
    let session = reply.header("mcp-session-id").unwrap().to_owned();
    let headers = format!("MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n");
    let subscribe = json!({"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": "demo://counter"}});
    assert_eq!(client.post(&headers, subscribe.to_string()).status, 200);
    let listed = sockets.json(&["sessions"]);
    assert_eq!(listed["total"], 1, "{listed}");
    let row = &listed["sessions"][0];
    assert_eq!(row["subscription_bytes"], "demo://counter".len(), "{row}");
    assert!(!session.contains(row["session"].as_str().unwrap()), "the id of a session is a secret");
    let memory = sockets.json(&["memory"]);
    assert_eq!(
        memory["subscriptions"][0]["subscriber"],
        format!("session {}", row["session"].as_str().unwrap())
    );
    server.stop();
}

#[test]
fn no_server_and_two_servers_are_one_line_and_exit_1() {
    let sockets = Sockets::new("two");
    let error = sockets.error(&["status"]);
    assert!(error.contains("no running server") && error.contains("--socket"), "{error}");
    let first = sockets.serve(&[]);
    sockets.text(&["status"]);
    let path = sockets.only_socket();
    let second = sockets.serve(&[]);
    let error = sockets.error(&["status"]);
    assert!(error.contains("2 servers run") && error.contains("--socket"), "{error}");
    assert!(sockets.files().iter().all(|path| error.contains(path.to_str().unwrap())), "{error}");
    let status = sockets.json(&["status", "--socket", path.to_str().unwrap()]);
    assert_eq!(status["pid"], first.id());
    first.stop();
    assert_eq!(sockets.json(&["status"])["pid"], second.id());
    second.stop();
    assert_eq!(sockets.files(), [] as [PathBuf; 0], "the sockets are removed");
}

#[test]
fn socket_is_private_and_a_stale_one_is_removed() {
    let sockets = Sockets::new("stale");
    let server = sockets.serve(&[]);
    let first = sockets.only_socket();
    assert_eq!(first, sockets.0.join(format!("{}.sock", server.id())));
    assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o7777, 0o600);
    server.signal("-KILL");
    server.wait(Duration::from_secs(10));
    assert!(first.exists(), "left behind");
    assert!(sockets.error(&["status"]).contains("no running server"), "a stale socket is no server");
    let next = sockets.serve(&[]);
    assert_eq!(sockets.only_socket(), sockets.0.join(format!("{}.sock", next.id())));
    assert_eq!(sockets.json(&["status"])["pid"], next.id());
    next.stop();
}

#[test]
fn control_path_and_none_are_taken_from_flags_and_file() {
    let sockets = Sockets::new("path");
    let path = sockets.path("named.sock");
    let server = sockets.serve(&["--control", &path]);
    assert_eq!(sockets.only_socket(), Path::new(&path));
    sockets.text(&["status", "--socket", &path]);
    let (code, _, stderr) = run(sockets.command(&["--control", &path]));
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains(&path) && stderr.contains("--control"), "{stderr}");
    server.stop();
    let config = config_file("control-path", &format!("[admin]\ncontrol = {path:?}"));
    let mut command = sockets.command(&["--config", &config]);
    let server = ServerProcess::spawn({
        command.env_remove("CORELANE_CONTROL");
        command
    });
    assert_eq!(sockets.only_socket(), Path::new(&path));
    server.stop();
    let server = sockets.serve(&["--control", "none"]);
    assert_eq!(sockets.files(), [] as [PathBuf; 0]);
    server.stop();
    fs::write(&path, "a file").unwrap();
    let (code, _, stderr) = run(sockets.command(&["--control", &path]));
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    for other in [path.as_str(), sockets.0.to_str().unwrap()] {
        let error = sockets.error(&["status", "--socket", other]);
        assert!(error.contains(other) && error.contains("it is not a socket"), "{error}");
        assert!(!error.contains("remove"), "it may be needed: {error}");
    }
}

#[test]
fn reply_is_whole_for_a_slow_reader_and_an_error_on_a_full_disk() {
    let sockets = Sockets::new("print");
    let server = sockets.serve(&[]);
    let mut clients: Vec<_> = (0..600).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.post("", echo("x")).status, 200);
    }
    let mut command = corelane(&["ctl", "--json", "connections", "--top", "600"]);
    command.env("CORELANE_RUNTIME_DIR", &sockets.0).stdout(Stdio::piped());
    let mut listing = command.spawn().unwrap();
    // Longer than the wait for a reader of the log.
    thread::sleep(Duration::from_secs(2));
    let mut text = String::new();
    listing.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(listing.wait().unwrap().success());
    assert!(text.len() > 64 << 10, "more than a pipe has room for: {}", text.len());
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(listed["connections"].as_array().unwrap().len(), 600);

    let config = config_file("print", "");
    for arguments in
        [&["ctl", "status"][..], &["ctl", "--json", "flags"], &["completions", "bash"], &["check", &config]]
    {
        let mut command = corelane(arguments);
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        command.env("CORELANE_RUNTIME_DIR", &sockets.0).stdout(full).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("No space left on device"), "{stderr}");
    }
    server.stop();
}

#[test]
fn malformed_requests_get_one_error_line_and_leave_the_server_untouched() {
    let sockets = Sockets::new("bad");
    let server = ServerProcess::observed(sockets.command(&[]));
    let socket = sockets.only_socket();
    let long = [b"{".to_vec(), vec![b' '; 100_000], b"}\n".to_vec()].concat();
    let cases: [(&[u8], &str); 8] = [
        (b"\n", "request_invalid"),
        (b"{}\n", "request_invalid"),
        (b"\xff\xfe\0\n", "request_invalid"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", "request_invalid"),
        (STATUS.trim_end().as_bytes(), "request_invalid"),
        (b"{\"version\":9,\"request\":{\"command\":\"status\"}}\n", "request_invalid"),
        (&long, "request_too_long"),
        (&long[..80_000], "request_too_long"),
    ];
    for (request, reason) in cases {
        let excerpt = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        let lines = exchange(&socket, request);
        assert_eq!(lines.len(), 1, "{excerpt}: {lines:?}");
        assert_eq!(lines[0]["error"]["reason"], reason, "{excerpt}: {lines:?}");
        assert!(!lines[0]["error"]["message"].as_str().unwrap().contains('\n'), "{lines:?}");
    }
    assert_eq!(
        (refused(&server, "control_request_invalid"), refused(&server, "control_request_too_long")),
        (6.0, 2.0)
    );
    // A command that cannot be executed is rejected, and the connection goes on.
    let top = "{\"version\":1,\"request\":{\"command\":\"memory\",\"top\":1000000}}\n";
    let lines = exchange(&socket, format!("{top}{STATUS}{STATUS}").as_bytes());
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0]["error"]["reason"], "top_out_of_range");
    assert_eq!(lines[2]["reply"]["status"]["pid"], server.id());
    assert_eq!(server.connect().post("", echo("x")).status, 200);
}

#[test]
fn connections_and_their_time_are_bounded() {
    let sockets = Sockets::new("bounds");
    let limits = "[limits]\ncontrol_connections_max = 2\ncontrol_timeout = \"300ms\"";
    let server =
        ServerProcess::observed(sockets.command(&["--config", &config_file("control-bounds", limits)]));
    let socket = sockets.only_socket();
    let held: Vec<UnixStream> = (0..2).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    eventually("a rejected connection", || {
        exchange(&socket, b"").first().is_some_and(|line| line["error"]["reason"] == "connections_max")
            || refused(&server, "control_timeout") >= 2.0
    });
    for mut stream in held {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("\"timeout\"") && text.lines().count() == 1, "{text}");
    }
    eventually("a free place", || sockets.ctl(&["status"]).0 == Some(0));
}

#[test]
fn connection_of_another_user_is_refused() {
    if !is_root() || run(nobody("true", &[])).0 != Some(0) {
        eprintln!("skipped: needs root and setpriv");
        return;
    }
    let sockets = Sockets::new("user");
    let server = ServerProcess::observed(sockets.command(&[]));
    let socket = sockets.only_socket();
    // A program that every user may run.
    let program = sockets.path("corelane");
    fs::copy(env!("CARGO_BIN_EXE_corelane"), &program).unwrap();
    fs::set_permissions(&sockets.0, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let status = || {
        let mut command = nobody(&program, &["ctl", "status", "--socket", socket.to_str().unwrap()]);
        command.env("CORELANE_RUNTIME_DIR", &sockets.0);
        run(command)
    };
    let (code, stdout, stderr) = status();
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
    assert!(stderr.contains("permission denied"), "by the mode of the socket: {stderr}");
    // The mode may be changed; the credentials are still checked.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let (code, stdout, stderr) = status();
    assert_eq!((code, stdout.as_str(), stderr.lines().count()), (Some(1), "", 1), "{stderr}");
    assert!(stderr.contains("user 65534 may not control this server"), "{stderr}");
    let refused = refused(&server, "control_peer_forbidden");
    assert_eq!(refused, 1.0);
    // Root may control the server of another user.
    let path = sockets.path("other.sock");
    fs::set_permissions(&sockets.0, fs::Permissions::from_mode(0o777)).unwrap();
    let mut command =
        nobody(&program, &["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--admin", "none"]);
    command.args(["--control", &path]);
    let other = ServerProcess::spawn(command);
    assert_eq!(sockets.json(&["status", "--socket", &path])["pid"], other.id());
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

/// A command of the user nobody, not yet started.
fn nobody(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", program]).args(arguments);
    command
}

#[test]
fn drain_ends_the_server_after_the_calls_in_flight() {
    let sockets = Sockets::new("drain");
    let config = config_file("control-drain", "[limits]\ndrain_delay = \"1s\"");
    let server = ServerProcess::observed(sockets.command(&["--config", &config]));
    let mut client = server.connect();
    client.send(support::post(
        "",
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "sleep", "arguments": {"ms": 1500}}})
        .to_string(),
    ));
    eventually("a call in flight", || metric(server.admin(), "corelane_calls_in_flight") == 1.0);
    assert!(sockets.text(&["drain"]).contains("has begun"));
    assert_eq!(sockets.json(&["drain"]), json!({"has_started": false}));
    assert_eq!(sockets.json(&["status"])["is_draining"], true);
    // The first signal after it does not end the server at once.
    server.signal("-TERM");
    assert_eq!(client.read().status, 200);
    let (status, _, stderr) = server.wait(Duration::from_secs(20));
    assert!(status.success(), "{status} {stderr}");
    assert_eq!(stderr.matches("drain began").count(), 1, "{stderr}");
    assert_eq!(sockets.files(), [] as [PathBuf; 0]);
}

#[test]
fn log_level_changes_in_both_directions_while_the_server_runs() {
    let sockets = Sockets::new("log");
    let server = sockets.serve(&["--log", "error"]);
    let reject = || {
        assert_eq!(server.connect().send("GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n").read().status, 404)
    };
    reject();
    assert_eq!(sockets.text(&["log-level"]), "error\n");
    assert_eq!(sockets.text(&["log-level", "debug"]), "debug (before: error)\n");
    reject();
    assert_eq!(sockets.json(&["log-level", "off"]), json!({"level": "off", "before": "debug"}));
    reject();
    let (code, _, stderr) = sockets.ctl(&["log-level", "loud"]);
    assert_eq!(code, Some(2), "{stderr}");
    server.signal("-TERM");
    let (_, _, log) = server.wait(Duration::from_secs(20));
    assert_eq!(log.matches("path_unknown").count(), 1, "{log}");
    assert!(log.contains("the level of the log was changed"), "{log}");
    assert!(!log.contains("drain began"), "{log}");
}

#[test]
fn stuck_shard_is_listed_and_does_not_delay_other_answers() {
    let sockets = Sockets::new("stuck");
    let path = sockets.path("s.sock");
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        shards: Some(2),
        control: ControlSocket::Path(path.clone().into()),
        limits: Limits { turn_slow: Duration::from_secs(60), ..Limits::default() },
        ..Config::default()
    };
    let running = Server::builder("stuck", "1")
        .tool(Tool::new("hold").run(move |_: corelane::NoArguments, _cx| {
            let _ = released.lock().unwrap().recv_timeout(Duration::from_secs(60));
            "done"
        }))
        .build()
        .start(&config)
        .unwrap();
    let status = || sockets.json(&["status", "--socket", &path]);
    let states = |status: &Value| -> Vec<String> {
        status["shards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|shard| shard["state"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(states(&status()), ["running", "running"]);
    let mut client = support::Client::connect(running.addresses()[0]);
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hold", "arguments": {}}});
    client.send(support::post("", call.to_string()));
    eventually("a stuck shard", || states(&status()).iter().any(|state| state == "unresponsive"));
    let memory = sockets.json(&["memory", "--socket", &path]);
    assert_eq!(
        (memory["unresponsive"].as_array().unwrap().len(), memory["shards"].as_array().unwrap().len()),
        (1, 1)
    );
    assert!(sockets.text(&["connections", "--socket", &path]).contains("no answer from shard"));
    release.send(()).unwrap();
    assert_eq!(client.read().status, 200);
    eventually("a shard that answers", || states(&status()) == ["running", "running"]);
    running.stopper().drain();
    running.join().unwrap();
    assert!(!Path::new(&path).exists());
}

/// A call of `echo` for newline-delimited JSON.
fn line_of(message: &str) -> String {
    support::modern("tools/call", json!({"name": "echo", "arguments": {"message": message}})).1
}

#[test]
fn memory_kept_after_a_large_message_is_found_and_freed() {
    const LARGE: usize = 10 << 20;
    let sockets = Sockets::new("large");
    let limits = "[limits]\nbody_bytes_max = \"32MiB\"\nline_bytes_max = \"32MiB\"\nbody_timeout = \"1h\"\nhead_timeout = \"1h\"\n\
                  body_total_timeout = \"1h\"";
    let lines = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lines_address = format!("tcp://{lines}");
    let config = config_file("control-large", limits);
    let mut command = sockets.command(&["--config", &config, "--listen", &lines_address]);
    // Memory of this size is then returned to the kernel once it is freed (mallopt(3)).
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    let server = ServerProcess::spawn(command);
    let message = "x".repeat(LARGE);
    // The next message has begun, and does not go on.
    let mut http = server.connect();
    http.send([support::post("", echo(&message)), b"POST /mcp HTT".to_vec()].concat());
    assert_eq!(http.read().status, 200);
    let mut line = std::net::TcpStream::connect(lines).unwrap();
    line.write_all(format!("{}\n{{\"jsonrpc\":", line_of(&message)).as_bytes()).unwrap();
    let mut reply = String::new();
    BufReader::new(line.try_clone().unwrap()).read_line(&mut reply).unwrap();
    assert!(reply.len() > LARGE, "{reply:.300}");
    let found = || sockets.json(&["buffers"])["connections"].as_array().unwrap().clone();
    eventually("two connections that keep much memory", || found().len() == 2);
    for row in found() {
        assert!(row["kept_bytes"].as_u64().unwrap() >= LARGE as u64, "{row}");
        assert!(row["used_bytes"].as_u64().unwrap() < 100, "{row}");
    }
    let before = server.status("VmRSS");
    let shrunk = sockets.json(&["buffers", "--shrink"]);
    assert!(shrunk["freed_bytes"].as_u64().unwrap() >= 2 * LARGE as u64, "{shrunk}");
    assert_eq!(found(), [] as [Value; 0]);
    let after = server.status("VmRSS");
    assert!(
        after + 2 * (LARGE as u64 >> 10) * 9 / 10 <= before,
        "resident memory: {before} KiB, then {after} KiB"
    );
    // The begun messages are complete when their rest arrives.
    let rest = support::post("", echo("y")).split_off("POST /mcp HTT".len());
    assert_eq!(http.send(rest).read().json()["result"]["content"][0]["text"], "y");
    line.write_all(&line_of("z").as_bytes()["{\"jsonrpc\":".len()..]).unwrap();
    line.write_all(b"\n").unwrap();
    let mut reply = String::new();
    BufReader::new(line).read_line(&mut reply).unwrap();
    assert!(reply.contains("\"z\""), "{reply}");
}

#[test]
fn admin_address_has_no_path_that_changes_state() {
    let sockets = Sockets::new("http");
    let server = ServerProcess::observed(sockets.command(&[]));
    for path in ["drain", "log-level", "buffers", "ctl", "status"] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let mut client = support::Client::connect(server.admin());
            client.send(format!("{method} /{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(client.read().status, 404, "{method} /{path}");
        }
    }
    assert_eq!(sockets.json(&["status"])["is_draining"], false);
}

#[test]
fn help_has_an_example_for_each_command_and_completions_name_them() {
    let (code, help, _) = run(corelane(&["ctl", "--help"]));
    assert_eq!(code, Some(0));
    let commands = [
        "status",
        "connections",
        "sessions",
        "memory",
        "buffers",
        "fragmentation",
        "log-level",
        "bottlenecks",
        "advise",
        "top",
        "drain",
    ];
    for command in commands {
        assert!(help.contains(command), "{help}");
        let (code, help, _) = run(corelane(&["ctl", command, "--help"]));
        assert!(code == Some(0) && help.contains(&format!("corelane ctl {command}")), "{help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(corelane(&["completions", shell]));
        assert!(code == Some(0) && commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    let before = Instant::now();
    let (code, _, stderr) = run(corelane(&["ctl", "memory", "--top", "0"]));
    assert_eq!(code, Some(2), "{stderr}");
    assert!(before.elapsed() < Duration::from_secs(20));
}

#[test]
fn profile_of_a_live_server_names_the_function_of_a_busy_tool() {
    let sockets = Sockets::new("profile");
    let server = sockets.serve(&[]);
    let output = sockets.path("cpu.folded");
    let ended = AtomicBool::new(false);
    let summary = thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = server.connect();
            while !ended.load(Ordering::Relaxed) {
                client.call("digest", json!({"text": "x".repeat(1000), "rounds": 1000}));
            }
        });
        let summary = sockets.json(&["profile", "--seconds", "2", "--hz", "199", "-o", &output]);
        ended.store(true, Ordering::Relaxed);
        summary
    });
    let text = fs::read_to_string(&output).unwrap();
    assert!(summary["samples"].as_u64() > Some(10), "{summary}");
    let busy: Vec<_> = text.lines().filter(|line| line.contains("demo::digest")).collect();
    assert!(!busy.is_empty() && busy.iter().all(|line| !line.starts_with("shard-")), "{text}");
    let printed =
        sockets.text(&["profile", "--seconds", "1", "--shard", "1", "-o", &sockets.path("cpu.svg")]);
    assert!(printed.contains("cpu.svg: ") && printed.contains(" samples in 1."), "{printed}");
    assert!(fs::read_to_string(sockets.path("cpu.svg")).unwrap().starts_with("<?xml"));
    server.stop();
}

#[test]
fn profile_that_cannot_be_taken_or_written_is_one_line_and_exit_1() {
    let sockets = Sockets::new("noprofile");
    let server = ServerProcess::observed(sockets.command(&[]));
    let missing = sockets.path("missing/cpu.svg");
    let error = sockets.error(&["profile", "--seconds", "600", "-o", &missing]);
    assert!(error.contains("cannot write") && error.contains("missing/cpu.svg"), "{error}");
    let error = sockets.error(&["profile", "-o", &sockets.path("cpu.png")]);
    assert!(error.contains("--format"), "{error}");
    let output = sockets.path("cpu.svg");
    let error = sockets.error(&["profile", "--shard", "7", "-o", &output]);
    assert!(error.contains("there is no shard 7") && error.contains("profile_no_shard"), "{error}");
    // Past the limits of the command line.
    let request = r#"{"version":1,"request":{"command":"profile","seconds":601,"hz":99,"shards":[]}}"#;
    let replies = exchange(&sockets.only_socket(), format!("{request}\n").as_bytes());
    assert_eq!(replies[0]["error"]["reason"], "profile_seconds", "{replies:?}");
    assert!(!Path::new(&output).exists());
    assert_eq!(server.connect().post("", echo("x")).status, 200);
    assert_eq!(refused(&server, "control_command_failed"), 2.0);
    server.signal("-TERM");
    let (status, _, stderr) = server.wait(Duration::from_secs(20));
    assert!(status.success(), "{status} {stderr}");
}

#[test]
fn second_profile_is_refused_and_the_drain_ends_the_first() {
    let sockets = Sockets::new("second");
    let server = sockets.serve(&[]);
    let start = |name: &str| {
        let mut command = corelane(&["ctl", "profile", "--seconds", "600", "-o", &sockets.path(name)]);
        command.env("CORELANE_RUNTIME_DIR", &sockets.0).stdin(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut profiles = [start("1.svg"), start("2.svg")];
    let mut refused = None;
    eventually("the refusal of one profile", || {
        refused = profiles.iter_mut().position(|profile| profile.try_wait().unwrap().is_some());
        refused.is_some()
    });
    let [first, second] = profiles;
    let (mut taken, refused) = if refused == Some(0) { (second, first) } else { (first, second) };
    let refused = refused.wait_with_output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && error.contains("a profile is being taken"), "{error}");
    assert!(taken.try_wait().unwrap().is_none());
    sockets.text(&["drain"]);
    eventually("the end of the profile", || taken.try_wait().unwrap().is_some());
    let (status, _, stderr) = server.wait(Duration::from_secs(20));
    assert!(status.success(), "{status} {stderr}");
}

#[test]
fn profile_ends_when_its_client_goes_away() {
    let sockets = Sockets::new("gone");
    let _server = sockets.serve(&[]);
    let mut client = UnixStream::connect(sockets.only_socket()).unwrap();
    let request =
        "{\"version\":1,\"request\":{\"command\":\"profile\",\"seconds\":600,\"hz\":99,\"shards\":[]}}\n";
    client.write_all(request.as_bytes()).unwrap();
    // A request that is not refused has no reply for ten minutes.
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert!(client.read(&mut [0]).is_err(), "the profile is taken");
    let take = || sockets.ctl(&["profile", "--seconds", "1", "-o", &sockets.path("cpu.svg")]);
    assert!(take().2.contains("a profile is being taken"));
    drop(client);
    eventually("a profile that is not refused", || take().0 == Some(0));
}
