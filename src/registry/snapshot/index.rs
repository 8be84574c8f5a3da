//! The compiled entries of a kind, and their positions by key.

use std::{hash::BuildHasher, ops::Deref, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::{HashTable, hash_table::Entry};

use super::super::{
    RegistryError,
    compile::{Before, Compile},
    registered::{RegisteredPrompt, RegisteredTool},
};
use crate::call::Callable;

/// Positions of the entries of one kind, by key. The hash need not resist collisions: the keys come from the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(HashTable<u32>);

fn hash(name: &str) -> u64 {
    FixedState::default().hash_one(name)
}

impl Index {
    /// Indexes all entries.
    ///
    /// # Errors
    /// Two entries have one key.
    pub(super) fn build<E: Compile>(
        entries: &[E],
        before: Option<&Self>,
        kept: &Before<'_, E>,
    ) -> Result<Self, RegistryError> {
        // A prefix that has not changed is already indexed.
        let before = before.filter(|_| kept.is_start_of(entries));
        let known = before.map_or(0, |_| kept.len());
        let mut index = before.cloned().unwrap_or_default();
        let name = |position: u32| entries.get(position as usize).map_or("", E::key);
        for (position, entry) in entries.iter().enumerate().skip(known) {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            let hashed = hash(entry.key());
            match index.0.entry(hashed, |other| name(*other) == entry.key(), |other| hash(name(*other))) {
                Entry::Occupied(_) => return Err(RegistryError::Duplicate(entry.key().to_owned())),
                Entry::Vacant(slot) => _ = slot.insert(position),
            }
        }
        Ok(index)
    }

    /// Checks that every entry is indexed once, at its position.
    ///
    /// # Panics
    /// An entry is not.
    pub(super) fn check_invariants<E: Compile>(&self, entries: &[E]) {
        assert_eq!(self.0.len(), entries.len(), "{:?}: indexed keys and entries", E::LIST);
        for (position, entry) in entries.iter().enumerate() {
            let has_key =
                |other: &u32| entries.get(*other as usize).is_some_and(|other| other.key() == entry.key());
            let indexed = self.0.find(hash(entry.key()), has_key).map(|position| *position as usize);
            assert_eq!(indexed, Some(position), "{:?}: position of {:?}", E::LIST, entry.key());
        }
    }
}

/// A compiled entry that is found by a key.
pub trait Keyed {
    /// The name or URI.
    fn key(&self) -> &str;
}

impl Keyed for RegisteredTool {
    fn key(&self) -> &str {
        self.callable().name()
    }
}

impl Keyed for RegisteredPrompt {
    fn key(&self) -> &str {
        self.callable().name()
    }
}

impl Keyed for Callable {
    fn key(&self) -> &str {
        self.name()
    }
}

/// The compiled entries of a kind, in the order they are listed, with their index. Clones share both.
#[derive(Debug)]
pub struct Entries<T> {
    pub(super) entries: Arc<[Arc<T>]>,
    index: Arc<Index>,
}

impl<T: Keyed> Entries<T> {
    pub(super) fn new(entries: Arc<[Arc<T>]>, index: &Arc<Index>) -> Self {
        Self { entries, index: Arc::clone(index) }
    }

    /// Finds the entry with this key.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<&Arc<T>> {
        let entry = |position: &u32| self.entries.get(*position as usize);
        let has_key = |position: &u32| entry(position).is_some_and(|entry| entry.key() == key);
        self.index.0.find(hash(key), has_key).and_then(entry)
    }
}

impl<T> Clone for Entries<T> {
    fn clone(&self) -> Self {
        Self { entries: Arc::clone(&self.entries), index: Arc::clone(&self.index) }
    }
}

impl<T> Deref for Entries<T> {
    type Target = [Arc<T>];

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}
