//! Sizes of a ring.

/// Sizes of a ring. All of them are fixed once it is built.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Direct descriptors: the most sockets this ring can hold. At most the soft `RLIMIT_NOFILE`.
    pub sockets_max: u32,
    /// Entries of the submission queue; what does not fit waits on this side.
    pub submission_entries: u32,
    /// Entries of the completion queue; the kernel keeps what does not fit and posts it later.
    pub completion_entries: u32,
    /// Provided buffers, a power of two.
    pub buffers: u16,
    /// Size of a provided buffer in bytes, padding included.
    pub buffer_bytes: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            sockets_max: 1024,
            submission_entries: 4096,
            completion_entries: 16_384,
            // More or larger buffers cost throughput: the set no longer stays in the core's cache.
            buffers: 1024,
            buffer_bytes: 2048,
        }
    }
}

impl RingConfig {
    /// Bytes that the kernel counts as locked for such a ring (Linux 6.14 and newer; older ones count fewer).
    #[must_use]
    pub fn locked_bytes(&self) -> u64 {
        const PAGE: u64 = 4096;
        const SUBMISSION: u64 = 64;
        const SUBMISSION_INDEX: u64 = 4;
        const COMPLETION: u64 = 16;
        const BUFFER: u64 = 16;
        let submissions = u64::from(self.submission_entries);
        let queues = u64::from(self.completion_entries) * COMPLETION + submissions * SUBMISSION_INDEX;
        // Both queues share a mapping, with a head of less than a page.
        (submissions * SUBMISSION).next_multiple_of(PAGE)
            + (queues + 1).next_multiple_of(PAGE)
            + (u64::from(self.buffers) * BUFFER).next_multiple_of(PAGE)
    }
}
