//! The subscriptions of one shard: those of `subscriptions/listen` streams, of connections of newline-delimited JSON, and of the
//! legacy sessions at home here. A subscriber whose connection has no room keeps the newest event of each topic until it is
//! flushed: nothing queues up behind a slow reader, and every subscriber receives the newest change.

pub(super) mod inspect;
#[cfg(test)]
mod tests;
mod topic_index;

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use topic_index::TopicIndex;

use crate::{
    config::Limits,
    mcp::{Event, Topic},
    peer::{NoRoom, PeerKey, Shares},
    registry::List,
};

/// Names a subscriber of a table until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubscriberKey(u32);

/// The table. `K` is how the owner names a subscriber.
pub(crate) struct Subscriptions<K> {
    subscribers: Vec<Option<SubscriberEntry<K>>>,
    free: Vec<u32>,
    /// Positions in `members`.
    topics: TopicIndex,
    members: Vec<TopicMembers>,
    free_topics: Vec<u32>,
    /// The slot of each subscription, by subscriber and topic.
    slots: HashMap<(u32, u32), u32, RandomState>,
    /// The subscriptions by peer.
    shares: Shares,
    /// Size of the URIs and task ids of all topics, each counted once, for the peer that named it first: subscribers of a topic share
    /// its name.
    byte_shares: Shares,
    /// The most subscriptions at one time since the last check of the memory.
    peak: usize,
    /// The topic of those in `free_topics`.
    no_topic: Topic,
}

/// Number of allocated entries from which the table is compacted when it has become sparse, and the part of them in use below which
/// it is.
const COMPACT_MIN: usize = 16_384;
const COMPACT_DIVISOR: usize = 8;

/// A limit that a subscription would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscriptionLimit {
    /// [`Limits::subscription_topics_max`], of one client.
    ClientTopics,
    /// [`Limits::subscriber_bytes_max`], of one client.
    ClientBytes,
    /// [`Limits::subscriptions_max`] or [`Limits::subscription_bytes_max`], of the shard.
    Shard,
    /// The share of the client in one of these.
    PeerShare,
}

impl From<NoRoom> for SubscriptionLimit {
    fn from(reason: NoRoom) -> Self {
        match reason {
            NoRoom::Full => Self::Shard,
            NoRoom::Share => Self::PeerShare,
        }
    }
}

/// Number of resources and tasks that a client is subscribed to, and the size of their URIs and ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) named: usize,
    pub(crate) bytes: usize,
}

impl Usage {
    /// The usage with further topics.
    #[must_use]
    pub(crate) fn with<'a>(self, topics: impl IntoIterator<Item = &'a Topic>) -> Self {
        topics.into_iter().fold(self, |Self { named, bytes }, topic| Self {
            named: named + usize::from(!topic.is_list()),
            bytes: bytes + topic.client_bytes(),
        })
    }

    /// The usage of two subscribers.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { named: self.named + other.named, bytes: self.bytes + other.bytes }
    }

    /// The usage without that of one subscriber, which it contains.
    #[must_use]
    pub(crate) fn minus(self, part: Self) -> Self {
        Self { named: self.named - part.named, bytes: self.bytes - part.bytes }
    }

    /// Checks the usage against the limits of one client.
    pub(crate) fn check(self, limits: &Limits) -> Result<(), SubscriptionLimit> {
        if self.named > limits.subscription_topics_max {
            Err(SubscriptionLimit::ClientTopics)
        } else if self.bytes > limits.subscriber_bytes_max {
            Err(SubscriptionLimit::ClientBytes)
        } else {
            Ok(())
        }
    }
}

struct SubscriberEntry<K> {
    key: K,
    peer: PeerKey,
    /// The subscription's id as JSON; none for a legacy session.
    id: Option<Box<[u8]>>,
    slots: Vec<Slot>,
    /// Number of slots with a pending event.
    pending: u32,
    /// Resources and tasks among the slots.
    usage: Usage,
}

/// A subscription in the list of its subscriber.
struct Slot {
    topic: u32,
    /// Position among the members of the topic.
    position: u32,
    /// The newest event that was not delivered.
    pending: Option<Arc<Event>>,
}

/// The subscribers of one topic.
struct TopicMembers {
    topic: Topic,
    /// The peer that the name is counted for.
    peer: PeerKey,
    members: Vec<Member>,
}

struct Member {
    subscriber: u32,
    slot: u32,
}

/// Removes the element at `position` in constant time. Returns it, and the element that is there now.
fn swap_remove<T>(elements: &mut Vec<T>, position: u32) -> (Option<T>, Option<&mut T>) {
    let position = position as usize;
    if position >= elements.len() {
        return (None, None);
    }
    (Some(elements.swap_remove(position)), elements.get_mut(position))
}

/// The event of a change of a resource or list; `None` for a task.
fn change_of(topic: &Topic) -> Option<Event> {
    match topic.as_resource() {
        Some(uri) => Some(Event::resource_updated(uri)),
        None => List::ALL.into_iter().find(|list| Topic::list(*list) == *topic).map(Event::list_changed),
    }
}

/// A position in a table, all of which have fewer than 2^32 elements.
fn position(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl<K: Copy> Subscriptions<K> {
    /// A table of at most [`Limits::subscriptions_max`] topics over all subscribers, whose URIs and task ids have at most
    /// [`Limits::subscription_bytes_max`].
    #[must_use]
    pub(crate) fn new(limits: &Limits) -> Self {
        let shares = |capacity: usize| Shares::new(capacity as u64, limits.peer_share_percent);
        Self {
            subscribers: Vec::new(),
            free: Vec::new(),
            topics: TopicIndex::default(),
            members: Vec::new(),
            free_topics: Vec::new(),
            slots: HashMap::default(),
            shares: shares(limits.subscriptions_max),
            byte_shares: shares(limits.subscription_bytes_max),
            peak: 0,
            no_topic: Topic::list(List::ALL[0]),
        }
    }

    /// Inserts a subscriber of a peer without topics. `id`: its subscription's, as JSON.
    pub(crate) fn insert(&mut self, key: K, peer: PeerKey, id: Option<Box<[u8]>>) -> SubscriberKey {
        let (slots, usage) = (Vec::new(), Usage::default());
        let entry = Some(SubscriberEntry { key, peer, id, slots, pending: 0, usage });
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.subscribers.get_mut(index as usize)
        {
            *slot = entry;
            return SubscriberKey(index);
        }
        self.subscribers.push(entry);
        SubscriberKey(position(self.subscribers.len() - 1))
    }

    fn entry(&self, subscriber: SubscriberKey) -> Option<&SubscriberEntry<K>> {
        self.subscribers.get(subscriber.0 as usize)?.as_ref()
    }

    /// Position of a topic in `members`.
    fn position_of(&self, topic: &Topic) -> Option<u32> {
        self.topics.get(topic, |position| self.members.get(position as usize).map(|members| &members.topic))
    }

    /// Checks whether there is room for that many more topics of a peer.
    pub(crate) fn check_count(&self, peer: PeerKey, topics: usize) -> Result<(), NoRoom> {
        self.shares.check(peer, topics as u64)
    }

    /// Checks whether there is room for these topics of a peer, and for the names of those without a subscriber.
    pub(crate) fn check_room(&self, peer: PeerKey, topics: &[Topic]) -> Result<(), SubscriptionLimit> {
        let new = topics.iter().filter(|topic| self.position_of(topic).is_none());
        let bytes: usize = new.map(Topic::client_bytes).sum();
        self.check_count(peer, topics.len().max(1))?;
        Ok(self.byte_shares.check(peer, bytes as u64)?)
    }

    /// The resources and tasks that a subscriber is subscribed to.
    #[must_use]
    pub(crate) fn usage(&self, subscriber: SubscriberKey) -> Usage {
        self.entry(subscriber).map(|entry| entry.usage).unwrap_or_default()
    }

    /// Size of the URIs and task ids of all topics, each counted once.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        self.byte_shares.total()
    }

    /// Whether a subscriber is subscribed to a topic.
    fn is_subscribed(&self, subscriber: SubscriberKey, topic: &Topic) -> bool {
        self.position_of(topic).is_some_and(|topic| self.slots.contains_key(&(subscriber.0, topic)))
    }

    /// Subscribes to a topic within the limits of the client and the shard. `others`: the usage of the other subscribers of the
    /// client.
    pub(crate) fn try_subscribe(
        &mut self,
        subscriber: SubscriberKey,
        topic: Topic,
        others: Usage,
        limits: &Limits,
    ) -> Result<(), SubscriptionLimit> {
        if !self.is_subscribed(subscriber, &topic) {
            self.usage(subscriber).plus(others).with([&topic]).check(limits)?;
            let peer = self.entry(subscriber).map(|entry| entry.peer).unwrap_or_default();
            self.check_room(peer, std::slice::from_ref(&topic))?;
            self.subscribe(subscriber, topic);
        }
        Ok(())
    }

    /// Subscribes to a topic.
    pub(crate) fn subscribe(&mut self, subscriber: SubscriberKey, topic: Topic) {
        let known = self.position_of(&topic);
        let Some(Some(entry)) = self.subscribers.get_mut(subscriber.0 as usize) else { return };
        let usage = entry.usage.with([&topic]);
        let index = match known {
            Some(index) if self.slots.contains_key(&(subscriber.0, index)) => return,
            Some(index) => index,
            None => {
                let index = match self.free_topics.pop() {
                    Some(index) => index,
                    None => position(self.members.len()),
                };
                self.byte_shares.add(entry.peer, topic.client_bytes() as u64);
                self.topics.insert(&topic, index);
                let members = TopicMembers { topic, peer: entry.peer, members: Vec::new() };
                match self.members.get_mut(index as usize) {
                    Some(slot) => *slot = members,
                    None => self.members.push(members),
                }
                index
            }
        };
        let Some(TopicMembers { members, .. }) = self.members.get_mut(index as usize) else { return };
        let slot = position(entry.slots.len());
        entry.slots.push(Slot { topic: index, position: position(members.len()), pending: None });
        entry.usage = usage;
        self.shares.add(entry.peer, 1);
        members.push(Member { subscriber: subscriber.0, slot });
        self.slots.insert((subscriber.0, index), slot);
        self.peak = self.peak.max(self.slots.len());
    }

    /// Unsubscribes from a topic.
    pub(crate) fn unsubscribe(&mut self, subscriber: SubscriberKey, topic: &Topic) {
        let Some(index) = self.position_of(topic) else { return };
        let Some(Some(entry)) = self.subscribers.get_mut(subscriber.0 as usize) else { return };
        let Some(position) = self.slots.get(&(subscriber.0, index)).copied() else { return };
        let (Some(slot), moved) = swap_remove(&mut entry.slots, position) else { return };
        entry.pending -= u32::from(slot.pending.is_some());
        entry.usage.named -= usize::from(!topic.is_list());
        entry.usage.bytes -= topic.client_bytes();
        if let Some(moved) = moved {
            self.slots.insert((subscriber.0, moved.topic), position);
            let members = self.members.get_mut(moved.topic as usize);
            if let Some(member) = members.and_then(|topic| topic.members.get_mut(moved.position as usize)) {
                member.slot = position;
            }
        }
        let peer = entry.peer;
        self.remove_member(subscriber.0, peer, &slot);
    }

    /// Removes a subscriber.
    pub(crate) fn remove(&mut self, subscriber: SubscriberKey) {
        let Some(entry) = self.subscribers.get_mut(subscriber.0 as usize).and_then(Option::take) else {
            return;
        };
        self.free.push(subscriber.0);
        for slot in entry.slots {
            self.remove_member(subscriber.0, entry.peer, &slot);
        }
    }

    /// Removes a subscription from the members of its topic, and the topic with its last member.
    fn remove_member(&mut self, subscriber: u32, peer: PeerKey, slot: &Slot) {
        self.slots.remove(&(subscriber, slot.topic));
        self.shares.give(peer, 1);
        let Some(TopicMembers { topic, peer, members }) = self.members.get_mut(slot.topic as usize) else {
            return;
        };
        let (_, moved) = swap_remove(members, slot.position);
        if let Some(moved) = moved
            && let Some(Some(entry)) = self.subscribers.get_mut(moved.subscriber as usize)
            && let Some(other) = entry.slots.get_mut(moved.slot as usize)
        {
            other.position = slot.position;
        }
        if members.is_empty() {
            *members = Vec::new();
            self.byte_shares.give(*peer, topic.client_bytes() as u64);
            self.topics.remove(topic, slot.topic);
            // Its name is not counted any more.
            *topic = self.no_topic.clone();
            self.free_topics.push(slot.topic);
        }
    }

    /// Whether the table was full, and [`Subscriptions::free_unused`] may free memory of it.
    pub(crate) fn has_excess(&self) -> bool {
        self.is_sparse_with(self.slots.len())
    }

    /// Frees the memory of a table that has been sparse since the last call. That takes milliseconds, and so does growing: a client that
    /// opens many subscriptions, and closes them, again and again must not cause both each time.
    pub(crate) fn free_unused(&mut self) {
        let peak = std::mem::replace(&mut self.peak, self.slots.len());
        if self.is_sparse_with(peak) {
            self.compact();
        }
    }

    fn is_sparse_with(&self, subscriptions: usize) -> bool {
        // Not its capacity, which excludes the entries that were removed among full groups: that of a table which was full can be zero.
        let entries = self.slots.allocation_size() / size_of::<((u32, u32), u32)>();
        entries > COMPACT_MIN && subscriptions < entries / COMPACT_DIVISOR
    }

    /// Removes the topics without subscribers, and the capacity of the indexes that is not used.
    #[cold]
    fn compact(&mut self) {
        let mut moved = vec![0; self.members.len()];
        let mut members = Vec::with_capacity(self.members.len() - self.free_topics.len());
        self.topics = TopicIndex::default();
        for (topic, moved) in std::mem::take(&mut self.members).into_iter().zip(&mut moved) {
            if !topic.members.is_empty() {
                *moved = position(members.len());
                self.topics.insert(&topic.topic, *moved);
                members.push(topic);
            }
        }
        (self.members, self.free_topics) = (members, Vec::new());
        self.slots = HashMap::with_capacity_and_hasher(self.slots.len(), RandomState::default());
        for (subscriber, entry) in (0..).zip(&mut self.subscribers) {
            let Some(entry) = entry else { continue };
            for (number, slot) in (0..).zip(&mut entry.slots) {
                slot.topic = moved.get(slot.topic as usize).copied().unwrap_or_default();
                self.slots.insert((subscriber, slot.topic), number);
            }
        }
    }

    /// Publishes an event. `deliver` receives a subscriber and the id of its subscription, and returns whether it took the event;
    /// otherwise the event is pending until [`Subscriptions::flush`].
    pub(crate) fn publish(&mut self, event: &Arc<Event>, mut deliver: impl FnMut(K, Option<&[u8]>) -> bool) {
        let Some(index) = self.position_of(event.topic()) else { return };
        let Some(TopicMembers { members, .. }) = self.members.get(index as usize) else { return };
        for member in members {
            let Some(Some(entry)) = self.subscribers.get_mut(member.subscriber as usize) else { continue };
            let Some(slot) = entry.slots.get_mut(member.slot as usize) else { continue };
            // In order: a pending event of the topic is replaced, not overtaken.
            if slot.pending.is_none() && deliver(entry.key, entry.id.as_deref()) {
                continue;
            }
            if slot.pending.replace(Arc::clone(event)).is_none() {
                entry.pending += 1;
            }
        }
    }

    /// Publishes a change of every resource and list that is subscribed to.
    pub(crate) fn publish_all(&mut self, mut deliver: impl FnMut(&Arc<Event>, K, Option<&[u8]>) -> bool) {
        let events: Vec<Arc<Event>> = self.names().filter_map(change_of).map(Arc::new).collect();
        for event in &events {
            self.publish(event, |key, id| deliver(event, key, id));
        }
    }

    /// The topics with a subscriber.
    fn names(&self) -> impl Iterator<Item = &Topic> {
        self.members.iter().filter(|topic| !topic.members.is_empty()).map(|topic| &topic.topic)
    }

    /// The events of a change of every resource and list that a subscriber is subscribed to.
    pub(crate) fn change_of_all_topics(&self, subscriber: SubscriberKey) -> Vec<Event> {
        let slots = self.entry(subscriber).map(|entry| entry.slots.as_slice()).unwrap_or_default();
        let topics = slots.iter().filter_map(|slot| self.members.get(slot.topic as usize));
        topics.filter_map(|topic| change_of(&topic.topic)).collect()
    }

    /// Delivers the pending events of a subscriber until `deliver` rejects one.
    pub(crate) fn flush(
        &mut self,
        subscriber: SubscriberKey,
        mut deliver: impl FnMut(&Event, Option<&[u8]>) -> bool,
    ) {
        let Some(Some(entry)) = self.subscribers.get_mut(subscriber.0 as usize) else { return };
        if entry.pending == 0 {
            return;
        }
        for slot in &mut entry.slots {
            if slot.pending.take_if(|event| deliver(event, entry.id.as_deref())).is_some() {
                entry.pending -= 1;
            }
        }
    }

    /// The id of a subscriber's subscription, as JSON.
    #[must_use]
    pub(crate) fn id(&self, subscriber: SubscriberKey) -> Option<&[u8]> {
        self.entry(subscriber)?.id.as_deref()
    }

    /// Number of subscribers.
    #[must_use]
    pub(crate) fn listeners(&self) -> usize {
        self.subscribers.len() - self.free.len()
    }

    /// Number of topics over all subscribers.
    #[must_use]
    pub(crate) fn subscribed(&self) -> usize {
        self.slots.len()
    }

    /// Checks the indexes of the table against its subscribers: the first that does not agree.
    #[cfg(test)]
    fn check_invariants(&self) -> Result<(), String> {
        let (mut slots, mut usage, mut counted) = (0, Usage::default(), Usage::default());
        for (index, entry) in self.subscribers.iter().enumerate() {
            let Some(entry) = entry else { continue };
            slots += entry.slots.len();
            counted = counted.plus(entry.usage);
            for (number, slot) in (0..).zip(&entry.slots) {
                let topic = self.members.get(slot.topic as usize).ok_or("a slot has no topic")?;
                let member = topic.members.get(slot.position as usize).ok_or("a topic lacks a member")?;
                if (member.subscriber as usize, member.slot) != (index, number) {
                    return Err(format!("{} has another member at {}", topic.topic, slot.position));
                }
                if self.slots.get(&(member.subscriber, slot.topic)) != Some(&number) {
                    return Err(format!("{} is not indexed", topic.topic));
                }
                usage = usage.with([&topic.topic]);
            }
            let pending = entry.slots.iter().filter(|slot| slot.pending.is_some()).count();
            if pending != entry.pending as usize {
                return Err(format!("{pending} events are pending, {} counted", entry.pending));
            }
        }
        let members: usize = self.members.iter().map(|topic| topic.members.len()).sum();
        if (slots, slots, usage) != (members, self.slots.len(), counted) {
            return Err(format!("{slots} slots, {members} members, {} indexed", self.slots.len()));
        }
        let bytes: usize = self.names().map(Topic::client_bytes).sum();
        if (slots as u64, bytes as u64) != (self.shares.total(), self.bytes()) {
            return Err(format!(
                "{slots} slots, names of {bytes} bytes: {:?}",
                (&self.shares, &self.byte_shares)
            ));
        }
        if self.members.len() - self.free_topics.len() != self.topics.len() {
            return Err("a topic without members is kept".to_owned());
        }
        Ok(())
    }
}
