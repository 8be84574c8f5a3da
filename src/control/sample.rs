//! What the server did in an interval, for `ctl top` and for the dashboard. Times are in microseconds, sizes in bytes.

use serde::{Deserialize, Serialize};

use super::flags::RolloutRow;

/// Shortest and longest interval of a sample, in milliseconds.
pub(crate) const INTERVAL_MIN_MS: u32 = 50;
pub(crate) const INTERVAL_MAX_MS: u32 = 60_000;

/// The server in an interval. Counts are those of the interval; the counts of a shard that does not answer are part of its next sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: u64,
    pub(crate) is_draining: bool,
    /// Whether the process is near its memory limit, so that new work is refused.
    pub(crate) is_memory_short: bool,
    /// Length of the interval.
    pub(crate) seconds: f64,
    pub(crate) resident_bytes: Option<u64>,
    /// The memory that the process may use.
    pub(crate) memory_max: u64,
    /// `None` without a blocking pool.
    pub(crate) pool: Option<PoolSample>,
    /// All shards: the busy share is their mean.
    pub(crate) total: ShardLoad,
    pub(crate) shards: Vec<ShardSample>,
    /// The tools that were called since the start, by requests in the interval.
    pub(crate) tools: Vec<ToolSample>,
    /// Number of tools that are not in the list, which is bounded.
    pub(crate) tools_omitted: usize,
    pub(crate) flags: Vec<FlagSample>,
    /// Flags that are being rolled out or were rolled back, with the figures of their cohorts since the share was set.
    pub(crate) rollouts: Vec<RolloutRow>,
    /// Rejections in the interval by reason, most frequent first.
    pub(crate) refusals: Vec<Counted>,
    /// Other events in the interval, most frequent first.
    pub(crate) events: Vec<Counted>,
}

/// Requests in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    /// Of a shard: rejections, and calls of tools whose result is an error. Of a tool: failed calls.
    pub(crate) errors: u64,
    pub(crate) errors_per_second: f64,
    /// Time from received bytes to sent reply; `None` without a request.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

/// Load of a shard, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardLoad {
    #[serde(flatten)]
    pub(crate) traffic: Traffic,
    /// Share of the interval spent in turns with work, 0 to 1.
    pub(crate) busy_share: f64,
    pub(crate) calls_in_flight: u64,
    pub(crate) connections: u64,
    /// Connections with an event stream.
    pub(crate) streams: u64,
    /// Subscriptions, and legacy sessions with subscriptions.
    pub(crate) subscribers: u64,
    /// Messages of other shards that were not read.
    pub(crate) mailbox_messages: u64,
    /// Buffers of connections of at least 16 KiB, replay buffers, and names in subscriptions.
    pub(crate) memory_bytes: u64,
}

/// One shard. The gauges of one that does not answer are 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardSample {
    pub(crate) shard: usize,
    /// `running`, `draining`, `restarting`, `ended`, or `unresponsive`.
    pub(crate) state: String,
    #[serde(flatten)]
    pub(crate) load: ShardLoad,
}

/// One tool, on all shards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToolSample {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) traffic: Traffic,
    pub(crate) calls_in_flight: u64,
}

/// The threads for blocking tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolSample {
    /// Calls that wait for a thread.
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) idle: u64,
    pub(crate) waiting_for_client: u64,
}

/// A flag of `[performance]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FlagSample {
    pub(crate) flag: String,
    /// The position in force, as in the metrics: `on` and `off`, or `simd` and `serde`. `mixed` while shards differ.
    pub(crate) position: String,
    pub(crate) is_on: bool,
    /// Messages in the interval that were handled with the flag on, and off.
    pub(crate) requests_on: u64,
    pub(crate) requests_off: u64,
}

/// A reason or an event, and how often it occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) name: String,
    pub(crate) count: u64,
}
