//! Counts of a cohort and its control: written by one shard, read concurrently by the thread that compares them.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::clusters::{Arm, Cluster, ClusterMap};
use crate::policy::histogram::{self, BUCKETS};

/// Number of latency metrics.
pub(super) const QUANTILES: usize = 2;
const ARMS: usize = 2;

/// What one shard records of the requests that a flag under rollout affects.
///
/// All memory is allocated at once: 16 bytes a cluster, of which there are at most 1,024, and 11 KiB for the histograms. Only one
/// thread writes, so an increment is a load and a store without a locked instruction.
#[derive(Debug)]
pub struct CohortRecorder {
    map: ClusterMap,
    clusters: Box<[ClusterCounters]>,
    arms: [ArmCounters; ARMS],
}

/// Four counters of one cluster, within one cache line.
#[derive(Debug, Default)]
#[repr(align(16))]
struct ClusterCounters {
    samples: AtomicU32,
    errors: AtomicU32,
    slow: [AtomicU32; QUANTILES],
}

#[derive(Debug)]
struct ArmCounters {
    /// Latencies in nanoseconds beyond which requests are counted as slow.
    thresholds: [AtomicU64; QUANTILES],
    latencies: Box<[AtomicU32]>,
}

impl Default for ArmCounters {
    fn default() -> Self {
        Self {
            thresholds: [u64::MAX; QUANTILES].map(AtomicU64::new),
            latencies: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
        }
    }
}

impl CohortRecorder {
    /// Creates an empty recorder for one share of the cohort. Another share needs another recorder.
    #[must_use]
    pub fn new(map: ClusterMap) -> Self {
        Self {
            map,
            clusters: (0..map.clusters()).map(|_| ClusterCounters::default()).collect(),
            arms: Default::default(),
        }
    }

    /// The partition of positions into clusters.
    #[inline]
    #[must_use]
    pub fn map(&self) -> &ClusterMap {
        &self.map
    }

    /// Records a request of a cluster of [`CohortRecorder::map`]: its latency, and whether it failed. Allocates nothing.
    ///
    /// The latency should be the request's own, from the start of its handling to its reply. That of a whole turn is the same for all
    /// requests of the turn, so that a slow cohort makes its control slow too.
    #[inline]
    pub fn record(&self, cluster: Cluster, latency: Duration, is_error: bool) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let Some(counters) = self.clusters.get(usize::from(cluster.index)) else { return };
        let [cohort, control] = &self.arms;
        let arm = if cluster.arm == Arm::Cohort { cohort } else { control };
        increment(&counters.samples, true);
        increment(&counters.errors, is_error);
        for (slow, threshold) in counters.slow.iter().zip(&arm.thresholds) {
            increment(slow, nanoseconds > threshold.load(Relaxed));
        }
        if let Some(bucket) = arm.latencies.get(histogram::bucket(nanoseconds)) {
            increment(bucket, true);
        }
    }

    /// Sets from which latencies on requests count as slow.
    pub fn set_thresholds(&self, thresholds: Thresholds) {
        for (arm, values) in self.arms.iter().zip([thresholds.cohort_ns, thresholds.control_ns]) {
            arm.thresholds.iter().zip(values).for_each(|(threshold, value)| threshold.store(value, Relaxed));
        }
    }

    /// Adds the counts since the recorder was created to `counts`, which has the same clusters. Counters wrap.
    pub fn add_to(&self, counts: &mut Counts) {
        for (to, from) in counts.clusters.iter_mut().zip(&self.clusters) {
            let [p95, p99] = &from.slow;
            let from = [&from.samples, &from.errors, p95, p99].map(|counter| counter.load(Relaxed));
            to.0.iter_mut().zip(from).for_each(|(to, from)| *to = to.wrapping_add(from));
        }
        for (to, from) in counts.latencies.iter_mut().zip(&self.arms) {
            let latencies = to.iter_mut().zip(&from.latencies);
            latencies.for_each(|(to, from)| *to = to.wrapping_add(from.load(Relaxed)));
        }
    }
}

/// Adds one to a counter that has a single writer, if `is_counted`, without a branch.
#[inline]
fn increment(counter: &AtomicU32, is_counted: bool) {
    counter.store(counter.load(Relaxed).wrapping_add(u32::from(is_counted)), Relaxed);
}

/// Latencies, by latency metric, beyond which a request counts as slow. Those of the cohort are higher by the tolerated factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Of requests of the cohort, in nanoseconds.
    pub(super) cohort_ns: [u64; QUANTILES],
    /// Of requests of the control, in nanoseconds.
    pub(super) control_ns: [u64; QUANTILES],
}

/// Counts of one cluster: samples, errors, and slow requests by latency metric.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterCounts([u32; 2 + QUANTILES]);

impl ClusterCounts {
    pub(super) fn samples(self) -> u32 {
        let [samples, ..] = self.0;
        samples
    }

    pub(super) fn errors(self) -> u32 {
        let [_, errors, ..] = self.0;
        errors
    }

    /// Slow requests by latency metric.
    pub(super) fn slow(self) -> [u32; QUANTILES] {
        let [_, _, slow @ ..] = self.0;
        slow
    }
}

/// The counts of one or all shards.
#[derive(Clone, Debug)]
pub struct Counts {
    pub(super) clusters: Box<[ClusterCounts]>,
    /// Counts of latencies by bucket: of the cohort, and of the control.
    pub(super) latencies: [Box<[u32]>; ARMS],
}

impl Counts {
    /// No counts of the clusters of `map`.
    #[must_use]
    pub fn new(map: &ClusterMap) -> Self {
        Self {
            clusters: vec![ClusterCounts::default(); map.clusters()].into(),
            latencies: [(); ARMS].map(|()| vec![0; BUCKETS].into()),
        }
    }

    /// The sum of the counts of all shards.
    #[must_use]
    pub fn sum<'a>(map: &ClusterMap, shards: impl IntoIterator<Item = &'a CohortRecorder>) -> Self {
        let mut counts = Self::new(map);
        shards.into_iter().for_each(|recorder| recorder.add_to(&mut counts));
        counts
    }

    /// Sets each count to `operation` of it and the one of `other`.
    fn zip_with(&mut self, other: &Self, operation: fn(u32, u32) -> u32) {
        let apply = |to: &mut [u32], from: &[u32]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = operation(*to, *from));
        };
        self.clusters.iter_mut().zip(&other.clusters).for_each(|(to, from)| apply(&mut to.0, &from.0));
        self.latencies.iter_mut().zip(&other.latencies).for_each(|(to, from)| apply(to, from));
    }

    /// The counts since `earlier` ones of the same recorders.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let mut window = self.clone();
        window.zip_with(earlier, u32::wrapping_sub);
        window
    }

    /// Adds the counts of a window.
    pub(super) fn add(&mut self, window: &Self) {
        self.zip_with(window, u32::saturating_add);
    }

    /// Sets all counts to 0.
    pub(super) fn clear(&mut self) {
        self.clusters.fill(ClusterCounts::default());
        self.latencies.iter_mut().for_each(|latencies| latencies.fill(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::comparison::clusters::POSITIONS;

    #[test]
    fn counts_of_shards_are_summed_and_subtracted_by_window() {
        let map = ClusterMap::new(POSITIONS / 2);
        let [one, two] = [(); 2].map(|()| CohortRecorder::new(map));
        let [cohort, control] = [0, u32::MAX].map(|position| map.cluster(position).unwrap());
        let thresholds = Thresholds { cohort_ns: [2_000, 9_000], control_ns: [1_000, 9_000] };
        one.set_thresholds(thresholds);
        two.set_thresholds(thresholds);
        one.record(cohort, Duration::from_nanos(1_500), true);
        let before = Counts::sum(&map, [&one, &two]);
        one.record(cohort, Duration::from_nanos(2_001), false);
        two.record(cohort, Duration::from_nanos(9_001), false);
        two.record(control, Duration::from_nanos(1_500), false);
        let window = Counts::sum(&map, [&one, &two]).since(&before);
        let of = |cluster: Cluster| window.clusters[usize::from(cluster.index)];
        assert_eq!((of(cohort).samples(), of(cohort).errors(), of(cohort).slow()), (2, 0, [2, 1]));
        assert_eq!((of(control).samples(), of(control).slow()), (1, [1, 0]));
        assert_eq!(before.clusters[0].errors(), 1);
        assert_eq!(window.latencies.each_ref().map(|latencies| latencies.iter().sum::<u32>()), [2, 1]);
    }
}
