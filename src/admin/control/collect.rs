//! Answers of the shards, collected within a timeout.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::shared::Shared;
use crate::{
    control::{Inspection, ShardInspection, ShardTotals, View},
    shard::ShardHandle,
};

/// How long a shard may take to answer before it is listed as unresponsive.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The answers of the shards that still run, all requested at the same time, and the numbers of those that did not answer in time.
pub(super) fn collect<T>(
    shards: &[ShardHandle],
    request: impl Fn(&ShardHandle) -> Receiver<T>,
) -> (Vec<(usize, T)>, Vec<usize>) {
    let running = shards.iter().filter(|shard| !shard.has_ended());
    let requested: Vec<_> = running.map(|shard| (shard, request(shard))).collect();
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let (mut answers, mut unresponsive) = (Vec::new(), Vec::new());
    for (shard, receiver) in requested {
        match receiver.recv_deadline(deadline) {
            Ok(answer) => answers.push((shard.number(), answer)),
            // It has ended while it was asked.
            Err(_) if shard.has_ended() => {}
            Err(_) => unresponsive.push(shard.number()),
        }
    }
    (answers, unresponsive)
}

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
