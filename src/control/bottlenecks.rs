//! The replies about performance: where requests spend their time, and what to change. Shares are between 0 and 1.

use serde::{Deserialize, Serialize};

/// Longest interval of a request, in seconds.
pub(crate) const INTERVAL_SECONDS_MAX: u32 = 600;

/// How much there is to gain in a stage, by its share of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Priority {
    /// A quarter or more.
    High,
    /// A tenth or more.
    Medium,
    Low,
}

/// Where requests spent their time in an interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bottlenecks {
    /// Length of the interval.
    pub(crate) seconds: f64,
    /// Requests that were answered.
    pub(crate) requests: u64,
    /// Requests that were timed, one in `sample_interval` of each shard. None if that is 0.
    pub(crate) samples: u64,
    pub(crate) sample_interval: u32,
    /// In the order in which a request passes them.
    pub(crate) stages: Vec<StageRow>,
    pub(crate) shards: Vec<ShardTimes>,
    /// Shards that did not answer.
    pub(crate) unresponsive: Vec<usize>,
}

/// Time in one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageRow {
    pub(crate) stage: String,
    /// Share of the time in all stages.
    pub(crate) share: f64,
    /// Share of the time in which shards work for requests; `None` for a wait.
    pub(crate) work_share: Option<f64>,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) samples: u64,
    /// `None` for a wait.
    pub(crate) priority: Option<Priority>,
    /// The flag or limit that shortens the stage.
    pub(crate) fix: String,
}

/// What one shard spent the interval with. Busy, spin and sleep are wall-clock time, and what is missing to 1 is spent in system calls
/// between turns and in the executor. User and kernel are the processor time of its thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardTimes {
    pub(crate) shard: usize,
    /// Share of the interval in turns with work.
    pub(crate) busy: f64,
    /// Share in turns without work: polling before the shard sleeps.
    pub(crate) spin: f64,
    pub(crate) sleep: f64,
    /// `None` where `/proc` cannot be read.
    pub(crate) user: Option<f64>,
    pub(crate) kernel: Option<f64>,
}

/// What to change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Advice {
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) samples: u64,
    pub(crate) sample_interval: u32,
    /// Empty if nothing needs a change. The first is the most important one.
    pub(crate) advice: Vec<AdviceRow>,
    /// Shards that did not answer.
    pub(crate) unresponsive: Vec<usize>,
}

/// A branch of the decision tree that applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdviceRow {
    pub(crate) branch: String,
    /// The flag of the branch, and whether it is on.
    pub(crate) flag: String,
    pub(crate) is_on: bool,
    /// The figures that the branch applies for.
    pub(crate) evidence: String,
    /// The setting to change.
    pub(crate) setting: String,
    /// What to change.
    pub(crate) change: String,
}
