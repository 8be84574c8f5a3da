//! The flags of a server and their rollouts, read and changed by any thread.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::ShardHandle;
use crate::{
    config::Percent,
    policy::{
        Flag, FlagError, Flags, RolloutReport, Rollouts, ShardFlags,
        comparison::{WINDOW, Worse},
    },
};

/// The flags of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct FlagControl(Arc<Shared>);

struct Shared {
    /// The flags that are on for all.
    base: AtomicU8,
    /// Locked while a change is passed on, so that all shards get the changes in the same order.
    rollouts: Mutex<Rollouts>,
    /// Signalled when a flag gets a cohort.
    begun: Condvar,
    shards: OnceLock<Vec<ShardHandle>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Flags::from_bits(self.base.load(Ordering::Relaxed)).fmt(formatter)
    }
}

impl FlagControl {
    /// The flags that the shards start with.
    #[must_use]
    pub fn new(rollouts: Rollouts) -> Self {
        let base = AtomicU8::new(rollouts.base().bits());
        let (rollouts, begun) = (Mutex::new(rollouts), Condvar::new());
        Self(Arc::new(Shared { base, rollouts, begun, shards: OnceLock::new() }))
    }

    /// Sets the shards that changes are passed to, once.
    pub fn connect(&self, shards: Vec<ShardHandle>) {
        let _ = self.0.shards.set(shards);
    }

    fn lock(&self) -> MutexGuard<'_, Rollouts> {
        self.0.rollouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flags that are on for all. A shard has them from its next turn on.
    #[must_use]
    pub fn get(&self) -> Flags {
        Flags::from_bits(self.0.base.load(Ordering::SeqCst))
    }

    /// The flags of a shard that starts.
    #[must_use]
    pub fn of_shard(&self, shard: usize) -> ShardFlags {
        self.lock().of_shard(shard)
    }

    /// Turns a flag on or off for all sessions and connections.
    ///
    /// # Errors
    /// As [`Rollouts::set_share`].
    pub fn set(&self, flag: Flag, is_on: bool) -> Result<(), FlagError> {
        self.set_share(flag, if is_on { Percent::ALL } else { Percent::ZERO }).map(drop)
    }

    /// Changes the share of a flag on all shards. Connections and calls in flight go on. Returns the share before.
    ///
    /// # Errors
    /// As [`Rollouts::set_share`].
    pub fn set_share(&self, flag: Flag, share: Percent) -> Result<Percent, FlagError> {
        let mut rollouts = self.lock();
        let before = rollouts.share(flag);
        if rollouts.set_share(flag, share)? {
            self.pass_on(&rollouts);
            self.0.begun.notify_all();
        }
        Ok(before)
    }

    /// Allows a flag that was rolled back to be on again. Returns whether it was rolled back.
    ///
    /// # Errors
    /// As [`Rollouts::rearm`].
    pub fn rearm(&self, flag: Flag) -> Result<bool, FlagError> {
        self.lock().rearm(flag)
    }

    /// All flags and their rollouts.
    #[must_use]
    pub fn reports(&self) -> Vec<RolloutReport> {
        self.lock().reports()
    }

    fn pass_on(&self, rollouts: &Rollouts) {
        // A shard that is restarted meanwhile reads the flags when it starts.
        self.0.base.store(rollouts.base().bits(), Ordering::SeqCst);
        for shard in self.0.shards.get().into_iter().flatten() {
            shard.set_flags(rollouts.of_shard(shard.number()));
        }
    }

    /// Waits for the end of a window, while a flag has a cohort, and at most `max` for one that has. Returns the flags that were then
    /// rolled back, whose shares are 0. `closed`: the end of the window before, which is set.
    pub fn close_window(&self, closed: &mut Instant, max: Duration) -> Vec<(Flag, Worse)> {
        let rollouts = self.lock();
        if rollouts.has_cohorts() {
            drop(rollouts);
            thread::sleep((*closed + WINDOW).saturating_duration_since(Instant::now()));
        } else {
            drop(self.0.begun.wait_timeout_while(rollouts, max, |rollouts| !rollouts.has_cohorts()));
        }
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(*closed);
        *closed = now;
        let mut rollouts = self.lock();
        // Without a cohort this only adds to the budget of false alarms.
        let rolled_back = rollouts.close_window(elapsed, SystemTime::now());
        if !rolled_back.is_empty() {
            self.pass_on(&rollouts);
        }
        rolled_back
    }
}
