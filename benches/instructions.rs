//! Instructions per operation: of each stage of a request's path, and of whole requests from received bytes to reply
//! bytes, without sockets.
//!
//! Callgrind counts two runs of different length. The difference of the counts, divided by the difference in
//! operations, excludes everything that happens once; code before the first operation is not counted at all. Unlike a
//! time, the count is reproducible on one machine and build, so that it shows a change of a few instructions. For this,
//! every heap block is placed on pages of its own: the instructions of `memcpy` and `memcmp` depend on the alignment of
//! their operands, which would otherwise depend on all earlier allocations, among others by hash tables with random
//! keys.
//!
//! A stage is counted with a prepared input, and its output is checked every time, by one or two comparisons. A whole
//! request also contains the copy of the request into a receive buffer, and the code between the stages.
//!
//! Heap allocations are counted too, by dhat in this process. Its allocator adds instructions to each allocation even
//! while it does not count; a warm request has no allocations, which this benchmark verifies.
//!
//! `cargo bench --bench instructions`; `-- --help` lists the options. `--profile quick` builds in a fraction of the
//! time, but then the counts depend on the partition of the crate into codegen units, which differs between incremental
//! and fresh builds by some tens of instructions. The counts of a plain `cargo bench` are equal for equal sources, in
//! any directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "support/operations.rs"]
mod operations;
mod support;

use std::{
    env,
    hint::black_box,
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::{Instant, SystemTime},
};

use clap::{Parser, ValueEnum};
use corelane::{
    Caller, Capabilities, Limits, Reply, Revision, demo,
    internals::call::{Kind, RequestContext, ShardContext},
    internals::http1::{
        AllowedHosts, Flow, Framer, Handler, Progress, RejectReason, Request, RequestGuard, RequestHead,
        ResponseHeads, Route,
    },
    internals::json::Decoder,
    internals::jsonrpc::Id,
    internals::mcp::{self, CallAnswers, Headers, Outcome, RouterContext, Sessions, Transport},
    internals::peer::NoRoom,
    internals::registry::{RegisteredTool, Snapshot},
    internals::runtime::{Completions, Runner, Started, WorkerPools},
    internals::schema::Validation,
    internals::signed_token::SigningKey,
};
use operations::{Measure, decode, description, format_thousands, name, on_tape, padded, selected, validate};
use serde_json::{Map, Value, json};
use support::{Lane, canonical, legacy, request};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Lengths of the two runs, in operations.
const RUNS: [u64; 2] = [1000, 3000];

/// Tunables that make glibc place every heap block on pages of its own.
const BLOCKS_ON_PAGES: &str = "glibc.malloc.mmap_threshold=1:glibc.malloc.mmap_max=1000000";

/// Number of operations before allocations are counted, and while they are counted.
const WARM_UP: u64 = 100;
const COUNTED: u64 = 1000;

/// The operations, in the order of the pipeline.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Operation {
    /// frame the canonical request and parse its head
    Frame,
    /// check host, origin, method and path
    Guard,
    /// decode the canonical body to the tape
    Decode,
    /// route a tape to a tool: message, revision, method, tool, validated arguments
    Route,
    /// part of route: validate echo's arguments against their schema
    Validate,
    /// validate 5 string arguments against their schema
    #[value(name = "validate_5")]
    Validate5,
    /// validate 20 string arguments against their schema
    #[value(name = "validate_20")]
    Validate20,
    /// validate 100 string arguments against their schema
    #[value(name = "validate_100")]
    Validate100,
    /// run echo: read its arguments, write its reply
    Run,
    /// encode the reply to bytes, head and body
    Encode,
    /// whole request: tools/call of echo, 2026-07-28
    Canonical,
    /// whole request: tools/call of echo, 2025-11-25
    Legacy,
    /// whole request: tools/list, 2026-07-28
    ToolsList,
    /// whole request: server/discover
    Discover,
}

impl Operation {
    /// Prepares the operation and measures it.
    fn measure_with<M: Measure>(self, measure: M) -> M::Output {
        match self {
            Self::Frame => frame(measure),
            Self::Guard => guard(measure),
            Self::Decode => decode(&split(&canonical()).1, measure),
            Self::Route => route(measure),
            Self::Validate => validate_echo(measure),
            Self::Validate5 => validate(5, measure),
            Self::Validate20 => validate(20, measure),
            Self::Validate100 => validate(100, measure),
            Self::Run => run(measure),
            Self::Encode => encode(measure),
            Self::Canonical => whole_request(&canonical(), "\"text\":\"hello world\"", measure),
            Self::Legacy => whole_request(&legacy(), "\"text\":\"hello world\"", measure),
            Self::ToolsList => whole_request(&modern("tools/list"), "\"tools\":[{\"name\":\"echo\"", measure),
            Self::Discover => whole_request(&modern("server/discover"), "\"supportedVersions\":[", measure),
        }
    }

    /// Whether the allocations of the operation are counted.
    fn is_call(self) -> bool {
        matches!(self, Self::Canonical | Self::Legacy)
    }
}

/// Instructions per operation of each stage of a request's path and of whole requests, counted by valgrind.
#[derive(Parser)]
#[command(name = "instructions")]
struct Options {
    /// Also write the counts to this file. A relative path starts at the package's directory
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Count only these
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    only: Vec<Operation>,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Passed by cargo test: nothing is measured
    #[arg(long, hide = true)]
    test: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, operation, count] = arguments.as_slice()
        && command == "run"
    {
        let operation = Operation::from_str(operation, false).unwrap();
        operation.measure_with(Repeated(count.parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    if options.test {
        return ExitCode::SUCCESS;
    }
    let valgrind = match valgrind() {
        Ok(version) => version,
        Err(error) => {
            eprintln!("instructions: {error}");
            return ExitCode::from(2);
        }
    };
    match report(&options, &valgrind) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, and writes the JSON file on request.
fn report(options: &Options, valgrind: &str) -> Result<(), String> {
    let profile = profile();
    println!("instructions per operation (callgrind {valgrind}, profile {profile})");
    let (mut counts, mut allocations) = (Map::new(), Map::new());
    for operation in selected(&options.only) {
        let name = name(operation);
        let [short, long] = RUNS.map(|count| instructions(&name, count));
        let per_operation = (long? - short?) / (RUNS[1] - RUNS[0]);
        println!("{name:<13} {:>7}  {}", format_thousands(per_operation), description(operation));
        counts.insert(name, per_operation.into());
    }
    println!("\nheap allocations per warm request");
    for operation in selected(&options.only).into_iter().filter(|operation| operation.is_call()) {
        let per_operation = operation.measure_with(Allocations);
        println!("{:<13} {per_operation:>7}", name(operation));
        allocations.insert(name(operation), per_operation.into());
    }
    let Some(file) = &options.json else {
        return Ok(());
    };
    let results = json!({
        "schema": "corelane-instructions-1",
        "unit": "instructions per operation",
        "profile": profile,
        "valgrind": valgrind,
        "rustc": operations::rustc(),
        "cpu": operations::cpu(),
        "counts": counts,
        "allocations": allocations,
    });
    operations::write_json(file, &results)
}

/// The version of valgrind, or an error with the remedy.
fn valgrind() -> Result<String, String> {
    let output = Command::new("valgrind").arg("--version").output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "valgrind is not installed: apt-get install valgrind".to_owned(),
        _ => format!("valgrind does not start: {error}"),
    })?;
    let output = String::from_utf8_lossy(&output.stdout);
    Ok(output.trim().strip_prefix("valgrind-").unwrap_or(output.trim()).to_owned())
}

/// The profile of this program, from the name of cargo's output directory: `release` for a plain `cargo bench`.
fn profile() -> String {
    let program = env::current_exe().unwrap();
    let directory = program.ancestors().nth(2).and_then(Path::file_name);
    directory.map_or("unknown".into(), |name| name.to_string_lossy()).into_owned()
}

/// Runs this program under callgrind and parses the count.
fn instructions(operation: &str, count: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted_loop*"])
        .arg(env::current_exe().unwrap())
        .args(["run", operation, &count.to_string()])
        .env("GLIBC_TUNABLES", BLOCKS_ON_PAGES)
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find(|line| line.contains("Collected :"));
    let collected = collected.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    let counted = |count: &u64| output.status.success() && *count > 0;
    collected.filter(counted).ok_or_else(|| format!("{operation} failed:\n{report}"))
}

/// Runs an operation this many times, inside callgrind.
struct Repeated(u64);

impl Measure for Repeated {
    type Output = ();

    fn measure(self, operation: impl FnMut() -> bool) {
        counted_loop(self.0, operation);
    }
}

/// The function in which callgrind counts, found by its name.
#[inline(never)]
fn counted_loop(count: u64, mut operation: impl FnMut() -> bool) {
    for _ in 0..count {
        assert!(operation());
    }
}

/// Counts heap allocations of a warm operation. One allocation in a thousand operations still counts as one.
struct Allocations;

impl Measure for Allocations {
    type Output = u64;

    fn measure(self, mut operation: impl FnMut() -> bool) -> u64 {
        for _ in 0..WARM_UP {
            assert!(operation());
        }
        let _profiler = dhat::Profiler::builder().testing().build();
        for _ in 0..COUNTED {
            assert!(operation());
        }
        dhat::HeapStats::get().total_blocks.div_ceil(COUNTED)
    }
}

/// A request of 2026-07-28 without parameters.
fn modern(method: &str) -> Vec<u8> {
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": method,
        "params": {"_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "wrk", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {}
        }}
    });
    let headers = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n");
    request(&headers, &body.to_string())
}

/// Splits a request into head and body.
fn split(request: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let end = memchr::memmem::find(request, b"\r\n\r\n").unwrap() + 4;
    (request.get(..end).unwrap().to_vec(), request.get(end..).unwrap().to_vec())
}

/// A whole request, through every stage.
fn whole_request<M: Measure>(request: &[u8], part: &str, measure: M) -> M::Output {
    let mut lane = Lane::new();
    let expected = lane.answer(request).to_vec();
    assert!(expected.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(memchr::memmem::find(&expected, part.as_bytes()).is_some());
    measure.measure(|| {
        // Compares the reply after its date.
        let reply = black_box(lane.answer(black_box(request)));
        reply.get(60..) == expected.get(60..)
    })
}

/// Lengths of the head and the body of a framed request.
#[derive(Default, PartialEq)]
struct Framed(usize, usize);

impl Handler for Framed {
    fn wants_body(&mut self, _head: &RequestHead, _head_bytes: &[u8]) -> bool {
        false
    }

    fn handle(&mut self, request: Result<Request<'_>, RejectReason>) -> Flow {
        if let Ok(request) = black_box(request) {
            *self = Self(request.head_bytes.len(), request.body_length);
        }
        Flow::Continue
    }
}

fn frame<M: Measure>(measure: M) -> M::Output {
    let (head, body) = split(&canonical());
    let (mut padded, length) = padded(&canonical());
    let (mut framer, limits) = (Framer::default(), Limits::default());
    measure.measure(|| {
        let mut framed = Framed::default();
        let progress = framer.receive(black_box(&mut padded), length, &limits, &mut framed);
        progress == Progress::Idle && framed == Framed(head.len(), body.len())
    })
}

fn guard<M: Measure>(measure: M) -> M::Output {
    let (bytes, _) = split(&canonical());
    let head = RequestHead::parse(&bytes, &Limits::default()).unwrap().unwrap();
    let mut guard = RequestGuard::new("/mcp", AllowedHosts::new(&[], &[], true));
    measure.measure(|| guard.check(black_box(&head), black_box(&bytes)) == Ok(Route::Mcp))
}

/// The snapshot of the demo server.
fn snapshot() -> Snapshot {
    let server = demo::server().build();
    server
        .registry()
        .read(|registry| Snapshot::build(registry, &Limits::default(), &SigningKey::new(b"key")))
        .unwrap()
}

/// The arguments of the canonical call.
fn arguments() -> Value {
    json!({"message": "hello world"})
}

fn route<M: Measure>(measure: M) -> M::Output {
    let limits = Limits::default();
    let (bytes, body) = split(&canonical());
    let head = RequestHead::parse(&bytes, &limits).unwrap().unwrap();
    let (mut body, length) = padded(&body);
    let mut decoder = Decoder::new(&limits);
    let document = decoder.decode(&mut body, length).unwrap();
    let (snapshot, mut out) = (snapshot(), Vec::new());
    let echo = snapshot.tools().find("echo").unwrap();
    let mut sessions = Sessions::new(SigningKey::new(b"key"), 1, 100, 100);
    let mut entropy = || [0; 16];
    let mut context = RouterContext {
        snapshot: &snapshot,
        sessions: &mut sessions,
        now: 0,
        entropy: &mut entropy,
        limits: &limits,
    };
    measure.measure(|| {
        let transport = Transport::Http(Headers { head: black_box(&head), bytes: black_box(&bytes) });
        match mcp::route(&mut context, transport, black_box(document.root()), &mut out) {
            Outcome::Run(call) => Arc::ptr_eq(call.callable, echo.callable()) && call.id == Id::Unsigned(1),
            _ => false,
        }
    })
}

fn validate_echo<M: Measure>(measure: M) -> M::Output {
    let snapshot = snapshot();
    let validator = snapshot.tools().find("echo").unwrap().input();
    on_tape(&arguments(), |arguments| {
        measure.measure(|| validator.validate(black_box(arguments)) == Validation::Valid)
    })
}

fn run<M: Measure>(measure: M) -> M::Output {
    let snapshot = snapshot();
    let echo: &RegisteredTool = snapshot.tools().find("echo").unwrap();
    let runner = Runner::new(
        Completions::new(1, 1, 1, Arc::new(|| {})),
        WorkerPools::default(),
        ShardContext::default(),
        &Limits::default(),
    );
    let revision = Revision::V2026_07_28;
    let caller = Caller { revision, capabilities: Capabilities::default(), shard: 0 };
    let mut reply = Reply::default();
    let callable = &**echo.callable();
    let request = RequestContext {
        caller,
        target: callable.shared_name(),
        id: Id::Unsigned(1),
        headers: None,
        meta: None,
        peer: None,
        received: Instant::now(),
    };
    let output = on_tape(&arguments(), |arguments| {
        measure.measure(|| {
            reply.clear();
            let started = runner.start(
                callable,
                black_box(arguments),
                &request,
                None,
                |_| Err(NoRoom::Full),
                &mut reply,
            );
            matches!(started, Started::Done(None)) && !black_box(&reply).is_error()
        })
    });
    let mut written = Vec::new();
    reply.write(&mut written, Kind::Tool, revision);
    assert!(written == br#""content":[{"type":"text","text":"hello world"}]"#);
    output
}

fn encode<M: Measure>(measure: M) -> M::Output {
    let snapshot = snapshot();
    let echo: &RegisteredTool = snapshot.tools().find("echo").unwrap();
    let mut heads = ResponseHeads::new(SystemTime::now());
    let mut answers = CallAnswers::new(&Limits::default());
    let mut reply = Reply::default();
    reply.text("hello world");
    let expected = Lane::new().answer(&canonical()).to_vec();
    let mut out = Vec::with_capacity(4096);
    measure.measure(|| {
        out.clear();
        let response = heads.reserve(&mut out);
        let (id, revision) = (black_box(Id::Unsigned(1)), Revision::V2026_07_28);
        let (_, refused) =
            answers.result(&mut out, &snapshot, echo.callable(), id, revision, black_box(&mut reply));
        heads.finish(&mut out, response);
        // Compares the reply after its date.
        refused.is_none() && black_box(&out).get(60..) == expected.get(60..)
    })
}
