//! Buckets of latency histograms: 32 of equal width within each power of two, an error of at most 3 %.

const PRECISION_BITS: u32 = 5;
const BUCKETS_PER_POWER: u64 = 1 << PRECISION_BITS;
/// Highest latency is 2^47 ns, which is 39 hours.
const LATENCY_BITS_MAX: u32 = 47;
/// Number of buckets.
pub(super) const BUCKETS: usize = ((LATENCY_BITS_MAX - PRECISION_BITS + 1) << PRECISION_BITS) as usize;

/// The bucket of a latency in nanoseconds, below [`BUCKETS`].
#[inline]
pub(super) fn bucket(nanoseconds: u64) -> usize {
    let nanoseconds = nanoseconds.min((1 << LATENCY_BITS_MAX) - 1);
    let bits = u64::BITS - nanoseconds.leading_zeros();
    let shift = bits.saturating_sub(PRECISION_BITS + 1);
    // From the second power on, the leading bit of the shifted latency adds one power to the index.
    (u64::from(shift) * BUCKETS_PER_POWER + (nanoseconds >> shift)) as usize
}

/// The highest latency of a bucket, in nanoseconds.
pub(super) fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> PRECISION_BITS).saturating_sub(1);
    ((bucket - shift * BUCKETS_PER_POWER + 1) << shift) - 1
}

/// The value at a quantile of weighted values in ascending order; 0 if there are none.
pub(super) fn value_at_quantile(ascending: &[(f64, f64)], quantile: f64) -> f64 {
    let wanted = quantile * ascending.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut seen = 0.0;
    let reached = ascending.iter().find(|(_, weight)| {
        seen += weight;
        seen >= wanted
    });
    reached.or(ascending.last()).map_or(0.0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_consecutive_and_contain_their_latencies() {
        assert_eq!((bucket(0), bucket(31), bucket(63), bucket(64)), (0, 31, 63, 64));
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for bucket_index in 1..BUCKETS {
            let lowest = highest(bucket_index - 1) + 1;
            assert_eq!((bucket(lowest), bucket(highest(bucket_index))), (bucket_index, bucket_index));
            assert!((highest(bucket_index) - lowest) as f64 <= lowest as f64 / 32.0);
        }
    }

    #[test]
    fn quantile_is_the_first_value_that_reaches_its_weight() {
        let values = [(1.0, 90.0), (2.0, 9.0), (3.0, 1.0)];
        assert_eq!([0.5, 0.95, 0.99, 0.999].map(|at| value_at_quantile(&values, at)), [1.0, 2.0, 2.0, 3.0]);
        assert_eq!(value_at_quantile(&[], 0.5), 0.0);
    }
}
