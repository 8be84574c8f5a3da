//! Time per operation of the parts of a request: JSON decoding and encoding, validation, tool lookup.
//!
//! Percentiles are of single operations, or of batches of 16 if an operation takes less than about a microsecond,
//! because reading the clock takes tens of nanoseconds. The mean of a batch is recorded 16 times, so that p99 is one of
//! batches, and a single slow operation shows as a sixteenth of its time. Every value includes the clock's own time, or
//! a sixteenth of it with batches; it is measured and printed.
//!
//! Operations alternate in several rounds, so that noise of the machine affects all of them. The program is pinned to
//! the last core and uses the server's allocator. Every outcome is checked; a wrong one ends the program.
//!
//! `cargo bench --bench stages`; `-- --help` lists the options. On shared machines times vary by tens of percents; to
//! measure the cost of a change, use `cargo bench --bench instructions`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "support/operations.rs"]
mod operations;
#[allow(dead_code, reason = "only the canonical request is wanted of it")]
mod support;

use std::{
    hint::black_box,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use corelane::{
    Limits, Registry, Reply, Revision, Tool,
    internals::jsonrpc::Id,
    internals::mcp::CallAnswers,
    internals::registry::{ServerInfo, Snapshot},
    internals::schema::{Validation, Validator},
    internals::signed_token::SigningKey,
};
use hdrhistogram::Histogram;
use operations::{
    Measure, decode, description, format_thousands, name, on_tape, selected, strings, validate,
};
use serde_json::{Map, Value, json};

/// The server's allocator, which accounts for a large part of the time to compile a schema.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Duration of an operation's turn in each round, and of the warm-up before it.
const TURN: Duration = Duration::from_millis(200);
const WARM_UP: Duration = Duration::from_millis(20);

/// The longest recorded time of a batch; longer ones are recorded as this.
const BATCH_NS_MAX: u64 = 10_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Stage {
    /// decode the body of the canonical request to the tape
    JsonDecodeSmall,
    /// decode the body of a call with 20 strings
    JsonDecodeMedium,
    /// decode the body of a call with 100 strings
    JsonDecodeLarge,
    /// encode a text and the result around it
    JsonEncodeSmall,
    /// validate 1 string on the tape against its compiled schema
    #[value(name = "validate_1")]
    Validate1,
    /// validate 5 strings
    #[value(name = "validate_5")]
    Validate5,
    /// validate 20 strings
    #[value(name = "validate_20")]
    Validate20,
    /// validate 100 strings
    #[value(name = "validate_100")]
    Validate100,
    /// compile the schema of 20 strings and validate, for each call
    #[value(name = "compile_and_validate_20")]
    CompileAndValidate20,
    /// find a tool by its name, among 1
    #[value(name = "registry_1")]
    Registry1,
    /// find a tool among 100, each in turn
    #[value(name = "registry_100")]
    Registry100,
    /// find a tool among 1,000, each in turn
    #[value(name = "registry_1000")]
    Registry1000,
}

impl Stage {
    /// Prepares the operation and measures it.
    fn measure_with<M: Measure>(self, measure: M) -> M::Output {
        match self {
            Self::JsonDecodeSmall => decode(&canonical_body(), measure),
            Self::JsonDecodeMedium => decode(&body_of_call(20), measure),
            Self::JsonDecodeLarge => decode(&body_of_call(100), measure),
            Self::JsonEncodeSmall => encode(measure),
            Self::Validate1 => validate(1, measure),
            Self::Validate5 => validate(5, measure),
            Self::Validate20 => validate(20, measure),
            Self::Validate100 => validate(100, measure),
            Self::CompileAndValidate20 => compile_and_validate(20, measure),
            Self::Registry1 => find_tool(1, measure),
            Self::Registry100 => find_tool(100, measure),
            Self::Registry1000 => find_tool(1000, measure),
        }
    }

    /// Number of operations that are timed together.
    fn batch(self) -> u64 {
        match self {
            Self::JsonDecodeMedium | Self::JsonDecodeLarge | Self::CompileAndValidate20 => 1,
            _ => 16,
        }
    }

    /// Goal for the 95th percentile, in nanoseconds.
    fn goal_ns(self) -> Option<u64> {
        match self {
            Self::JsonDecodeSmall | Self::JsonEncodeSmall => Some(1000),
            Self::Validate20 => Some(2000),
            Self::Registry1 | Self::Registry100 | Self::Registry1000 => Some(50),
            _ => None,
        }
    }
}

/// Goal for the ratio of compiling for each call to using a compiled validator.
const KEPT_VALIDATOR_GOAL: f64 = 50.0;

/// Time per operation of the parts of a request.
#[derive(Parser)]
#[command(name = "stages")]
struct Options {
    /// Number of turns of each operation, a fifth of a second each
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Also write the times to this file. A relative path starts at the package's directory
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure only these
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    only: Vec<Stage>,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Passed by cargo test: nothing is measured
    #[arg(long, hide = true)]
    test: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.test {
        return ExitCode::SUCCESS;
    }
    match report(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stages: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, and writes the JSON file on request.
fn report(options: &Options) -> Result<(), String> {
    let core = pin()?;
    let mut times: Vec<_> =
        selected(&options.only).into_iter().map(|stage| (stage, Times::new(stage))).collect();
    for _ in 0..options.rounds {
        for (stage, times) in &mut times {
            stage.measure_with(times);
        }
    }
    let clock_ns = clock_ns();
    println!(
        "nanoseconds per operation ({} rounds, core {core}; reading the clock: {clock_ns})",
        options.rounds
    );
    println!("{:<23} {:>9} {:>9} {:>9} {:>9}  p95 goal", "", "p50", "p95", "p99", "mean");
    let mut stages = Map::new();
    for (stage, times) in &times {
        let [p50, p95, p99, mean] = times.figures().map(formatted);
        let goal = stage.goal_ns().map(format_thousands).unwrap_or_default();
        println!(
            "{:<23} {p50:>9} {p95:>9} {p99:>9} {mean:>9} {goal:>9}  {}",
            name(*stage),
            description(*stage)
        );
        stages.insert(name(*stage), times.json());
    }
    let p50 = |wanted| Some(times.iter().find(|(stage, _)| *stage == wanted)?.1.figures()[0]);
    if let (Some(compiled), Some(kept)) = (p50(Stage::CompileAndValidate20), p50(Stage::Validate20)) {
        let ratio = compiled / kept;
        println!(
            "a kept validator of 20 strings is {ratio:.0} times as fast (p50); goal {KEPT_VALIDATOR_GOAL}"
        );
    }
    let Some(file) = &options.json else {
        return Ok(());
    };
    let results = json!({
        "schema": "corelane-stages-1",
        "cpu": operations::cpu(),
        "rustc": operations::rustc(),
        "rounds": options.rounds,
        "core": core,
        "clock_ns": clock_ns,
        "stages": stages,
    });
    operations::write_json(file, &results)
}

/// Pins this thread to the last core, because the first one handles most of the interrupts.
fn pin() -> Result<usize, String> {
    let last = core_affinity::get_core_ids().and_then(|cores| cores.last().copied());
    let pinned = last.filter(|core| core_affinity::set_for_current(*core));
    pinned.map(|core| core.id).ok_or_else(|| "this thread cannot be pinned to a core".to_owned())
}

/// Median time of reading the clock.
fn clock_ns() -> u64 {
    let mut times = Histogram::<u64>::new_with_bounds(1, BATCH_NS_MAX, 3).unwrap();
    for _ in 0..100_000 {
        times.saturating_record(elapsed_ns(Instant::now()));
    }
    times.value_at_quantile(0.5)
}

fn elapsed_ns(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Formats nanoseconds.
fn formatted(nanoseconds: f64) -> String {
    if nanoseconds < 100.0 {
        format!("{nanoseconds:.1}")
    } else {
        format_thousands(nanoseconds.round() as u64)
    }
}

/// Times of one operation over all rounds.
struct Times {
    stage: Stage,
    /// Times of whole batches, each recorded once per operation. Divided by the batch size they have a resolution below
    /// a nanosecond.
    batches_ns: Histogram<u64>,
}

impl Times {
    fn new(stage: Stage) -> Self {
        Self { stage, batches_ns: Histogram::new_with_bounds(1, BATCH_NS_MAX, 3).unwrap() }
    }

    /// p50, p95, p99 and mean of an operation, in nanoseconds.
    fn figures(&self) -> [f64; 4] {
        let quantile = |quantile| self.batches_ns.value_at_quantile(quantile) as f64;
        [quantile(0.5), quantile(0.95), quantile(0.99), self.batches_ns.mean()]
            .map(|nanoseconds| nanoseconds / self.stage.batch() as f64)
    }

    fn json(&self) -> Value {
        let [p50, p95, p99, mean] = self.figures().map(|nanoseconds| (nanoseconds * 10.0).round() / 10.0);
        json!({
            "p50_ns": p50,
            "p95_ns": p95,
            "p99_ns": p99,
            "mean_ns": mean,
            "count": self.batches_ns.len(),
            "batch": self.stage.batch(),
        })
    }
}

impl Measure for &mut Times {
    type Output = ();

    /// Measures one round.
    fn measure(self, mut operation: impl FnMut() -> bool) {
        let batch = self.stage.batch();
        let mut timed = || {
            let mut right = true;
            let began = Instant::now();
            for _ in 0..batch {
                right &= operation();
            }
            let took = elapsed_ns(began);
            assert!(right, "{} came out wrong", name(self.stage));
            took
        };
        let began = Instant::now();
        while began.elapsed() < WARM_UP {
            timed();
        }
        let began = Instant::now();
        while began.elapsed() < TURN {
            self.batches_ns.saturating_record_n(timed(), batch);
        }
    }
}

fn canonical_body() -> Vec<u8> {
    let request = support::canonical();
    let end = memchr::memmem::find(&request, b"\r\n\r\n").unwrap() + 4;
    request.get(end..).unwrap().to_vec()
}

/// The body of a call with `count` strings.
fn body_of_call(count: usize) -> Vec<u8> {
    let (_, arguments) = strings(count);
    let params = json!({"name": "echo", "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string().into_bytes()
}

/// The cost of a tool that replies with a text: the escaped text, and the result around it.
fn encode<M: Measure>(measure: M) -> M::Output {
    let snapshot = Snapshot::build(&registry(1), &Limits::default(), &SigningKey::new(b"key")).unwrap();
    let tool = snapshot.tools().first().unwrap();
    let mut answers = CallAnswers::new(&Limits::default());
    let (mut reply, mut out) = (Reply::default(), Vec::with_capacity(4096));
    let id = Id::Unsigned(1);
    let expected = concat!(
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","content":[{"type":"text","text":"hello world"}],"#,
        r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"stages","version":"1"}}}}"#
    );
    measure.measure(|| {
        out.clear();
        reply.clear();
        reply.text(black_box("hello world"));
        answers.result(&mut out, &snapshot, tool.callable(), id, Revision::V2026_07_28, &mut reply);
        black_box(&out) == expected.as_bytes()
    })
}

/// The cost of a validation without a compiled validator.
fn compile_and_validate<M: Measure>(count: usize, measure: M) -> M::Output {
    let (schema, arguments) = strings(count);
    let limits = Limits::default();
    on_tape(&arguments, |arguments| {
        measure.measure(|| {
            let validator = Validator::compile(black_box(&schema), &limits);
            validator.is_ok_and(|validator| validator.validate(black_box(arguments)) == Validation::Valid)
        })
    })
}

fn tool_name(number: usize) -> String {
    format!("read_records_{number}")
}

/// A registry with `tools` tools.
fn registry(tools: usize) -> Registry {
    let info = ServerInfo { name: "stages".to_owned(), version: "1".to_owned(), ..ServerInfo::default() };
    let mut registry = Registry::new(info);
    for number in 0..tools {
        registry.add(Tool::new(tool_name(number)).run(|_, _| "read"));
    }
    registry
}

/// Finds every tool in turn, with a stride, so that neither the caches nor the branch predictor anticipate the next
/// one.
fn find_tool<M: Measure>(tools: usize, measure: M) -> M::Output {
    /// A stride that is coprime to the numbers of tools.
    const STRIDE: usize = 389;
    let snapshot = Snapshot::build(&registry(tools), &Limits::default(), &SigningKey::new(b"key")).unwrap();
    let order = (0..tools).map(|number| number * STRIDE % tools);
    let wanted: Vec<(String, usize)> = order.map(|number| (tool_name(number), number)).collect();
    let mut turns = wanted.iter().cycle();
    measure.measure(|| {
        let Some((name, position)) = turns.next() else { return false };
        snapshot.tools().find(black_box(name)).is_some_and(|tool| tool.callable().position() == *position)
    })
}
