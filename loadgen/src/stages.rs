//! Times of single stages of a request, in this process: with the parser, validator, registry and allocator of the server, without
//! a socket. `cargo bench --bench stages` measures more of them.

use std::{
    collections::BTreeMap,
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use core_affinity::CoreId;
use corelane::{
    Limits, Registry, Reply, Revision, Tool,
    internals::json::{Decoder, Node},
    internals::jsonrpc::Id,
    internals::mcp::CallAnswers,
    internals::registry::{ServerInfo, Snapshot},
    internals::schema::{Validation, Validator},
    internals::signed_token::SigningKey,
};
use serde_json::{Value, json};

use crate::{
    error::LoadError,
    payloads,
    result::{StageTimes, Stages},
};

/// Operations that are timed together where one takes less than about a microsecond, because reading the clock takes longer.
pub(crate) const BATCH: u32 = 16;
/// Measured time of a stage, after a tenth of it without measuring.
const LENGTH: Duration = Duration::from_millis(200);
/// Fields of the validated arguments, and tools of the registry.
const FIELDS: usize = 20;
const TOOLS: usize = 1_000;
/// Number between two tools that are looked up, coprime to [`TOOLS`], so that no cache anticipates the next one.
const STRIDE: usize = 389;

/// A stage: its name in results, and its measurement, which is `None` where its outcome is wrong.
type Stage = (&'static str, fn() -> Option<Vec<f64>>);

/// Measures the stages of the roadmap's budget on this core.
///
/// # Errors
/// When the outcome of a stage is wrong.
pub fn measure(core: usize) -> Result<Stages, LoadError> {
    const STAGES: [Stage; 4] = [
        ("json_encode_small", encode),
        ("json_decode_small", decode),
        ("validate_20", validate),
        ("registry_1000", look_up),
    ];
    let mut stages = BTreeMap::new();
    for (name, stage) in STAGES {
        let times = on_core(core, stage)?
            .and_then(|times| StageTimes::of(times, BATCH))
            .ok_or_else(|| LoadError::Resource(format!("stage {name} came out wrong")))?;
        stages.insert(name.to_owned(), times);
    }
    Ok(Stages { stages, about: BTreeMap::from([("core".to_owned(), json!(core))]) })
}

/// Runs a measurement on a thread of its own, because the affinity of a thread stays.
pub(crate) fn on_core<T: Send + 'static>(
    core: usize,
    measure: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LoadError> {
    let measured = thread::spawn(move || {
        core_affinity::set_for_current(CoreId { id: core });
        measure()
    });
    measured.join().map_err(|_| LoadError::Resource("the measurement of a stage panicked".to_owned()))
}

/// Times of an operation in nanoseconds, each the mean of a batch. `None` if an outcome is wrong.
pub(crate) fn times_ns(
    length: Duration,
    batch: u32,
    mut operation: impl FnMut() -> bool,
) -> Option<Vec<f64>> {
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < length || times.is_empty() {
        let started = Instant::now();
        let mut is_right = true;
        for _ in 0..batch {
            is_right &= operation();
        }
        let each_ns = started.elapsed().as_secs_f64() * 1e9 / f64::from(batch);
        if !is_right {
            return None;
        }
        if began.elapsed() > length / 10 || times.is_empty() {
            times.push(each_ns);
        }
    }
    Some(times)
}

impl StageTimes {
    /// Summarizes times of batches.
    fn of(mut times_ns: Vec<f64>, batch: u32) -> Option<Self> {
        times_ns.sort_unstable_by(f64::total_cmp);
        let last = times_ns.len().checked_sub(1)?;
        let at = |share: f64| times_ns.get((last as f64 * share).ceil() as usize).copied();
        Some(Self {
            p50_ns: at(0.5)?,
            p95_ns: at(0.95)?,
            p99_ns: at(0.99)?,
            mean_ns: times_ns.iter().sum::<f64>() / times_ns.len() as f64,
            count: times_ns.len() as u64 * u64::from(batch),
            batch: u64::from(batch),
        })
    }
}

/// Calls `measure` with a document on the tape.
pub(crate) fn on_tape<T>(text: &str, measure: impl FnOnce(Node<'_>) -> Option<T>) -> Option<T> {
    let (mut bytes, length) = padded(text);
    let mut decoder = Decoder::new(&Limits::default());
    let document = decoder.decode(&mut bytes, length).ok()?;
    measure(document.root())
}

/// The bytes as in a receive buffer, and their length without the padding.
fn padded(text: &str) -> (Vec<u8>, usize) {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(text.len() + corelane_ring::PADDING_BYTES, 0);
    (bytes, text.len())
}

/// Decodes the body of the canonical call. It has no escapes, so that decoding in place does not change it.
fn decode() -> Option<Vec<f64>> {
    let arguments = json!({"message": "hello world"});
    let params = json!({"name": "echo", "arguments": arguments, "_meta": crate::request::modern_meta()});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    let (mut bytes, length) = padded(&body.to_string());
    let mut decoder = Decoder::new(&Limits::default());
    let expected = count_values(&body);
    times_ns(LENGTH, BATCH, || {
        let decoded = decoder.decode(black_box(&mut bytes), length);
        decoded.is_ok_and(|document| black_box(document.root()).node_count() == expected)
    })
}

/// Number of values of a document, keys included.
fn count_values(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(|member| 1 + count_values(member)).sum(),
        Value::Array(elements) => elements.iter().map(count_values).sum(),
        _ => 0,
    }
}

/// Encodes a text and the result around it.
fn encode() -> Option<Vec<f64>> {
    let limits = Limits::default();
    let snapshot = Snapshot::build(&registry(1), &limits, &SigningKey::new(b"key")).ok()?;
    let tool = snapshot.tools().first()?;
    let mut answers = CallAnswers::new(&limits);
    let (mut reply, mut out) = (Reply::default(), Vec::with_capacity(4096));
    times_ns(LENGTH, BATCH, || {
        out.clear();
        reply.clear();
        reply.text(black_box("hello world"));
        let id = Id::Unsigned(1);
        answers.result(&mut out, &snapshot, tool.callable(), id, Revision::V2026_07_28, &mut reply);
        let is_result = out.starts_with(br#"{"jsonrpc":"2.0","id":1,"result":{"#);
        is_result && memchr::memmem::find(black_box(&out), br#""text":"hello world""#).is_some()
    })
}

/// Validates 20 strings against their compiled schema.
fn validate() -> Option<Vec<f64>> {
    let validator = Validator::compile(&payloads::strings_schema(FIELDS), &Limits::default()).ok()?;
    on_tape(&payloads::strings(FIELDS), |arguments| {
        times_ns(LENGTH, BATCH, || validator.validate(black_box(arguments)) == Validation::Valid)
    })
}

/// Finds each of 1,000 tools by its name in turn.
fn look_up() -> Option<Vec<f64>> {
    let snapshot = Snapshot::build(&registry(TOOLS), &Limits::default(), &SigningKey::new(b"key")).ok()?;
    let order = (0..TOOLS).map(|number| number * STRIDE % TOOLS);
    let wanted: Vec<(String, usize)> = order.map(|number| (tool_name(number), number)).collect();
    let mut turns = wanted.iter().cycle();
    times_ns(LENGTH, BATCH, || {
        let Some((name, position)) = turns.next() else { return false };
        snapshot.tools().find(black_box(name)).is_some_and(|tool| tool.callable().position() == *position)
    })
}

fn registry(tools: usize) -> Registry {
    let info = ServerInfo { name: "stages".to_owned(), version: "1".to_owned(), ..ServerInfo::default() };
    let mut registry = Registry::new(info);
    for number in 0..tools {
        registry.add(Tool::new(tool_name(number)).run(|_, _| "read"));
    }
    registry
}

fn tool_name(number: usize) -> String {
    format!("read_records_{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_is_measured() {
        let measured = measure(0).unwrap();
        assert_eq!(measured.stages.len(), 4);
        for (name, times) in &measured.stages {
            assert!(
                times.p50_ns > 0.0 && times.p50_ns <= times.p95_ns && times.p95_ns <= times.p99_ns,
                "{name}"
            );
        }
    }

    #[test]
    fn wrong_outcome_is_no_time() {
        assert!(times_ns(Duration::from_millis(1), 1, || false).is_none());
        let times = StageTimes::of((1..=100).rev().map(f64::from).collect(), 16).unwrap();
        assert_eq!((times.p50_ns, times.p95_ns, times.count), (51.0, 96.0, 1600));
        assert!(StageTimes::of(Vec::new(), 1).is_none());
    }
}
