//! The result file: one JSON file with units in its field names and complete histograms.
//!
//! The schema is derived from these types (`corelane-loadgen report --schema`) and published as
//! `docs/result.schema.json`. Files with another schema are rejected.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{error::LoadError, latency::Latency};

/// Name and version of the schema.
pub const SCHEMA: &str = "corelane-loadgen-1";

/// The results of one command.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResultFile {
    /// Always `corelane-loadgen-1`.
    pub schema: String,
    /// Start time: RFC 3339, UTC.
    pub started: String,
    /// The command line.
    pub command_line: Vec<String>,
    /// The machine and the build.
    pub environment: Environment,
    /// The runs, in the order of measurement. Runs with the same workload, contestant and parameters are repeats.
    pub runs: Vec<Run>,
    /// Requested workloads that could not be run.
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
    /// Processor model, as in `/proc/cpuinfo`.
    pub cpu_model: String,
    /// Number of cores that the generator may use.
    pub cores_count: usize,
    /// Memory of the machine, in bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Version of the generator.
    pub generator_version: String,
    /// The commit from which the measured server was built, or `unknown`. Older generators wrote `git describe` of
    /// their working directory.
    pub commit: String,
    /// Build of the generator: `release` or `debug`.
    pub generator_build: String,
}

/// A workload that could not be run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotRun {
    /// Id of the workload.
    pub workload: String,
    /// The reason.
    pub reason: String,
}

/// One measurement of one server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Id of the workload; for other runs the requests, as `tools/call echo`.
    pub workload: String,
    /// Name of the server: the given name, or the server's own.
    pub contestant: String,
    /// Parameters of the load.
    pub parameters: Parameters,
    /// The server.
    pub server: ServerInfo,
    /// How the run ended.
    pub outcome: Outcome,
    /// Wall-clock time at which measuring began, in seconds since 1970.
    pub began_unix_s: f64,
    /// Measured time in seconds, without warm-up and ramp.
    pub measured_s: f64,
    /// Requests that were due while measuring.
    pub requests_count: u64,
    /// Correct replies to these requests.
    pub replies_count: u64,
    /// Errors of these requests, by kind.
    pub errors_count: BTreeMap<String, u64>,
    /// Message of the first error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// Connections opened again while measuring, because the server or an error had ended the previous one.
    #[serde(default)]
    pub reconnects_count: u64,
    /// Requests sent again because the server closed their connection before it read them, or, for a `GET`, before it
    /// replied. Each is counted once, from the time it was first due.
    #[serde(default)]
    pub resent_count: u64,
    /// Correct replies per second.
    pub throughput_per_s: f64,
    /// Bytes sent while measuring, heads included.
    pub sent_bytes: u64,
    /// Bytes received while measuring, heads included.
    pub received_bytes: u64,
    /// From the time a request was *due* to the last byte of its reply. In a closed loop a request is due when it is
    /// sent, so this equals `latency_uncorrected`.
    pub latency: Latency,
    /// From the actual send time to the last byte of the reply: the latency that a generator reports if it sends less
    /// while the server stalls.
    pub latency_uncorrected: Latency,
    /// Results by request of the mix.
    pub requests: Vec<RequestResult>,
    /// Consecutive parts of the measured time.
    pub intervals: Vec<Interval>,
    /// Measurements of the generator itself.
    pub generator: GeneratorSide,
    /// Measurements of the server's process, if it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_process: Option<ServerProcess>,
    /// The server's own latencies, from received bytes to passed-on reply, if its admin address is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_latencies: Vec<ServerLatency>,
    /// Figures of this workload, as `memory_per_connection_bytes`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
    /// Demands on the run and whether they hold, as `p99<1ms`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

impl Run {
    /// Number of all errors.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors_count.values().sum()
    }

    /// Whether another run is a repeat of this one.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        self.workload == other.workload
            && self.contestant == other.contestant
            && self.parameters == other.parameters
    }
}

/// Parameters of the load. Results are compared only if all of them are equal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Protocol revision, as `2026-07-28`; `none` for plain HTTP.
    pub era: String,
    /// Timing of the requests.
    pub pacing: Pacing,
    /// Number of connections.
    pub connections_count: u32,
    /// Maximum number of requests in flight on one connection.
    pub pipeline_depth: u32,
    /// Number of generator threads.
    pub threads_count: u32,
    /// Planned measured time in seconds.
    pub duration_s: f64,
    /// Load time before measuring, in seconds.
    pub warmup_s: f64,
    /// The mix of requests.
    pub requests: Vec<RequestParameters>,
    /// Fraction of the workload's full size; 1 is the full size.
    pub scale: f64,
}

/// Timing of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Pacing {
    /// The next request is sent when a reply has arrived.
    Closed,
    /// At a fixed rate with equal gaps, independent of the server.
    OpenConstant {
        /// Requests per second over all connections.
        rate_per_s: f64,
    },
    /// At a fixed mean rate with exponentially distributed gaps, as of many independent clients.
    OpenPoisson {
        /// Requests per second over all connections.
        rate_per_s: f64,
    },
}

/// One request of a mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestParameters {
    /// Method and name, as `tools/call echo`.
    pub name: String,
    /// Weight: the request's share of the mix is its weight over the sum of all weights.
    pub weight: u32,
    /// Length of the whole request in bytes, head included.
    pub request_bytes: u32,
    /// The given arguments, with their placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// The server's description of itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerInfo {
    /// URL.
    pub url: String,
    /// Name; empty if unknown.
    pub name: String,
    /// Version; empty if unknown.
    pub version: String,
    /// The commit from which it was built, according to its admin address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Limits in force, according to its admin address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, f64>,
    /// Optimizations that can be disabled, and whether they were on when measuring began. Results are compared only if all of
    /// them are equal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, bool>,
    /// Flags that were on for a part of the sessions and connections only, with this part.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub flag_shares: BTreeMap<String, f64>,
    /// Flags that had another position when measuring ended. The run is not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags_changed: Vec<String>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Complete, as planned.
    Complete,
    /// Interrupted by the user; measured up to then.
    Interrupted,
    /// The server stopped responding.
    ServerGone {
        /// Seconds since measuring began.
        after_s: f64,
    },
}

/// Results of one request of the mix.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestResult {
    /// Name, as in the parameters.
    pub name: String,
    /// Correct replies.
    pub replies_count: u64,
    /// Errors.
    pub errors_count: u64,
    /// From the time a request was due to the last byte of its reply.
    pub latency: Latency,
}

/// An interval of the measured time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Start in seconds since measuring began.
    pub start_s: f64,
    /// Length in seconds.
    pub length_s: f64,
    /// Correct replies to requests that were due in the interval, whenever they arrived.
    pub replies_count: u64,
    /// Requests that were due in the interval and failed.
    pub errors_count: u64,
    /// Correct replies that arrived in the interval, whenever their requests were due. Absent in results of older
    /// generators, whose `replies_count` has this meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_count: Option<u64>,
    /// Latencies of the requests that were due in the interval, from the due time.
    pub latency: Latency,
}

impl Interval {
    /// Correct replies per second that arrived in the interval.
    #[must_use]
    pub fn throughput_per_s(&self) -> f64 {
        self.completed_count.unwrap_or(self.replies_count) as f64 / self.length_s.max(1e-9)
    }
}

/// Measurements of the generator, which show whether it was the limit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratorSide {
    /// Cores to which the threads were pinned.
    pub cores: Vec<usize>,
    /// Busy share of the measured time of the busiest thread, in percent. A thread is idle while it sleeps or polls
    /// without finding work. Time that another process or virtual machine took in the middle of its work is busy time.
    pub busy_percent: f64,
    /// Processor time of the process, in percent of one core, spinning included.
    pub cpu_percent: f64,
    /// Delay of requests that could have been sent earlier: they were due and a connection was free. Empty in a closed
    /// loop.
    pub schedule_lag: Latency,
    /// The reason why the generator was the limit, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<String>,
}

/// The server's process, sampled about once a second.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerProcess {
    /// Process id.
    pub pid: i32,
    /// Processor time while measuring, in percent of one core.
    pub cpu_percent: f64,
    /// Context switches while measuring.
    pub context_switches_count: u64,
    /// The samples.
    pub samples: Vec<ProcessSample>,
}

/// One sample of a process.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessSample {
    /// Time in seconds since measuring began.
    pub at_s: f64,
    /// Processor time since the previous sample, in percent of one core.
    pub cpu_percent: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
}

/// Latencies of one method as measured by the server during the run. The buckets are coarse: each value is the upper
/// bound of its bucket.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerLatency {
    /// The method.
    pub method: String,
    /// Number of replies.
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
    /// The demand, as `p99<1ms`.
    pub demand: String,
    /// The measured value, in the unit of the demand.
    pub measured: f64,
    /// Whether the demand holds.
    pub passed: bool,
}

/// Instructions per operation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Instructions {
    /// Instructions by operation.
    pub counts: BTreeMap<String, u64>,
    /// Heap allocations per warm operation.
    #[serde(default)]
    pub allocations: BTreeMap<String, u64>,
    /// Other data of the benchmark: versions, profile, machine.
    #[serde(flatten)]
    pub about: BTreeMap<String, serde_json::Value>,
}

/// Times of single stages.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Stages {
    /// Times by stage.
    pub stages: BTreeMap<String, StageTimes>,
    /// Other data of the benchmark.
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
    /// Number of operations.
    pub count: u64,
    /// Operations per timed batch.
    pub batch: u64,
}

impl ResultFile {
    /// Reads a result file.
    ///
    /// # Errors
    /// When the file cannot be read, is not JSON, or does not have [`SCHEMA`].
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let broken = |reason: String| LoadError::ResultBroken { path: path.to_owned(), reason };
        let text = fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| broken(format!("not JSON: {error}")))?;
        match value.get("schema").and_then(serde_json::Value::as_str) {
            Some(SCHEMA) => {}
            Some(other) => return Err(broken(format!("the schema is {other:?}, not {SCHEMA:?}"))),
            None => return Err(broken("no schema: not a result of this program".to_owned())),
        }
        serde_json::from_value(value).map_err(|error| broken(error.to_string()))
    }

    /// Writes the result file atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), LoadError> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| LoadError::Unwritable { path: path.to_owned(), reason: error.to_string() })?;
        text.push('\n');
        write_whole(path, text.as_bytes())
    }
}

/// The file that [`write_whole`] replaces, behind links; `None` for a device or a pipe, which is written to instead.
pub(crate) fn replaced(path: &Path) -> Option<PathBuf> {
    let is_replaced = fs::metadata(path).map_or(true, |found| found.is_file());
    is_replaced.then(|| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
}

/// Writes a file by renaming a temporary one, so that a reader never sees a partial file. A link is followed; a device or a pipe is
/// written to, because a renamed file would take its place.
///
/// # Errors
/// When the directory cannot be created or the file cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let unwritable =
        |error: std::io::Error| LoadError::Unwritable { path: path.to_owned(), reason: error.to_string() };
    let Some(target) = replaced(path) else {
        let opened = fs::OpenOptions::new().write(true).open(path);
        return opened.and_then(|mut file| file.write_all(bytes)).map_err(unwritable);
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory {
        fs::create_dir_all(directory).map_err(unwritable)?;
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = target.with_file_name(format!(".{name}.{}", std::process::id()));
    fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &target)).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        unwritable(error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};

    use super::*;

    #[test]
    fn whole_file_replaces_neither_links_nor_devices() {
        let directory = std::env::temp_dir().join(format!("corelane-write-{}", std::process::id()));
        let (file, link, device) =
            (directory.join("new/file"), directory.join("link"), directory.join("device"));
        write_whole(&file, b"first").unwrap();
        symlink(&file, &link).unwrap();
        write_whole(&link, b"second").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "second");
        assert_eq!(fs::read_dir(directory.join("new")).unwrap().count(), 1, "no temporary file is left");
        assert!(write_whole(&directory, b"").is_err(), "a directory");
        // By a link, because a mistake must not replace the device of the machine.
        symlink("/dev/full", &device).unwrap();
        assert!(write_whole(&device, b"third").unwrap_err().to_string().contains("No space left"));
        assert!(fs::metadata(&device).unwrap().file_type().is_char_device());
        fs::remove_dir_all(&directory).unwrap();
    }
}
