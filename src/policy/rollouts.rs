//! The shares of all flags and their rollouts.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    Flag, FlagError, Flags,
    cohort_series::CohortFigures,
    comparison::{ClusterMap, POSITIONS, Tolerance, Verdict, Worse},
    rollback::{RollbackMonitor, RolloutState},
    shard_flags::{ShardFlags, ShardRollout},
};
use crate::config::{Percent, Performance, Rollout};

/// Number of flags.
const FLAGS: usize = Flags::COUNT.ilog2() as usize;

/// Secret numbers on which the cohorts depend, one for each flag. Instances with the same salts have the same cohorts of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Salts([u64; FLAGS]);

impl Salts {
    /// The salts of the flags.
    #[must_use]
    pub fn new(salt: impl Fn(Flag) -> u64) -> Self {
        let mut salts = [0; FLAGS];
        salts.iter_mut().zip(Flag::ALL).for_each(|(to, flag)| *to = salt(*flag));
        Self(salts)
    }
}

/// The share of each flag, which is on for its cohort and off for all others, and the state of its rollout. A share of 100 % is on,
/// one of 0 % is off.
#[derive(Debug)]
pub struct Rollouts {
    shards: usize,
    salts: Salts,
    shares: [Percent; FLAGS],
    /// The rollouts of each shard since the last share between 0 and 100 %, which stay readable when they have ended.
    cohorts: BTreeMap<Flag, Vec<ShardRollout>>,
    rollbacks: [u64; FLAGS],
    monitor: RollbackMonitor,
    generation: u32,
}

/// A flag and its rollout.
#[derive(Clone, Debug)]
pub struct RolloutReport {
    /// The flag.
    pub flag: Flag,
    /// Its share.
    pub share: Percent,
    /// The state of its rollout.
    pub state: RolloutState,
    /// The result of the last window of a rollout.
    pub verdict: Option<Verdict>,
    /// Number of times that it was rolled back.
    pub rollbacks: u64,
    /// The figures of the cohort and of the control since its share was set between 0 and 100 %, even if it has changed since.
    pub figures: Option<(CohortFigures, CohortFigures)>,
}

impl Rollouts {
    /// The shares at the start of a server with this number of shards.
    #[must_use]
    pub fn new(performance: Performance, rollout: &Rollout, salts: Salts, shards: usize) -> Self {
        let tolerance = Tolerance {
            latency_factor: 1.0 + rollout.latency_increase_percent.fraction(),
            error_rate: rollout.error_increase_percent.fraction(),
        };
        let mut rollouts = Self {
            shards,
            salts,
            shares: [Percent::ZERO; FLAGS],
            cohorts: BTreeMap::new(),
            rollbacks: [0; FLAGS],
            monitor: RollbackMonitor::new(tolerance),
            generation: 0,
        };
        for (flag, is_on) in Flags::from(performance).iter() {
            let share = share_of(rollout, flag).unwrap_or(if is_on { Percent::ALL } else { Percent::ZERO });
            // No flag was rolled back.
            let _ = rollouts.apply(flag, share);
        }
        rollouts
    }

    /// The flags that are on for all.
    #[must_use]
    pub fn base(&self) -> Flags {
        let all = Flag::ALL.iter().zip(self.shares);
        all.fold(Flags::from_bits(0), |flags, (flag, share)| flags.with(*flag, share >= Percent::ALL))
    }

    /// The share of a flag.
    #[must_use]
    pub fn share(&self, flag: Flag) -> Percent {
        self.shares.get(flag as usize).copied().unwrap_or_default()
    }

    /// Whether any flag has a cohort.
    #[must_use]
    pub fn has_cohorts(&self) -> bool {
        self.shares.iter().any(|share| is_partial(*share))
    }

    /// Changes the share of a flag. Returns whether it has changed.
    ///
    /// # Errors
    /// The flag takes effect at a start only, it was rolled back and is to be on, or the share is above 100 %.
    pub fn set_share(&mut self, flag: Flag, share: Percent) -> Result<bool, FlagError> {
        if flag.is_restart_only() {
            return Err(FlagError::RestartOnly(flag));
        }
        if share > Percent::ALL {
            return Err(FlagError::OutOfRange(share));
        }
        if share > Percent::ZERO {
            self.monitor.check(flag)?;
        }
        if share == self.share(flag) {
            return Ok(false);
        }
        self.apply(flag, share)?;
        Ok(true)
    }

    fn apply(&mut self, flag: Flag, share: Percent) -> Result<(), FlagError> {
        if is_partial(share) {
            // At most `POSITIONS`.
            let end = POSITIONS * u64::from(share.hundredths()) / u64::from(Percent::ALL.hundredths());
            let recorders = self.monitor.start(flag, ClusterMap::new(end), self.shards)?;
            let salt = self.salts.0.get(flag as usize).copied().unwrap_or_default();
            let rollouts =
                recorders.into_iter().map(|recorder| ShardRollout::new(flag, salt, recorder, Arc::default()));
            self.cohorts.insert(flag, rollouts.collect());
        } else {
            self.monitor.stop(flag);
        }
        self.store(flag, share);
        Ok(())
    }

    fn store(&mut self, flag: Flag, share: Percent) {
        if let Some(stored) = self.shares.get_mut(flag as usize) {
            *stored = share;
        }
        self.generation = self.generation.wrapping_add(1);
    }

    /// Allows a flag that was rolled back to be on again. Returns whether it was rolled back.
    ///
    /// # Errors
    /// The flag takes effect at a start only.
    pub fn rearm(&mut self, flag: Flag) -> Result<bool, FlagError> {
        self.monitor.rearm(flag)
    }

    /// The flags of a shard.
    #[must_use]
    pub fn of_shard(&self, shard: usize) -> ShardFlags {
        let partial = self.cohorts.iter().filter(|(flag, _)| is_partial(self.share(**flag)));
        let rollouts = partial.filter_map(|(_, shards)| shards.get(shard).cloned());
        ShardFlags::new(self.base(), rollouts.collect(), self.generation)
    }

    /// Ends a window: compares the cohorts with their controls, and sets the share of those flags to 0 that are rolled back, which are
    /// returned. `elapsed`: time since the window before.
    pub fn close_window(&mut self, elapsed: Duration, at: SystemTime) -> Vec<(Flag, Worse)> {
        let rolled_back = self.monitor.close_window(elapsed, at);
        for (flag, _) in &rolled_back {
            self.store(*flag, Percent::ZERO);
            if let Some(count) = self.rollbacks.get_mut(*flag as usize) {
                *count += 1;
            }
        }
        rolled_back
    }

    /// All flags.
    #[must_use]
    pub fn reports(&self) -> Vec<RolloutReport> {
        let report = |flag: &Flag| {
            let (state, verdict) = self.monitor.state(*flag);
            let figures = self.cohorts.get(flag).map(|shards| {
                let series = shards.iter().map(ShardRollout::series);
                (CohortFigures::sum(series.clone(), true), CohortFigures::sum(series, false))
            });
            RolloutReport {
                flag: *flag,
                share: self.share(*flag),
                state,
                verdict,
                rollbacks: self.rollbacks.get(*flag as usize).copied().unwrap_or_default(),
                figures,
            }
        };
        Flag::ALL.iter().map(report).collect()
    }
}

/// The share that the configuration states.
fn share_of(rollout: &Rollout, flag: Flag) -> Option<Percent> {
    match flag {
        Flag::SchemaCache => rollout.schema_cache,
        Flag::JsonBackend => rollout.json_backend,
        Flag::AsyncTools => rollout.async_tools,
        Flag::BatchNotifications => rollout.batch_notifications,
        Flag::ZeroCopy => rollout.zero_copy,
        Flag::ServerPooling => None,
    }
}

/// Whether a share has a cohort and a control.
fn is_partial(share: Percent) -> bool {
    share > Percent::ZERO && share < Percent::ALL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Unit;

    fn rollouts(rollout: &Rollout) -> Rollouts {
        let performance = Performance { async_tools: false, ..Performance::default() };
        Rollouts::new(performance, rollout, Salts::new(|flag| flag as u64), 2)
    }

    #[test]
    fn share_of_a_flag_is_that_of_rollout_else_its_position_in_performance() {
        let share = Some(Percent::from_hundredths(25));
        let off = Some(Percent::ZERO);
        let all = Some(Percent::ALL);
        let configured = Rollout { zero_copy: share, schema_cache: off, ..Rollout::default() };
        let rollouts = rollouts(&Rollout { async_tools: all, ..configured });
        let on = Flags::ALL.with(Flag::ZeroCopy, false).with(Flag::SchemaCache, false);
        assert_eq!(rollouts.base(), on, "async_tools is on in [rollout]");
        let report = rollouts.reports();
        assert_eq!(report[Flag::ZeroCopy as usize].share.hundredths(), 25);
        assert_eq!(report[Flag::ZeroCopy as usize].state, RolloutState::RollingOut);
        assert_eq!(report[Flag::SchemaCache as usize].state, RolloutState::Off);
        assert!(rollouts.has_cohorts() && rollouts.of_shard(1).has_cohorts());
        let without = super::tests::rollouts(&Rollout::default());
        assert_eq!(without.base(), Flags::ALL.with(Flag::AsyncTools, false));
        assert!(!without.has_cohorts() && !without.of_shard(0).has_cohorts());
    }

    #[test]
    fn share_is_changed_within_its_range_and_not_of_a_flag_that_needs_a_restart() {
        let mut rollouts = rollouts(&Rollout::default());
        let half = Percent::from_hundredths(5_000);
        assert_eq!(
            rollouts.set_share(Flag::ServerPooling, half),
            Err(FlagError::RestartOnly(Flag::ServerPooling))
        );
        let more = Percent::from_hundredths(10_001);
        let refused = rollouts.set_share(Flag::ZeroCopy, more).unwrap_err();
        assert_eq!(refused.to_string(), "100.01 % is out of range: the share of a flag is 0 to 100 %");
        let before = rollouts.of_shard(0).generation();
        assert_eq!(rollouts.set_share(Flag::ZeroCopy, Percent::ALL), Ok(false), "unchanged");
        assert_eq!(rollouts.of_shard(0).generation(), before);
        assert_eq!(rollouts.set_share(Flag::ZeroCopy, half), Ok(true));
        let unit = Unit::of(&1);
        let of_shards = [0, 1].map(|shard| rollouts.of_shard(shard).flags_of(unit));
        assert_eq!(of_shards[0], of_shards[1], "the same on all shards");
        assert_ne!(rollouts.of_shard(0).generation(), before);
        rollouts.of_shard(0).record(unit, Duration::from_millis(1), true);
        rollouts.of_shard(1).record(unit, Duration::from_millis(1), false);
        assert_eq!(rollouts.set_share(Flag::ZeroCopy, Percent::ZERO), Ok(true));
        assert!(!rollouts.has_cohorts());
        let figures = rollouts.reports()[Flag::ZeroCopy as usize].figures.clone().unwrap();
        let sums = [&figures.0, &figures.1].map(|figures| (figures.calls, figures.errors, figures.members));
        assert!(sums.contains(&(2, 1, 1)) && sums.contains(&(0, 0, 0)), "{sums:?}");
    }

    #[test]
    fn flag_with_a_slow_cohort_is_off_until_it_is_rearmed() {
        let mut rollouts = rollouts(&Rollout::default());
        rollouts.set_share(Flag::ZeroCopy, Percent::from_hundredths(1_000)).unwrap();
        let flags = [0, 1].map(|shard| rollouts.of_shard(shard));
        let mut rolled_back = Vec::new();
        for second in 1..=10_u64 {
            for request in 0..8_000_u32 {
                let unit = Unit::of(&(request % 400));
                let is_slow = flags[0].flags_of(unit).is_on(Flag::ZeroCopy);
                let micros = u64::from(request % 97) + if is_slow { 2_000 } else { 100 };
                flags[request as usize % 2].record(unit, Duration::from_micros(micros), false);
            }
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let found = rollouts.close_window(Duration::from_secs(1), at);
            rolled_back.extend(found.into_iter().map(|(flag, _)| (flag, second)));
        }
        assert_eq!(rolled_back.len(), 1, "{rolled_back:?}");
        assert!(rolled_back[0].0 == Flag::ZeroCopy && rolled_back[0].1 <= 9, "{rolled_back:?}");
        assert_eq!((rollouts.share(Flag::ZeroCopy), rollouts.has_cohorts()), (Percent::ZERO, false));
        let report = rollouts.reports()[Flag::ZeroCopy as usize].clone();
        assert!(matches!(report.state, RolloutState::RolledBack { .. }) && report.rollbacks == 1);
        assert!(report.figures.is_some());
        for share in [1, 10_000] {
            let refused = rollouts.set_share(Flag::ZeroCopy, Percent::from_hundredths(share)).unwrap_err();
            assert!(refused.to_string().contains("ctl rollout rearm zero_copy"), "{refused}");
        }
        assert_eq!(rollouts.set_share(Flag::ZeroCopy, Percent::ZERO), Ok(false));
        assert_eq!(rollouts.rearm(Flag::ZeroCopy), Ok(true));
        assert_eq!(rollouts.set_share(Flag::ZeroCopy, Percent::ALL), Ok(true));
    }
}
