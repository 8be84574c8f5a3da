//! The flags of a server, read and changed by any thread.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicU8, Ordering},
};

use super::ShardHandle;
use crate::policy::{Flag, Flags, RestartOnly};

/// The flags of a server. Clones share them.
#[derive(Clone, Debug)]
pub struct FlagControl(Arc<Shared>);

struct Shared {
    bits: AtomicU8,
    /// Held while a change is passed on, so that all shards get the changes in the same order.
    changing: Mutex<()>,
    shards: OnceLock<Vec<ShardHandle>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Flags::from_bits(self.bits.load(Ordering::Relaxed)).fmt(formatter)
    }
}

impl FlagControl {
    /// The flags that the shards start with.
    #[must_use]
    pub fn new(flags: Flags) -> Self {
        let bits = AtomicU8::new(flags.bits());
        Self(Arc::new(Shared { bits, changing: Mutex::default(), shards: OnceLock::new() }))
    }

    /// Sets the shards that changes are passed to, once.
    pub fn connect(&self, shards: Vec<ShardHandle>) {
        let _ = self.0.shards.set(shards);
    }

    /// The flags. A shard has them from its next turn on.
    #[must_use]
    pub fn get(&self) -> Flags {
        Flags::from_bits(self.0.bits.load(Ordering::SeqCst))
    }

    /// Changes the position of a flag on all shards. Connections and calls in flight go on.
    ///
    /// # Errors
    /// The flag takes effect at a start only.
    pub fn set(&self, flag: Flag, is_on: bool) -> Result<(), RestartOnly> {
        if flag.is_restart_only() {
            return Err(RestartOnly(flag));
        }
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = self.get().with(flag, is_on);
        // A shard that is restarted meanwhile reads the flags when it starts.
        self.0.bits.store(flags.bits(), Ordering::SeqCst);
        self.0.shards.get().into_iter().flatten().for_each(|shard| shard.set_flags(flags));
        Ok(())
    }
}
