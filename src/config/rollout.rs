//! The table `[rollout]`: the part of the sessions and connections that each flag is on for.

use serde::{Deserialize, Serialize};

use super::{auto, bound::Bound, percent::Percent};

/// The share of each flag of [`Performance`](super::Performance) at the start, in percent of the sessions and connections: the flag is on
/// for its cohort, and off for all others. `None`: 100 if the flag is on in `[performance]`, else 0. A running server changes it with
/// [`Running::set_flag_share`](crate::Running::set_flag_share) or `corelane ctl rollout set`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollout {
    /// Of `performance.schema_cache`. Change: live.
    #[serde(with = "auto")]
    pub schema_cache: Option<Percent>,
    /// Of `performance.json_backend`: the cohort has `simd`, all others `serde`. Change: live.
    #[serde(with = "auto")]
    pub json_backend: Option<Percent>,
    /// Of `performance.async_tools`. Change: live.
    #[serde(with = "auto")]
    pub async_tools: Option<Percent>,
    /// Of `performance.batch_notifications`. Change: live.
    #[serde(with = "auto")]
    pub batch_notifications: Option<Percent>,
    /// Of `performance.zero_copy`. Change: live.
    #[serde(with = "auto")]
    pub zero_copy: Option<Percent>,
    /// By how much the 95th and 99th percentile of the latency of a cohort may be higher than that of the others, in percent. Beyond it the
    /// flag is rolled back. Change: restart.
    pub latency_increase_percent: Percent,
    /// By how many percentage points the error rate of a cohort may be higher. Change: restart.
    pub error_increase_percent: Percent,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            schema_cache: None,
            json_backend: None,
            async_tools: None,
            batch_notifications: None,
            zero_copy: None,
            latency_increase_percent: Percent::from_hundredths(2_000),
            error_increase_percent: Percent::from_hundredths(100),
        }
    }
}

impl Rollout {
    pub(super) fn bounds(&self) -> impl Iterator<Item = Bound> {
        let shares = [
            ("schema_cache", self.schema_cache),
            ("json_backend", self.json_backend),
            ("async_tools", self.async_tools),
            ("batch_notifications", self.batch_notifications),
            ("zero_copy", self.zero_copy),
        ];
        let shares = shares.map(|(key, share)| (key, share.unwrap_or(Percent::ALL), Percent::ALL));
        let increases = [
            ("latency_increase_percent", self.latency_increase_percent, Percent::from_hundredths(1_000_000)),
            ("error_increase_percent", self.error_increase_percent, Percent::ALL),
        ];
        shares.into_iter().chain(increases).map(|(key, value, max)| {
            Bound::new(format!("rollout.{key}"), value, &(Percent::ZERO..=max), Percent::to_string)
        })
    }
}
