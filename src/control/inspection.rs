//! Inspections of a shard: the requests, and their results.

use super::reply::{ConnectionRow, ReplayRow, SessionRow, ShardTotals, SubscriptionRow};

/// The tables of a shard that an inspection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Connections, by the memory that they keep.
    Connections,
    /// Sessions, by the memory that they keep.
    Sessions,
    /// Connections, sessions, subscriptions and replay buffers.
    Memory,
    /// Connections that keep far more memory than they use.
    Buffers {
        /// Frees what is not used, and the spare buffers of the shard.
        shrink: bool,
    },
}

impl View {
    /// Whether connections are read.
    pub(crate) fn has_connections(self) -> bool {
        self != Self::Sessions
    }

    /// Whether sessions are read.
    pub(crate) fn has_sessions(self) -> bool {
        matches!(self, Self::Sessions | Self::Memory)
    }
}

/// An inspection of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inspection {
    pub(crate) view: View,
    /// Maximum number of rows of each list: the largest are returned.
    pub(crate) top: usize,
}

/// The result of an inspection. The lists are sorted, largest first; those that the view does not have are empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardInspection {
    pub(crate) totals: ShardTotals,
    pub(crate) connections: Vec<ConnectionRow>,
    pub(crate) sessions: Vec<SessionRow>,
    pub(crate) subscriptions: Vec<SubscriptionRow>,
    pub(crate) replay_buffers: Vec<ReplayRow>,
    /// Bytes that were freed.
    pub(crate) freed_bytes: u64,
}
