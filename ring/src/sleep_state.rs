//! State of a sleeping thread, by which a waker signals it where it sleeps, and only if it sleeps.
//!
//! The sleeper announces where it sleeps, then checks for work once more; a waker queues work, then reads the state. A fence on
//! both sides, between the write and the read, guarantees that at least one of them sees the other's write, so no work is left
//! in the queue of a sleeping thread.

#[cfg(not(test))]
use std::sync::atomic::{AtomicU8, Ordering, fence};

// The unit tests explore all interleavings.
#[cfg(test)]
use loom::sync::atomic::{AtomicU8, Ordering, fence};

/// The place at which a thread sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SleepsIn {
    /// In its ring.
    Ring,
    /// In the executor.
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
    /// Announces where the thread will sleep, which [`Self::wake`] then returns. The caller checks for work once more before it sleeps.
    pub(super) fn announce(&self, site: SleepsIn) {
        let state = match site {
            SleepsIn::Ring => IN_RING,
            SleepsIn::Executor => IN_EXECUTOR,
        };
        self.0.store(state, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Announces that the thread is awake. It checks for work before it sleeps again.
    pub(super) fn end(&self) {
        self.0.store(AWAKE, Ordering::Relaxed);
    }

    /// Returns where to signal the thread, if it sleeps and no other waker has signalled it. The caller has queued its work before.
    pub(super) fn wake(&self) -> Option<SleepsIn> {
        fence(Ordering::SeqCst);
        if self.0.load(Ordering::Relaxed) == AWAKE {
            return None;
        }
        match self.0.swap(AWAKE, Ordering::Relaxed) {
            IN_RING => Some(SleepsIn::Ring),
            IN_EXECUTOR => Some(SleepsIn::Executor),
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

    /// Model of a queue, by its length, and of an eventfd, by whether it was written.
    struct Shared {
        sleep: SleepState,
        queued: AtomicUsize,
        signalled: AtomicBool,
    }

    /// Two wakers, each of which queues one item, and a sleeper that announces itself.
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
                        if let Some(site) = shared.sleep.wake() {
                            assert_eq!(site, SleepsIn::Ring);
                            shared.signalled.store(true, Ordering::Release);
                        }
                    })
                })
                .collect();
            shared.sleep.announce(SleepsIn::Ring);
            let seen = shared.queued.load(Ordering::Acquire);
            wakers.into_iter().for_each(|waker| waker.join().unwrap());
            let is_signalled = shared.signalled.load(Ordering::Acquire);
            assert!(seen == 2 || is_signalled, "{seen} of 2 items seen, and the sleeper is not signalled");
        });
    }

    /// A thread that is awake finds its work without a signal.
    #[test]
    fn thread_that_is_awake_is_not_signalled() {
        loom::model(|| {
            let sleep = SleepState::default();
            assert_eq!(sleep.wake(), None);
            sleep.announce(SleepsIn::Executor);
            assert_eq!(sleep.wake(), Some(SleepsIn::Executor));
            assert_eq!(sleep.wake(), None, "one signal is enough");
            sleep.announce(SleepsIn::Ring);
            sleep.end();
            assert_eq!(sleep.wake(), None);
        });
    }
}
