//! Empty buffers that the shard keeps for the next replies.

use std::time::Duration;

/// Number of buffers that are kept, and the size of the largest, in bytes.
const BUFFERS_MAX: usize = 1024;
const BYTES_MAX: usize = 64 * 1024;
/// Number of buffers that are kept however long they are not used.
const BUFFERS_MIN: usize = 16;
/// Number of buffers that one check frees, so that the turn takes less than a millisecond.
const FREED_MAX: usize = 256;

/// Time between two checks of memory that is kept for reuse. What was not used in between is freed.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The buffers: the one that was used last is taken first.
#[derive(Default)]
pub(super) struct SpareBuffers {
    buffers: Vec<Vec<u8>>,
    /// The least number of buffers since the last check: so many were not used.
    unused: usize,
}

impl SpareBuffers {
    /// Takes an empty buffer.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop();
        self.unused = self.unused.min(self.buffers.len());
        buffer
    }

    /// Clears a buffer and keeps it for another connection.
    pub(super) fn keep(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= BYTES_MAX && self.buffers.len() < BUFFERS_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// Number of buffers.
    pub(super) fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Memory of the buffers, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.buffers.iter().map(Vec::capacity).sum()
    }

    /// Whether there are buffers that a check may free.
    pub(super) fn has_excess(&self) -> bool {
        self.buffers.len() > BUFFERS_MIN
    }

    /// Frees buffers that were not used since the last call, but for the least number.
    pub(super) fn free_unused(&mut self) {
        let excess = self.buffers.len().saturating_sub(BUFFERS_MIN);
        self.buffers.drain(..self.unused.min(excess).min(FREED_MAX));
        self.unused = self.buffers.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> SpareBuffers {
        let mut spare = SpareBuffers::default();
        (0..2 * BUFFERS_MAX).for_each(|_| spare.keep(Vec::with_capacity(BYTES_MAX)));
        spare.keep(Vec::with_capacity(BYTES_MAX + 1));
        assert_eq!((spare.len(), spare.bytes()), (BUFFERS_MAX, BUFFERS_MAX * BYTES_MAX));
        spare
    }

    #[test]
    fn buffers_that_are_not_used_are_freed_but_for_the_least_number() {
        let mut spare = full();
        // The first check begins the interval.
        (0..=BUFFERS_MAX / FREED_MAX).for_each(|_| spare.free_unused());
        assert_eq!((spare.len(), spare.has_excess()), (BUFFERS_MIN, false));
    }

    #[test]
    fn buffers_that_were_used_between_two_checks_are_kept() {
        let mut spare = full();
        spare.free_unused();
        for _ in 0..8 {
            let taken: Vec<_> = (0..100).map_while(|_| spare.take()).collect();
            taken.into_iter().for_each(|buffer| spare.keep(buffer));
            spare.free_unused();
        }
        assert_eq!(spare.len(), 100);
    }
}
