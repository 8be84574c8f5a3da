//! The turn that a shard is in, published for other threads. A poll of a task between two turns counts as one.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::call::Callable;

/// The turn of one shard: written by the shard with relaxed stores, read by any thread. On cache lines of its own.
#[repr(align(128))]
pub struct TurnStatus {
    created: Instant,
    /// When the turn under way began, in milliseconds since `created`, plus 1; 0 between two turns.
    began: AtomicU64,
    /// The address of the last callable that the turn has started; 0 for none. Only compared, never dereferenced.
    callable: AtomicUsize,
    /// The turn that is stuck, by its `began`, as the watchdog has found; 0 for none.
    stuck: AtomicU64,
}

/// A turn under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// See [`TurnStatus::began`].
    began: u64,
}

impl Default for TurnStatus {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            began: AtomicU64::new(0),
            callable: AtomicUsize::new(0),
            stuck: AtomicU64::new(0),
        }
    }
}

impl TurnStatus {
    /// Records that a turn begins.
    #[inline]
    pub fn begin(&self, now: Instant) {
        self.began.store(self.millis(now), Relaxed);
    }

    /// Records that the turn has ended.
    #[inline]
    pub fn end(&self) {
        self.callable.store(0, Relaxed);
        self.began.store(0, Relaxed);
    }

    /// Records that the turn starts a call.
    #[inline]
    pub fn start(&self, callable: &Callable) {
        self.start_at(Self::address(callable));
    }

    /// As [`Self::start`], of the callable with this [`Self::address`].
    #[inline]
    pub fn start_at(&self, address: usize) {
        self.callable.store(address, Relaxed);
    }

    /// The address that identifies a callable.
    #[must_use]
    pub fn address(callable: &Callable) -> usize {
        std::ptr::from_ref(callable).addr()
    }

    /// The turn under way.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        Some(Turn { began: self.began.load(Relaxed) }).filter(|turn| turn.began != 0)
    }

    /// How long the turn under way has lasted, with a resolution of a millisecond; zero between two turns.
    #[must_use]
    pub fn duration(&self, now: Instant) -> Duration {
        self.turn()
            .map_or(Duration::ZERO, |turn| Duration::from_millis(self.millis(now).saturating_sub(turn.began)))
    }

    /// Whether this callable is the last one that the turn under way has started.
    #[must_use]
    pub fn has_started(&self, callable: &Callable) -> bool {
        self.callable.load(Relaxed) == Self::address(callable)
    }

    /// Records that this turn is stuck.
    pub fn set_stuck(&self, turn: Turn) {
        self.stuck.store(turn.began, Relaxed);
    }

    /// Whether the turn under way is one that [`Self::set_stuck`] has recorded.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.turn().is_some_and(|turn| turn.began == self.stuck.load(Relaxed))
    }

    /// Milliseconds since `created`, plus 1.
    fn millis(&self, now: Instant) -> u64 {
        let age = now.saturating_duration_since(self.created);
        age.as_secs().saturating_mul(1000).saturating_add(u64::from(age.subsec_millis()) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_turn_that_was_found_is_stuck() {
        let status = TurnStatus::default();
        let at = |millis| status.created + Duration::from_millis(millis);
        assert_eq!((status.turn(), status.duration(at(9)), status.is_stuck()), (None, Duration::ZERO, false));
        status.begin(at(0));
        assert!(status.turn().is_some(), "also in the first millisecond");
        status.begin(at(5));
        assert_eq!(status.duration(at(9)), Duration::from_millis(4));
        status.set_stuck(status.turn().unwrap());
        assert!(status.is_stuck());
        status.end();
        assert!(!status.is_stuck());
        status.begin(at(200));
        assert!(!status.is_stuck());
    }
}
