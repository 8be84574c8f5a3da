//! Throughput, latency and idle cost of `corelane serve` beside a static nginx, all measured in one run.
//!
//! The servers run pinned to core 0 and take turns; `wrk` loads them from core 1. Ratios are what counts:
//! absolute numbers move from machine to machine and from hour to hour. Every figure comes from replies that
//! were checked. `wrk` is a closed-loop generator, so its latencies are quoted only beside nginx's.
//!
//! Run it with `scripts/bench.sh`, or `cargo bench --bench throughput -- --help`. It needs `nginx`, `wrk` and
//! util-linux (`taskset`, `setpriv`).

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};
use std::{env, process, thread};

use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The core `wrk` is pinned to. The servers are on core 0: see `start_corelane` and `nginx-static.conf.in`.
const GENERATOR_CORE: &str = "1";
/// Bytes of a sampled reply and bytes per request seen by `wrk` may differ by this share.
const REPLY_LENGTH_TOLERANCE: f64 = 0.005;
/// Idle connections opened for the memory figure, if the limit on open files allows.
const IDLE_CONNECTIONS: usize = 15_000;
/// File descriptors kept for everything but the idle connections.
const SPARE_DESCRIPTORS: usize = 1_000;
/// Connections under load while the idle ones are open; also used to warm up.
const LOADED_CONNECTIONS: u32 = 64;
/// From this many connections on, requests per core-second are measured as well.
const PER_CORE_FROM_CONNECTIONS: u32 = 64;
/// Length of the window in which idle processor time is counted, in seconds.
const IDLE_WINDOW_SECONDS: u64 = 5;
/// Length of a warm-up, in seconds.
const WARM_UP_SECONDS: u64 = 1;
/// Above this share of a core taken by other processes, the report warns.
const BUSY_PERCENT: f64 = 10.0;
/// Pause between two measurements, so that the last server has closed its connections.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a server may take to start or to answer one request.
const PATIENCE: Duration = Duration::from_secs(10);

const USAGE: &str = "\
Usage: scripts/bench.sh [OPTIONS]
       cargo bench --bench throughput -- [OPTIONS]

  --rounds N              rounds per connection count, medians are taken over them (default 5)
  --seconds S             length of one measurement in seconds (default 5)
  --quick                 the same as --rounds 3 --seconds 2
  --connections A,B,...   connection counts (default 1,8,64,512,2000)
  --only canonical|legacy one request only: revision 2026-07-28 or 2025-11-25
  --no-idle               leave out idle processor time and idle memory
  --json FILE             where samples and medians go (default target/bench/throughput.json)
  --check                 exit 1 if a goal is missed
  --help                  print this

CORELANE_BIN names another server binary. Exit: 0 done, 1 failed (or a goal missed, with --check), 2 usage.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match parse_arguments(&arguments) {
        Ok(Invocation::Help) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Invocation::Test) => {
            println!("throughput: a benchmark, not a test; run it with scripts/bench.sh");
            ExitCode::SUCCESS
        }
        Ok(Invocation::Measure(options)) => match run(&options) {
            Ok(all_met) if all_met || !options.check => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("throughput: FAILED: {error}");
                ExitCode::FAILURE
            }
        },
        Err(problem) => {
            eprintln!("throughput: {problem}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The whole run. Says whether every goal was met.
fn run(options: &Options) -> Result<bool> {
    let idle_connections = ensure_file_limit()?;
    let scratch = Scratch::create()?;
    let machine = Machine::describe()?;
    let results = measure_throughput(options, &scratch)?;
    let idle = match options.idle {
        true => Some(measure_idle(options, &scratch, idle_connections)?),
        false => None,
    };
    let verdicts = verdicts(options, &results, idle.as_ref());
    write_json(options, &machine, &results, idle.as_ref(), &verdicts)?;
    print!("{}", report(options, &machine, &results, idle.as_ref(), &verdicts));
    println!("samples: {}", options.json.display());
    Ok(verdicts.iter().all(|verdict| verdict.met))
}

// -----------------------------------------------------------------------------------------------------------
// Command line
// -----------------------------------------------------------------------------------------------------------

enum Invocation {
    Help,
    /// Started by `cargo test`, which does not pass `--bench`.
    Test,
    Measure(Options),
}

/// What to measure.
struct Options {
    /// Measurements of each contestant per connection count.
    rounds: usize,
    /// Length of one measurement, in seconds.
    seconds: u64,
    /// Connection counts, in the order they are measured.
    connections: Vec<u32>,
    /// The requests `corelane` is measured with.
    requests: Vec<Workload>,
    idle: bool,
    check: bool,
    json: PathBuf,
}

fn parse_arguments(arguments: &[String]) -> std::result::Result<Invocation, String> {
    let mut rounds = None;
    let mut seconds = None;
    let mut quick = false;
    let mut from_cargo_bench = false;
    let mut options = Options {
        rounds: 5,
        seconds: 5,
        connections: vec![1, 8, 64, 512, 2000],
        requests: vec![Workload::Canonical, Workload::Legacy],
        idle: true,
        check: false,
        json: PathBuf::from("target/bench/throughput.json"),
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let next = arguments.next().filter(|next| !next.starts_with("--"));
            next.ok_or_else(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--bench" => from_cargo_bench = true,
            "--help" | "-h" => return Ok(Invocation::Help),
            "--rounds" => rounds = Some(parse_count("--rounds", value()?)?),
            "--seconds" => seconds = Some(parse_count("--seconds", value()?)?),
            "--quick" => quick = true,
            "--connections" => options.connections = parse_connections(value()?)?,
            "--only" => options.requests = vec![parse_request(value()?)?],
            "--no-idle" => options.idle = false,
            "--json" => options.json = PathBuf::from(value()?),
            "--check" => options.check = true,
            unknown => return Err(format!("unknown option {unknown}")),
        }
    }
    if quick {
        (options.rounds, options.seconds) = (3, 2);
    }
    options.rounds = rounds.unwrap_or(options.rounds);
    options.seconds = seconds.unwrap_or(options.seconds);
    Ok(if from_cargo_bench { Invocation::Measure(options) } else { Invocation::Test })
}

/// A whole number from 1 to 10,000.
fn parse_count<T: FromStr + TryFrom<u16>>(option: &str, text: &str) -> std::result::Result<T, String> {
    let count = text.parse::<u16>().ok().filter(|count| (1..=10_000).contains(count));
    let count = count.and_then(|count| T::try_from(count).ok());
    count.ok_or_else(|| format!("{option}: {text:?} is not a whole number from 1 to 10000"))
}

fn parse_connections(text: &str) -> std::result::Result<Vec<u32>, String> {
    let mut counts: Vec<u32> = Vec::new();
    for part in text.split(',') {
        counts.push(parse_count("--connections", part)?);
    }
    counts.sort_unstable();
    counts.dedup();
    Ok(counts)
}

fn parse_request(text: &str) -> std::result::Result<Workload, String> {
    match text {
        "canonical" => Ok(Workload::Canonical),
        "legacy" => Ok(Workload::Legacy),
        _ => Err(format!("--only: {text:?} is neither canonical nor legacy")),
    }
}

// -----------------------------------------------------------------------------------------------------------
// Requests and replies
// -----------------------------------------------------------------------------------------------------------

/// What is asked of a server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Workload {
    /// `GET /` of nginx, which answers `ok`.
    Static,
    /// `tools/call` of `echo`, revision 2026-07-28.
    Canonical,
    /// The same in revision 2025-11-25.
    Legacy,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Workload::Static => "static",
            Workload::Canonical => "canonical",
            Workload::Legacy => "legacy",
        }
    }

    /// The request as a `wrk` script.
    fn script(self) -> &'static str {
        match self {
            Workload::Static => "",
            Workload::Canonical => include_str!("wrk/canonical.lua"),
            Workload::Legacy => include_str!("wrk/legacy.lua"),
        }
    }

    /// The request as bytes, made from the same script.
    fn request(self, server: SocketAddr) -> Vec<u8> {
        let (mut method, mut path, mut headers, mut body) = ("GET", "/", String::new(), "");
        for line in self.script().lines() {
            if let Some(value) = line.strip_prefix("wrk.method=") {
                method = value.trim_matches('"');
            } else if let Some(value) = line.strip_prefix("wrk.path=") {
                path = value.trim_matches('"');
            } else if let Some(value) = line.strip_prefix("wrk.body=") {
                body = value.trim_matches('\'');
            } else if let Some(header) = line.strip_prefix("wrk.headers[\"") {
                headers += &header.trim_end_matches('"').replace("\"]=\"", ": ");
                headers += "\r\n";
            }
        }
        if !body.is_empty() {
            headers += &format!("Content-Length: {}\r\n", body.len());
        }
        format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\n{headers}\r\n{body}").into_bytes()
    }

    /// Whether a reply's body is the right answer.
    fn accepts(self, body: &[u8]) -> bool {
        if self == Workload::Static {
            return body == b"ok";
        }
        let Ok(reply) = serde_json::from_slice::<Value>(body) else {
            return false;
        };
        reply.get("id") == Some(&json!(1))
            && reply.pointer("/result/content/0/text") == Some(&json!("hello world"))
            && reply.pointer("/result/isError").is_none_or(|flag| flag == false)
    }
}

/// Sends one request and reads the reply in full. Anything but the right answer is an error.
/// Returns the reply's length in bytes, head and body.
fn exchange(stream: &mut TcpStream, request: &[u8], workload: Workload) -> Result<usize> {
    stream.write_all(request)?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => format!("no reply to {} within {PATIENCE:?}", workload.name()),
            _ => error.to_string(),
        })?;
        if count == 0 {
            return Err(format!("connection closed within a reply: {}", reply.escape_ascii()).into());
        }
        reply.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if let Some(body) = complete_body(&reply)? {
            let ok = reply.starts_with(b"HTTP/1.1 200 ") && workload.accepts(body);
            return match ok {
                true => Ok(reply.len()),
                false => Err(format!("wrong reply to {}: {}", workload.name(), reply.escape_ascii()).into()),
            };
        }
    }
}

/// The body of a reply whose bytes are all there; `None` if some are still to come.
fn complete_body(reply: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = reply.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, body) = reply.split_at(end + 4);
    let head = str::from_utf8(head)?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize =
        length.ok_or_else(|| format!("a reply without Content-Length: {head}"))?.trim().parse()?;
    match body.len() {
        seen if seen > length => Err(format!("{} bytes after the reply", seen - length).into()),
        seen => Ok((seen == length).then_some(body)),
    }
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(70);
    loop {
        match TcpStream::connect(server) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            // All local ports are in TIME_WAIT: they come free within a minute.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(format!("connecting to {server}: {error}").into()),
        }
    }
}

/// Sends one request on a connection of its own. Returns the reply's length in bytes.
fn sample_reply(server: &Server, workload: Workload) -> Result<usize> {
    let mut stream = connect(server.address)?;
    exchange(&mut stream, &workload.request(server.address), workload)
        .map_err(|error| format!("{}: {error}", server.name).into())
}

// -----------------------------------------------------------------------------------------------------------
// Servers
// -----------------------------------------------------------------------------------------------------------

/// A directory for configuration and logs, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("throughput-{}", process::id()));
        fs::create_dir_all(&path)?;
        let scratch = Self(path);
        for workload in [Workload::Static, Workload::Canonical, Workload::Legacy] {
            let script = format!("{}\n{}", workload.script(), include_str!("wrk/report.lua"));
            fs::write(scratch.script(workload), script)?;
        }
        Ok(scratch)
    }

    /// The `wrk` script of a workload.
    fn script(&self, workload: Workload) -> PathBuf {
        self.0.join(format!("{}.lua", workload.name()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A command whose process is told to end when this program does, however that happens.
fn leashed(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(program);
    command
}

/// A server process. It ends when this value is dropped, at the latest with this program.
struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    /// The process and its children: nginx's master and worker.
    processes: Vec<u32>,
}

impl Server {
    /// Starts a program. Its standard error goes to `log`.
    fn spawn(name: &'static str, program: &Path, arguments: &[&str], log: &Path) -> Result<Self> {
        let child = leashed(program)
            .args(arguments)
            // Two servers run at once.
            .env("CORELANE_ADMIN", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()
            .map_err(|error| format!("setpriv (util-linux): {error}"))?;
        let processes = vec![child.id()];
        Ok(Self { name, child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), processes })
    }

    /// Calls `ready` until it returns a value, the process ends or patience does.
    fn wait_until<T>(&mut self, log: &Path, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let state = ended.map_or("is not ready".to_string(), |status| format!("ended, {status}"));
                let log = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{} {state}; it wrote: {}", self.name, log.trim()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Processor time used so far.
    fn cpu_time(&self) -> Result<CpuTime> {
        let mut sum = CpuTime::default();
        for process in &self.processes {
            // utime and stime, fields 14 and 15 of proc(5), counted from field 3.
            let time = CpuTime::from_fields(&stat_fields(*process)?, 11)?;
            sum.user_ticks += time.user_ticks;
            sum.system_ticks += time.system_ticks;
        }
        Ok(sum)
    }

    /// Memory of all its processes.
    fn memory(&self) -> Result<Memory> {
        let mut memory = Memory { resident_bytes: 0.0, anonymous_bytes: 0.0 };
        for process in &self.processes {
            let status = fs::read_to_string(format!("/proc/{process}/status"))?;
            memory.resident_bytes += status_kibibytes(&status, "VmRSS:")? * 1024.0;
            memory.anonymous_bytes += status_kibibytes(&status, "RssAnon:")? * 1024.0;
        }
        Ok(memory)
    }

    /// Waits until no processor time has been used for 300 ms.
    fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.cpu_time()?;
            thread::sleep(Duration::from_millis(300));
            if self.cpu_time()? == before || Instant::now() > deadline {
                return Ok(());
            }
        }
    }

    fn signal(&self, signal: &str) {
        let processes: Vec<String> = self.processes.iter().map(u32::to_string).collect();
        let kill = format!("kill -{signal} {} 2>/dev/null", processes.join(" "));
        let _ = Command::new("sh").args(["-c", &kill]).status();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.signal("INT");
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Ok(Some(status)) if status.success() => return,
                ended => {
                    eprintln!("note: {} did not end with 0 on SIGINT: {ended:?}", self.name);
                    return;
                }
            }
        }
        eprintln!("note: {} did not end on SIGINT within 3 s, killed", self.name);
        self.signal("KILL");
        let _ = self.child.wait();
    }
}

/// Processor time, in clock ticks.
#[derive(Clone, Copy, Default, PartialEq)]
struct CpuTime {
    user_ticks: f64,
    system_ticks: f64,
}

impl CpuTime {
    /// From two neighbouring fields, user and system, of a `stat` file.
    fn from_fields(fields: &[String], first: usize) -> Result<Self> {
        let field = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
        let (user_ticks, system_ticks) = field(first).zip(field(first + 1)).ok_or("odd /proc/PID/stat")?;
        Ok(Self { user_ticks, system_ticks })
    }

    fn total(self) -> f64 {
        self.user_ticks + self.system_ticks
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            user_ticks: self.user_ticks - earlier.user_ticks,
            system_ticks: self.system_ticks - earlier.system_ticks,
        }
    }
}

/// Processor time of everyone, read together.
struct Clocks {
    wall: Instant,
    server: CpuTime,
    /// Ended children of this program: `wrk`.
    generator: CpuTime,
    /// User time of the whole machine, and time the hypervisor took away.
    machine_ticks: f64,
}

impl Clocks {
    fn read(server: &Server) -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let fields: Vec<&str> = stat.lines().next().unwrap_or_default().split_whitespace().collect();
        // user, nice and steal of proc(5).
        let machine_ticks =
            [1, 2, 8].iter().filter_map(|&index| fields.get(index)?.parse::<f64>().ok()).sum();
        Ok(Self {
            wall: Instant::now(),
            server: server.cpu_time()?,
            // cutime and cstime, fields 16 and 17 of proc(5), counted from field 3.
            generator: CpuTime::from_fields(&stat_fields(process::id())?, 13)?,
            machine_ticks,
        })
    }
}

/// Resident memory, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    /// Everything resident (`VmRSS`).
    resident_bytes: f64,
    /// Heap and stacks (`RssAnon`).
    anonymous_bytes: f64,
}

/// The fields of `/proc/PID/stat` after the command's name.
fn stat_fields(process: u32) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("odd /proc/PID/stat")?;
    Ok(fields.split_whitespace().map(str::to_string).collect())
}

/// A line of `/proc/PID/status`, in KiB.
fn status_kibibytes(status: &str, key: &str) -> Result<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(key));
    let number = value.and_then(|value| value.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("no {key} in /proc/PID/status"))?.parse()?)
}

fn children_of(parent: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while we look: that is no child of ours.
        let fields = stat_fields(process).unwrap_or_default();
        if fields.get(1) == Some(&parent.to_string()) {
            children.push(process);
        }
    }
    Ok(children)
}

/// Starts nginx with one worker on core 0 that answers `ok`.
fn start_nginx(scratch: &Scratch) -> Result<Server> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let prefix = scratch.0.join(format!("nginx-{port}"));
    fs::create_dir_all(&prefix)?;
    let configuration = include_str!("nginx-static.conf.in").replace("@PORT@", &port.to_string());
    let path = prefix.join("nginx.conf");
    fs::write(&path, configuration)?;
    let (prefix_text, path_text) = (prefix.to_string_lossy(), path.to_string_lossy());
    let log = prefix.join("stderr.log");
    let arguments = ["-p", &prefix_text, "-c", &path_text];
    let mut server = Server::spawn("nginx", Path::new("nginx"), &arguments, &log)?;
    server.address.set_port(port);
    let address = server.address;
    server.wait_until(&log, || TcpStream::connect(address).ok())?;
    sample_reply(&server, Workload::Static)?;
    server.processes.extend(children_of(server.child.id())?);
    match server.processes.len() {
        2 => Ok(server),
        count => Err(format!("nginx has {count} processes instead of a master and a worker").into()),
    }
}

/// Starts `corelane serve` with one shard on core 0.
fn start_corelane(scratch: &Scratch, extra: &[&str]) -> Result<Server> {
    let program = env::var_os("CORELANE_BIN").unwrap_or(env!("CARGO_BIN_EXE_corelane").into());
    let log = scratch.0.join(format!("corelane{}.log", extra.join("")));
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--shards", "1", "--cpus", "0"];
    arguments.extend_from_slice(extra);
    let mut server = Server::spawn("corelane", Path::new(&program), &arguments, &log)?;
    let port =
        server.wait_until(&log, || fs::read_to_string(&log).ok().as_deref().and_then(announced_port))?;
    server.address.set_port(port);
    Ok(server)
}

/// The port in `listening on http://127.0.0.1:PORT/mcp (1 shard on core 0)`.
fn announced_port(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("listening on http://127.0.0.1:")?;
    let (port, _) = rest.split_once("/mcp")?;
    port.parse().ok()
}

// -----------------------------------------------------------------------------------------------------------
// One measurement
// -----------------------------------------------------------------------------------------------------------

/// One run of `wrk` against one server.
#[derive(Clone, Copy)]
struct Sample {
    requests: f64,
    requests_per_second: f64,
    p50_microseconds: f64,
    p99_microseconds: f64,
    bytes_per_reply: f64,
    /// Processor time of the server over wall time, in percent of one core.
    server_percent: f64,
    /// The same of `wrk`. Near 100 it is `wrk` that sets the pace.
    generator_percent: f64,
    /// User time of all other processes, and time the hypervisor took away. Should be next to nothing.
    others_percent: f64,
    /// Requests over processor time of the server.
    requests_per_core_second: f64,
}

/// Loads a server for `seconds`. Replies other than those of `reply_bytes` length with status 200 are an error.
fn measure(
    server: &Server,
    workload: Workload,
    scratch: &Scratch,
    (connections, seconds): (u32, u64),
    reply_bytes: usize,
) -> Result<Sample> {
    let ticks_per_second = ticks_per_second()?;
    let start = Clocks::read(server)?;
    let totals = run_wrk(server, workload, scratch, connections, seconds)?;
    let end = Clocks::read(server)?;
    let used = end.server.since(start.server);
    let generator = end.generator.since(start.generator);
    let others = end.machine_ticks - start.machine_ticks - used.user_ticks - generator.user_ticks;
    let percent = |ticks: f64| 100.0 * ticks / ticks_per_second / (end.wall - start.wall).as_secs_f64();
    let total =
        |key: &str| totals.get(key).and_then(Value::as_f64).ok_or_else(|| format!("wrk totals lack {key}"));
    let requests = total("requests")?;
    let sample = Sample {
        requests,
        requests_per_second: requests / (total("duration_microseconds")? / 1e6),
        p50_microseconds: total("p50_microseconds")?,
        p99_microseconds: total("p99_microseconds")?,
        bytes_per_reply: total("bytes")? / requests,
        server_percent: percent(used.total()),
        generator_percent: percent(generator.total()),
        others_percent: percent(others.max(0.0)),
        requests_per_core_second: requests / (used.total() / ticks_per_second),
    };
    check(&sample, &totals, reply_bytes).map_err(|error| {
        format!("{}, {}, {connections} connections: {error}", server.name, workload.name())
    })?;
    Ok(sample)
}

/// Every request answered, and with a reply as long as the one that was read in full.
fn check(sample: &Sample, totals: &Value, reply_bytes: usize) -> Result<()> {
    let errors = totals.get("errors").and_then(Value::as_object).ok_or("wrk totals lack errors")?;
    if errors.values().any(|count| count.as_f64() != Some(0.0)) {
        return Err(format!("wrk saw errors (status: replies of 400 and above): {}", json!(errors)).into());
    }
    if sample.requests < 1.0 {
        return Err("no request was answered".into());
    }
    let expected = reply_bytes as f64;
    if (sample.bytes_per_reply - expected).abs() > expected * REPLY_LENGTH_TOLERANCE {
        let seen = sample.bytes_per_reply;
        return Err(format!("wrk read {seen:.1} bytes per reply, the sampled reply has {reply_bytes}").into());
    }
    Ok(())
}

/// Runs `wrk` on its core. Returns what `wrk/report.lua` prints.
fn run_wrk(
    server: &Server,
    workload: Workload,
    scratch: &Scratch,
    connections: u32,
    seconds: u64,
) -> Result<Value> {
    let output = leashed(Path::new("taskset"))
        .args(["-c", GENERATOR_CORE, "wrk", "-t1", "--latency"])
        .args([format!("-c{connections}"), format!("-d{seconds}s")])
        .arg("-s")
        .arg(scratch.script(workload))
        .arg(format!("http://{}/", server.address))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("setpriv (util-linux): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let totals = text.lines().find_map(|line| line.strip_prefix("totals "));
    match totals {
        Some(totals) if output.status.success() => Ok(serde_json::from_str(totals)?),
        _ => Err(format!("wrk: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn ticks_per_second() -> Result<f64> {
    command_output("getconf", &["CLK_TCK"])?
        .parse()
        .map_err(|error| format!("getconf CLK_TCK: {error}").into())
}

/// The trimmed standard output of a program that must succeed.
fn command_output(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?.trim().to_string()),
        false => Err(format!("{program}: {}", output.status).into()),
    }
}

// -----------------------------------------------------------------------------------------------------------
// Throughput and latency under load
// -----------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Nginx,
    Corelane,
    /// `corelane` that never polls in vain: spinning counts as processor time.
    CorelaneSpinZero,
}

/// A server asked one kind of request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Contestant {
    host: Host,
    workload: Workload,
}

const NGINX: Contestant = Contestant { host: Host::Nginx, workload: Workload::Static };

impl Contestant {
    fn name(self) -> String {
        match self.host {
            Host::Nginx => "nginx static".to_string(),
            Host::Corelane => format!("corelane {}", self.workload.name()),
            Host::CorelaneSpinZero => format!("corelane {}, spin 0", self.workload.name()),
        }
    }
}

/// Samples of each contestant at each connection count, in the order of the rounds.
type Results = BTreeMap<(u32, Contestant), Vec<Sample>>;

/// Those measured in turn at one connection count, the reference first.
fn contestants(options: &Options, connections: u32) -> Vec<Contestant> {
    let hosts: &[Host] = match connections >= PER_CORE_FROM_CONNECTIONS {
        true => &[Host::Corelane, Host::CorelaneSpinZero],
        false => &[Host::Corelane],
    };
    let mut contestants = vec![NGINX];
    for &host in hosts {
        contestants.extend(options.requests.iter().map(|&workload| Contestant { host, workload }));
    }
    contestants
}

/// All servers of the throughput part, alive together and loaded in turn.
struct Fleet {
    nginx: Server,
    corelane: Server,
    corelane_spin_zero: Server,
}

impl Fleet {
    fn start(scratch: &Scratch) -> Result<Self> {
        Ok(Self {
            nginx: start_nginx(scratch)?,
            corelane: start_corelane(scratch, &[])?,
            corelane_spin_zero: start_corelane(scratch, &["--spin-us", "0"])?,
        })
    }

    fn server(&self, host: Host) -> &Server {
        match host {
            Host::Nginx => &self.nginx,
            Host::Corelane => &self.corelane,
            Host::CorelaneSpinZero => &self.corelane_spin_zero,
        }
    }
}

fn measure_throughput(options: &Options, scratch: &Scratch) -> Result<Results> {
    let fleet = Fleet::start(scratch)?;
    for contestant in contestants(options, LOADED_CONNECTIONS) {
        eprintln!("warm-up: {}", contestant.name());
        warm_up(fleet.server(contestant.host), contestant.workload, scratch)?;
    }
    let mut results = Results::new();
    for &connections in &options.connections {
        let contestants = contestants(options, connections);
        let mut reply_bytes = BTreeMap::new();
        for &contestant in &contestants {
            reply_bytes.insert(contestant, sample_reply(fleet.server(contestant.host), contestant.workload)?);
        }
        for round in 1..=options.rounds {
            for (&contestant, &bytes) in &reply_bytes {
                thread::sleep(PAUSE);
                let server = fleet.server(contestant.host);
                let load = (connections, options.seconds);
                let sample = measure(server, contestant.workload, scratch, load, bytes)?;
                let label = format!("{}, round {round}/{}", counted(connections), options.rounds);
                eprintln!("{label}: {}", progress(&contestant.name(), &sample));
                results.entry((connections, contestant)).or_default().push(sample);
            }
        }
    }
    Ok(results)
}

fn warm_up(server: &Server, workload: Workload, scratch: &Scratch) -> Result<()> {
    let reply_bytes = sample_reply(server, workload)?;
    measure(server, workload, scratch, (LOADED_CONNECTIONS, WARM_UP_SECONDS), reply_bytes)?;
    Ok(())
}

fn progress(name: &str, sample: &Sample) -> String {
    let rate = thousands(sample.requests_per_second);
    let (p50, cpu) = (sample.p50_microseconds, sample.server_percent);
    format!("{name:<27} {rate:>8} req/s, p50 {p50} µs, {cpu:.0} % of a core")
}

// -----------------------------------------------------------------------------------------------------------
// Idle: processor time, memory, throughput beside idle connections
// -----------------------------------------------------------------------------------------------------------

/// What connections cost that do nothing.
struct Idle {
    /// Processor time of `corelane` without connections, in percent of one core.
    cpu_percent: f64,
    /// The same with `LOADED_CONNECTIONS` open connections that do nothing.
    cpu_percent_connected: f64,
    /// How many connections were opened for the figures below.
    connections: usize,
    corelane_memory: MemoryGrowth,
    nginx_memory: MemoryGrowth,
    /// Load at `LOADED_CONNECTIONS` without the idle connections, and with them.
    without_idle: Vec<Sample>,
    with_idle: Vec<Sample>,
}

impl Idle {
    fn throughput_ratio(&self) -> Ratio {
        Ratio::between(&self.with_idle, &self.without_idle, |sample| sample.requests_per_second)
    }
}

/// Memory of a server before and after idle connections were opened.
struct MemoryGrowth {
    before: Memory,
    after: Memory,
    connections: f64,
}

impl MemoryGrowth {
    /// Resident memory per connection, in bytes.
    fn resident_bytes_each(&self) -> f64 {
        (self.after.resident_bytes - self.before.resident_bytes) / self.connections
    }

    /// Heap and stack memory per connection, in bytes.
    fn anonymous_bytes_each(&self) -> f64 {
        (self.after.anonymous_bytes - self.before.anonymous_bytes) / self.connections
    }
}

/// Fresh servers, so that nothing the load above left behind hides growth.
fn measure_idle(options: &Options, scratch: &Scratch, connections: usize) -> Result<Idle> {
    let workload = options.requests.first().copied().unwrap_or(Workload::Canonical);
    eprintln!("idle: {connections} connections to nginx");
    let (nginx_memory, _) = grow_memory(&start_nginx(scratch)?, Workload::Static, scratch, connections)?;
    let server = start_corelane(scratch, &[])?;
    eprintln!("idle: processor time");
    let cpu_percent = idle_cpu_percent(&server)?;
    let crowd = Crowd::open(&server, workload, LOADED_CONNECTIONS as usize)?;
    let cpu_percent_connected = idle_cpu_percent(&server)?;
    crowd.close(&server)?;
    eprintln!("idle: {connections} connections to corelane");
    let (corelane_memory, crowd) = grow_memory(&server, workload, scratch, connections)?;
    let (mut without_idle, mut with_idle) = (Vec::new(), Vec::new());
    let reply_bytes = sample_reply(&server, workload)?;
    let mut crowd = Some(crowd);
    for round in 1..=options.rounds.max(3) {
        let load = (LOADED_CONNECTIONS, options.seconds);
        let open = match crowd.take() {
            Some(crowd) => crowd,
            None => Crowd::open(&server, workload, connections)?,
        };
        server.settle()?;
        let sample = measure(&server, workload, scratch, load, reply_bytes)?;
        eprintln!("round {round}: {}", progress("with idle connections", &sample));
        with_idle.push(sample);
        open.close(&server)?;
        let sample = measure(&server, workload, scratch, load, reply_bytes)?;
        eprintln!("round {round}: {}", progress("without", &sample));
        without_idle.push(sample);
    }
    Ok(Idle {
        cpu_percent,
        cpu_percent_connected,
        connections,
        corelane_memory,
        nginx_memory,
        without_idle,
        with_idle,
    })
}

/// Processor time of a server nobody talks to, in percent of one core.
fn idle_cpu_percent(server: &Server) -> Result<f64> {
    server.settle()?;
    let before = server.cpu_time()?;
    let start = Instant::now();
    thread::sleep(Duration::from_secs(IDLE_WINDOW_SECONDS));
    let used_seconds = server.cpu_time()?.since(before).total() / ticks_per_second()?;
    Ok(100.0 * used_seconds / start.elapsed().as_secs_f64())
}

/// Warms a server up, opens idle connections and compares its memory. The connections are still open.
fn grow_memory(
    server: &Server,
    workload: Workload,
    scratch: &Scratch,
    connections: usize,
) -> Result<(MemoryGrowth, Crowd)> {
    warm_up(server, workload, scratch)?;
    server.settle()?;
    let before = server.memory()?;
    let crowd = Crowd::open(server, workload, connections)?;
    server.settle()?;
    let after = server.memory()?;
    crowd.check_open()?;
    Ok((MemoryGrowth { before, after, connections: connections as f64 }, crowd))
}

/// Connections that were used once and are idle now.
struct Crowd(Vec<TcpStream>);

impl Crowd {
    fn open(server: &Server, workload: Workload, connections: usize) -> Result<Self> {
        let request = workload.request(server.address);
        let mut streams = Vec::with_capacity(connections);
        for index in 0..connections {
            let mut stream = connect(server.address)?;
            exchange(&mut stream, &request, workload)
                .map_err(|error| format!("{}: idle connection {index}: {error}", server.name))?;
            stream.set_nonblocking(true)?;
            streams.push(stream);
        }
        Ok(Self(streams))
    }

    /// An error if the server has closed one, or sent something nobody asked for.
    fn check_open(&self) -> Result<()> {
        let still_open = |stream: &&TcpStream| {
            stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        match self.0.iter().filter(still_open).count() {
            count if count == self.0.len() => Ok(()),
            count => Err(format!("only {count} of {} idle connections stayed open", self.0.len()).into()),
        }
    }

    /// Closes them all, which must be open still, and waits until the server is done with them.
    fn close(self, server: &Server) -> Result<()> {
        self.check_open()?;
        drop(self);
        server.settle()
    }
}

/// Raises the soft limit on open files to the hard one, by starting this program anew.
/// Returns how many idle connections the limit allows.
fn ensure_file_limit() -> Result<usize> {
    const RAISED: &str = "THROUGHPUT_FILE_LIMIT_RAISED";
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    let soft = soft.map_or(Ok(0), |soft| if soft == "unlimited" { Ok(usize::MAX) } else { soft.parse() })?;
    if soft < IDLE_CONNECTIONS + SPARE_DESCRIPTORS && env::var_os(RAISED).is_none() {
        let script = r#"ulimit -n "$(ulimit -Hn)"; exec "$0" "$@""#;
        let again = Command::new("sh").args(["-c", script]).args(env::args_os()).env(RAISED, "1").exec();
        return Err(format!("sh: {again}").into());
    }
    Ok(soft.saturating_sub(SPARE_DESCRIPTORS).clamp(1, IDLE_CONNECTIONS))
}

// -----------------------------------------------------------------------------------------------------------
// Medians, ratios, verdicts
// -----------------------------------------------------------------------------------------------------------

/// A figure of a sample.
type Metric = fn(&Sample) -> f64;

fn median(samples: &[Sample], metric: Metric) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(metric).collect();
    values.sort_by(f64::total_cmp);
    let middle = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { middle(half) } else { (middle(half.saturating_sub(1)) + middle(half)) / 2.0 }
}

/// Ours over theirs.
#[derive(Clone, Copy)]
struct Ratio {
    /// Median of ours over median of theirs.
    of_medians: f64,
    /// The lowest and highest ratio within one round.
    lowest: f64,
    highest: f64,
}

impl Ratio {
    fn between(ours: &[Sample], theirs: &[Sample], metric: Metric) -> Self {
        let rounds = || ours.iter().zip(theirs).map(|(ours, theirs)| metric(ours) / metric(theirs));
        Self {
            of_medians: median(ours, metric) / median(theirs, metric),
            lowest: rounds().fold(f64::INFINITY, f64::min),
            highest: rounds().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    fn json(&self) -> Value {
        json!({ "of_medians": self.of_medians, "lowest_round": self.lowest, "highest_round": self.highest })
    }
}

/// A contestant against nginx at the same connection count; `None` where it was not measured.
fn against_nginx(results: &Results, connections: u32, ours: Contestant, metric: Metric) -> Option<Ratio> {
    let ours = results.get(&(connections, ours))?;
    Some(Ratio::between(ours, results.get(&(connections, NGINX))?, metric))
}

/// A goal and what was measured.
struct Verdict {
    goal: String,
    figure: String,
    met: bool,
}

impl Verdict {
    fn at_least(what: String, ratio: Ratio, floor: f64) -> Self {
        Self {
            goal: format!("{what} ≥ {floor:.2}"),
            figure: format!("{:.2} ({:.2}–{:.2})", ratio.of_medians, ratio.lowest, ratio.highest),
            met: ratio.of_medians >= floor,
        }
    }

    fn line(&self) -> String {
        format!("{}  {:<76} {}\n", if self.met { "met  " } else { "SHORT" }, self.goal, self.figure)
    }
}

fn verdicts(options: &Options, results: &Results, idle: Option<&Idle>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for &connections in &options.connections {
        for &workload in &options.requests {
            verdicts.extend(load_verdicts(results, connections, workload));
        }
    }
    if let Some(idle) = idle {
        verdicts.extend(idle_verdicts(idle));
    }
    verdicts
}

/// The goals for one connection count and one request.
fn load_verdicts(results: &Results, connections: u32, workload: Workload) -> Vec<Verdict> {
    let compare = |host, metric| against_nginx(results, connections, Contestant { host, workload }, metric);
    let what = |figure: &str| format!("{}, {}: {figure} ÷ nginx's", counted(connections), workload.name());
    let mut verdicts = Vec::new();
    if matches!(connections, 64 | 512 | 2000)
        && let Some(ratio) = compare(Host::Corelane, |sample| sample.requests_per_second)
    {
        verdicts.push(Verdict::at_least(what("requests/s"), ratio, 0.95));
    }
    if connections == 64
        && let Some(ratio) = compare(Host::CorelaneSpinZero, |sample| sample.requests_per_core_second)
    {
        verdicts.push(Verdict::at_least(what("requests per core-second"), ratio, 1.0));
    }
    if matches!(connections, 1 | 8)
        && let Some(ratio) = compare(Host::Corelane, |sample| sample.p50_microseconds)
    {
        let half = if ratio.of_medians <= 0.5 { "reached" } else { "not reached" };
        verdicts.push(Verdict {
            goal: format!("{} < 1.00", what("p50")),
            figure: format!("{:.2} (half: {half})", ratio.of_medians),
            met: ratio.of_medians < 1.0,
        });
    }
    verdicts
}

fn idle_verdicts(idle: &Idle) -> Vec<Verdict> {
    let bytes = idle.corelane_memory.resident_bytes_each();
    let memory = Verdict {
        goal: format!(
            "{} idle connections: bytes of user memory each ≤ 1024",
            thousands(idle.connections as f64)
        ),
        figure: format!("{bytes:.0}"),
        met: bytes <= 1024.0,
    };
    let what = "64 connections: requests/s beside idle ones ÷ without them".to_string();
    vec![memory, Verdict::at_least(what, idle.throughput_ratio(), 0.95)]
}

// -----------------------------------------------------------------------------------------------------------
// Output
// -----------------------------------------------------------------------------------------------------------

/// Where and when.
struct Machine {
    kernel: String,
    cpu: String,
    cores: usize,
    date: String,
    commit: String,
}

impl Machine {
    fn describe() -> Result<Self> {
        let cores = thread::available_parallelism()?.get();
        if cores < 2 {
            return Err("two cores are needed, one for the server and one for the generator".into());
        }
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model =
            cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_string(),
            cpu: model.map_or("unknown processor", |(_, model)| model).to_string(),
            cores,
            date: command_output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?,
            commit: command_output("git", &["describe", "--always", "--dirty", "--exclude=*"])
                .unwrap_or("unknown".to_string()),
        })
    }
}

/// Everything a person wants to read.
fn report(
    options: &Options,
    machine: &Machine,
    results: &Results,
    idle: Option<&Idle>,
    verdicts: &[Verdict],
) -> String {
    let mut text = heading(options, machine, results, idle);
    text += &throughput_table(options, results);
    if let Some(idle) = idle {
        text += &idle_table(idle);
    }
    text.push('\n');
    for verdict in verdicts {
        text += &verdict.line();
    }
    text.push('\n');
    text
}

fn heading(options: &Options, machine: &Machine, results: &Results, idle: Option<&Idle>) -> String {
    let Machine { kernel, cpu, cores, date, commit } = machine;
    let mut text = format!("\ncorelane beside nginx: {date}, commit {commit}\n");
    let _ = writeln!(text, "{cpu}, {cores} cores, Linux {kernel}; server on core 0, wrk on core 1");
    let (rounds, seconds) = (options.rounds, options.seconds);
    let few = if rounds < 5 { " (too few to quote: 5 are needed)" } else { "" };
    let _ = writeln!(text, "Medians of {rounds} rounds of {seconds} s, in turn{few}");
    let idle_samples = idle.iter().flat_map(|idle| idle.with_idle.iter().chain(&idle.without_idle));
    let others = results
        .values()
        .flatten()
        .chain(idle_samples)
        .map(|sample| sample.others_percent)
        .fold(0.0, f64::max);
    if others > BUSY_PERCENT {
        let _ = writeln!(text, "DO NOT QUOTE: other work took up to {others:.0} % of a core meanwhile");
    }
    text += "× is corelane ÷ nginx of the medians, then the lowest and highest round; nginx is asked GET /\n";
    text += "req/core-s is per second of server CPU time, with --spin-us 0; all else with the default\n";
    text
}

fn throughput_table(options: &Options, results: &Results) -> String {
    let mut text = String::new();
    for &connections in &options.connections {
        let _ = writeln!(
            text,
            "\n{:<20}{:>9}  {:<18}{:>8}{:>8}  {:<6}{:>6}{:>7}{:>13}  ×",
            counted(connections),
            "req/s",
            "×",
            "p50 µs",
            "p99 µs",
            "× p50",
            "CPU %",
            "wrk %",
            "req/core-s"
        );
        for contestant in contestants(options, connections) {
            if contestant.host != Host::CorelaneSpinZero {
                text += &throughput_row(results, connections, contestant);
            }
        }
    }
    text
}

fn throughput_row(results: &Results, connections: u32, contestant: Contestant) -> String {
    let Some(samples) = results.get(&(connections, contestant)) else {
        return String::new();
    };
    let ratio = |contestant: Contestant, metric: Metric| match contestant.host {
        Host::Nginx => None,
        _ => against_nginx(results, connections, contestant, metric),
    };
    let per_core = match contestant.host {
        Host::Corelane => Contestant { host: Host::CorelaneSpinZero, ..contestant },
        _ => contestant,
    };
    let per_core_metric: Metric = |sample| sample.requests_per_core_second;
    let per_core_samples = results.get(&(connections, per_core));
    let p50_ratio = ratio(contestant, |sample| sample.p50_microseconds);
    let row = format!(
        "{:<20}{:>9}  {:<18}{:>8.0}{:>8.0}  {:<6}{:>6.0}{:>7.0}{:>13}  {}",
        contestant.name(),
        thousands(median(samples, |sample| sample.requests_per_second)),
        spread(ratio(contestant, |sample| sample.requests_per_second)),
        median(samples, |sample| sample.p50_microseconds),
        median(samples, |sample| sample.p99_microseconds),
        p50_ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.of_medians)),
        median(samples, |sample| sample.server_percent),
        median(samples, |sample| sample.generator_percent),
        per_core_samples.map_or("–".to_string(), |samples| thousands(median(samples, per_core_metric))),
        spread(ratio(per_core, per_core_metric)),
    );
    format!("{}\n", row.trim_end())
}

fn idle_table(idle: &Idle) -> String {
    let mut text = String::from("\nidle\n");
    let cpu = (idle.cpu_percent, idle.cpu_percent_connected);
    let _ = writeln!(text, "CPU, no connection   {:>8.1} % of a core", cpu.0);
    let _ = writeln!(text, "CPU, {LOADED_CONNECTIONS} connections  {:>8.1} % of a core", cpu.1);
    for (name, memory) in [("corelane", &idle.corelane_memory), ("nginx", &idle.nginx_memory)] {
        let (each, heap) = (memory.resident_bytes_each(), memory.anonymous_bytes_each());
        let (before, after) =
            (memory.before.resident_bytes / 1048576.0, memory.after.resident_bytes / 1048576.0);
        let _ = writeln!(
            text,
            "memory, {name:<13}{each:>8.0} bytes of each of {} connections ({heap:.0} anonymous), {before:.1} → {after:.1} MiB",
            thousands(memory.connections)
        );
    }
    let rate: Metric = |sample| sample.requests_per_second;
    let (with, without) = (median(&idle.with_idle, rate), median(&idle.without_idle, rate));
    let _ = writeln!(
        text,
        "with them open       {:>8} req/s at {LOADED_CONNECTIONS} connections, {} without: × {}",
        thousands(with),
        thousands(without),
        spread(Some(idle.throughput_ratio()))
    );
    text
}

fn spread(ratio: Option<Ratio>) -> String {
    ratio.map_or(String::new(), |ratio| {
        format!("{:.2} ({:.2}–{:.2})", ratio.of_medians, ratio.lowest, ratio.highest)
    })
}

fn counted(connections: u32) -> String {
    format!("{connections} connection{}", if connections == 1 { "" } else { "s" })
}

/// `230123.4` as `230,123`.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

// -----------------------------------------------------------------------------------------------------------
// JSON
// -----------------------------------------------------------------------------------------------------------

/// The figures of a sample, with their units.
const METRICS: [(&str, Metric); 9] = [
    ("requests", |sample| sample.requests),
    ("requests_per_second", |sample| sample.requests_per_second),
    ("p50_microseconds", |sample| sample.p50_microseconds),
    ("p99_microseconds", |sample| sample.p99_microseconds),
    ("bytes_per_reply", |sample| sample.bytes_per_reply),
    ("server_cpu_percent_of_one_core", |sample| sample.server_percent),
    ("generator_cpu_percent_of_one_core", |sample| sample.generator_percent),
    ("others_cpu_percent_of_one_core", |sample| sample.others_percent),
    ("requests_per_core_second", |sample| sample.requests_per_core_second),
];

fn write_json(
    options: &Options,
    machine: &Machine,
    results: &Results,
    idle: Option<&Idle>,
    verdicts: &[Verdict],
) -> Result<()> {
    let series: Vec<Value> =
        results.iter().map(|(key, samples)| series_json(results, *key, samples)).collect();
    let verdicts: Vec<Value> = verdicts
        .iter()
        .map(|verdict| json!({ "goal": verdict.goal, "figure": verdict.figure, "met": verdict.met }))
        .collect();
    let document = json!({
        "machine": {
            "kernel": machine.kernel,
            "cpu_model": machine.cpu,
            "cores": machine.cores,
            "date": machine.date,
            "git_commit": machine.commit,
        },
        "rounds": options.rounds,
        "seconds_per_measurement": options.seconds,
        "series": series,
        "idle": idle.map(idle_json),
        "verdicts": verdicts,
    });
    if let Some(parent) = options.json.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&options.json, format!("{document:#}\n"))
        .map_err(|error| format!("{}: {error}", options.json.display()).into())
}

fn series_json(results: &Results, (connections, contestant): (u32, Contestant), samples: &[Sample]) -> Value {
    let ratio = |metric| against_nginx(results, connections, contestant, metric).map(|ratio| ratio.json());
    json!({
        "connections": connections,
        "contestant": contestant.name(),
        "medians": medians_json(samples),
        "ratio_to_nginx": {
            "requests_per_second": ratio(|sample| sample.requests_per_second),
            "p50_microseconds": ratio(|sample| sample.p50_microseconds),
            "requests_per_core_second": ratio(|sample| sample.requests_per_core_second),
        },
        "samples": samples_json(samples),
    })
}

fn samples_json(samples: &[Sample]) -> Value {
    samples.iter().map(|sample| object(|metric| metric(sample))).collect()
}

fn medians_json(samples: &[Sample]) -> Value {
    object(|metric| median(samples, metric))
}

fn object(figure: impl Fn(Metric) -> f64) -> Value {
    METRICS.iter().map(|&(key, metric)| (key.to_string(), json!(figure(metric)))).collect()
}

fn idle_json(idle: &Idle) -> Value {
    json!({
        "cpu_percent_of_one_core": {
            "no_connection": idle.cpu_percent,
            "64_connections": idle.cpu_percent_connected,
        },
        "memory_corelane": memory_json(&idle.corelane_memory),
        "memory_nginx": memory_json(&idle.nginx_memory),
        "throughput_at_64_connections": {
            "with_idle_connections_median": medians_json(&idle.with_idle),
            "without_median": medians_json(&idle.without_idle),
            "requests_per_second_ratio": idle.throughput_ratio().json(),
            "with_idle_connections_samples": samples_json(&idle.with_idle),
            "without_samples": samples_json(&idle.without_idle),
        },
    })
}

fn memory_json(growth: &MemoryGrowth) -> Value {
    json!({
        "connections": growth.connections,
        "resident_bytes_per_connection": growth.resident_bytes_each(),
        "anonymous_bytes_per_connection": growth.anonymous_bytes_each(),
        "resident_bytes_before": growth.before.resident_bytes,
        "resident_bytes_after": growth.after.resident_bytes,
        "anonymous_bytes_before": growth.before.anonymous_bytes,
        "anonymous_bytes_after": growth.after.anonymous_bytes,
    })
}
