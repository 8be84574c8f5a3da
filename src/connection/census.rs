//! Counts a shard's connections by state, a part of the table at a time: the table may be long.

use super::Connection;
use crate::telemetry::metrics::ConnectionStates;

/// A count that is under way.
#[derive(Default)]
pub(crate) struct Census {
    next: usize,
    counts: ConnectionStates,
}

impl Census {
    /// Counts up to `slots` more slots of the table. Returns the counts at the end of the table; the next call starts a new
    /// count.
    pub(crate) fn advance(&mut self, table: &[Option<Connection>], slots: usize) -> Option<ConnectionStates> {
        let end = table.len().min(self.next.saturating_add(slots));
        for connection in table.get(self.next..end).into_iter().flatten().flatten() {
            if let Some(count) = self.counts.get_mut(connection.state() as usize) {
                *count += 1;
            }
        }
        self.next = end;
        (end == table.len()).then(|| std::mem::take(self).counts)
    }
}

#[cfg(test)]
mod tests {
    use corelane_ring::SocketId;

    use super::*;
    use crate::{connection::Phase, runtime::Tick};

    #[test]
    fn census_counts_each_slot_once_in_parts_of_any_size() {
        let connection =
            |phase| Connection { phase, ..Connection::new(SocketId::default(), None, Tick::NEVER) };
        let mut table: Vec<_> =
            [Phase::Idle, Phase::Head, Phase::Lingering, Phase::Idle, Phase::Body { started: Tick::NEVER }]
                .map(|phase| Some(connection(phase)))
                .into();
        table.insert(2, None);
        let mut census = Census::default();
        for slots in 1..8 {
            let mut calls = 1;
            let counts = loop {
                if let Some(counts) = census.advance(&table, slots) {
                    break counts;
                }
                calls += 1;
            };
            assert_eq!((counts, calls), ([2, 2, 0, 0, 0, 1], 6_usize.div_ceil(slots)), "{slots}");
        }
        assert_eq!(census.advance(&[], 1), Some([0; 6]));
    }
}
