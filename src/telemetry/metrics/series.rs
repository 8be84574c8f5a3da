//! Latencies and failures under one name: written by one shard, read by any thread meanwhile.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Latencies are kept up to two to this power, in nanoseconds: 39 hours.
const LATENCY_BITS_MAX: u32 = 47;

/// Why a call of a tool gave no good result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ToolFailure {
    /// Its result has `isError`.
    Error,
    /// It did not answer before its deadline.
    Timeout,
    /// Its arguments did not fit its schema, or were too many to validate.
    InvalidArguments,
    /// There was no room for the call.
    Busy,
    /// It panicked.
    Panic,
    /// Its result does not fit the schema it promises.
    InvalidOutput,
}

/// The number of [`ToolFailure`]s.
const FAILURES: usize = 6;

/// A histogram with buckets of equal width within each power of two, and counters. One thread writes: a load and a store
/// count, without a locked instruction.
pub(super) struct Series {
    pub(super) name: Box<str>,
    /// Each power of two has two to this power buckets.
    precision: u32,
    /// The buckets of each power of two, made when one of them is first used.
    powers: Box<[OnceLock<Box<[AtomicU64]>>]>,
    sum_ns: AtomicU64,
    /// Answers of the turn at hand, not yet in the histogram.
    noted: AtomicU64,
    failures: [AtomicU64; FAILURES],
}

impl Series {
    pub(super) fn new(name: &str, precision: u32) -> Self {
        Self {
            name: name.into(),
            precision,
            powers: (precision..LATENCY_BITS_MAX).map(|_| OnceLock::new()).collect(),
            sum_ns: AtomicU64::new(0),
            noted: AtomicU64::new(0),
            failures: Default::default(),
        }
    }

    /// Adds `count` answers that took as long.
    pub(super) fn record(&self, nanoseconds: u64, count: u64) {
        let nanoseconds = nanoseconds.min((1 << LATENCY_BITS_MAX) - 1);
        let bits = u64::BITS - nanoseconds.leading_zeros();
        // Bits below the resolution of the buckets.
        let shift = bits.saturating_sub(self.precision + 1);
        let first = if shift == 0 { 0 } else { 1 << self.precision };
        let Some(power) = self.powers.get(shift as usize) else { return };
        let buckets = power.get_or_init(|| {
            let buckets = (2 << self.precision) - first;
            (0..buckets).map(|_| AtomicU64::new(0)).collect()
        });
        if let Some(bucket) = buckets.get(((nanoseconds >> shift) - first) as usize) {
            add(bucket, count);
            add(&self.sum_ns, nanoseconds.saturating_mul(count));
        }
    }

    /// Notes an answer of this turn. Whether it is the first.
    pub(super) fn note(&self) -> bool {
        let noted = self.noted.load(Relaxed);
        self.noted.store(noted + 1, Relaxed);
        noted == 0
    }

    /// Adds the answers noted.
    pub(super) fn record_noted(&self, nanoseconds: u64) {
        let noted = self.noted.load(Relaxed);
        if noted > 0 {
            self.noted.store(0, Relaxed);
            self.record(nanoseconds, noted);
        }
    }

    pub(super) fn fail(&self, failure: ToolFailure) {
        if let Some(count) = self.failures.get(failure as usize) {
            add(count, 1);
        }
    }

    pub(super) fn failures(&self, failure: ToolFailure) -> u64 {
        self.failures.get(failure as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// Adds another series of the same precision, bucket by bucket.
    pub(super) fn merge(&self, other: &Self) {
        let sum = self.sum_ns.load(Relaxed);
        other.distribution().counts.iter().for_each(|(highest, count)| self.record(*highest, *count));
        self.sum_ns.store(sum.wrapping_add(other.sum_ns.load(Relaxed)), Relaxed);
        self.failures.iter().zip(&other.failures).for_each(|(to, from)| add(to, from.load(Relaxed)));
    }

    /// What has been recorded.
    pub(super) fn distribution(&self) -> Distribution {
        let mut distribution = Distribution { sum_ns: self.sum_ns.load(Relaxed), ..Distribution::default() };
        for (shift, buckets) in
            self.powers.iter().enumerate().filter_map(|(shift, power)| Some((shift, power.get()?)))
        {
            let first = if shift == 0 { 0 } else { 1 << self.precision };
            for (index, bucket) in (first..).zip(buckets) {
                let count = bucket.load(Relaxed);
                if count > 0 {
                    distribution.counts.insert(((index + 1) << shift) - 1, count);
                }
            }
        }
        distribution
    }
}

/// The only writer's addition.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

/// How often which latencies were recorded.
#[derive(Default)]
pub(super) struct Distribution {
    /// By the highest value of the bucket, in nanoseconds.
    pub(super) counts: BTreeMap<u64, u64>,
    pub(super) sum_ns: u64,
}

impl Distribution {
    pub(super) fn len(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn max(&self) -> u64 {
        self.counts.last_key_value().map_or(0, |(highest, _)| *highest)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        other
            .counts
            .into_iter()
            .for_each(|(highest, count)| *self.counts.entry(highest).or_default() += count);
    }

    /// The highest value of the bucket in which this part of all values ends, in nanoseconds.
    pub(super) fn value_at_quantile(&self, quantile: f64) -> u64 {
        let wanted = ((self.len() as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        reached.map_or(0, |(highest, _)| *highest)
    }
}
