//! Reads the table of subscriptions for the control socket.

use super::{SubscriberKey, Subscriptions, position};

/// The subscriptions of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubscriberUsage<K> {
    pub(crate) subscriber: K,
    pub(crate) topics: usize,
    /// Size of the URIs and task ids.
    pub(crate) bytes: usize,
    /// Number of events that wait to be sent.
    pub(crate) pending: u32,
}

impl<K: Copy> Subscriptions<K> {
    /// The subscriptions of a client.
    pub(crate) fn usage_of(&self, subscriber: SubscriberKey) -> Option<SubscriberUsage<K>> {
        let entry = self.entry(subscriber)?;
        Some(SubscriberUsage {
            subscriber: entry.key,
            topics: entry.slots.len(),
            bytes: entry.usage.bytes,
            pending: entry.pending,
        })
    }

    /// Reads the subscribers in the slots from `first` on, at most `max` slots. Returns the first slot of the next call; `None` at the
    /// end of the table.
    pub(crate) fn read(
        &self,
        first: usize,
        max: usize,
        visit: impl FnMut(SubscriberUsage<K>),
    ) -> Option<usize> {
        let end = self.subscribers.len().min(first.saturating_add(max));
        let slots = first..end;
        slots.filter_map(|slot| self.usage_of(SubscriberKey(position(slot)))).for_each(visit);
        (end < self.subscribers.len()).then_some(end)
    }
}
