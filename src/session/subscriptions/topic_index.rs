//! Positions of topics by name.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::mcp::Topic;

/// Positions of topics in a list that the owner keeps. The hash of each name is stored: a table that grows hashes nothing again, so
/// that a client with a hundred thousand names holds no turn for tens of milliseconds.
#[derive(Default)]
pub(super) struct TopicIndex {
    positions: HashTable<Indexed>,
    hasher: RandomState,
}

struct Indexed {
    hash: u64,
    position: u32,
}

impl TopicIndex {
    /// The position of a topic. `name_of`: the topic at a position.
    pub(super) fn get<'a>(&self, topic: &Topic, name_of: impl Fn(u32) -> Option<&'a Topic>) -> Option<u32> {
        let is_equal = |indexed: &Indexed| name_of(indexed.position) == Some(topic);
        self.positions.find(self.hasher.hash_one(topic), is_equal).map(|indexed| indexed.position)
    }

    /// Adds a topic that is not indexed.
    pub(super) fn insert(&mut self, topic: &Topic, position: u32) {
        let hash = self.hasher.hash_one(topic);
        self.positions.insert_unique(hash, Indexed { hash, position }, |indexed| indexed.hash);
    }

    /// Removes the topic that is indexed at a position.
    pub(super) fn remove(&mut self, topic: &Topic, position: u32) {
        let is_there = |indexed: &Indexed| indexed.position == position;
        if let Ok(indexed) = self.positions.find_entry(self.hasher.hash_one(topic), is_there) {
            indexed.remove();
        }
    }

    /// Number of topics.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }
}
