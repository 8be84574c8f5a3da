//! Connections with input that a turn had no time for: a queue for each peer, served in turn.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    hash::Hash,
    time::Instant,
};

use corelane_ring::{PeerAddress, SocketId};
use foldhash::fast::RandomState;

use crate::peer::PeerKey;

/// Whose input it is: a peer's, or that of one connection where peers have no address (Unix sockets).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Owner<T>(PeerKey, Option<T>);

/// The queues. Peers are served in turn, and the connections of a peer one after another, so that neither many requests nor many
/// connections of one peer hold the others back.
#[derive(Default)]
pub(super) struct Leftovers<T = SocketId> {
    queues: HashMap<Owner<T>, VecDeque<(T, Instant)>, RandomState>,
    /// The owners of a queue, the next one first.
    order: VecDeque<Owner<T>>,
    /// The connections in all queues.
    queued: HashSet<T, RandomState>,
}

impl<T: Copy + Eq + Hash> Leftovers<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Appends a connection to the queue of its peer, unless it is in a queue.
    pub(super) fn push(&mut self, socket: T, peer: Option<PeerAddress>, now: Instant) {
        if !self.queued.insert(socket) {
            return;
        }
        let owner = Owner(PeerKey::new(peer), peer.is_none().then_some(socket));
        let queue = self.queues.entry(owner).or_default();
        if queue.is_empty() {
            self.order.push_back(owner);
        }
        queue.push_back((socket, now));
    }

    /// Takes the next connection of the peer whose turn it is, with the time since which it is in the queue.
    pub(super) fn pop(&mut self) -> Option<(T, Instant)> {
        let owner = self.order.pop_front()?;
        let Entry::Occupied(mut queue) = self.queues.entry(owner) else { return None };
        let (socket, since) = queue.get_mut().pop_front()?;
        if queue.get().is_empty() {
            queue.remove();
        } else {
            self.order.push_back(owner);
        }
        self.queued.remove(&socket);
        Some((socket, since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Option<PeerAddress> {
        PeerAddress::new([192, 0, 2, last].into(), 1)
    }

    #[test]
    fn connections_are_served_in_turn_by_peer() {
        let (mut left, now) = (Leftovers::default(), Instant::now());
        for (number, last) in [(10, 1), (11, 1), (12, 1), (20, 2), (30, 3), (21, 2)] {
            left.push(number, peer(last), now);
            left.push(number, peer(last), now);
        }
        let order: Vec<u32> = std::iter::from_fn(|| left.pop()).map(|(number, _)| number).collect();
        assert_eq!(order, [10, 20, 30, 11, 21, 12]);
        assert!(left.is_empty() && left.queues.is_empty() && left.queued.is_empty(), "nothing is kept");
    }
}
