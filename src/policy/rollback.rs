//! The rollouts of flags, and their rollback.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::comparison::{
    AlphaBudget, ClusterMap, CohortRecorder, Comparison, Counts, Tolerance, Verdict, Worse,
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

/// Why a rollout cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum RolloutError {
    /// The flag takes effect at a start only, so it has no cohort at run time.
    #[error(
        "takes effect at a start only, for all sessions: it cannot be rolled out or rolled back at run time"
    )]
    RestartOnly,
    /// The flag was rolled back.
    #[error("was rolled back ({0}) and stays off until it is rearmed: corelane ctl rollout rearm")]
    RolledBack(Worse),
}

/// The rollout of one flag.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    is_restart_only: bool,
    state: RolloutState,
}

impl Rollout {
    /// A rollout that has not begun.
    #[must_use]
    pub fn new(is_restart_only: bool) -> Self {
        Self { is_restart_only, state: RolloutState::Off }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> RolloutState {
        self.state
    }

    /// Begins it, or continues it with another share.
    ///
    /// # Errors
    ///
    /// The flag was rolled back and has not been rearmed, or takes effect at a start only.
    pub fn start(&mut self) -> Result<(), RolloutError> {
        match self.state {
            _ if self.is_restart_only => Err(RolloutError::RestartOnly),
            RolloutState::RolledBack { reason, .. } => Err(RolloutError::RolledBack(reason)),
            RolloutState::Off | RolloutState::RollingOut => {
                self.state = RolloutState::RollingOut;
                Ok(())
            }
        }
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
    pub fn rearm(&mut self) -> Result<bool, RolloutError> {
        if self.is_restart_only {
            return Err(RolloutError::RestartOnly);
        }
        let is_rolled_back = matches!(self.state, RolloutState::RolledBack { .. });
        if is_rolled_back {
            self.state = RolloutState::Off;
        }
        Ok(is_rolled_back)
    }
}

/// Compares the cohorts of all flags under rollout, with one budget of false alarms. `K` identifies a flag.
#[derive(Debug)]
pub struct RollbackMonitor<K> {
    tolerance: Tolerance,
    budget: AlphaBudget,
    flags: BTreeMap<K, Monitored>,
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

impl<K: Copy + Ord> RollbackMonitor<K> {
    /// Creates a monitor of flags without rollouts, given whether each takes effect at a start only.
    pub fn new(tolerance: Tolerance, flags: impl IntoIterator<Item = (K, bool)>) -> Self {
        let monitored = |is_restart_only| Monitored { rollout: Rollout::new(is_restart_only), cohort: None };
        let flags = flags.into_iter().map(|(flag, is_restart_only)| (flag, monitored(is_restart_only)));
        Self { tolerance, budget: AlphaBudget::default(), flags: flags.collect() }
    }

    /// Begins a rollout, or continues it with another share of the cohort. Returns a recorder for each of `shards`, which replaces the
    /// one of the previous share; empty for an unknown flag.
    ///
    /// # Errors
    ///
    /// As [`Rollout::start`].
    pub fn start(
        &mut self,
        flag: K,
        map: ClusterMap,
        shards: usize,
    ) -> Result<Vec<Arc<CohortRecorder>>, RolloutError> {
        let Some(monitored) = self.flags.get_mut(&flag) else { return Ok(Vec::new()) };
        monitored.rollout.start()?;
        let recorders: Vec<_> = (0..shards).map(|_| Arc::new(CohortRecorder::new(map))).collect();
        monitored.cohort = Some(Cohort {
            map,
            recorders: recorders.clone(),
            comparison: Comparison::new(map, self.tolerance),
            verdict: Verdict::NotEnoughData,
        });
        Ok(recorders)
    }

    /// Ends a rollout at the operator's request.
    pub fn stop(&mut self, flag: K) {
        if let Some(monitored) = self.flags.get_mut(&flag) {
            monitored.rollout.stop();
            monitored.cohort = None;
        }
    }

    /// Allows a flag that was rolled back to be rolled out again; returns whether it was.
    ///
    /// # Errors
    ///
    /// As [`Rollout::rearm`].
    pub fn rearm(&mut self, flag: K) -> Result<bool, RolloutError> {
        self.flags.get_mut(&flag).map_or(Ok(false), |monitored| monitored.rollout.rearm())
    }

    /// The state of a flag's rollout, and the verdict of the last window if it is rolled out.
    #[must_use]
    pub fn state(&self, flag: K) -> (RolloutState, Option<Verdict>) {
        let monitored = self.flags.get(&flag);
        let state = monitored.map(|monitored| monitored.rollout.state()).unwrap_or_default();
        (state, monitored.and_then(|monitored| monitored.cohort.as_ref()).map(|cohort| cohort.verdict))
    }

    /// Compares all cohorts at the end of a window of [`WINDOW`](super::comparison::WINDOW), `elapsed` after the preceding one. Returns
    /// the flags that are rolled back, which the caller turns off.
    pub fn close_window(&mut self, elapsed: Duration, at: SystemTime) -> Vec<(K, Worse)> {
        self.budget.refill(elapsed);
        let mut rolled_back = Vec::new();
        for (flag, monitored) in &mut self.flags {
            let Some(cohort) = &mut monitored.cohort else { continue };
            let counts = Counts::sum(&cohort.map, cohort.recorders.iter().map(Arc::as_ref));
            cohort.verdict = cohort.comparison.close_window(&counts, &mut self.budget);
            if let Verdict::Worse(worse) = cohort.verdict {
                monitored.cohort = None;
                if monitored.rollout.roll_back(worse, at) {
                    rolled_back.push((*flag, worse));
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
        let mut rollout = Rollout::new(false);
        let at = SystemTime::UNIX_EPOCH;
        assert!(!rollout.roll_back(REASON, at), "not rolled out");
        assert_eq!(rollout.start(), Ok(()));
        assert!(rollout.roll_back(REASON, at));
        assert!(!rollout.roll_back(REASON, at), "already rolled back");
        let refused = rollout.start().unwrap_err();
        assert_eq!(refused, RolloutError::RolledBack(REASON));
        assert_eq!(
            refused.to_string(),
            "was rolled back (p95 2.400 ms, control 0.400 ms, tolerated 0.480 ms (p ≤ 2.0e-9)) and stays off until it \
             is rearmed: corelane ctl rollout rearm"
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
        let mut rollout = Rollout::new(true);
        assert_eq!(rollout.start(), Err(RolloutError::RestartOnly));
        assert_eq!(rollout.rearm(), Err(RolloutError::RestartOnly));
        assert!(!rollout.roll_back(REASON, SystemTime::UNIX_EPOCH));
        assert_eq!(rollout.state(), RolloutState::Off);
    }
    #[test]
    fn only_the_flag_with_a_slow_cohort_is_rolled_back_on_any_shard() {
        let map = ClusterMap::new(POSITIONS / 10);
        let mut monitor =
            RollbackMonitor::new(Tolerance::default(), [("slow", false), ("fine", false), ("start", true)]);
        assert_eq!(monitor.start("start", map, 2).unwrap_err(), RolloutError::RestartOnly);
        let flags = ["slow", "fine"].map(|flag| (flag, monitor.start(flag, map, 2).unwrap()));
        assert_eq!(monitor.state("fine"), (RolloutState::RollingOut, Some(Verdict::NotEnoughData)));
        let mut rolled_back = Vec::new();
        for second in 1..=6 {
            for (flag, recorders) in &flags {
                for request in 0..8_000_u32 {
                    let position = (request % 400).wrapping_mul(0x9e37_79b9);
                    let Some(cluster) = map.cluster(position) else { continue };
                    let is_slow = *flag == "slow" && map.is_cohort(position);
                    let latency =
                        Duration::from_micros(u64::from(request % 97) + if is_slow { 2_000 } else { 100 });
                    recorders[request as usize / 400 % 2].record(cluster, latency, false);
                }
            }
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            rolled_back.extend(monitor.close_window(WINDOW, at).into_iter().map(|(flag, _)| (flag, second)));
        }
        assert_eq!(rolled_back, [("slow", 5)]);
        assert_eq!(monitor.state("fine"), (RolloutState::RollingOut, Some(Verdict::Continue)));
        assert!(matches!(monitor.state("slow"), (RolloutState::RolledBack { .. }, None)));
        assert!(monitor.start("slow", map, 2).is_err());
        assert_eq!((monitor.rearm("slow"), monitor.rearm("fine")), (Ok(true), Ok(false)));
        assert!(monitor.start("slow", map, 2).is_ok());
        monitor.stop("slow");
        assert_eq!(monitor.state("slow"), (RolloutState::Off, None));
    }
}
