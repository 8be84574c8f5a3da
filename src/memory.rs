//! The memory that clients make a shard hold in buffers: parts of requests, replies that are not sent, replies that are not received.
//!
//! Buffers of at least [`COUNTED_MIN`] bytes are counted by peer. The others are bounded by the number of connections.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use foldhash::fast::RandomState;

use crate::peer::{NoRoom, PeerKey, Shares};

/// Size from which the buffers of a connection are counted, in bytes.
pub(crate) const COUNTED_MIN: usize = 16 * 1024;

/// Whether the process uses nearly all of the memory that it may use. Set by the thread that watches it.
#[derive(Clone, Debug, Default)]
pub struct MemoryPressure(Arc<AtomicBool>);

impl MemoryPressure {
    /// Sets it for all shards.
    pub(crate) fn set(&self, is_high: bool) {
        self.0.store(is_high, Ordering::Relaxed);
    }

    /// Whether another holder of this value is left.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether it is high.
    pub(crate) fn is_high(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The buffers of one connection.
#[derive(Debug)]
struct Held {
    peer: PeerKey,
    /// Bytes that are counted for the peer.
    counted: u64,
    /// Bytes that the ring sends.
    sending: u64,
}

/// The buffers of a shard's connections, within a budget. `K` identifies a connection.
#[derive(Debug)]
pub(crate) struct MemoryBudget<K> {
    shares: Shares,
    held: HashMap<K, Held, RandomState>,
    pressure: MemoryPressure,
}

/// Why a connection may not hold more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverBudget<K> {
    /// This one is closed instead, which holds the most for the peer that holds the most.
    Close(K),
    /// The peer holds its share, or there is nothing else to close.
    Refuse,
}

impl<K: Copy + Eq + Hash> MemoryBudget<K> {
    /// A budget of `bytes`, of which each peer may use `percent` while others use it too.
    pub(crate) fn new(bytes: u64, percent: u32, pressure: MemoryPressure) -> Self {
        Self { shares: Shares::new(bytes, percent), held: HashMap::default(), pressure }
    }

    /// Whether any connection is counted. If none is, a connection with less than [`COUNTED_MIN`] bytes need not be.
    #[inline]
    pub(crate) fn is_counting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sets the bytes that a connection holds, without those that the ring sends. Where the shard is over its budget, or the process
    /// near its own, another connection may have to be closed first; the caller then repeats the call.
    pub(crate) fn count(&mut self, socket: K, peer: PeerKey, bytes: usize) -> Result<(), OverBudget<K>> {
        let bytes = if bytes < COUNTED_MIN { 0 } else { bytes as u64 };
        let (peer, before, sending) =
            self.held.get(&socket).map_or((peer, 0, 0), |held| (held.peer, held.counted, held.sending));
        let after = bytes + sending;
        if after <= before {
            self.shares.give(peer, before - after);
            match self.held.get_mut(&socket) {
                Some(_) if after == 0 => drop(self.held.remove(&socket)),
                Some(held) => held.counted = after,
                None => {}
            }
            return Ok(());
        }
        match self.shares.take(peer, after - before) {
            Ok(()) => {
                self.held.insert(socket, Held { peer, counted: after, sending });
                Ok(())
            }
            Err(NoRoom::Share) => Err(OverBudget::Refuse),
            Err(NoRoom::Full) => Err(match self.largest() {
                Some(largest) if largest != socket => OverBudget::Close(largest),
                _ => OverBudget::Refuse,
            }),
        }
    }

    /// The connection to close before `socket` may hold more, while the memory of the process is nearly used up: the largest of the
    /// peer that holds the most, if that is more than its share. Others keep their share.
    pub(crate) fn excess(&self, socket: K, peer: PeerKey, bytes: usize) -> Option<K> {
        let before = self.held.get(&socket).map_or(0, |held| held.counted);
        let grows = bytes >= COUNTED_MIN && bytes as u64 > before;
        if !grows || !self.pressure.is_high() {
            return None;
        }
        match self.shares.heaviest() {
            Some(heaviest) => self.largest_of(heaviest),
            None => {
                let is_within = self.shares.is_within_share(peer, bytes as u64 - before);
                (!is_within).then_some(socket)
            }
        }
    }

    /// Whether new work that needs memory is refused.
    pub(crate) fn is_high(&self) -> bool {
        self.pressure.is_high()
    }

    /// Records that the ring sends so many of the bytes that a connection holds.
    pub(crate) fn sending(&mut self, socket: K, bytes: usize) {
        if bytes >= COUNTED_MIN
            && let Some(held) = self.held.get_mut(&socket)
        {
            held.sending = (bytes as u64).min(held.counted);
        }
    }

    /// Records that the ring sends nothing. The caller counts the connection's bytes next.
    pub(crate) fn sent(&mut self, socket: K) {
        if let Some(held) = self.held.get_mut(&socket) {
            held.sending = 0;
        }
    }

    /// Whether the ring sends bytes of a connection that are counted.
    pub(crate) fn is_sending(&self, socket: K) -> bool {
        self.held.get(&socket).is_some_and(|held| held.sending > 0)
    }

    /// Removes a connection.
    pub(crate) fn release(&mut self, socket: K) {
        if let Some(held) = self.held.remove(&socket) {
            self.shares.give(held.peer, held.counted);
        }
    }

    /// The bytes of all connections.
    pub(crate) fn bytes(&self) -> u64 {
        self.shares.total()
    }

    /// The connection that holds the most for the peer that holds the most.
    fn largest(&self) -> Option<K> {
        self.largest_of(self.shares.most()?)
    }

    /// The connection that holds the most for a peer.
    fn largest_of(&self, peer: PeerKey) -> Option<K> {
        let of_peer = self.held.iter().filter(|(_, held)| held.peer == peer);
        of_peer.max_by_key(|(_, held)| held.counted).map(|(socket, _)| *socket)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use corelane_ring::PeerAddress;

    use super::*;

    const MIB: usize = 1 << 20;

    fn peer(last: u8) -> PeerKey {
        PeerKey::new(PeerAddress::new(Ipv4Addr::new(192, 0, 2, last).into(), 1))
    }

    fn budget() -> MemoryBudget<u32> {
        MemoryBudget::new(16 * MIB as u64, 25, MemoryPressure::default())
    }

    fn sockets() -> impl Iterator<Item = u32> {
        0..
    }

    #[test]
    fn single_peer_is_refused_before_the_budget_is_used_up() {
        let mut budget = budget();
        let sockets: Vec<_> = sockets().take(16).collect();
        for socket in &sockets[..15] {
            assert_eq!(budget.count(*socket, peer(1), MIB), Ok(()));
        }
        assert_eq!(budget.count(sockets[15], peer(1), MIB), Err(OverBudget::Refuse));
        assert_eq!(budget.bytes(), 15 * MIB as u64);
        budget.release(sockets[0]);
        assert_eq!(budget.count(sockets[15], peer(1), MIB), Ok(()));
    }

    #[test]
    fn newcomer_gets_the_memory_of_the_largest_holder() {
        let mut budget = budget();
        let sockets: Vec<_> = sockets().take(6).collect();
        for (socket, size) in sockets.iter().zip([4, 5, 6]) {
            assert_eq!(budget.count(*socket, peer(1), size * MIB), Ok(()));
        }
        assert_eq!(budget.count(sockets[3], peer(2), MIB), Ok(()));
        assert_eq!(budget.count(sockets[4], peer(2), 2 * MIB), Err(OverBudget::Close(sockets[2])));
        budget.release(sockets[2]);
        assert_eq!(budget.count(sockets[4], peer(2), 2 * MIB), Ok(()));
        assert_eq!(budget.bytes(), 12 * MIB as u64);
    }

    #[test]
    fn bytes_that_are_sent_stay_counted_until_they_are_sent() {
        let mut budget = budget();
        let socket = sockets().next().unwrap();
        budget.count(socket, peer(1), MIB).unwrap();
        budget.sending(socket, MIB);
        budget.count(socket, peer(1), 0).unwrap();
        assert_eq!(budget.bytes(), MIB as u64);
        budget.count(socket, peer(1), MIB).unwrap();
        assert_eq!(budget.bytes(), 2 * MIB as u64);
        budget.sent(socket);
        budget.count(socket, peer(1), 0).unwrap();
        assert_eq!((budget.bytes(), budget.held.len()), (0, 0));
    }

    #[test]
    fn small_buffers_are_not_counted() {
        let mut budget = budget();
        let socket = sockets().next().unwrap();
        budget.count(socket, peer(1), COUNTED_MIN - 1).unwrap();
        assert_eq!((budget.bytes(), budget.held.len()), (0, 0));
    }

    #[test]
    fn growth_under_pressure_closes_the_largest_holder_above_its_share_and_no_other() {
        let pressure = MemoryPressure::default();
        let mut budget = MemoryBudget::new(16 * MIB as u64, 25, pressure.clone());
        let sockets: Vec<_> = sockets().take(4).collect();
        budget.count(sockets[0], peer(1), 3 * MIB).unwrap();
        budget.count(sockets[1], peer(1), 2 * MIB).unwrap();
        assert_eq!(budget.excess(sockets[2], peer(2), MIB), None);
        pressure.set(true);
        assert_eq!(budget.excess(sockets[2], peer(2), MIB), Some(sockets[0]));
        assert_eq!(budget.excess(sockets[2], peer(2), 100), None);
        budget.release(sockets[0]);
        assert_eq!(budget.excess(sockets[2], peer(2), MIB), None, "no peer is above its share");
        assert_eq!(budget.excess(sockets[3], peer(1), 3 * MIB), Some(sockets[3]), "a peer that would be");
        assert_eq!(budget.excess(sockets[3], peer(1), 2 * MIB), None);
    }
}
