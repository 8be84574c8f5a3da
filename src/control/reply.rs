//! The replies of the control socket. Sizes are in bytes.

use serde::{Deserialize, Serialize};

use crate::config::LogLevel;

/// Use of a limited resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    pub(crate) used: u64,
    pub(crate) max: u64,
}

impl Budget {
    /// A budget of `max`, of which `used` is used.
    pub(crate) fn new(used: impl TryInto<u64>, max: impl TryInto<u64>) -> Self {
        let number = |number: Option<u64>| number.unwrap_or(u64::MAX);
        Self { used: number(used.try_into().ok()), max: number(max.try_into().ok()) }
    }
}

/// The server and its shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: u64,
    pub(crate) listen: Vec<String>,
    pub(crate) admin: Option<String>,
    /// `None` where the program has installed its own log.
    pub(crate) log_level: Option<LogLevel>,
    pub(crate) is_draining: bool,
    /// Whether the process is near its memory limit, so that new work is refused.
    pub(crate) is_memory_short: bool,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) shards: Vec<ShardStatus>,
}

/// One shard. The numbers of a shard that does not answer are 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShardStatus {
    pub(crate) shard: usize,
    /// `running`, `draining`, `restarting`, `ended`, or `unresponsive`.
    pub(crate) state: String,
    pub(crate) connections: usize,
    pub(crate) calls_in_flight: usize,
    pub(crate) sessions: usize,
    pub(crate) subscribers: usize,
    /// Replies since the start.
    pub(crate) replies: u64,
    /// Time spent on requests since the start.
    pub(crate) busy_seconds: f64,
    /// Messages of other shards that it has not read.
    pub(crate) mailbox_messages: usize,
}

/// Use of the limited tables and buffers of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardTotals {
    pub(crate) shard: usize,
    pub(crate) connections: Budget,
    pub(crate) calls_in_flight: Budget,
    pub(crate) sessions: Budget,
    /// Replay buffers.
    pub(crate) replay_bytes: Budget,
    pub(crate) subscriptions: Budget,
    pub(crate) subscription_bytes: Budget,
    /// Buffers of at least 16 KiB, as `buffers_bytes_max` counts them.
    pub(crate) buffer_bytes: Budget,
    /// Buffers of all connections that were read: the bytes in use, and those that are kept.
    pub(crate) connection_used_bytes: u64,
    pub(crate) connection_kept_bytes: u64,
    pub(crate) tasks: u64,
    /// Empty buffers kept for the next replies and requests.
    pub(crate) spare_buffers: u64,
    pub(crate) spare_bytes: u64,
    /// Receive buffers provided to the kernel, and those of them that have not been given back.
    pub(crate) provided_buffers: Budget,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionRow {
    pub(crate) shard: usize,
    /// Its place in the table of the shard.
    pub(crate) slot: usize,
    /// `None` for a Unix socket, and before Linux 6.7.
    pub(crate) peer: Option<String>,
    /// `http` or `lines`.
    pub(crate) transport: String,
    pub(crate) state: String,
    /// Bytes in its buffers.
    pub(crate) used_bytes: u64,
    /// Memory of its buffers.
    pub(crate) kept_bytes: u64,
    /// Replies that it waits for, where the transport is `lines`.
    pub(crate) pending_replies: usize,
}

/// Connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connections {
    /// Number of all connections.
    pub(crate) total: u64,
    /// The largest.
    pub(crate) connections: Vec<ConnectionRow>,
    pub(crate) shards: Vec<ShardTotals>,
    /// Shards that did not answer.
    pub(crate) unresponsive: Vec<usize>,
}

/// One session of a revision before 2026-07-28 that a shard keeps state of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) shard: usize,
    /// First digits of the session's key; the id of a session is a secret of its client.
    pub(crate) session: String,
    /// Streams opened by GET, and those of them with a connection.
    pub(crate) streams: usize,
    pub(crate) attached: usize,
    pub(crate) replay_bytes: u64,
    pub(crate) replay_messages: usize,
    pub(crate) subscriptions: usize,
    pub(crate) subscription_bytes: u64,
    pub(crate) expires_in_seconds: u64,
}

/// Sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sessions {
    /// Number of all sessions with state.
    pub(crate) total: u64,
    /// The largest.
    pub(crate) sessions: Vec<SessionRow>,
    pub(crate) shards: Vec<ShardTotals>,
    /// Shards that did not answer.
    pub(crate) unresponsive: Vec<usize>,
}

/// The subscriptions of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubscriptionRow {
    pub(crate) shard: usize,
    /// `slot N` for a connection, `session KEY` for a session.
    pub(crate) subscriber: String,
    pub(crate) topics: usize,
    /// URIs and task ids.
    pub(crate) bytes: u64,
    /// Events that wait to be sent.
    pub(crate) pending: usize,
}

/// The replay buffer of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReplayRow {
    pub(crate) shard: usize,
    pub(crate) session: String,
    /// `get` or `reply`.
    pub(crate) kind: String,
    pub(crate) is_attached: bool,
    pub(crate) bytes: u64,
    pub(crate) messages: usize,
}

/// The schemas of one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToolRow {
    pub(crate) name: String,
    /// Input and output schema as JSON.
    pub(crate) schema_bytes: u64,
    /// Schemas within the input schema that are compiled.
    pub(crate) subschemas: usize,
}

/// The uses of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) resident_bytes: Option<u64>,
    /// The memory that the process may use.
    pub(crate) memory_max: u64,
    /// `None` where the allocator has no statistics.
    pub(crate) allocator: Option<Allocator>,
    pub(crate) shards: Vec<ShardTotals>,
    pub(crate) connections: Vec<ConnectionRow>,
    pub(crate) sessions: Vec<SessionRow>,
    pub(crate) subscriptions: Vec<SubscriptionRow>,
    pub(crate) replay_buffers: Vec<ReplayRow>,
    pub(crate) tools: Vec<ToolRow>,
    /// Shards that did not answer.
    pub(crate) unresponsive: Vec<usize>,
}

/// Statistics of jemalloc (<https://jemalloc.net/jemalloc.3.html#stats.allocated>).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Allocator {
    pub(crate) name: String,
    /// Bytes that the program has allocated.
    pub(crate) allocated: u64,
    /// Pages with such bytes.
    pub(crate) active: u64,
    /// Physical memory mapped by the allocator.
    pub(crate) resident: u64,
    /// Address space that is kept without memory.
    pub(crate) retained: u64,
    /// Bytes of the allocator itself.
    pub(crate) metadata: u64,
    pub(crate) arenas: Vec<Arena>,
}

/// One arena of the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arena {
    pub(crate) arena: usize,
    pub(crate) threads: u64,
    pub(crate) allocated: u64,
    pub(crate) resident: u64,
}

/// Memory that connections keep and do not use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Buffers {
    /// Connections that keep far more than they use, before `shrink`.
    pub(crate) connections: Vec<ConnectionRow>,
    pub(crate) shards: Vec<ShardTotals>,
    /// Bytes that `shrink` has freed; `None` without it.
    pub(crate) freed_bytes: Option<u64>,
    /// Shards that did not answer.
    pub(crate) unresponsive: Vec<usize>,
}

/// Resident memory that is not allocated, of the process and of each arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fragmentation {
    pub(crate) resident_bytes: Option<u64>,
    /// `None` where the allocator has no statistics.
    pub(crate) allocator: Option<Allocator>,
    /// (resident - allocated) / resident of the allocator, 0 to 1.
    pub(crate) ratio: Option<f64>,
    /// Whether the ratio is above 0.5.
    pub(crate) is_high: bool,
}

/// The level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLevels {
    pub(crate) level: LogLevel,
    /// The level before the request, where the request has set one.
    pub(crate) before: Option<LogLevel>,
}
