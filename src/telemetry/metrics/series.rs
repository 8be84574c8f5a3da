//! Latencies and failures of one method or tool: written by one shard, read concurrently by any thread.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Maximum latency is 2^47 ns, which is 39 hours.
const LATENCY_BITS_MAX: u32 = 47;

/// Why a call of a tool failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ToolFailure {
    /// The result has `isError`.
    Error,
    /// The call exceeded its deadline.
    Timeout,
    /// The arguments do not match the schema, or exceed the limit of validation work.
    InvalidArguments,
    /// A limit of calls was reached.
    Busy,
    /// The handler panicked.
    Panic,
    /// The result does not match the output schema.
    InvalidOutput,
}

/// Number of variants of [`ToolFailure`].
const FAILURES: usize = <ToolFailure as strum::VariantArray>::VARIANTS.len();

/// Histogram with buckets of equal width within each power of two, and counters. Only one thread writes, so an increment is a load
/// and a store without a locked instruction.
pub(super) struct Series {
    pub(super) name: Box<str>,
    /// Each power of two has `2^precision` buckets.
    precision: u32,
    /// Buckets of each power of two, allocated on first use.
    powers: Box<[OnceLock<Box<[AtomicU64]>>]>,
    sum_ns: AtomicU64,
    /// Replies of the current turn, not yet in the histogram.
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

    /// As [`Self::new`], with all buckets allocated.
    pub(super) fn allocated(name: &str, precision: u32) -> Self {
        let series = Self::new(name, precision);
        for (shift, power) in series.powers.iter().enumerate() {
            let _ = power.set(series.buckets(shift));
        }
        series
    }

    /// The empty buckets of a power of two. The first ones also have those of all values below it.
    fn buckets(&self, shift: usize) -> Box<[AtomicU64]> {
        let first = if shift == 0 { 0 } else { 1 << self.precision };
        (0..(2 << self.precision) - first).map(|_| AtomicU64::new(0)).collect()
    }

    /// Records `count` replies with the same latency.
    pub(super) fn record(&self, nanoseconds: u64, count: u64) {
        let nanoseconds = nanoseconds.min((1 << LATENCY_BITS_MAX) - 1);
        let bits = u64::BITS - nanoseconds.leading_zeros();
        // Number of bits below the buckets' resolution.
        let shift = bits.saturating_sub(self.precision + 1);
        let first = if shift == 0 { 0 } else { 1 << self.precision };
        let Some(power) = self.powers.get(shift as usize) else { return };
        let buckets = power.get_or_init(|| self.buckets(shift as usize));
        if let Some(bucket) = buckets.get(((nanoseconds >> shift) - first) as usize) {
            add(bucket, count);
            add(&self.sum_ns, nanoseconds.saturating_mul(count));
        }
    }

    /// Notes a reply of the current turn. Returns whether it is the first.
    pub(super) fn note(&self) -> bool {
        let noted = self.noted.load(Relaxed);
        self.noted.store(noted + 1, Relaxed);
        noted == 0
    }

    /// Records the noted replies.
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

    /// A copy of the histogram.
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

/// Increments a counter that has a single writer.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

/// Counts of recorded latencies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Distribution {
    /// Counts by the highest value of the bucket, in nanoseconds.
    pub(super) counts: BTreeMap<u64, u64>,
    pub(super) sum_ns: u64,
}

impl Distribution {
    pub(crate) fn len(&self) -> u64 {
        self.counts.values().sum()
    }

    pub(super) fn max(&self) -> u64 {
        self.counts.last_key_value().map_or(0, |(highest, _)| *highest)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
        other
            .counts
            .into_iter()
            .for_each(|(highest, count)| *self.counts.entry(highest).or_default() += count);
    }

    /// The latencies that were recorded after `before`, an earlier copy.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let count = |(highest, count): (&u64, &u64)| {
            let recorded = count.saturating_sub(before.counts.get(highest).copied().unwrap_or(0));
            (recorded > 0).then_some((*highest, recorded))
        };
        Self {
            counts: self.counts.iter().filter_map(count).collect(),
            sum_ns: self.sum_ns.wrapping_sub(before.sum_ns),
        }
    }

    /// The sum of the latencies, in nanoseconds.
    pub(crate) fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The highest value, in nanoseconds, of the bucket that contains the quantile.
    pub(crate) fn value_at_quantile(&self, quantile: f64) -> u64 {
        let wanted = ((self.len() as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        reached.map_or(0, |(highest, _)| *highest)
    }
}
