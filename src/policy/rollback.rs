//! The rollouts of flags, and their rollback.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    Flag, FlagError,
    comparison::{AlphaBudget, ClusterMap, CohortRecorder, Comparison, Counts, Tolerance, Verdict, Worse},
};

/// Whether a flag is rolled out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RolloutState {
    /// The flag has no cohort.
    #[default]
    Off,
    /// A part of the sessions or connections is in the cohort.
    RollingOut,
    /// The cohort was worse than tolerated, so the flag is off until it is rearmed.
    RolledBack {
        /// How it was worse.
        reason: Worse,
        /// When it was rolled back.
        at: SystemTime,
    },
}

/// The rollout of one flag.
#[derive(Clone, Debug)]
pub struct Rollout {
    flag: Flag,
    state: RolloutState,
}

impl Rollout {
    /// A rollout that has not begun.
    #[must_use]
    pub fn new(flag: Flag) -> Self {
        Self { flag, state: RolloutState::Off }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> RolloutState {
        self.state
    }

    /// Whether the flag may be turned on, for all or for a cohort.
    ///
    /// # Errors
    ///
    /// The flag was rolled back and has not been rearmed, or takes effect at a start only.
    pub fn check(&self) -> Result<(), FlagError> {
        match self.state {
            _ if self.flag.is_restart_only() => Err(FlagError::RestartOnly(self.flag)),
            RolloutState::RolledBack { reason, .. } => Err(FlagError::RolledBack(self.flag, reason)),
            RolloutState::Off | RolloutState::RollingOut => Ok(()),
        }
    }

    /// Begins it, or continues it with another share.
    ///
    /// # Errors
    ///
    /// As [`Rollout::check`].
    pub fn start(&mut self) -> Result<(), FlagError> {
        self.check()?;
        self.state = RolloutState::RollingOut;
        Ok(())
    }

    /// Ends it at the operator's request. A flag that was rolled back stays so.
    pub fn stop(&mut self) {
        if self.state == RolloutState::RollingOut {
            self.state = RolloutState::Off;
        }
    }

    /// Rolls the flag back, and returns whether it was rolled out: the caller then turns the flag off.
    pub fn roll_back(&mut self, reason: Worse, at: SystemTime) -> bool {
        let is_rolling_out = self.state == RolloutState::RollingOut;
        if is_rolling_out {
            self.state = RolloutState::RolledBack { reason, at };
        }
        is_rolling_out
    }

    /// Allows the flag to be rolled out again, and returns whether it was rolled back.
    ///
    /// # Errors
    ///
    /// The flag takes effect at a start only.
    pub fn rearm(&mut self) -> Result<bool, FlagError> {
        if self.flag.is_restart_only() {
            return Err(FlagError::RestartOnly(self.flag));
        }
        let is_rolled_back = matches!(self.state, RolloutState::RolledBack { .. });
        if is_rolled_back {
            self.state = RolloutState::Off;
        }
        Ok(is_rolled_back)
    }
}

/// Compares the cohorts of all flags under rollout, with one budget of false alarms.
#[derive(Debug)]
pub struct RollbackMonitor {
    tolerance: Tolerance,
    budget: AlphaBudget,
    /// One for each flag, in the order of [`Flag::ALL`].
    flags: Vec<Monitored>,
}

#[derive(Debug)]
struct Monitored {
    rollout: Rollout,
    cohort: Option<Cohort>,
}

#[derive(Debug)]
struct Cohort {
    map: ClusterMap,
    /// One per shard; a shard that is restarted continues its recorder.
    recorders: Vec<Arc<CohortRecorder>>,
    comparison: Comparison,
    verdict: Verdict,
}

impl RollbackMonitor {
    /// A monitor of flags without rollouts.
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        let monitored = |flag: &Flag| Monitored { rollout: Rollout::new(*flag), cohort: None };
        Self { tolerance, budget: AlphaBudget::default(), flags: Flag::ALL.iter().map(monitored).collect() }
    }

    fn flag(&mut self, flag: Flag) -> Option<&mut Monitored> {
        self.flags.get_mut(flag as usize)
    }

    /// As [`Rollout::check`].
    ///
    /// # Errors
    ///
    /// As [`Rollout::check`].
    pub fn check(&self, flag: Flag) -> Result<(), FlagError> {
        self.flags.get(flag as usize).map_or(Ok(()), |monitored| monitored.rollout.check())
    }

    /// Begins a rollout, or continues it with another share of the cohort. Returns a recorder for each of `shards`, which replaces the
    /// one of the previous share.
    ///
    /// # Errors
    ///
    /// As [`Rollout::start`].
    pub fn start(
        &mut self,
        flag: Flag,
        map: ClusterMap,
        shards: usize,
    ) -> Result<Vec<Arc<CohortRecorder>>, FlagError> {
        let tolerance = self.tolerance;
        let Some(monitored) = self.flag(flag) else { return Ok(Vec::new()) };
        monitored.rollout.start()?;
        let recorders: Vec<_> = (0..shards).map(|_| Arc::new(CohortRecorder::new(map))).collect();
        monitored.cohort = Some(Cohort {
            map,
            recorders: recorders.clone(),
            comparison: Comparison::new(map, tolerance),
            verdict: Verdict::NotEnoughData,
        });
        Ok(recorders)
    }

    /// Ends a rollout at the operator's request.
    pub fn stop(&mut self, flag: Flag) {
        if let Some(monitored) = self.flag(flag) {
            monitored.rollout.stop();
            monitored.cohort = None;
        }
    }

    /// Allows a flag that was rolled back to be rolled out again; returns whether it was.
    ///
    /// # Errors
    ///
    /// As [`Rollout::rearm`].
    pub fn rearm(&mut self, flag: Flag) -> Result<bool, FlagError> {
        self.flag(flag).map_or(Ok(false), |monitored| monitored.rollout.rearm())
    }

    /// The state of a flag's rollout, and the verdict of the last window if it is rolled out.
    #[must_use]
    pub fn state(&self, flag: Flag) -> (RolloutState, Option<Verdict>) {
        let monitored = self.flags.get(flag as usize);
        let state = monitored.map(|monitored| monitored.rollout.state()).unwrap_or_default();
        (state, monitored.and_then(|monitored| monitored.cohort.as_ref()).map(|cohort| cohort.verdict))
    }

    /// Compares all cohorts at the end of a window of [`WINDOW`](super::comparison::WINDOW), `elapsed` after the preceding one. Returns
    /// the flags that are rolled back, which the caller turns off.
    pub fn close_window(&mut self, elapsed: Duration, at: SystemTime) -> Vec<(Flag, Worse)> {
        self.budget.refill(elapsed);
        let mut rolled_back = Vec::new();
        for monitored in &mut self.flags {
            let Some(cohort) = &mut monitored.cohort else { continue };
            let counts = Counts::sum(&cohort.map, cohort.recorders.iter().map(Arc::as_ref));
            cohort.verdict = cohort.comparison.close_window(&counts, &mut self.budget);
            if let Verdict::Worse(worse) = cohort.verdict {
                monitored.cohort = None;
                if monitored.rollout.roll_back(worse, at) {
                    rolled_back.push((monitored.rollout.flag, worse));
                }
            } else if let Some(thresholds) = cohort.comparison.thresholds() {
                cohort.recorders.iter().for_each(|recorder| recorder.set_thresholds(thresholds));
            }
        }
        rolled_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::comparison::{Metric, POSITIONS, WINDOW};

    const REASON: Worse = Worse {
        metric: Metric::P95,
        cohort: 0.0024,
        control: 0.0004,
        bound: 0.00048,
        p_value: 2e-9,
        level: 1e-6,
    };

    #[test]
    fn flag_that_was_rolled_back_stays_off_until_it_is_rearmed() {
        let mut rollout = Rollout::new(Flag::ZeroCopy);
        let at = SystemTime::UNIX_EPOCH;
        assert!(!rollout.roll_back(REASON, at), "not rolled out");
        assert_eq!(rollout.start(), Ok(()));
        assert!(rollout.roll_back(REASON, at));
        assert!(!rollout.roll_back(REASON, at), "already rolled back");
        let refused = rollout.start().unwrap_err();
        assert_eq!(refused, FlagError::RolledBack(Flag::ZeroCopy, REASON));
        assert_eq!(
            refused.to_string(),
            "zero_copy was rolled back (p95 2.400 ms, control 0.400 ms, tolerated 0.480 ms (p ≤ 2.0e-9)) and stays off until it \
             is rearmed: corelane ctl rollout rearm zero_copy"
        );
        rollout.stop();
        assert_eq!(rollout.state(), RolloutState::RolledBack { reason: REASON, at });
        assert_eq!(rollout.rearm(), Ok(true));
        assert_eq!((rollout.state(), rollout.rearm()), (RolloutState::Off, Ok(false)));
        assert_eq!(rollout.start(), Ok(()));
        rollout.stop();
        assert_eq!(rollout.state(), RolloutState::Off);
    }

    #[test]
    fn restart_only_flag_is_neither_rolled_out_nor_rearmed() {
        let mut rollout = Rollout::new(Flag::ServerPooling);
        assert_eq!(rollout.start(), Err(FlagError::RestartOnly(Flag::ServerPooling)));
        assert_eq!(rollout.rearm(), Err(FlagError::RestartOnly(Flag::ServerPooling)));
        assert!(!rollout.roll_back(REASON, SystemTime::UNIX_EPOCH));
        assert_eq!(rollout.state(), RolloutState::Off);
    }
    #[test]
    fn only_the_flag_with_a_slow_cohort_is_rolled_back_on_any_shard() {
        let map = ClusterMap::new(POSITIONS / 10);
        let mut monitor = RollbackMonitor::new(Tolerance::default());
        assert_eq!(
            monitor.start(Flag::ServerPooling, map, 2).unwrap_err(),
            FlagError::RestartOnly(Flag::ServerPooling)
        );
        let flags =
            [Flag::ZeroCopy, Flag::SchemaCache].map(|flag| (flag, monitor.start(flag, map, 2).unwrap()));
        assert_eq!(
            monitor.state(Flag::SchemaCache),
            (RolloutState::RollingOut, Some(Verdict::NotEnoughData))
        );
        let mut rolled_back = Vec::new();
        for second in 1..=6 {
            for (flag, recorders) in &flags {
                for request in 0..8_000_u32 {
                    let position = (request % 400).wrapping_mul(0x9e37_79b9);
                    let Some(cluster) = map.cluster(position) else { continue };
                    let is_slow = *flag == Flag::ZeroCopy && map.is_cohort(position);
                    let latency =
                        Duration::from_micros(u64::from(request % 97) + if is_slow { 2_000 } else { 100 });
                    recorders[request as usize / 400 % 2].record(cluster, latency, false);
                }
            }
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            rolled_back.extend(monitor.close_window(WINDOW, at).into_iter().map(|(flag, _)| (flag, second)));
        }
        assert_eq!(rolled_back, [(Flag::ZeroCopy, 5)]);
        assert_eq!(monitor.state(Flag::SchemaCache), (RolloutState::RollingOut, Some(Verdict::Continue)));
        assert!(matches!(monitor.state(Flag::ZeroCopy), (RolloutState::RolledBack { .. }, None)));
        assert!(monitor.start(Flag::ZeroCopy, map, 2).is_err());
        assert_eq!((monitor.rearm(Flag::ZeroCopy), monitor.rearm(Flag::SchemaCache)), (Ok(true), Ok(false)));
        assert!(monitor.start(Flag::ZeroCopy, map, 2).is_ok());
        monitor.stop(Flag::ZeroCopy);
        assert_eq!(monitor.state(Flag::ZeroCopy), (RolloutState::Off, None));
    }
}
