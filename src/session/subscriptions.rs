//! Who hears of what. One table for a shard: streams of the 2026 era, lines, and the legacy sessions at home here. A
//! listener that is busy hears later, and once for several changes of one thing: nothing queues up, nobody stays behind.

use std::{
    collections::{HashMap, hash_map::Entry as MapEntry},
    sync::Arc,
};

use foldhash::fast::RandomState;

use crate::{
    mcp::{Event, Topic},
    registry::List,
};

/// Names a listener of a table until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerKey(u32);

/// The table. `K` is how the owner knows a listener.
pub(crate) struct Subscriptions<K> {
    listeners: Vec<Option<Listener<K>>>,
    free: Vec<u32>,
    topics: HashMap<Topic, Vec<Place>, RandomState>,
    subscribed: usize,
    subscribed_max: usize,
}

struct Listener<K> {
    key: K,
    /// The subscription's id as JSON; none for a legacy session.
    id: Option<Box<[u8]>>,
    slots: Vec<Slot>,
    /// How many slots have something pending.
    pending: u32,
}

struct Slot {
    topic: Topic,
    /// Where the topic's list has it.
    place: usize,
    /// The newest change that has not been told yet.
    pending: Option<Arc<Event>>,
}

struct Place {
    listener: u32,
    slot: usize,
}

impl<K: Copy> Subscriptions<K> {
    /// A table of at most `subscribed_max` topics over all listeners.
    #[must_use]
    pub(crate) fn new(subscribed_max: usize) -> Self {
        Self {
            listeners: Vec::new(),
            free: Vec::new(),
            topics: HashMap::default(),
            subscribed: 0,
            subscribed_max,
        }
    }

    /// Adds a listener that hears of nothing yet. `id`: its subscription's, as JSON.
    pub(crate) fn insert(&mut self, key: K, id: Option<Box<[u8]>>) -> ListenerKey {
        let listener = Some(Listener { key, id, slots: Vec::new(), pending: 0 });
        if let Some(index) = self.free.pop()
            && let Some(place) = self.listeners.get_mut(index as usize)
        {
            *place = listener;
            return ListenerKey(index);
        }
        self.listeners.push(listener);
        ListenerKey(u32::try_from(self.listeners.len() - 1).unwrap_or(u32::MAX))
    }

    /// Whether there is room for that many more topics.
    #[must_use]
    pub(crate) fn has_room(&self, topics: usize) -> bool {
        self.subscribed + topics <= self.subscribed_max
    }

    /// Resources and tasks that a listener hears of.
    #[must_use]
    pub(crate) fn named(&self, listener: ListenerKey) -> usize {
        let entry = self.listeners.get(listener.0 as usize).and_then(Option::as_ref);
        let slots = entry.map_or(&[][..], |entry| &entry.slots);
        slots.iter().filter(|slot| !slot.topic.is_list()).count()
    }

    /// Whether a listener may hear of this resource too: it does already, or hears of fewer than `resources_max`.
    #[must_use]
    pub(crate) fn admits(&self, listener: ListenerKey, resource: &Topic, resources_max: usize) -> bool {
        let Some(Some(entry)) = self.listeners.get(listener.0 as usize) else { return false };
        self.named(listener) < resources_max || entry.slots.iter().any(|slot| slot.topic == *resource)
    }

    /// From now on the listener hears of this too.
    pub(crate) fn subscribe(&mut self, listener: ListenerKey, topic: Topic) {
        let Some(Some(entry)) = self.listeners.get_mut(listener.0 as usize) else { return };
        if entry.slots.iter().any(|slot| slot.topic == topic) {
            return;
        }
        let places = self.topics.entry(topic.clone()).or_default();
        places.push(Place { listener: listener.0, slot: entry.slots.len() });
        entry.slots.push(Slot { topic, place: places.len() - 1, pending: None });
        self.subscribed += 1;
    }

    /// From now on it does not.
    pub(crate) fn unsubscribe(&mut self, listener: ListenerKey, topic: &Topic) {
        let Some(Some(entry)) = self.listeners.get_mut(listener.0 as usize) else { return };
        let Some(position) = entry.slots.iter().position(|slot| slot.topic == *topic) else { return };
        let slot = entry.slots.swap_remove(position);
        entry.pending -= u32::from(slot.pending.is_some());
        // What was last stands in its place now, and its topic must know.
        if let Some(moved) = entry.slots.get(position)
            && let Some(place) =
                self.topics.get_mut(&moved.topic).and_then(|places| places.get_mut(moved.place))
        {
            place.slot = position;
        }
        self.forget(slot);
    }

    /// Takes a listener out.
    pub(crate) fn remove(&mut self, listener: ListenerKey) {
        let Some(entry) = self.listeners.get_mut(listener.0 as usize).and_then(Option::take) else { return };
        self.free.push(listener.0);
        for slot in entry.slots {
            self.forget(slot);
        }
    }

    /// Takes a slot off its topic's list.
    fn forget(&mut self, slot: Slot) {
        self.subscribed -= 1;
        let MapEntry::Occupied(mut topic) = self.topics.entry(slot.topic) else { return };
        let places = topic.get_mut();
        if slot.place < places.len() {
            places.swap_remove(slot.place);
        }
        if let Some(moved) = places.get(slot.place)
            && let Some(Some(listener)) = self.listeners.get_mut(moved.listener as usize)
            && let Some(other) = listener.slots.get_mut(moved.slot)
        {
            other.place = slot.place;
        }
        if places.is_empty() {
            topic.remove();
        }
    }

    /// Tells of a change. `deliver` gets a listener and its subscription's id, and says whether it took the event; who did
    /// not hears of it by [`Subscriptions::flush`].
    pub(crate) fn publish(&mut self, event: &Arc<Event>, mut deliver: impl FnMut(K, Option<&[u8]>) -> bool) {
        let Some(places) = self.topics.get(event.topic()) else { return };
        for place in places {
            let Some(Some(listener)) = self.listeners.get_mut(place.listener as usize) else { continue };
            // In order: what waits for this topic already is replaced, not overtaken.
            let waits = listener.slots.get(place.slot).is_some_and(|slot| slot.pending.is_some());
            if !waits && deliver(listener.key, listener.id.as_deref()) {
                continue;
            }
            if let Some(slot) = listener.slots.get_mut(place.slot)
                && slot.pending.replace(Arc::clone(event)).is_none()
            {
                listener.pending += 1;
            }
        }
    }

    /// Everything may have changed: every listener hears of each of its resources and lists.
    pub(crate) fn publish_all(&mut self, mut deliver: impl FnMut(&Arc<Event>, K, Option<&[u8]>) -> bool) {
        let events: Vec<Arc<Event>> = self
            .topics
            .keys()
            .filter_map(|topic| {
                let list = |list: &List| Topic::list(*list) == *topic;
                match topic.as_resource() {
                    Some(uri) => Some(Event::resource_updated(uri)),
                    None => List::ALL.into_iter().find(list).map(Event::list_changed),
                }
            })
            .map(Arc::new)
            .collect();
        for event in &events {
            self.publish(event, |key, id| deliver(event, key, id));
        }
    }

    /// Hands over what a listener has waited for, as far as `deliver` takes it.
    pub(crate) fn flush(
        &mut self,
        listener: ListenerKey,
        mut deliver: impl FnMut(&Event, Option<&[u8]>) -> bool,
    ) {
        let Some(Some(entry)) = self.listeners.get_mut(listener.0 as usize) else { return };
        if entry.pending == 0 {
            return;
        }
        for slot in &mut entry.slots {
            if let Some(event) = slot.pending.take_if(|event| deliver(event, entry.id.as_deref())) {
                drop(event);
                entry.pending -= 1;
            }
        }
    }

    /// The id of a listener's subscription, as JSON.
    #[must_use]
    pub(crate) fn id(&self, listener: ListenerKey) -> Option<&[u8]> {
        self.listeners.get(listener.0 as usize)?.as_ref()?.id.as_deref()
    }

    /// Listeners there are.
    #[must_use]
    pub(crate) fn listeners(&self) -> usize {
        self.listeners.len() - self.free.len()
    }

    /// Topics over all listeners.
    #[must_use]
    pub(crate) fn subscribed(&self) -> usize {
        self.subscribed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard(subscriptions: &mut Subscriptions<u32>, uri: &str) -> Vec<u32> {
        let mut heard = Vec::new();
        subscriptions.publish(&Arc::new(Event::resource_updated(uri)), |key, _| {
            heard.push(key);
            true
        });
        heard.sort_unstable();
        heard
    }

    #[test]
    fn m_63_a_listener_hears_of_what_it_asked_for_and_of_nothing_else() {
        let mut subscriptions = Subscriptions::new(10);
        let one = subscriptions.insert(1, None);
        let two = subscriptions.insert(2, None);
        subscriptions.subscribe(one, Topic::resource("a"));
        subscriptions.subscribe(one, Topic::resource("b"));
        subscriptions.subscribe(two, Topic::resource("b"));
        assert_eq!(heard(&mut subscriptions, "a"), [1]);
        assert_eq!(heard(&mut subscriptions, "b"), [1, 2]);
        assert!(heard(&mut subscriptions, "c").is_empty());
        subscriptions.unsubscribe(one, &Topic::resource("a"));
        assert!(heard(&mut subscriptions, "a").is_empty());
        subscriptions.remove(one);
        assert_eq!(heard(&mut subscriptions, "b"), [2]);
        assert_eq!(subscriptions.subscribed(), 1);
    }

    #[test]
    fn a_busy_listener_hears_once_of_many_changes_and_never_too_little() {
        let mut subscriptions = Subscriptions::new(10);
        let one = subscriptions.insert(1, Some((*b"7").into()));
        subscriptions.subscribe(one, Topic::resource("a"));
        subscriptions.subscribe(one, Topic::resource("b"));
        for _ in 0..3 {
            subscriptions.publish(&Arc::new(Event::resource_updated("a")), |_, _| false);
        }
        subscriptions.publish(&Arc::new(Event::resource_updated("b")), |_, _| false);
        let mut told = Vec::new();
        let mut room = 1;
        let mut flush = |subscriptions: &mut Subscriptions<u32>| {
            subscriptions.flush(one, |event, id| {
                assert_eq!(id, Some(b"7".as_slice()));
                room -= 1;
                if room >= 0 {
                    told.push(event.topic().to_string());
                }
                room >= 0
            });
            room = 10;
        };
        flush(&mut subscriptions);
        flush(&mut subscriptions);
        flush(&mut subscriptions);
        assert_eq!(told, ["a", "b"]);
    }

    proptest! {
        /// The table against a plain set of pairs.
        #[test]
        fn any_order_of_coming_and_going_leaves_who_is_there(
            steps in prop::collection::vec((0_u8..4, 0_u32..6, 0_u8..5), 1..200)
        ) {
            let mut subscriptions = Subscriptions::new(usize::MAX);
            let mut keys: HashMap<u32, ListenerKey> = HashMap::new();
            let mut pairs = std::collections::BTreeSet::new();
            for (step, key, topic) in steps {
                let topic = Topic::resource(&topic.to_string());
                match step {
                    0 | 1 => {
                        let listener = *keys.entry(key).or_insert_with(|| subscriptions.insert(key, None));
                        subscriptions.subscribe(listener, topic.clone());
                        pairs.insert((topic, key));
                    }
                    2 => {
                        if let Some(listener) = keys.get(&key) {
                            subscriptions.unsubscribe(*listener, &topic);
                            pairs.remove(&(topic, key));
                        }
                    }
                    _ => {
                        if let Some(listener) = keys.remove(&key) {
                            subscriptions.remove(listener);
                            pairs.retain(|(_, other)| *other != key);
                        }
                    }
                }
                prop_assert_eq!(subscriptions.subscribed(), pairs.len());
                prop_assert_eq!(subscriptions.listeners(), keys.len());
                for number in 0..5 {
                    let uri = number.to_string();
                    let expected: Vec<u32> =
                        pairs.iter().filter(|(topic, _)| *topic == Topic::resource(&uri)).map(|(_, key)| *key).collect();
                    prop_assert_eq!(heard(&mut subscriptions, &uri), expected);
                }
            }
        }
    }
}
