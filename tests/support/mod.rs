//! Starts the real binary and exchanges bytes with it.

#![allow(unreachable_pub)]
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use corelane::{NoArguments, Tool};
use serde_json::{Value, json};

pub mod missing;
pub mod peer;
pub mod schema;
pub mod session;

/// A running `corelane serve` on a free port.
pub struct ServerProcess {
    child: Child,
    pub address: SocketAddr,
    /// The admin address, for a server started by [`ServerProcess::observed`].
    admin: Option<SocketAddr>,
    /// The line that announced the addresses.
    pub ready: String,
    /// The log before that line.
    pub before: String,
    stderr: BufReader<std::process::ChildStderr>,
}

/// The binary with arguments, not yet started.
pub fn corelane(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(arguments);
    at_home(&mut command);
    command
}

/// `corelane serve` on a free port of loopback, with arguments, not yet started.
pub fn serve(arguments: &[&str]) -> Command {
    let mut command = corelane(&["serve", "--listen", "127.0.0.1:0"]);
    command.args(arguments);
    command
}

/// The binary of an example, which cargo builds beside the tests, with arguments, not yet started.
pub fn example(name: &str, arguments: &[&str]) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let mut command = Command::new(profile.join("examples").join(name));
    command.args(arguments);
    at_home(&mut command);
    command
}

/// Writes a configuration file. The name must be unique, because tests run in parallel.
pub fn config_file(name: &str, text: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.toml"));
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs a command to its end without input: exit code, stdout and stderr.
pub fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Hides the environment of the caller, and disables the admin interface, because its port is fixed and many servers
/// run in parallel. A flag overrides the environment, so `--admin` still enables it.
fn at_home(command: &mut Command) {
    for name in [
        "CONFIG",
        "LISTEN",
        "SHARDS",
        "CPUS",
        "PLACEMENT",
        "LOG",
        "LOG_FORMAT",
        "ALLOWED_HOSTS",
        "ALLOWED_ORIGINS",
        "SECRET_FILE",
    ] {
        command.env_remove(format!("CORELANE_{name}"));
    }
    command.env("CORELANE_ADMIN", "none");
    // The servers of other tests are found by `ctl` otherwise.
    command.env("CORELANE_CONTROL", "none");
}

impl ServerProcess {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = corelane(&["serve", "--listen", "127.0.0.1:0"]);
        command.args(arguments);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        // At level trace other lines come first.
        let mut before = String::new();
        let line = loop {
            let mut line = String::new();
            let length = stderr.read_line(&mut line).unwrap();
            if length == 0 || line.starts_with("listening on ") {
                break line;
            }
            before.push_str(&line);
        };
        let listen =
            line.strip_prefix("listening on ").unwrap_or_else(|| panic!("not ready: {before}{line}"));
        let tcp = listen.strip_prefix("http://").or(listen.strip_prefix("tcp://"));
        // A Unix socket has no address.
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = tcp.map_or(none, |rest| rest.split(['/', ' ']).next().unwrap().parse().unwrap());
        Self { child, address, admin: None, ready: line, before, stderr }
    }

    /// Starts a server with an admin address and a log at level `info`, which names that address.
    pub fn observed(mut command: Command) -> Self {
        command.args(["--admin", "127.0.0.1:0", "--log", "info"]);
        let mut server = Self::spawn(command);
        while server.admin.is_none() {
            let mut line = String::new();
            assert!(server.stderr.read_line(&mut line).unwrap() > 0, "the server exited before it started");
            server.admin = admin_address(&line);
        }
        server
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("the server is observed")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to exit: its status, its stdout, and the rest of its stderr.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> (ExitStatus, String, String) {
        // Read while the process exits: a log that is not read is cut.
        let mut stdout = self.child.stdout.take().unwrap();
        let Self { child, stderr, .. } = &mut self;
        let text = |stream: &mut (dyn Read + Send)| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        std::thread::scope(|scope| {
            let (stdout, stderr) = (scope.spawn(|| text(&mut stdout)), scope.spawn(|| text(stderr)));
            let status = exit_status(child, limit);
            (status, stdout.join().unwrap(), stderr.join().unwrap())
        })
    }

    /// Sends SIGTERM and checks for a clean exit.
    pub fn stop(self) -> String {
        self.signal("-TERM");
        let (status, stdout, stderr) = self.wait(Duration::from_secs(15));
        assert!(status.success(), "{status} {stderr}");
        // Expected warnings: an unoptimised build on a loaded machine is slow at times, descriptors may be few, and
        // tests use forbidden hosts and origins.
        let expected = [
            " INFO ",
            "slow_turn",
            "shard_stuck",
            "the descriptor limit allows",
            "host_forbidden",
            "origin_forbidden",
        ];
        let is_expected = |line: &&str| expected.iter().any(|words| line.contains(words));
        let unexpected: Vec<&str> = stderr.lines().filter(|line| !is_expected(line)).collect();
        assert!(unexpected.is_empty(), "{unexpected:?}");
        stdout
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// A value of `/proc/PID/status`, such as `VmRSS` in KiB.
    pub fn status(&self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// CPU time used so far, user and system.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    /// Validates the protocol messages of the reply against the official schema. Messages that are not modern are
    /// validated against the newest legacy revision, which is identical for these replies.
    fn check(&self) {
        if self.header("content-type") == Some("application/json") {
            schema::check_message(schema::NEWEST_LEGACY, &self.json());
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn error_code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("not an error: {}", self.json()))
    }
}

/// A connection that sends bytes unchanged.
pub struct Client<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    /// Connects from an address of the loopback network, which is the peer's address for the server.
    pub fn connect_from(source: &str, address: SocketAddr) -> Self {
        Self::of(stream_from(source, address))
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Self::over(stream)
    }

    /// Closes the connection with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Reads one complete reply; `None` if the server closed the connection instead.
    pub fn try_read(&mut self) -> Option<Reply> {
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8(self.buffer[..head_end].to_vec()).unwrap();
        let mut reply = Reply { status: head[9..12].parse().unwrap(), head, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.buffer.len() < head_end + length {
            self.fill().expect("the reply's body is cut short");
        }
        reply.body = self.buffer[head_end..head_end + length].to_vec();
        self.buffer.drain(..head_end + length);
        reply.check();
        Some(reply)
    }

    pub fn read(&mut self) -> Reply {
        self.try_read().expect("the server closed instead of replying")
    }

    /// Whether the server closed the connection without further bytes and without a reset.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().is_none()
    }

    fn fill(&mut self) -> Option<()> {
        let mut part = [0; 16 * 1024];
        let count = uninterrupted(|| self.stream.read(&mut part)).unwrap();
        self.buffer.extend_from_slice(&part[..count]);
        (count > 0).then_some(())
    }

    /// Posts a body with extra header lines and reads the reply.
    pub fn post(&mut self, headers: &str, body: impl AsRef<[u8]>) -> Reply {
        self.send(post(headers, body)).read()
    }

    /// Sends a legacy request.
    pub fn legacy(&mut self, method: &str, params: Value) -> Reply {
        self.post("", json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string())
    }

    /// Sends a request of 2026-07-28 with its headers.
    pub fn modern(&mut self, method: &str, params: Value) -> Reply {
        let (headers, body) = modern(method, params);
        self.post(&headers, body)
    }

    /// Calls a tool in the legacy era and returns the result.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let reply = self.legacy("tools/call", json!({"name": tool, "arguments": arguments}));
        assert_eq!(reply.status, 200);
        reply.json()["result"].clone()
    }
}

/// A connection from an address of the loopback network.
pub fn stream_from(source: &str, address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

/// Repeats a socket operation that a signal interrupts. A socket with a timeout returns EINTR where the process is
/// stopped and continued, even without a signal handler (signal(7)).
pub fn uninterrupted<T>(mut attempt: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The bytes of a POST to the endpoint.
pub fn post(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Header lines and body of a request of 2026-07-28.
pub fn modern(method: &str, mut params: Value) -> (String, String) {
    let name = params["name"].as_str().map_or(String::new(), |name| format!("Mcp-Name: {name}\r\n"));
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let headers = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}");
    (headers, json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string())
}

/// The body of a call of `echo` with a message.
pub fn echo(message: &str) -> String {
    let params = json!({"name": "echo", "arguments": {"message": message}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string()
}

/// A value of `/metrics`, summed over all shards. A shard processes commands of other shards before it reports.
pub fn metric(admin: SocketAddr, name: &str) -> f64 {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let values = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// The admin address in a `started` line of the log.
pub fn admin_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(" admin=")?;
    Some(rest.split_whitespace().next()?.parse().unwrap())
}

/// Waits until a condition holds.
#[track_caller]
pub fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !happened() {
        assert!(Instant::now() < until, "timeout waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a value is the same a hundred times in a row, so that nothing still changes it.
#[track_caller]
pub fn settled<T: PartialEq>(what: &str, mut look: impl FnMut() -> T) -> T {
    let (mut last, mut equal) = (look(), 0);
    eventually(&format!("a stable value of {what}"), || {
        let now = look();
        equal = if now == last { equal + 1 } else { 0 };
        last = now;
        equal == 100
    });
    last
}

/// Waits until a process exits.
#[track_caller]
pub fn exit_status(child: &mut Child, limit: Duration) -> ExitStatus {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            panic!("still running after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a value of `/metrics`, summed over all shards, equals `value`.
#[track_caller]
pub fn await_metric(admin: SocketAddr, name: &str, value: f64) {
    eventually(&format!("{name} of {value}"), || metric(admin, name) == value);
}

/// Waits until this number of calls is in flight. The server needs an admin address.
#[track_caller]
pub fn await_calls_in_flight(running: &corelane::Running, count: u32) {
    let admin = running.admin_address().expect("the server has an admin address");
    await_metric(admin, "corelane_calls_in_flight", f64::from(count));
}

/// Increments a counter on drop.
pub struct DropCounter(pub Arc<AtomicUsize>);

impl Drop for DropCounter {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A tool that occupies a thread of the blocking pool. Its calls meet the first barrier on entry, and the second before they end.
pub fn hold() -> (Tool, Arc<Barrier>, Arc<Barrier>) {
    let (entered, leave) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (inside, out) = (Arc::clone(&entered), Arc::clone(&leave));
    let tool = Tool::new("hold").run_blocking(move |_: NoArguments, _| {
        inside.wait();
        out.wait();
        "held"
    });
    (tool, entered, leave)
}
