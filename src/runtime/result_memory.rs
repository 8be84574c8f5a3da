//! The memory of results that wait to be encoded: bounded, so that handlers that end at the same moment do not exceed the memory of the
//! process before the thread that watches it has measured it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Size from which results are counted, in bytes.
const COUNTED_MIN: usize = 16 * 1024;

/// Bytes of the results of one shard that wait. Results are reserved on any thread.
#[derive(Clone)]
pub(super) struct ResultMemory(Arc<Waiting>);

struct Waiting {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// The memory of one result, until it is dropped.
pub struct ResultReservation {
    memory: ResultMemory,
    bytes: usize,
}

impl ResultMemory {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Waiting { bytes: AtomicUsize::new(0), bytes_max }))
    }

    /// Reserves the memory of a result; `Ok(None)` for a small one. A single result is admitted whatever its size.
    ///
    /// # Errors
    /// The memory is used up.
    pub(super) fn reserve(&self, bytes: usize) -> Result<Option<ResultReservation>, ()> {
        if bytes < COUNTED_MIN {
            return Ok(None);
        }
        let before = self.0.bytes.fetch_add(bytes, Relaxed);
        let reservation = ResultReservation { memory: self.clone(), bytes };
        if before > 0 && before.saturating_add(bytes) > self.0.bytes_max {
            return Err(());
        }
        Ok(Some(reservation))
    }
}

impl Drop for ResultReservation {
    fn drop(&mut self) {
        self.memory.0.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_admitted_within_the_bound_or_alone() {
        const MIB: usize = 1 << 20;
        let memory = ResultMemory::new(4 * MIB);
        assert!(memory.reserve(COUNTED_MIN - 1).unwrap().is_none());
        let alone = memory.reserve(60 * MIB).unwrap();
        assert!(memory.reserve(MIB).is_err());
        drop(alone);
        let both = [memory.reserve(MIB).unwrap(), memory.reserve(3 * MIB).unwrap()];
        assert!(memory.reserve(COUNTED_MIN).is_err());
        drop(both);
        assert_eq!(memory.0.bytes.load(Relaxed), 0);
    }
}
