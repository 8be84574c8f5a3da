//! Random bytes for session keys and task nonces, fetched in bulk.

/// Bytes that are fetched at a time.
const ENTROPY_BYTES: usize = 512;

/// A buffer of unguessable bytes.
pub(crate) struct Entropy {
    bytes: [u8; ENTROPY_BYTES],
    used: usize,
}

impl Default for Entropy {
    fn default() -> Self {
        Self { bytes: [0; ENTROPY_BYTES], used: ENTROPY_BYTES }
    }
}

impl Entropy {
    /// Takes `N` bytes, at most 512. Aborts the process if the system has no randomness: a session that can be guessed is worse than
    /// none.
    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > self.bytes.len() {
            if getrandom::fill(&mut self.bytes).is_err() {
                std::process::abort();
            }
            self.used = 0;
        }
        let mut taken = [0; N];
        let unused = self.bytes.get(self.used..self.used + N).unwrap_or_default();
        taken.iter_mut().zip(unused).for_each(|(to, from)| *to = *from);
        self.used += N;
        taken
    }
}
