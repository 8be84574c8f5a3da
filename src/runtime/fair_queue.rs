//! Bounded queue in which items wait by peer, each peer's in order. The peer with the fewest items in service is served next; among
//! equals, the one that has waited longest for its turn. An item of a peer with none in service is therefore preceded by at most one
//! item of each other waiting peer.

use std::collections::{BTreeMap, HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::peer::{NoRoom, PeerKey, Shares};

/// The position of a waiting peer: its number of items in service, and its turn. Turns are unique.
type Position = (usize, u64);

/// Items by peer. A peer has an entry while it has items that wait or are in service.
pub(super) struct FairQueue<T> {
    peers: HashMap<PeerKey, Peer<T>, RandomState>,
    /// Peers with waiting items, in the order in which they are served.
    order: BTreeMap<Position, PeerKey>,
    /// Waiting items by peer.
    shares: Shares,
    /// Number of waiting items.
    waiting: usize,
    next_turn: u64,
}

struct Peer<T> {
    waiting: VecDeque<T>,
    in_service: usize,
    /// Turn of the first waiting item.
    turn: u64,
}

impl<T> Peer<T> {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), in_service: 0, turn: 0 }
    }
}

impl<T> FairQueue<T> {
    /// A queue with room for `capacity` items, of which each peer may use `percent` while others use it too.
    pub(super) fn new(capacity: usize, percent: u32) -> Self {
        let capacity = u64::try_from(capacity).unwrap_or(u64::MAX);
        Self {
            peers: HashMap::default(),
            order: BTreeMap::new(),
            shares: Shares::new(capacity, percent),
            waiting: 0,
            next_turn: 0,
        }
    }

    /// Number of waiting items.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Queues an item.
    ///
    /// # Errors
    /// The item, if the queue is full or the peer uses its share.
    pub(super) fn push(&mut self, key: PeerKey, item: T) -> Result<(), (T, NoRoom)> {
        if let Err(reason) = self.shares.check(key, 1) {
            return Err((item, reason));
        }
        self.push_admitted(key, item);
        Ok(())
    }

    /// Queues an item whose number is bounded elsewhere, whatever the capacity and the share of the peer.
    pub(super) fn push_admitted(&mut self, key: PeerKey, item: T) {
        self.shares.add(key, 1);
        let peer = self.peers.entry(key).or_insert_with(Peer::new);
        if peer.waiting.is_empty() {
            peer.turn = self.next_turn;
            self.next_turn += 1;
            self.order.insert((peer.in_service, peer.turn), key);
        }
        peer.waiting.push_back(item);
        self.waiting += 1;
    }

    /// Removes the next item, which is in service until [`FairQueue::finish`].
    pub(super) fn take(&mut self) -> Option<(PeerKey, T)> {
        let (_, key) = self.order.pop_first()?;
        let peer = self.peers.get_mut(&key)?;
        let item = peer.waiting.pop_front()?;
        self.shares.give(key, 1);
        self.waiting -= 1;
        peer.in_service += 1;
        if !peer.waiting.is_empty() {
            peer.turn = self.next_turn;
            self.next_turn += 1;
            self.order.insert((peer.in_service, peer.turn), key);
        }
        Some((key, item))
    }

    /// The turn of the next item, if its peer has none in service.
    pub(super) fn newcomer(&self) -> Option<u64> {
        let (&(in_service, turn), _) = self.order.first_key_value()?;
        (in_service == 0).then_some(turn)
    }

    /// An item of a peer is no longer in service.
    pub(super) fn finish(&mut self, key: PeerKey) {
        self.change_in_service(key, |count| {
            debug_assert!(count > 0, "an item ends that is not in service");
            count.saturating_sub(1)
        });
    }

    /// An item of a peer is in service again.
    pub(super) fn resume(&mut self, key: PeerKey) {
        self.change_in_service(key, |count| count + 1);
    }

    fn change_in_service(&mut self, key: PeerKey, change: impl FnOnce(usize) -> usize) {
        let peer = self.peers.entry(key).or_insert_with(Peer::new);
        let before = peer.in_service;
        peer.in_service = change(before);
        if !peer.waiting.is_empty() {
            self.order.remove(&(before, peer.turn));
            self.order.insert((peer.in_service, peer.turn), key);
        } else if peer.in_service == 0 {
            self.peers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use corelane_ring::PeerAddress;
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> PeerKey {
        PeerKey::new(PeerAddress::new([192, 0, 2, number].into(), 1))
    }

    fn taken(queue: &mut FairQueue<u32>) -> Option<u32> {
        queue.take().map(|(_, item)| item)
    }

    #[test]
    fn newcomer_is_served_after_one_item_of_each_waiting_peer() {
        let mut queue = FairQueue::new(1000, 25);
        for number in 0..200 {
            queue.push(key(1), number).unwrap();
        }
        queue.push(key(2), 1000).unwrap();
        queue.push(key(3), 2000).unwrap();
        // One worker: each item ends before the next is taken.
        let order: Vec<u32> = (0..5)
            .map(|_| {
                let (peer, item) = queue.take().unwrap();
                queue.finish(peer);
                item
            })
            .collect();
        assert_eq!(order, [0, 1000, 2000, 1, 2]);
    }

    #[test]
    fn peer_with_the_fewest_items_in_service_is_next() {
        let mut queue = FairQueue::new(1000, 25);
        for number in 0..10 {
            queue.push(key(1), number).unwrap();
        }
        assert_eq!([taken(&mut queue), taken(&mut queue)], [Some(0), Some(1)]);
        assert_eq!(queue.newcomer(), None);
        queue.push(key(2), 1000).unwrap();
        queue.push(key(2), 1001).unwrap();
        queue.push(key(2), 1002).unwrap();
        assert!(queue.newcomer().is_some());
        assert_eq!([taken(&mut queue), taken(&mut queue)], [Some(1000), Some(1001)]);
        // Two each: the peer whose turn began first.
        assert_eq!([taken(&mut queue), taken(&mut queue)], [Some(2), Some(1002)]);
        (0..3).for_each(|_| queue.finish(key(1)));
        assert!(queue.newcomer().is_some());
        queue.resume(key(1));
        assert_eq!(queue.newcomer(), None);
    }

    #[test]
    fn peer_above_its_share_is_refused_while_others_wait() {
        let mut queue = FairQueue::new(16, 25);
        assert!((0..15).all(|number| queue.push(key(1), number).is_ok()));
        assert_eq!(queue.push(key(1), 15), Err((15, NoRoom::Share)));
        queue.push(key(2), 1000).unwrap();
        assert_eq!(queue.push(key(2), 1001), Err((1001, NoRoom::Full)));
        assert!((0..3).all(|_| queue.take().is_some()));
        assert_eq!(
            queue.push(key(1), 15),
            Ok(()),
            "the other peer's item is in service, so the peer is alone"
        );
    }

    #[test]
    fn peers_without_items_have_no_entry() {
        let mut queue = FairQueue::new(16, 25);
        for number in 0..10 {
            queue.push(key(number), 0).unwrap();
        }
        while let Some((peer, _)) = queue.take() {
            queue.finish(peer);
        }
        assert!(queue.is_empty() && queue.peers.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Take,
        Finish(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![(0_u8..4).prop_map(Step::Push), Just(Step::Take), (0_u8..4).prop_map(Step::Finish)]
    }

    /// One peer of the model: its waiting items, its items in service, and when its turn began.
    #[derive(Clone, Debug, Default)]
    struct Modelled {
        waiting: Vec<u32>,
        in_service: usize,
        began: usize,
    }

    proptest! {
        #[test]
        fn order_agrees_with_a_model(steps in prop::collection::vec(step(), 1..300)) {
            let mut queue = FairQueue::new(40, 25);
            let mut model = vec![Modelled::default(); 4];
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(peer) => {
                        let item = u32::try_from(number).unwrap();
                        let modelled = &mut model[usize::from(peer)];
                        if queue.push(key(peer), item).is_ok() {
                            if modelled.waiting.is_empty() {
                                modelled.began = number;
                            }
                            modelled.waiting.push(item);
                        } else {
                            prop_assert!(queue.len() >= 20 && (queue.len() == 40 || modelled.waiting.len() >= 10));
                        }
                    }
                    Step::Take => {
                        let waiting = model.iter_mut().filter(|peer| !peer.waiting.is_empty());
                        let next = waiting.min_by_key(|peer| (peer.in_service, peer.began));
                        let expected = next.map(|peer| {
                            (peer.began, peer.in_service) = (number, peer.in_service + 1);
                            peer.waiting.remove(0)
                        });
                        prop_assert_eq!(taken(&mut queue), expected);
                    }
                    Step::Finish(peer) => {
                        let modelled = &mut model[usize::from(peer)];
                        if modelled.in_service > 0 {
                            modelled.in_service -= 1;
                            queue.finish(key(peer));
                        }
                    }
                }
                let waiting: usize = model.iter().map(|peer| peer.waiting.len()).sum();
                prop_assert_eq!((queue.len(), queue.is_empty()), (waiting, waiting == 0));
                let is_newcomer = |peer: &Modelled| peer.in_service == 0 && !peer.waiting.is_empty();
                prop_assert_eq!(queue.newcomer().is_some(), model.iter().any(is_newcomer));
                let kept = model.iter().filter(|peer| peer.in_service > 0 || !peer.waiting.is_empty());
                prop_assert_eq!(queue.peers.len(), kept.count());
            }
        }
    }
}
