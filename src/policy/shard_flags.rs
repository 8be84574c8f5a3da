//! The flags that one shard handles requests with: those of all, and those that are on for a cohort.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
    time::Duration,
};

use foldhash::quality::FixedState;

use super::{Flag, Flags, cohort_series::CohortSeries, comparison::CohortRecorder};

/// What is assigned to cohorts: a session, or a connection without one. It is a hash, the same for all flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit(u64);

impl Unit {
    /// The unit that a key identifies.
    #[must_use]
    pub fn of(key: &impl Hash) -> Self {
        Self(FixedState::default().hash_one(key))
    }
}

/// The rollout of one flag on one shard.
#[derive(Clone, Debug)]
pub struct ShardRollout {
    flag: Flag,
    hasher: FixedState,
    recorder: Arc<CohortRecorder>,
    series: Arc<CohortSeries>,
}

impl ShardRollout {
    /// The rollout of `flag`, in which the positions of units depend on `salt`.
    #[must_use]
    pub fn new(flag: Flag, salt: u64, recorder: Arc<CohortRecorder>, series: Arc<CohortSeries>) -> Self {
        Self { flag, hasher: FixedState::with_seed(salt), recorder, series }
    }

    /// The flag.
    #[must_use]
    pub fn flag(&self) -> Flag {
        self.flag
    }

    pub(super) fn series(&self) -> &CohortSeries {
        &self.series
    }

    /// The hash of a unit, and its position among all units. The position does not depend on the share, so a higher share only adds
    /// units to the cohort.
    fn position(&self, unit: Unit) -> (u64, u32) {
        let hash = self.hasher.hash_one(unit.0);
        // The high half.
        (hash, (hash >> u32::BITS) as u32)
    }

    /// Whether the flag is on for a unit.
    #[must_use]
    pub fn is_cohort(&self, unit: Unit) -> bool {
        self.recorder.map().is_cohort(self.position(unit).1)
    }

    fn record(&self, unit: Unit, latency: Duration, is_error: bool) {
        let (hash, position) = self.position(unit);
        let map = self.recorder.map();
        if let Some(cluster) = map.cluster(position) {
            self.recorder.record(cluster, latency, is_error);
        }
        // The position is uniform only within its arm.
        self.series.record(map.is_cohort(position), hash.rotate_left(u32::BITS), latency, is_error);
    }
}

/// The flags of one shard.
#[derive(Clone, Debug)]
pub struct ShardFlags {
    base: Flags,
    rollouts: Vec<ShardRollout>,
    generation: u32,
}

impl ShardFlags {
    /// Flags without a cohort: these are on for all.
    #[must_use]
    pub fn for_all(base: Flags) -> Self {
        Self::new(base, Vec::new(), 0)
    }

    /// Flags that are on for all, and rollouts of flags that are off in `base`. `generation` changes with every change of these.
    #[must_use]
    pub fn new(base: Flags, rollouts: Vec<ShardRollout>, generation: u32) -> Self {
        Self { base, rollouts, generation }
    }

    /// The flags that are on for all.
    #[inline]
    #[must_use]
    pub fn base(&self) -> Flags {
        self.base
    }

    /// Whether any flag has a cohort.
    #[inline]
    #[must_use]
    pub fn has_cohorts(&self) -> bool {
        !self.rollouts.is_empty()
    }

    /// A number that is different after each change.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The flags of a unit. Allocates nothing.
    #[must_use]
    pub fn flags_of(&self, unit: Unit) -> Flags {
        let cohorts = self.rollouts.iter().filter(|rollout| rollout.is_cohort(unit));
        cohorts.fold(self.base, |flags, rollout| flags.with(rollout.flag, true))
    }

    /// Records a request of a unit: the latency of its reply, and whether that is an error. Allocates nothing.
    pub fn record(&self, unit: Unit, latency: Duration, is_error: bool) {
        self.rollouts.iter().for_each(|rollout| rollout.record(unit, latency, is_error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::comparison::{ClusterMap, POSITIONS};

    fn rollout(flag: Flag, salt: u64, hundredths: u64) -> ShardRollout {
        let recorder = CohortRecorder::new(ClusterMap::new(POSITIONS * hundredths / 10_000));
        ShardRollout::new(flag, salt, Arc::new(recorder), Arc::default())
    }

    /// The sessions among 10,000 that are in the cohort.
    fn cohort(rollout: &ShardRollout) -> Vec<u128> {
        // Session keys are random; these are spread over all values.
        let keys =
            (0..10_000_u128).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        keys.filter(|key| rollout.is_cohort(Unit::of(key))).collect()
    }

    #[test]
    fn one_percent_of_ten_thousand_sessions_is_a_hundred_within_three_sigma() {
        // σ = √(10,000 × 0.01 × 0.99) = 9.95. The salts are fixed, so this holds in every run or in none.
        for salt in 0..20 {
            let members = cohort(&rollout(Flag::ZeroCopy, salt, 100)).len();
            assert!((70..=130).contains(&members), "salt {salt}: {members}");
        }
        // Connections have small numbers instead of random keys.
        for (share, expected, sigma) in [(100, 100, 10), (5_000, 5_000, 50), (1, 1, 1)] {
            let rollout = rollout(Flag::AsyncTools, 7, share);
            let connections =
                (0..10_000_u32).filter(|socket| rollout.is_cohort(Unit::of(&(3_usize, *socket))));
            assert!(connections.count().abs_diff(expected) <= 3 * sigma, "{share}");
        }
    }

    #[test]
    fn higher_share_only_adds_members_and_each_flag_has_its_own() {
        let mut before: Vec<u128> = Vec::new();
        for share in [0, 1, 100, 500, 5_000, 9_999, 10_000] {
            let members = cohort(&rollout(Flag::ZeroCopy, 1, share));
            assert!(before.iter().all(|member| members.contains(member)), "{share}");
            before = members;
        }
        assert_eq!(before.len(), 10_000);
        let [one, other] = [1, 2].map(|salt| cohort(&rollout(Flag::ZeroCopy, salt, 1_000)));
        let both = one.iter().filter(|member| other.contains(member)).count();
        assert!((70..=130).contains(&both), "independent: {both}");
    }

    #[test]
    fn flags_of_a_unit_are_those_of_all_and_those_whose_cohort_it_is_in() {
        let base = Flags::ALL.with(Flag::ZeroCopy, false).with(Flag::SchemaCache, false);
        let rollouts = vec![rollout(Flag::ZeroCopy, 1, 5_000), rollout(Flag::SchemaCache, 2, 5_000)];
        let flags = ShardFlags::new(base, rollouts.clone(), 1);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..64_u32 {
            let unit = Unit::of(&number);
            let of_unit = flags.flags_of(unit);
            assert_eq!(of_unit, flags.flags_of(unit), "it does not change");
            assert_eq!(of_unit.is_on(Flag::ZeroCopy), rollouts[0].is_cohort(unit));
            assert_eq!(of_unit.is_on(Flag::SchemaCache), rollouts[1].is_cohort(unit));
            assert!(of_unit.is_on(Flag::AsyncTools));
            seen.insert(of_unit.bits());
        }
        assert_eq!(seen.len(), 4, "independent of each other");
        assert!(flags.has_cohorts() && !ShardFlags::for_all(Flags::ALL).has_cohorts());
    }
}
