//! Verifies that a warm request allocates nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../benches/support/mod.rs"]
mod lane;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Mutex,
    time::Duration,
};

use corelane::{
    Config, Node, RequestId, Server, Tool,
    config::Limits,
    demo,
    internals::json::Decoder,
    internals::policy::{
        Flag, Flags, ShardFlags, ShardRollout, Unit,
        comparison::{ClusterMap, CohortRecorder, POSITIONS},
    },
    internals::schema::Validator,
};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// A process can have one profiler at a time.
static PROFILED: Mutex<()> = Mutex::new(());

fn blocks() -> u64 {
    dhat::HeapStats::get().total_blocks
}

#[test]
fn warm_canonical_request_path_allocates_nothing() {
    let _alone = PROFILED.lock();
    let _profiler = dhat::Profiler::builder().testing().build();
    for request in [lane::canonical(), lane::legacy()] {
        let mut lane = lane::Lane::new();
        let first = lane.answer(&request).to_vec();
        let text = String::from_utf8(first.clone()).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK") && text.contains("hello world"), "{text}");
        let before = blocks();
        for _ in 0..1000 {
            assert!(lane.answer(&request) == first.as_slice());
        }
        assert_eq!(blocks() - before, 0, "allocations in 1,000 warm requests");
    }
}

#[test]
fn an_inline_handler_reads_its_request_without_an_allocation() {
    let _alone = PROFILED.lock();
    let _profiler = dhat::Profiler::builder().testing().build();
    let tool = Tool::new("echo").input_schema::<()>(json!({})).run_raw(|_, cx, reply| {
        let client = cx.client().unwrap();
        let texts = [
            cx.header("HOST").as_deref() == Some("127.0.0.1:8080"),
            cx.header("x-absent").is_none(),
            cx.meta("io.modelcontextprotocol/protocolVersion").and_then(Node::as_str) == Some("2026-07-28"),
            (client.name, client.version, client.title) == ("wrk", "1", None),
            cx.session_id().is_none(),
            cx.request_id() == RequestId::Unsigned(1),
            cx.peer().is_none(),
            cx.tool() == "echo",
            cx.extension("com.example/none").is_none(),
        ];
        reply.text(if texts.iter().all(|is_right| *is_right) { "all read" } else { "not all" });
    });
    let mut lane = lane::Lane::of(&Server::builder("test", "0").tool(tool).build());
    let request = lane::canonical();
    let first = lane.answer(&request).to_vec();
    assert!(String::from_utf8_lossy(&first).contains("all read"), "{}", String::from_utf8_lossy(&first));
    let before = blocks();
    for _ in 0..1000 {
        assert!(lane.answer(&request) == first.as_slice());
    }
    assert_eq!(blocks() - before, 0, "allocations in 1,000 warm requests");
}

#[test]
fn warm_server_allocates_nothing_per_request() {
    let _alone = PROFILED.lock();
    let _profiler = dhat::Profiler::builder().testing().build();
    let config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], shards: Some(1), ..Config::default() };
    let server = demo::server().build().start(&config).unwrap();
    let mut stream = TcpStream::connect(server.addresses()[0]).unwrap();
    const BATCH: usize = 16;
    const BATCHES: usize = 500;
    let requests = lane::canonical().repeat(BATCH);
    stream.write_all(&lane::canonical()).unwrap();
    let mut replies = vec![0; 64 * 1024];
    let length = stream.read(&mut replies).unwrap();
    let mut exchange = |stream: &mut TcpStream| {
        stream.write_all(&requests).unwrap();
        stream.read_exact(&mut replies[..length * BATCH]).unwrap();
    };
    for _ in 0..100 {
        exchange(&mut stream);
    }
    // The remaining allocations depend on time, not on requests: the date once per second, an executor timer ten times
    // per second, and the first value of a histogram in a range.
    let rounds = [(); 5].map(|()| {
        let before = blocks();
        for _ in 0..BATCHES {
            exchange(&mut stream);
        }
        blocks() - before
    });
    server.stopper().drain();
    server.join().unwrap();
    let least = *rounds.iter().min().unwrap();
    let requests = u64::try_from(BATCH * BATCHES).unwrap();
    assert_eq!(least * 100 / requests, 0, "{rounds:?} allocations in rounds of {requests} requests");
}

#[test]
fn requests_of_a_cohort_are_assigned_and_recorded_without_an_allocation() {
    let _alone = PROFILED.lock();
    let _profiler = dhat::Profiler::builder().testing().build();
    let rollout = |flag| {
        let recorder = CohortRecorder::new(ClusterMap::new(POSITIONS / 10));
        ShardRollout::new(flag, flag as u64, recorder.into(), Default::default())
    };
    let base = Flags::ALL.with(Flag::ZeroCopy, false).with(Flag::SchemaCache, false);
    let flags = ShardFlags::new(base, vec![rollout(Flag::ZeroCopy), rollout(Flag::SchemaCache)], 0);
    let before = blocks();
    let mut cohort = 0;
    for key in 0..10_000_u32 {
        let unit = Unit::of(&key);
        cohort += u32::from(flags.flags_of(unit).is_on(Flag::ZeroCopy));
        flags.record(unit, Duration::from_nanos(u64::from(key) << 8), key % 3 == 0);
    }
    assert_eq!(blocks() - before, 0, "allocations");
    assert!((900..1_100).contains(&cohort), "{cohort}");
}

#[test]
fn first_match_of_a_backtracking_pattern_compiles_nothing() {
    // An engine allocates its scratch space on first use, for a whole pattern as for the parts into which the library
    // splits it.
    let _profiler = dhat::Profiler::builder().testing().build();
    let limits = Limits { schema_backtracking: true, ..Limits::default() };
    let parts = json!({"allOf": [{"pattern": "^(?:.*[0-9])"}, {"pattern": "^(?:[a-zé0-9]+$)"}, {"pattern": "^(?:.{2,}$)"}]});
    let whole = json!({"pattern": "^(?=.*[0-9])(?=[a-zé0-9]+$).{2,}$"});
    let [of_parts, of_whole] = [parts, whole].map(|schema| {
        let validator = Validator::compile(&schema, &limits).unwrap();
        let mut bytes = "\"aé1\"".to_owned().into_bytes();
        let length = bytes.len();
        bytes.resize(length + 64, 0);
        let mut decoder = Decoder::new(&limits);
        let document = decoder.decode(&mut bytes, length).unwrap();
        let before = blocks();
        assert!(validator.is_valid(document.root()));
        let first = blocks() - before;
        assert!(validator.is_valid(document.root()));
        first
    });
    assert!(of_whole <= of_parts + 8, "{of_whole} allocations, {of_parts} of the parts");
}
