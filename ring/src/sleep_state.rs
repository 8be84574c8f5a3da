//! Where a thread sleeps, so that a waker signals it there, and only then.
//!
//! The sleeper announces its place, then looks for work a last time; a waker queues work, then looks for the place. A fence on both
//! sides, between the write and the read, orders the two: at least one of them sees what the other wrote, so no work is left behind
//! by a thread that sleeps.

#[cfg(not(test))]
use std::sync::atomic::{AtomicU8, Ordering, fence};

// The unit tests explore every interleaving.
#[cfg(test)]
use loom::sync::atomic::{AtomicU8, Ordering, fence};

/// What a thread waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Its own ring.
    Ring,
    /// The executor.
    Executor,
}

const AWAKE: u8 = 0;
const IN_RING: u8 = 1;
const IN_EXECUTOR: u8 = 2;

/// Shared by the sleeper and its wakers.
pub(super) struct SleepState(AtomicU8);

impl Default for SleepState {
    fn default() -> Self {
        Self(AtomicU8::new(AWAKE))
    }
}

impl SleepState {
    /// From here on [`Self::wake`] names this place. The caller looks for work once more before it sleeps.
    pub(super) fn announce(&self, place: Place) {
        let state = match place {
            Place::Ring => IN_RING,
            Place::Executor => IN_EXECUTOR,
        };
        self.0.store(state, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake: it looks for work before it sleeps again.
    pub(super) fn end(&self) {
        self.0.store(AWAKE, Ordering::Relaxed);
    }

    /// Where the sleeper must be signalled, if it sleeps and nobody else does so. The caller has queued its work before.
    pub(super) fn wake(&self) -> Option<Place> {
        fence(Ordering::SeqCst);
        if self.0.load(Ordering::Relaxed) == AWAKE {
            return None;
        }
        match self.0.swap(AWAKE, Ordering::Relaxed) {
            IN_RING => Some(Place::Ring),
            IN_EXECUTOR => Some(Place::Executor),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use loom::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize},
        },
        thread,
    };

    use super::*;

    /// A queue by its length, and an eventfd by whether it was written to.
    struct Shared {
        sleep: SleepState,
        queued: AtomicUsize,
        signalled: AtomicBool,
    }

    /// Two wakers, each of which queues one thing, beside a sleeper that announces itself.
    #[test]
    fn sleeper_is_signalled_or_sees_the_work_in_every_interleaving() {
        loom::model(|| {
            let shared = Arc::new(Shared {
                sleep: SleepState::default(),
                queued: AtomicUsize::new(0),
                signalled: AtomicBool::new(false),
            });
            let wakers: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        shared.queued.fetch_add(1, Ordering::Release);
                        if let Some(place) = shared.sleep.wake() {
                            assert_eq!(place, Place::Ring);
                            shared.signalled.store(true, Ordering::Release);
                        }
                    })
                })
                .collect();
            shared.sleep.announce(Place::Ring);
            let seen = shared.queued.load(Ordering::Acquire);
            wakers.into_iter().for_each(|waker| waker.join().unwrap());
            let is_signalled = shared.signalled.load(Ordering::Acquire);
            assert!(seen == 2 || is_signalled, "{seen} of 2 seen, and nobody wakes the sleeper");
        });
    }

    /// What a sleeper that is awake finds by itself is not signalled.
    #[test]
    fn thread_that_is_awake_is_not_signalled() {
        loom::model(|| {
            let sleep = SleepState::default();
            assert_eq!(sleep.wake(), None);
            sleep.announce(Place::Executor);
            assert_eq!(sleep.wake(), Some(Place::Executor));
            assert_eq!(sleep.wake(), None, "one signal is enough");
            sleep.announce(Place::Ring);
            sleep.end();
            assert_eq!(sleep.wake(), None);
        });
    }
}
