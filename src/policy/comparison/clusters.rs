//! Clusters: groups of sessions or connections that are compared as units.

/// Number of positions: a position is a hash of a session or connection, and uniform over all values of `u32`.
pub const POSITIONS: u64 = 1 << u32::BITS;

/// Clusters of the smaller of the two arms.
const SMALLER_ARM_CLUSTERS: u64 = 64;
/// Most clusters of the larger arm. Of a share below 1/16 a part of the control is not recorded.
const LARGER_ARM_CLUSTERS_MAX: u64 = 15 * SMALLER_ARM_CLUSTERS;

/// One of the two groups that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arm {
    /// The flag is on.
    Cohort,
    /// The flag is off.
    Control,
}

/// A cluster of a [`ClusterMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Below [`ClusterMap::clusters`].
    pub(super) index: u16,
    pub(super) arm: Arm,
}

/// The partition of positions into clusters for one share of the cohort.
///
/// All clusters have the same number of positions, so each session or connection is in each of them with the same probability,
/// independent of what it does. This makes the clusters exchangeable where the flag has no effect, however few or many members
/// they have; the comparison depends on no other assumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterMap {
    /// Positions below are in the cohort.
    cohort_end: u64,
    /// Positions of a cluster; 0 if an arm is empty.
    width: u64,
    cohort_clusters: u16,
    clusters: u16,
}

impl ClusterMap {
    /// The partition for a cohort of the positions below `cohort_end`, at most [`POSITIONS`].
    #[must_use]
    pub fn new(cohort_end: u64) -> Self {
        let cohort_end = cohort_end.min(POSITIONS);
        let control = POSITIONS - cohort_end;
        let width = cohort_end.min(control) / SMALLER_ARM_CLUSTERS;
        let arm = |positions: u64| match positions.checked_div(width) {
            // At most `LARGER_ARM_CLUSTERS_MAX`.
            Some(clusters) => clusters.min(LARGER_ARM_CLUSTERS_MAX) as u16,
            None => 0,
        };
        let cohort_clusters = arm(cohort_end);
        Self { cohort_end, width, cohort_clusters, clusters: cohort_clusters + arm(control) }
    }

    /// Whether a position is in the cohort.
    #[inline]
    #[must_use]
    pub fn is_cohort(&self, position: u32) -> bool {
        u64::from(position) < self.cohort_end
    }

    /// The cluster of a position. `None`: positions of its arm beyond the last cluster, or an arm is empty.
    #[inline]
    #[must_use]
    pub fn cluster(&self, position: u32) -> Option<Cluster> {
        let position = u64::from(position);
        let (arm, offset, before, end) = match position.checked_sub(self.cohort_end) {
            None => (Arm::Cohort, position, 0, self.cohort_clusters),
            Some(offset) => (Arm::Control, offset, self.cohort_clusters, self.clusters),
        };
        let index = offset.checked_div(self.width)? + u64::from(before);
        (index < u64::from(end)).then_some(Cluster { index: index as u16, arm })
    }

    /// Number of clusters.
    #[must_use]
    pub fn clusters(&self) -> usize {
        self.clusters.into()
    }

    /// The arm of the cluster with an index.
    pub(super) fn arm(&self, index: usize) -> Arm {
        if index < self.cohort_clusters.into() { Arm::Cohort } else { Arm::Control }
    }

    /// The part of the clusters that is in the cohort, 0 to 1.
    pub(super) fn cohort_part(&self) -> f64 {
        if self.clusters == 0 { 0.0 } else { f64::from(self.cohort_clusters) / f64::from(self.clusters) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(percent: f64) -> ClusterMap {
        ClusterMap::new((POSITIONS as f64 * percent / 100.0) as u64)
    }

    #[test]
    fn clusters_of_any_share_have_the_same_number_of_positions() {
        for (percent, cohort, control) in
            [(0.01, 64, 960), (1.0, 64, 960), (10.0, 64, 576), (50.0, 64, 64), (90.0, 576, 64)]
        {
            let map = share(percent);
            assert_eq!((map.cohort_clusters, map.clusters), (cohort, cohort + control), "{percent}");
            for index in 0..map.clusters {
                let first = match map.arm(index.into()) {
                    Arm::Cohort => u64::from(index) * map.width,
                    Arm::Control => map.cohort_end + u64::from(index - cohort) * map.width,
                };
                for position in [first, first + map.width - 1] {
                    let expected = Cluster { index, arm: map.arm(index.into()) };
                    let position = u32::try_from(position).unwrap();
                    assert_eq!(map.cluster(position), Some(expected), "{percent} {position}");
                    assert_eq!(map.is_cohort(position), expected.arm == Arm::Cohort);
                }
            }
        }
    }

    #[test]
    fn share_without_an_arm_has_no_clusters() {
        for map in [share(0.0), share(100.0)] {
            assert_eq!((map.clusters(), map.cohort_part()), (0, 0.0));
            assert_eq!([0, 1, u32::MAX].map(|position| map.cluster(position)), [None; 3]);
        }
        assert!(share(100.0).is_cohort(u32::MAX) && !share(0.0).is_cohort(0));
    }
}
