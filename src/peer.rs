//! Clients by address, and the share of a bounded table that each of them may use.
//!
//! A table that all clients of a shard use counts its entries by peer in a [`Shares`]. One peer may use all of the table but a
//! small reserve while no other peer uses it. Once others do and the table is half full, a peer above its share gets no further
//! entry. The counts are as many as the peers with an entry, so the table bounds them.

use std::{collections::HashMap, net::IpAddr};

use corelane_ring::PeerAddress;
use foldhash::fast::RandomState;

/// A client, as far as its address identifies one: an IPv4 address or the /64 network of an IPv6 address. All peers without an
/// address (Unix sockets, stdio, kernels before Linux 6.7) have the same key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerKey([u8; 8]);

impl PeerKey {
    /// The key of an address.
    #[must_use]
    pub(crate) fn new(peer: Option<PeerAddress>) -> Self {
        match peer.map(PeerAddress::ip) {
            None => Self::default(),
            // In ::/8, which is reserved (RFC 4291, section 2.4), so that no network has this key.
            Some(IpAddr::V4(ip)) => {
                let [a, b, c, d] = ip.octets();
                Self([0, 0, 0xff, 0xff, a, b, c, d])
            }
            Some(IpAddr::V6(ip)) => Self(ip.octets().first_chunk().copied().unwrap_or_default()),
        }
    }

    /// The key of a peer that is known by a hash only. It differs from those of addresses, of which ff00::/8 has only multicast ones.
    #[must_use]
    pub(crate) fn of_hash([a, b, c]: [u8; 3]) -> Self {
        Self([0xff, 0, 0, 0, 0, a, b, c])
    }

    /// The key of a connection whose peer has no address, for where each such connection counts as a peer. It differs from those of
    /// addresses and hashes.
    #[must_use]
    pub(crate) fn of_connection(index: u32) -> Self {
        let [a, b, c, d] = index.to_be_bytes();
        Self([0xff, 1, 0, 0, a, b, c, d])
    }

    /// The key as bytes, the same in every run of the process.
    #[must_use]
    pub(crate) fn bytes(self) -> [u8; 8] {
        self.0
    }
}

/// Why a peer gets no entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The table is full.
    Full,
    /// The peer uses its share of the table, which others use too.
    Share,
}

/// The part of a table that is kept for other peers while one peer uses it alone: one in this many entries.
const RESERVE_DIVISOR: u64 = 16;

/// The use of a bounded table by peer, in units of the table: entries or bytes.
#[derive(Debug)]
pub(crate) struct Shares {
    used: HashMap<PeerKey, u64, RandomState>,
    total: u64,
    capacity: u64,
    /// Use of a peer from which on it gets no more while others use the table.
    share: u64,
}

impl Shares {
    /// The shares of a table of `capacity` units, of which each peer may use `percent`, and at least one.
    #[must_use]
    pub(crate) fn new(capacity: u64, percent: u32) -> Self {
        let share = u128::from(capacity) * u128::from(percent) / 100;
        let share = u64::try_from(share).unwrap_or(capacity).max(1);
        Self { used: HashMap::default(), total: 0, capacity, share }
    }

    /// Counts `units` for a peer.
    ///
    /// # Errors
    /// The table has no room for them, or the peer uses its share. Nothing is counted.
    pub(crate) fn take(&mut self, peer: PeerKey, units: u64) -> Result<(), NoRoom> {
        self.check(peer, units)?;
        self.add(peer, units);
        Ok(())
    }

    /// Counts `units` for a peer, whether there is room or not.
    pub(crate) fn add(&mut self, peer: PeerKey, units: u64) {
        if units > 0 {
            self.total = self.total.saturating_add(units);
            let used = self.used.entry(peer).or_default();
            *used = used.saturating_add(units);
        }
    }

    /// Checks whether a peer may take `units`.
    ///
    /// # Errors
    /// As for [`Self::take`].
    pub(crate) fn check(&self, peer: PeerKey, units: u64) -> Result<(), NoRoom> {
        if units == 0 {
            return Ok(());
        }
        let total = self.total.saturating_add(units);
        let own = self.of(peer).saturating_add(units);
        let is_alone = self.used.len() == usize::from(self.used.contains_key(&peer));
        let is_refused = match (own <= self.share, is_alone) {
            (true, _) => false,
            (false, true) => total > self.capacity - self.capacity / RESERVE_DIVISOR,
            (false, false) => total > self.capacity / 2,
        };
        if total > self.capacity && (is_alone || !is_refused) {
            return Err(NoRoom::Full);
        }
        if is_refused { Err(NoRoom::Share) } else { Ok(()) }
    }

    /// Returns `units` that were counted for a peer.
    pub(crate) fn give(&mut self, peer: PeerKey, units: u64) {
        let Some(used) = self.used.get_mut(&peer) else {
            debug_assert_eq!(units, 0, "units are returned that were not counted");
            return;
        };
        debug_assert!(*used >= units, "more units are returned than were counted");
        let units = units.min(*used);
        *used -= units;
        self.total -= units.min(self.total);
        if *used == 0 {
            self.used.remove(&peer);
        }
    }

    /// The peer that uses the most.
    #[must_use]
    pub(crate) fn most(&self) -> Option<PeerKey> {
        self.used.iter().max_by_key(|(peer, used)| (**used, **peer)).map(|(peer, _)| *peer)
    }

    /// The peer that uses the most, if that is more than its share.
    #[must_use]
    pub(crate) fn heaviest(&self) -> Option<PeerKey> {
        self.most().filter(|peer| self.of(*peer) > self.share)
    }

    /// Whether a peer stays within its share with `units` more.
    #[must_use]
    pub(crate) fn is_within_share(&self, peer: PeerKey, units: u64) -> bool {
        self.of(peer).saturating_add(units) <= self.share
    }

    /// The units that are counted for a peer.
    #[must_use]
    pub(crate) fn of(&self, peer: PeerKey) -> u64 {
        self.used.get(&peer).copied().unwrap_or_default()
    }

    /// The units that are counted for all peers.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn peer(ip: &str) -> PeerKey {
        PeerKey::new(PeerAddress::new(ip.parse().unwrap(), 1000))
    }

    #[test]
    fn peers_are_told_apart_by_ipv4_address_and_ipv6_network() {
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::2"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(PeerKey::new(None), PeerKey::default());
        let ports = [1, 65_535].map(|port| PeerKey::new(PeerAddress::new(Ipv4Addr::LOCALHOST.into(), port)));
        assert_eq!(ports[0], ports[1]);
    }

    #[test]
    fn single_peer_uses_all_but_the_reserve_and_a_newcomer_finds_room() {
        let mut shares = Shares::new(160, 25);
        let heavy = peer("192.0.2.1");
        assert!((0..150).all(|_| shares.take(heavy, 1).is_ok()));
        assert_eq!(shares.take(heavy, 1), Err(NoRoom::Share));
        assert!((0..10).all(|_| shares.take(peer("192.0.2.2"), 1).is_ok()));
        assert_eq!(shares.heaviest(), Some(heavy));
        assert_eq!(shares.take(peer("192.0.2.2"), 1), Err(NoRoom::Full));
        // The heavy peer is above its share, so it gets nothing until the table is half empty.
        shares.give(heavy, 80);
        assert_eq!(shares.take(heavy, 1), Err(NoRoom::Share));
        assert!((0..30).all(|_| shares.take(peer("192.0.2.2"), 1).is_ok()));
    }

    #[test]
    fn small_tables_have_no_reserve() {
        let mut shares = Shares::new(2, 25);
        assert!((0..2).all(|_| shares.take(peer("192.0.2.1"), 1).is_ok()));
        assert_eq!(shares.take(peer("192.0.2.1"), 1), Err(NoRoom::Full));
    }

    #[test]
    #[should_panic(expected = "more units are returned than were counted")]
    fn returning_too_much_panics() {
        let mut shares = Shares::new(2, 25);
        shares.take(peer("192.0.2.1"), 1).unwrap();
        shares.give(peer("192.0.2.1"), 2);
    }

    proptest! {
        /// The counts are the sums of what was taken, never above the capacity, and a peer below its share is refused only by a
        /// full table.
        #[test]
        fn counts_agree_with_a_model(steps in prop::collection::vec((0_u8..4, 1_u64..20, any::<bool>()), 1..200)) {
            let mut shares = Shares::new(100, 25);
            let mut model = [0_u64; 4];
            for (index, units, takes) in steps {
                let key = peer(&format!("192.0.2.{index}"));
                let Some(own) = model.get_mut(usize::from(index)) else { continue };
                if takes {
                    match shares.take(key, units) {
                        Ok(()) => *own += units,
                        Err(NoRoom::Full) => prop_assert!(shares.total() + units > 100),
                        Err(NoRoom::Share) => prop_assert!(*own + units > 25),
                    }
                } else {
                    let units = units.min(*own);
                    shares.give(key, units);
                    *own -= units;
                }
                prop_assert_eq!(shares.of(key), *own);
                prop_assert_eq!(shares.total(), model.iter().sum::<u64>());
                prop_assert!(shares.total() <= 100);
                prop_assert_eq!(shares.used.len(), model.iter().filter(|used| **used > 0).count());
            }
        }
    }
}
