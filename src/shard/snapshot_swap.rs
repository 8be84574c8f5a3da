//! The snapshot that a shard serves, and the swap of the snapshots of all shards after a change of the registry.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU8, AtomicUsize, Ordering},
};

use crate::{
    mcp::Event,
    mesh::Broadcast,
    registry::{Lists, Snapshot},
    telemetry::metrics::ToolSeries,
};

/// The snapshot that a shard serves, and the call counters of its tools. Clones share both.
#[derive(Clone)]
pub struct Served {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Counters, by the positions of the tools.
    pub tools: ToolSeries,
}

impl Served {
    /// Pairs a snapshot with counters; tools that `before` contains by name keep their counters.
    pub(super) fn new(snapshot: Snapshot, before: Option<&Self>) -> Self {
        let names = snapshot.tools().iter().map(|tool| tool.callable().name());
        let Some(before) = before else {
            return Self { tools: ToolSeries::new(names), snapshot };
        };
        let tools_before = before.snapshot.tools();
        if std::ptr::eq(&**tools_before, &**snapshot.tools()) {
            return Self { snapshot, tools: before.tools.clone() };
        }
        let tools = before.tools.with(snapshot.tools().iter().enumerate().map(|(position, tool)| {
            // Most tools keep their position: comparing the pointers is enough.
            if tools_before.get(position).is_some_and(|before| Arc::ptr_eq(before, tool)) {
                return ("", Some(position));
            }
            let name = tool.callable().name();
            (name, tools_before.find(name).map(|before| before.callable().position()))
        }));
        Self { snapshot, tools }
    }
}

/// The snapshots of a shard, for the threads that change the registry.
#[derive(Default)]
pub(super) struct SnapshotSlots {
    /// The snapshot that the shard serves after executing its queued commands. The next change is derived from it.
    newest: Mutex<Option<Served>>,
    /// The previous snapshot of the shard. Freeing it takes time, so the thread that makes the next change does it.
    retired: Mutex<Option<Served>>,
}

impl SnapshotSlots {
    pub(super) fn newest(&self) -> Option<Served> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_newest(&self, served: Served) {
        let before = self.newest.lock().unwrap_or_else(PoisonError::into_inner).replace(served);
        drop(before);
    }

    /// Stores the previous snapshot until another thread frees it. It is freed here only if two swaps follow each other without a
    /// call of [`Self::free_retired`].
    pub(super) fn retire(&self, served: Served) {
        let before = self.retired.lock().unwrap_or_else(PoisonError::into_inner).replace(served);
        drop(before);
    }

    pub(super) fn free_retired(&self) {
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(retired);
    }
}

/// A change of the registry on its way to all shards. Clients are notified of changed lists when the last shard serves the new
/// snapshot, so that a client which then lists from any shard receives the new lists.
pub struct SnapshotSwap {
    changed: AtomicU8,
    /// Shards that do not serve the snapshot, or a newer one, yet.
    left: AtomicUsize,
    broadcast: Broadcast,
}

impl SnapshotSwap {
    /// A change of these lists, on that many shards.
    #[must_use]
    pub fn new(changed: Lists, shards: usize, broadcast: Broadcast) -> Arc<Self> {
        let changed = AtomicU8::new(changed.bits());
        Arc::new(Self { changed, left: AtomicUsize::new(shards), broadcast })
    }

    /// The lists that clients have not been notified of. The caller notifies them.
    fn take_changed(&self) -> Lists {
        Lists::from_bits(self.changed.swap(0, Ordering::AcqRel))
    }

    /// Takes over the lists of an older change that one shard will never serve: clients are notified of them when all shards serve
    /// this one. To be called before the shard can take this one.
    pub(super) fn supersede(&self, older: &Self) {
        self.changed.fetch_or(older.take_changed().bits(), Ordering::AcqRel);
        older.done();
    }

    /// Records that one more shard serves this snapshot or a newer one.
    pub(super) fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.take_changed().iter().for_each(|list| self.broadcast.publish(Event::list_changed(list)));
        }
    }
}
