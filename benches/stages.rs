//! Time per operation of what a request is made of: JSON in and out, arguments against their schema, a tool by its name.
//!
//! Percentiles are of single operations, or of batches of 16 where one operation takes less than a microsecond or so: reading
//! the clock takes tens of nanoseconds, which would be most of what is seen. Of a batch the mean of its operations is recorded,
//! 16 times, so a p99 is one of batches, and an operation that is slow alone among fast ones shows as a sixteenth of itself.
//! The clock's own time is in every figure, a sixteenth of it where there are batches; it is measured and told.
//!
//! Operations take turns, for several rounds, so that the machine's mood is in all of them. The program runs pinned to the last
//! core, with the server's allocator. Every outcome is checked, and a wrong one ends the program.
//!
//! `cargo bench --bench stages`; `-- --help` lists the options. Times of shared machines move by tens of percents: what a change
//! costs is told by `cargo bench --bench instructions`.

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
    internals::schema::{Validator, Verdict},
    internals::signed_token::Secret,
};
use hdrhistogram::Histogram;
use operations::{Measure, chosen, decode, grouped, name, on_tape, strings, validate, what};
use serde_json::{Map, Value, json};

/// The server's own: what compiling a schema takes is to a good part the allocator's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long an operation runs in each round, and before it is timed.
const TURN: Duration = Duration::from_millis(200);
const WARM_UP: Duration = Duration::from_millis(20);

/// The longest time of a batch that is told from longer ones.
const BATCH_NS_MAX: u64 = 10_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Stage {
    /// the body of the canonical request to the tape
    JsonDecodeSmall,
    /// the body of a call with 20 strings
    JsonDecodeMedium,
    /// the body of a call with 100 strings
    JsonDecodeLarge,
    /// a text said, and the result's envelope around it
    JsonEncodeSmall,
    /// 1 string on the tape against its compiled schema
    #[value(name = "validate_1")]
    Validate1,
    /// 5 strings
    #[value(name = "validate_5")]
    Validate5,
    /// 20 strings
    #[value(name = "validate_20")]
    Validate20,
    /// 100 strings
    #[value(name = "validate_100")]
    Validate100,
    /// 20 strings, the schema compiled for each call
    #[value(name = "compile_and_validate_20")]
    CompileAndValidate20,
    /// a tool by its name, among 1
    #[value(name = "registry_1")]
    Registry1,
    /// among 100, each in turn
    #[value(name = "registry_100")]
    Registry100,
    /// among 1,000, each in turn
    #[value(name = "registry_1000")]
    Registry1000,
}

impl Stage {
    /// Makes the operation ready and has it measured.
    fn measured<M: Measure>(self, measure: M) -> M::Found {
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
            Self::Registry1 => look_up(1, measure),
            Self::Registry100 => look_up(100, measure),
            Self::Registry1000 => look_up(1000, measure),
        }
    }

    /// Operations timed together.
    fn batch(self) -> u64 {
        match self {
            Self::JsonDecodeMedium | Self::JsonDecodeLarge | Self::CompileAndValidate20 => 1,
            _ => 16,
        }
    }

    /// What the 95th percentile should be at most, in nanoseconds.
    fn goal_ns(self) -> Option<u64> {
        match self {
            Self::JsonDecodeSmall | Self::JsonEncodeSmall => Some(1000),
            Self::Validate20 => Some(2000),
            Self::Registry1 | Self::Registry100 | Self::Registry1000 => Some(50),
            _ => None,
        }
    }
}

/// How many times faster than compiling for each call a validator that is kept should be.
const KEPT_VALIDATOR_GOAL: f64 = 50.0;

/// Time per operation of what a request is made of.
#[derive(Parser)]
#[command(name = "stages")]
struct Options {
    /// How often each operation has its turn, of a fifth of a second
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Write the times to this file too. A relative path starts at the package's directory
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure these only
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    only: Vec<Stage>,
    /// Said by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
    /// Said by cargo test: nothing is measured
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
        Err(problem) => {
            eprintln!("stages: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, and writes what was asked for.
fn report(options: &Options) -> Result<(), String> {
    let core = pin()?;
    let mut times: Vec<_> =
        chosen(&options.only).into_iter().map(|stage| (stage, Times::new(stage))).collect();
    for _ in 0..options.rounds {
        for (stage, times) in &mut times {
            stage.measured(times);
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
        let [p50, p95, p99, mean] = times.figures().map(told);
        let goal = stage.goal_ns().map(grouped).unwrap_or_default();
        println!("{:<23} {p50:>9} {p95:>9} {p99:>9} {mean:>9} {goal:>9}  {}", name(*stage), what(*stage));
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

/// Pins this thread to the last core, for the first one hears most of the interrupts.
fn pin() -> Result<usize, String> {
    let last = core_affinity::get_core_ids().and_then(|cores| cores.last().copied());
    let pinned = last.filter(|core| core_affinity::set_for_current(*core));
    pinned.map(|core| core.id).ok_or_else(|| "this thread cannot be pinned to a core".to_owned())
}

/// What reading the clock takes, the median.
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

/// Nanoseconds as they are printed.
fn told(nanoseconds: f64) -> String {
    if nanoseconds < 100.0 { format!("{nanoseconds:.1}") } else { grouped(nanoseconds.round() as u64) }
}

/// Times of one operation, of all rounds.
struct Times {
    stage: Stage,
    /// Of whole batches, each counted as often as it has operations. An operation takes its share of that, which is told to a
    /// fraction of a nanosecond in this way.
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
    type Found = ();

    /// One round.
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

/// The body of a call with that many strings.
fn body_of_call(count: usize) -> Vec<u8> {
    let (_, arguments) = strings(count);
    let params = json!({"name": "echo", "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string().into_bytes()
}

/// What a tool that says a text costs besides itself: the text escaped, and the result of a call around it.
fn encode<M: Measure>(measure: M) -> M::Found {
    let snapshot = Snapshot::build(&registry(1), &Limits::default(), &Secret::new(b"key")).unwrap();
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
        answers.result(&mut out, &snapshot, tool.callable(), id, Revision::V2026_07_28, &reply);
        black_box(&out) == expected.as_bytes()
    })
}

/// What a validation would cost if validators were not kept.
fn compile_and_validate<M: Measure>(count: usize, measure: M) -> M::Found {
    let (schema, arguments) = strings(count);
    let limits = Limits::default();
    on_tape(&arguments, |arguments| {
        measure.measure(|| {
            let validator = Validator::compile(black_box(&schema), &limits);
            validator.is_ok_and(|validator| validator.judge(black_box(arguments)) == Verdict::Fits)
        })
    })
}

fn tool_name(number: usize) -> String {
    format!("read_records_{number}")
}

/// Of a server with that many tools.
fn registry(tools: usize) -> Registry {
    let info = ServerInfo { name: "stages".to_owned(), version: "1".to_owned(), ..ServerInfo::default() };
    let mut registry = Registry::new(info);
    for number in 0..tools {
        registry.add(Tool::new(tool_name(number)).run(|_, _| "read"));
    }
    registry
}

/// Every tool in turn, those in between skipped, so that neither memory nor the branch predictor knows which is next.
fn look_up<M: Measure>(tools: usize, measure: M) -> M::Found {
    /// Has no divisor in common with a number of tools.
    const STRIDE: usize = 389;
    let snapshot = Snapshot::build(&registry(tools), &Limits::default(), &Secret::new(b"key")).unwrap();
    let order = (0..tools).map(|number| number * STRIDE % tools);
    let wanted: Vec<(String, usize)> = order.map(|number| (tool_name(number), number)).collect();
    let mut turns = wanted.iter().cycle();
    measure.measure(|| {
        let Some((name, position)) = turns.next() else { return false };
        snapshot.tool(black_box(name)).is_some_and(|tool| tool.callable().position() == *position)
    })
}
