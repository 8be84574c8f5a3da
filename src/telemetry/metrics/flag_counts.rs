//! Counters of the requests that took each position of each flag, and of the work that the flags avoid.

use crate::policy::{Flag, Flags};

/// Counters of one shard.
#[derive(Clone, Debug)]
pub(crate) struct FlagCounts {
    /// Messages by the bits of the flags that they were handled with.
    requests: [u64; Flags::COUNT],
    /// Validations with a validator that was compiled before.
    pub(crate) schema_cache_hits: u64,
    /// Validations with a validator that was compiled for them.
    pub(crate) schema_cache_misses: u64,
    /// Bytes of messages that were copied before they were parsed.
    pub(crate) copied_bytes: u64,
    /// Calls that waited for another call of their connection.
    pub(crate) serialized_calls: u64,
    /// Notifications of changes that were written to a connection or a replay buffer.
    pub(crate) notifications: u64,
}

impl Default for FlagCounts {
    fn default() -> Self {
        Self {
            requests: [0; Flags::COUNT],
            schema_cache_hits: 0,
            schema_cache_misses: 0,
            copied_bytes: 0,
            serialized_calls: 0,
            notifications: 0,
        }
    }
}

impl FlagCounts {
    /// Counts a message, or a batch of them.
    #[inline]
    pub(crate) fn request(&mut self, flags: Flags) {
        if let Some(count) = self.requests.get_mut(usize::from(flags.bits())) {
            *count += 1;
        }
    }

    /// Number of messages that were handled while the flag was in this position.
    #[must_use]
    pub(crate) fn requests(&self, flag: Flag, is_on: bool) -> u64 {
        let counted = (0..).map(Flags::from_bits).zip(self.requests);
        counted.filter(|(flags, _)| flags.is_on(flag) == is_on).map(|(_, count)| count).sum()
    }

    /// Adds the counters of another shard.
    pub(super) fn merge(&mut self, other: &Self) {
        self.requests.iter_mut().zip(other.requests).for_each(|(count, other)| *count += other);
        self.schema_cache_hits += other.schema_cache_hits;
        self.schema_cache_misses += other.schema_cache_misses;
        self.copied_bytes += other.copied_bytes;
        self.serialized_calls += other.serialized_calls;
        self.notifications += other.notifications;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_flag_and_position() {
        let mut counts = FlagCounts::default();
        let copying = Flags::ALL.with(Flag::ZeroCopy, false);
        counts.request(Flags::ALL);
        counts.request(copying);
        counts.request(copying.with(Flag::SchemaCache, false));
        let mut sum = counts.clone();
        sum.merge(&counts);
        for (flag, on, off) in [(Flag::ZeroCopy, 1, 2), (Flag::SchemaCache, 2, 1), (Flag::AsyncTools, 3, 0)] {
            assert_eq!((counts.requests(flag, true), counts.requests(flag, false)), (on, off), "{flag}");
            assert_eq!(sum.requests(flag, true), 2 * on, "{flag}");
        }
    }
}
