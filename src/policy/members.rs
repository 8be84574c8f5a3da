//! Estimated number of distinct units of a cohort, in constant memory.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Registers: a relative error of about 1.04 / √4096 = 1.6 %.
const INDEX_BITS: u32 = 12;
const REGISTERS: usize = 1 << INDEX_BITS;

/// A counter of distinct hashes, written by one shard and read by any thread: HyperLogLog with linear counting for small numbers
/// (Flajolet, Fusy, Gandouet and Meunier, *Proceedings of the 2007 Conference on Analysis of Algorithms*).
#[derive(Debug)]
pub(super) struct Members(Box<[AtomicU8]>);

impl Default for Members {
    fn default() -> Self {
        Self((0..REGISTERS).map(|_| AtomicU8::new(0)).collect())
    }
}

impl Members {
    /// Adds a hash, whose bits are uniform.
    #[inline]
    pub(super) fn add(&self, hash: u64) {
        let Some(register) = self.0.get((hash >> (u64::BITS - INDEX_BITS)) as usize) else { return };
        // At most 53.
        let rank = ((hash << INDEX_BITS).leading_zeros().min(u64::BITS - INDEX_BITS) + 1) as u8;
        if rank > register.load(Relaxed) {
            register.store(rank, Relaxed);
        }
    }

    /// The estimated number of distinct hashes that were added to any of these.
    pub(super) fn estimate<'a>(all: impl Iterator<Item = &'a Self>) -> u64 {
        let mut highest = [0_u8; REGISTERS];
        for members in all {
            let registers = highest.iter_mut().zip(&members.0);
            registers.for_each(|(highest, register)| *highest = (*highest).max(register.load(Relaxed)));
        }
        let registers = REGISTERS as f64;
        let empty = highest.iter().filter(|register| **register == 0).count();
        let sum: f64 = highest.iter().map(|register| (-f64::from(*register)).exp2()).sum();
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let estimate = if raw <= 2.5 * registers && empty > 0 {
            registers * (registers / empty as f64).ln()
        } else {
            raw
        };
        // Conversion from floating point saturates.
        estimate.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::quality::FixedState;

    use super::*;

    #[test]
    fn distinct_hashes_of_all_shards_are_counted_within_a_few_percent() {
        let hasher = FixedState::with_seed(7);
        let shards = [Members::default(), Members::default()];
        assert_eq!(Members::estimate(shards.iter()), 0);
        let mut added = 0_u64;
        for (target, tolerance) in [(1, 0), (10, 0), (100, 3), (1_000, 40), (10_000, 500), (100_000, 6_000)] {
            while added < target {
                // Each is seen several times, and by both shards.
                let hash = hasher.hash_one(added);
                shards.iter().for_each(|shard| (0..3).for_each(|_| shard.add(hash)));
                added += 1;
            }
            let estimate = Members::estimate(shards.iter());
            assert!(estimate.abs_diff(target) <= tolerance, "{estimate} of {target}");
        }
    }
}
