//! What a measurement leaves behind: one JSON file, with its units in its names and its histograms whole.
//!
//! The schema is derived from these types (`corelane-loadgen report --schema`) and published as
//! `docs/result.schema.json`. Files of another schema are refused, never guessed at.

use std::{collections::BTreeMap, fs, path::Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{error::LoadError, latency::Latency};

/// The schema these types are.
pub const SCHEMA: &str = "corelane-loadgen-1";

/// Everything one command measured.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResultFile {
    /// Always `corelane-loadgen-1`.
    pub schema: String,
    /// When it began: RFC 3339, UTC.
    pub started: String,
    /// As typed.
    pub command_line: Vec<String>,
    /// Where it was measured.
    pub environment: Environment,
    /// What was measured, in the order it was. Runs with the same workload, contestant and parameters are repeats.
    pub runs: Vec<Run>,
    /// Workloads that were asked for and could not be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_run: Vec<NotRun>,
    /// Instructions per operation, counted by callgrind (`cargo bench --bench instructions -- --json`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<Instructions>,
    /// Times of single stages (`cargo bench --bench stages -- --json`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Stages>,
}

/// A machine and a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// As `/proc/cpuinfo` names it.
    pub cpu_model: String,
    /// Cores this process may use.
    pub cores_count: usize,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Version of the generator.
    pub generator_version: String,
    /// The commit the measured server was built from, or `unknown`. Older generators wrote `git describe` of the directory
    /// they were started in.
    pub commit: String,
    /// How the generator was built: `release` or `debug`.
    pub generator_build: String,
}

/// A workload that could not be run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotRun {
    /// Its id.
    pub workload: String,
    /// Why not.
    pub reason: String,
}

/// One measurement of one server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// A workload's id; of other runs what is asked, as `tools/call echo`.
    pub workload: String,
    /// Whose server: the name that was given, or the server's own.
    pub contestant: String,
    /// What was asked of it.
    pub parameters: Parameters,
    /// What answered.
    pub server: ServerInfo,
    /// How it ended.
    pub outcome: Outcome,
    /// Wall-clock time at which measuring began: seconds since 1970.
    pub began_unix_s: f64,
    /// How long was measured, in seconds, without warm-up and ramp.
    pub measured_s: f64,
    /// Requests sent while measuring.
    pub requests_count: u64,
    /// Replies that were right, while measuring.
    pub replies_count: u64,
    /// What went wrong while measuring, by kind.
    pub errors_count: BTreeMap<String, u64>,
    /// The first reply that was wrong, or the first failure, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// Connections made anew while measuring, because the server or an error had ended the one before.
    #[serde(default)]
    pub reconnects_count: u64,
    /// Requests sent once more because the server had closed their connection before it read them, or, of a `GET`, before it
    /// replied; each counts once, from the time it was first due.
    #[serde(default)]
    pub resent_count: u64,
    /// Right replies per second.
    pub throughput_per_s: f64,
    /// Bytes sent and received while measuring, heads included.
    pub sent_bytes: u64,
    /// See `sent_bytes`.
    pub received_bytes: u64,
    /// From the *intended* time of sending to the last byte of the reply. In a closed loop a request is intended when
    /// it is sent, so this equals `latency_uncorrected`.
    pub latency: Latency,
    /// From the actual time of sending: what a generator reports that stops asking while the server stalls.
    pub latency_uncorrected: Latency,
    /// The same by request of the mix.
    pub requests: Vec<RequestResult>,
    /// Consecutive parts of the measured time.
    pub intervals: Vec<Interval>,
    /// How the generator itself did.
    pub generator: GeneratorSide,
    /// The server's process, if it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_process: Option<ServerProcess>,
    /// The server's own latencies, where its admin address tells them: from bytes received to reply sent off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_latencies: Vec<ServerLatency>,
    /// What this workload measures besides, as `memory_per_connection_bytes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
    /// What was demanded of the run, as `p99<1ms`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

impl Run {
    /// All errors together.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors_count.values().sum()
    }

    /// Whether another run measured the same thing.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        self.workload == other.workload
            && self.contestant == other.contestant
            && self.parameters == other.parameters
    }
}

/// What was asked of the server. Results are compared only where all of this is equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Revision of the protocol, as `2026-07-28`; `none` for plain HTTP.
    pub era: String,
    /// How requests are timed.
    pub pacing: Pacing,
    /// Open connections.
    pub connections_count: u32,
    /// Requests in flight on one connection, at most.
    pub pipeline_depth: u32,
    /// Generator threads.
    pub threads_count: u32,
    /// How long was to be measured, in seconds.
    pub duration_s: f64,
    /// Load before measuring, in seconds.
    pub warmup_s: f64,
    /// The mix.
    pub requests: Vec<RequestParameters>,
    /// The share of the workload's full size this was run at; 1 is all of it.
    pub scale: f64,
}

/// How requests are timed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Pacing {
    /// The next request when a reply has come.
    Closed,
    /// At a fixed rate, evenly spaced, whatever the server does.
    OpenConstant {
        /// Requests per second over all connections.
        rate_per_s: f64,
    },
    /// At a fixed mean rate, with exponentially distributed gaps, as many independent clients would.
    OpenPoisson {
        /// Requests per second over all connections.
        rate_per_s: f64,
    },
}

/// One request of a mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestParameters {
    /// As `tools/call echo`.
    pub name: String,
    /// Its share of the mix is this over the sum of all.
    pub weight: u32,
    /// Bytes of the whole request, head included.
    pub request_bytes: u32,
    /// The arguments as given, templates and all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// The server as it describes itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerInfo {
    /// Its address and path.
    pub url: String,
    /// Its name, if it said one.
    pub name: String,
    /// Its version, if it said one.
    pub version: String,
    /// The commit it was built from, as its admin address tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Limits in force, as its admin address tells them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, f64>,
    /// Optimisations that can be switched off, and whether they were on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, bool>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// As planned.
    Complete,
    /// By the person who started it; what had run by then was measured.
    Interrupted,
    /// The server stopped answering, this many seconds into the run.
    ServerGone {
        /// Seconds since measuring began.
        after_s: f64,
    },
}

/// One request of the mix, measured.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestResult {
    /// As in the parameters.
    pub name: String,
    /// Replies that were right.
    pub replies_count: u64,
    /// Replies that were wrong.
    pub errors_count: u64,
    /// From the intended time of sending.
    pub latency: Latency,
}

/// A part of the measured time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Seconds since measuring began.
    pub start_s: f64,
    /// Its length in seconds.
    pub length_s: f64,
    /// Right replies to requests that were due in it, whenever they came.
    pub replies_count: u64,
    /// Requests due in it that came to nothing.
    pub errors_count: u64,
    /// Right replies that came in it, whenever their requests were due. Results of older generators do not have it; their
    /// `replies_count` is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_count: Option<u64>,
    /// Of the requests that were due in it, from the intended time of sending.
    pub latency: Latency,
}

impl Interval {
    /// Right replies per second that came in it.
    #[must_use]
    pub fn throughput_per_s(&self) -> f64 {
        self.completed_count.unwrap_or(self.replies_count) as f64 / self.length_s.max(1e-9)
    }
}

/// How the generator itself did: a generator that cannot keep up measures itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratorSide {
    /// Cores its threads were pinned to.
    pub cores: Vec<usize>,
    /// Share of the measured time in which its busiest thread was not idle, in percent. A thread is idle while it sleeps or
    /// looks for work in vain; time another process or virtual machine took from it in the middle of its work is not idle.
    pub busy_percent: f64,
    /// Processor time of the whole process, in percent of one core; spinning included.
    pub cpu_percent: f64,
    /// By how much requests left later than they could have: their intended time had come and a connection was free.
    /// Empty in a closed loop.
    pub schedule_lag: Latency,
    /// Why the result is the generator's limit rather than the server's, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<String>,
}

/// The server's process, looked at about once a second.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerProcess {
    /// Its process id.
    pub pid: i32,
    /// Over the measured time, in percent of one core.
    pub cpu_percent: f64,
    /// Context switches over the measured time.
    pub context_switches_count: u64,
    /// The looks.
    pub samples: Vec<ProcessSample>,
}

/// One look at a process.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessSample {
    /// Seconds since measuring began.
    pub at_s: f64,
    /// Since the look before, in percent of one core.
    pub cpu_percent: f64,
    /// Resident memory.
    pub resident_bytes: u64,
}

/// What the server measured of one method while the run lasted. Its buckets are coarse: each figure is the upper bound of
/// the bucket it fell in.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerLatency {
    /// The method.
    pub method: String,
    /// Answers.
    pub count: u64,
    /// Upper bound of the median's bucket.
    pub p50_us_max: f64,
    /// Upper bound of the 99th percentile's bucket.
    pub p99_us_max: f64,
    /// Upper bound of the 99.9th percentile's bucket.
    pub p99_9_us_max: f64,
}

/// One demand on a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// As `p99<1ms`.
    pub demand: String,
    /// What was measured, in the demand's unit.
    pub measured: f64,
    /// Whether it holds.
    pub passed: bool,
}

/// Instructions per operation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Instructions {
    /// By operation.
    pub counts: BTreeMap<String, u64>,
    /// Heap allocations per warm operation.
    #[serde(default)]
    pub allocations: BTreeMap<String, u64>,
    /// What else the bench says: versions, profile, machine.
    #[serde(flatten)]
    pub about: BTreeMap<String, serde_json::Value>,
}

/// Times of single stages.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Stages {
    /// By stage.
    pub stages: BTreeMap<String, StageTimes>,
    /// What else the bench says.
    #[serde(flatten)]
    pub about: BTreeMap<String, serde_json::Value>,
}

/// Times of one stage, in nanoseconds per operation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StageTimes {
    /// Median.
    pub p50_ns: f64,
    /// 95th percentile.
    pub p95_ns: f64,
    /// 99th percentile.
    pub p99_ns: f64,
    /// Mean.
    pub mean_ns: f64,
    /// Operations.
    pub count: u64,
    /// Operations timed together.
    pub batch: u64,
}

impl ResultFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no JSON, or is not of [`SCHEMA`].
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let broken = |reason: String| LoadError::ResultBroken { path: path.to_owned(), reason };
        let text = fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| broken(format!("no JSON: {error}")))?;
        match value.get("schema").and_then(serde_json::Value::as_str) {
            Some(SCHEMA) => {}
            Some(other) => return Err(broken(format!("its schema is {other:?}, not {SCHEMA:?}"))),
            None => return Err(broken("it has no schema: not a result of this program".to_owned())),
        }
        serde_json::from_value(value).map_err(|error| broken(error.to_string()))
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), LoadError> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| LoadError::Unwritable { path: path.to_owned(), reason: error.to_string() })?;
        text.push('\n');
        write_whole(path, text.as_bytes())
    }
}

/// Writes beside the file and renames: whoever reads it sees the old one or the new one.
///
/// # Errors
/// When the directory cannot be made or the file not be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let unwritable =
        |error: std::io::Error| LoadError::Unwritable { path: path.to_owned(), reason: error.to_string() };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory {
        fs::create_dir_all(directory).map_err(unwritable)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path)).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        unwritable(error)
    })
}
