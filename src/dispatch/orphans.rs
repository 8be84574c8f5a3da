//! Calls that go on although their connection has closed, by peer.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use crate::peer::PeerKey;

/// The calls without a connection, of which each peer may have a number.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// Peer, number, slot. The numbers of a peer are in the order in which its connections closed.
    calls: BTreeSet<(PeerKey, u64, u32)>,
    next_number: u64,
    counts: HashMap<PeerKey, usize, RandomState>,
    per_peer_max: usize,
}

impl Orphans {
    /// An empty table for at most `per_peer_max` calls of a peer, and at least one.
    pub(super) fn new(per_peer_max: usize) -> Self {
        Self { per_peer_max: per_peer_max.max(1), ..Self::default() }
    }

    /// Inserts a call and returns its number.
    pub(super) fn insert(&mut self, peer: PeerKey, slot: u32) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.calls.insert((peer, number, slot));
        *self.counts.entry(peer).or_default() += 1;
        number
    }

    /// Removes a call.
    pub(super) fn remove(&mut self, peer: PeerKey, number: u64, slot: u32) {
        if !self.calls.remove(&(peer, number, slot)) {
            return;
        }
        if let Some(count) = self.counts.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&peer);
            }
        }
    }

    /// The slot of the oldest call of a peer that has more than it may.
    pub(super) fn excess(&self, peer: PeerKey) -> Option<u32> {
        if *self.counts.get(&peer)? <= self.per_peer_max {
            return None;
        }
        self.calls.range((peer, 0, 0)..).next().map(|(_, _, slot)| *slot)
    }

    /// Asserts that the counts are those of the calls, and that each call is one that `is_orphan` accepts.
    #[cfg(test)]
    pub(super) fn check_invariants(&self, is_orphan: impl Fn(PeerKey, u64, u32) -> bool) {
        assert!(
            self.calls.iter().all(|(peer, number, slot)| is_orphan(*peer, *number, *slot)),
            "a call that does not run has no connection"
        );
        assert_eq!(
            self.counts.values().sum::<usize>(),
            self.calls.len(),
            "the calls of a peer are not counted"
        );
    }
}

#[cfg(test)]
mod tests {
    use corelane_ring::PeerAddress;

    use super::*;

    #[test]
    fn oldest_call_of_a_peer_with_too_many_is_its_excess() {
        let peer = |last| PeerKey::new(PeerAddress::new([192, 0, 2, last].into(), 1));
        let mut orphans = Orphans::new(2);
        let first = orphans.insert(peer(1), 9);
        orphans.insert(peer(1), 3);
        orphans.insert(peer(2), 1);
        assert_eq!((orphans.excess(peer(1)), orphans.excess(peer(2))), (None, None));
        orphans.insert(peer(1), 5);
        assert_eq!((orphans.excess(peer(1)), orphans.excess(peer(2))), (Some(9), None));
        orphans.remove(peer(1), first, 9);
        assert_eq!(orphans.excess(peer(1)), None);
        orphans.check_invariants(|_, _, _| true);
    }
}
