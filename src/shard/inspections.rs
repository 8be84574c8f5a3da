//! The inspections of a shard that are under way, and what they have found.

use std::{collections::VecDeque, mem};

use crossbeam_channel::Sender;

use super::commands::INSPECTIONS_MAX;
use crate::{
    control::{ConnectionRow, Inspection, SessionRow, ShardInspection, SubscriptionRow},
    session::ReadPosition,
};

/// The inspections under way, at most [`INSPECTIONS_MAX`]. One after the other is advanced.
#[derive(Default)]
pub(super) struct Inspections(pub(super) VecDeque<UnderWay>);

/// An inspection under way.
pub(super) struct UnderWay {
    pub(super) inspection: Inspection,
    pub(super) reply: Sender<ShardInspection>,
    pub(super) stage: Stage,
    pub(super) connections: Top<ConnectionRow>,
    pub(super) sessions: Top<SessionRow>,
    pub(super) subscriptions: Top<SubscriptionRow>,
    pub(super) used_bytes: usize,
    pub(super) kept_bytes: usize,
    pub(super) freed_bytes: usize,
}

/// The table that is read, and the place of the next entry.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    Connections(usize),
    Sessions(ReadPosition),
    Subscriptions(usize),
    Done,
}

impl Inspections {
    /// Adds an inspection. Beyond the maximum it is dropped, which closes its channel.
    pub(super) fn begin(&mut self, inspection: Inspection, reply: Sender<ShardInspection>) {
        if self.0.len() >= INSPECTIONS_MAX {
            return;
        }
        let Inspection { top, view } = inspection;
        self.0.push_back(UnderWay {
            inspection,
            reply,
            stage: if view.has_connections() { Stage::Connections(0) } else { Stage::Sessions(None) },
            connections: Top::new(top),
            sessions: Top::new(top),
            subscriptions: Top::new(top),
            used_bytes: 0,
            kept_bytes: 0,
            freed_bytes: 0,
        });
    }
}

/// The rows with the largest keys.
pub(super) struct Top<T> {
    rows: Vec<(usize, T)>,
    max: usize,
    /// Rows with smaller keys are not among the largest.
    floor: usize,
}

impl<T> Top<T> {
    fn new(max: usize) -> Self {
        Self { rows: Vec::new(), max, floor: 0 }
    }

    /// Adds a row if its key may be among the largest.
    pub(super) fn offer(&mut self, key: usize, make: impl FnOnce() -> T) {
        if self.max == 0 || key < self.floor || (key == self.floor && self.rows.len() >= self.max) {
            return;
        }
        self.rows.push((key, make()));
        if self.rows.len() >= 2 * self.max {
            self.sort();
            self.floor = self.rows.last().map_or(0, |(key, _)| *key);
        }
    }

    fn sort(&mut self) {
        // Stable: of equal rows the first ones are kept.
        self.rows.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
        self.rows.truncate(self.max);
    }

    /// The rows, largest first.
    pub(super) fn finish(&mut self) -> Vec<T> {
        self.sort();
        mem::take(&mut self.rows).into_iter().map(|(_, row)| row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_rows_are_kept_in_order() {
        let keys = [5, 1, 9, 9, 0, 7, 3, 9, 2, 8, 0];
        for max in 0..=keys.len() + 1 {
            let mut top = Top::new(max);
            keys.iter().for_each(|key| top.offer(*key, || *key));
            let mut sorted = keys.to_vec();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            sorted.truncate(max);
            assert_eq!(top.finish(), sorted, "{max}");
        }
        let mut top = Top::new(2);
        (0..9).for_each(|_| top.offer(0, || 0));
        assert!(top.rows.len() <= 4, "rows that are not returned are dropped");
    }
}
