//! The replies about flags and their rollouts.

use serde::{Deserialize, Serialize};

use crate::config::Percent;

/// All flags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FlagList {
    pub(crate) flags: Vec<FlagRow>,
    /// Shards that did not answer, whose requests are missing.
    pub(crate) unresponsive: Vec<usize>,
}

/// A flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlagRow {
    pub(crate) flag: String,
    /// The name of its position; `cohort` where it is on for a part of the sessions and connections.
    pub(crate) position: String,
    pub(crate) share_percent: Percent,
    /// Whether it takes effect at a start only.
    pub(crate) is_restart_only: bool,
    pub(crate) is_rolled_back: bool,
    /// Messages that were handled with the flag on.
    pub(crate) requests_on: u64,
    /// Messages that were handled with the flag off.
    pub(crate) requests_off: u64,
}

/// All flags and their rollouts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RolloutList {
    pub(crate) flags: Vec<RolloutRow>,
}

/// The rollout of a flag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RolloutRow {
    pub(crate) flag: String,
    pub(crate) share_percent: Percent,
    /// `off`, `on`, `rolling_out`, `rolled_back`, or `restart_only`.
    pub(crate) state: String,
    /// The result of the last comparison of a rollout: `no_difference` or `not_enough_data`.
    pub(crate) verdict: Option<String>,
    /// Why the flag was rolled back.
    pub(crate) reason: Option<String>,
    /// When it was rolled back, in seconds since 1970.
    pub(crate) rolled_back_at: Option<u64>,
    /// Number of times that it was rolled back.
    pub(crate) rollbacks: u64,
    /// Since the share was set between 0 and 100 %.
    pub(crate) cohort: Option<CohortRow>,
    pub(crate) control: Option<CohortRow>,
}

/// A cohort, or its control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CohortRow {
    /// Sessions and connections with requests, estimated.
    pub(crate) members: u64,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p95_ns: u64,
    pub(crate) p99_ns: u64,
}

/// A share that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShareChange {
    pub(crate) flag: String,
    pub(crate) share_percent: Percent,
    pub(crate) before_percent: Percent,
}

/// A flag that was rearmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rearmed {
    pub(crate) flag: String,
    pub(crate) was_rolled_back: bool,
}
