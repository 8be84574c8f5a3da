//! Latencies, errors and members of a cohort and its control since the share was set: written by one shard, read by any thread.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{
    histogram::{BUCKETS, bucket, highest},
    members::Members,
};

/// What one shard records for the metrics of a flag. All memory is allocated at once, 30 KiB.
#[derive(Debug, Default)]
pub struct CohortSeries {
    cohort: ArmSeries,
    control: ArmSeries,
}

#[derive(Debug)]
struct ArmSeries {
    latencies: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
    errors: AtomicU64,
    members: Members,
}

impl Default for ArmSeries {
    fn default() -> Self {
        Self {
            latencies: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            members: Members::default(),
        }
    }
}

impl CohortSeries {
    fn arm(&self, is_cohort: bool) -> &ArmSeries {
        if is_cohort { &self.cohort } else { &self.control }
    }

    /// Records a request of a unit with this hash. Allocates nothing.
    pub(super) fn record(&self, is_cohort: bool, hash: u64, latency: Duration, is_error: bool) {
        let arm = self.arm(is_cohort);
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = arm.latencies.get(bucket(nanoseconds)) {
            add(count, 1);
        }
        add(&arm.sum_ns, nanoseconds);
        add(&arm.errors, u64::from(is_error));
        arm.members.add(hash);
    }
}

/// Increments a counter that has a single writer.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

/// The figures of a cohort, or of its control, over all shards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CohortFigures {
    /// Requests with a reply.
    pub calls: u64,
    /// Replies that are errors.
    pub errors: u64,
    /// Estimated number of sessions and connections.
    pub members: u64,
    /// Sum of the latencies, in nanoseconds.
    pub sum_ns: u64,
    /// Latencies in ascending order: the highest of a bucket in nanoseconds, and the requests in it.
    pub latencies: Vec<(u64, u64)>,
}

impl CohortFigures {
    /// The sum over the shards, of the cohort or of its control.
    pub(super) fn sum<'a>(shards: impl Iterator<Item = &'a CohortSeries> + Clone, is_cohort: bool) -> Self {
        let arms = shards.map(|shard| shard.arm(is_cohort));
        let sum = |counter: fn(&ArmSeries) -> &AtomicU64| {
            arms.clone().fold(0_u64, |sum, arm| sum.wrapping_add(counter(arm).load(Relaxed)))
        };
        let mut counts = vec![0_u64; BUCKETS];
        for arm in arms.clone() {
            let latencies = counts.iter_mut().zip(&arm.latencies);
            latencies.for_each(|(count, of_shard)| *count += of_shard.load(Relaxed));
        }
        let counted = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        Self {
            calls: counts.iter().sum(),
            errors: sum(|arm| &arm.errors),
            members: Members::estimate(arms.clone().map(|arm| &arm.members)),
            sum_ns: sum(|arm| &arm.sum_ns),
            latencies: counted.map(|(index, count)| (highest(index), *count)).collect(),
        }
    }

    /// The latency at a quantile, within 3 %; zero without requests.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let wanted = ((self.calls as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.latencies.iter().find(|(_, count)| {
            seen += count;
            seen >= wanted
        });
        Duration::from_nanos(reached.map_or(0, |(highest, _)| *highest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_shards_are_summed_for_each_arm() {
        let shards = [CohortSeries::default(), CohortSeries::default()];
        for number in 0..100_u64 {
            let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let latency = Duration::from_micros(number + 1);
            shards[number as usize % 2].record(true, hash, latency, number % 10 == 0);
        }
        shards[0].record(false, 0, Duration::from_millis(5), true);
        let [cohort, control] = [true, false].map(|is_cohort| CohortFigures::sum(shards.iter(), is_cohort));
        assert_eq!((cohort.calls, cohort.errors, cohort.sum_ns), (100, 10, 5_050_000));
        assert_eq!((control.calls, control.errors, control.members), (1, 1, 1));
        assert!(cohort.members.abs_diff(100) <= 3, "{}", cohort.members);
        for (quantile, micros) in [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)] {
            let value = cohort.quantile(quantile).as_secs_f64() * 1e6;
            assert!((value / f64::from(micros) - 1.0).abs() < 0.04, "{quantile}: {value}");
        }
        assert_eq!(CohortFigures::default().quantile(0.5), Duration::ZERO);
    }
}
