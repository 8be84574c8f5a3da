//! Configuration of a ring.

/// Sizes of a ring, which are fixed when it is created.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Number of direct descriptors, which is the maximum number of sockets; at most the soft `RLIMIT_NOFILE`.
    pub sockets_max: u32,
    /// Entries of the submission queue; further ones wait in a queue of the process.
    pub submission_entries: u32,
    /// Entries of the completion queue; the kernel stores further ones and posts them later.
    pub completion_entries: u32,
    /// Maximum number of provided buffers of the usual size, a power of two. Those that have been needed at one time occupy memory, and at least 256.
    pub buffers: u16,
    /// Size of a provided buffer in bytes, including its padding.
    pub buffer_bytes: usize,
    /// Number of large buffers, a power of two. A turn receives at most as many, one of each socket.
    pub large_buffers: u16,
    /// Size of a large buffer in bytes, including its padding.
    pub large_buffer_bytes: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            sockets_max: 1024,
            submission_entries: 4096,
            completion_entries: 16_384,
            // More or larger buffers reduce the throughput, because they do not fit the core's cache.
            buffers: 1024,
            buffer_bytes: 2048,
            large_buffers: 16,
            large_buffer_bytes: 32 * 1024,
        }
    }
}

impl RingConfig {
    /// Bytes that the kernel accounts as locked memory for the ring (Linux 6.14 and newer; older ones account fewer).
    #[must_use]
    pub fn locked_bytes(&self) -> u64 {
        const PAGE: u64 = 4096;
        const SUBMISSION: u64 = 64;
        const SUBMISSION_INDEX: u64 = 4;
        const COMPLETION: u64 = 16;
        const BUFFER: u64 = 16;
        let submissions = u64::from(self.submission_entries);
        let queues = u64::from(self.completion_entries) * COMPLETION + submissions * SUBMISSION_INDEX;
        // Both queues share a mapping, with a header of less than a page.
        (submissions * SUBMISSION).next_multiple_of(PAGE)
            + (queues + 1).next_multiple_of(PAGE)
            + (u64::from(self.buffers) * BUFFER).next_multiple_of(PAGE)
            + (u64::from(self.large_buffers) * BUFFER).next_multiple_of(PAGE)
    }
}
