//! Inspections of all shards.

use super::{super::collect::collect, shared::Shared};
use crate::control::{Inspection, ShardInspection, ShardTotals, View};

/// The inspections of all shards.
pub(super) struct Inspections {
    shards: Vec<ShardInspection>,
    top: usize,
    /// Shards that did not answer.
    pub(super) unresponsive: Vec<usize>,
}

impl Inspections {
    pub(super) fn collect(shared: &Shared, view: View, top: usize) -> Self {
        let inspection = Inspection { view, top };
        let (shards, unresponsive) = collect(&shared.shards, |shard| shard.inspect(inspection));
        Self { shards: shards.into_iter().map(|(_, inspection)| inspection).collect(), top, unresponsive }
    }

    pub(super) fn totals(&self) -> Vec<ShardTotals> {
        self.shards.iter().map(|shard| shard.totals).collect()
    }

    pub(super) fn freed_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.freed_bytes).sum()
    }

    /// The largest rows of one list over all shards.
    pub(super) fn rows<T, K: Ord>(
        &mut self,
        list: impl Fn(&mut ShardInspection) -> &mut Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Vec<T> {
        let mut rows: Vec<T> = self.shards.iter_mut().flat_map(|shard| std::mem::take(list(shard))).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(key(row)));
        rows.truncate(self.top);
        rows
    }
}
