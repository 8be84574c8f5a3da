//! Request states of tools that are used once: which were used, with which answers, and their outcomes.
//!
//! One table per tool, shared by all shards: a retry may reach any of them. Only calls that are retried with a state lock it.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{config::Limits, http1::Status};

/// Identifies a request state that is used once. Part of the signed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceToken {
    /// The table that issued it.
    owner: u64,
    number: u64,
}

/// SHA-256 of the answers that a state was used with.
pub type AnswersDigest = [u8; 32];

/// The used states of one tool.
#[derive(Debug)]
pub struct OnceStates {
    /// Random, so that a state of another process, or of another declaration of the tool, is not valid.
    owner: u64,
    next: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// By expiry and number.
    uses: BTreeMap<Key, Use>,
    /// The uses with a stored outcome, oldest first.
    stored: VecDeque<Key>,
    stored_bytes: usize,
    /// States that expire no later than this count as expired: used ones may have been removed. In seconds since 1970.
    removed_until: u64,
}

type Key = (u64, u64);

#[derive(Debug)]
struct Use {
    answers: AnswersDigest,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Running,
    /// The response without its id, and its status.
    Ended(Status, Box<[u8]>),
    /// The call was cancelled, or the outcome was removed.
    Lost,
}

/// The treatment of a call that is retried with a state.
#[derive(Debug)]
pub enum OnceUse {
    /// The first use. The call runs.
    First(Box<FirstUse>),
    /// The state was used with the same answers: the response from behind its id on, and its status.
    Repeated(Status, Box<[u8]>),
    /// It is being used with the same answers.
    Running,
    /// It was used with other answers, has no stored outcome, or was issued elsewhere.
    Refused,
}

/// The first use of a state. Dropping it makes the state unused if the handler has not started; else, without
/// [`FirstUse::complete`], it leaves the state used without an outcome.
#[derive(Debug)]
pub struct FirstUse {
    states: Arc<OnceStates>,
    key: Key,
    has_started: Cell<bool>,
}

impl Default for OnceStates {
    fn default() -> Self {
        let owner = RandomState::new().hash_one(0);
        Self { owner, next: AtomicU64::new(0), table: Mutex::default() }
    }
}

impl OnceStates {
    /// The token of a new state.
    #[must_use]
    pub fn issue(&self) -> OnceToken {
        OnceToken { owner: self.owner, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic cannot leave a partial value behind the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to use a state, at the time `now` in seconds since 1970.
    #[must_use]
    pub fn begin(
        self: &Arc<Self>,
        (token, expires): (OnceToken, u64),
        answers: AnswersDigest,
        now: u64,
        states_max: usize,
    ) -> OnceUse {
        let mut table = self.lock();
        table.remove_expired(now);
        let key = (expires, token.number);
        if token.owner != self.owner {
            return OnceUse::Refused;
        }
        if let Some(known) = table.uses.get(&key) {
            return match &known.progress {
                _ if known.answers != answers => OnceUse::Refused,
                Progress::Running => OnceUse::Running,
                Progress::Ended(status, response) => OnceUse::Repeated(*status, response.clone()),
                Progress::Lost => OnceUse::Refused,
            };
        }
        // An old state must not remove younger ones.
        let is_old = |table: &Table| {
            let first = table.uses.first_key_value().map(|((expires, _), _)| *expires);
            table.uses.len() >= states_max && first.is_none_or(|first| expires <= first)
        };
        if expires <= table.removed_until || is_old(&table) {
            return OnceUse::Refused;
        }
        while table.uses.len() >= states_max && table.remove_first() {}
        table.uses.insert(key, Use { answers, progress: Progress::Running });
        let has_started = Cell::new(false);
        OnceUse::First(Box::new(FirstUse { states: Arc::clone(self), key, has_started }))
    }
}

impl Table {
    fn remove_expired(&mut self, now: u64) {
        while self.uses.first_key_value().is_some_and(|((expires, _), _)| *expires <= now) {
            self.remove_first();
        }
    }

    /// Removes the use of the state that expires first. Returns whether there was one.
    fn remove_first(&mut self) -> bool {
        let Some((key, removed)) = self.uses.pop_first() else { return false };
        self.removed_until = self.removed_until.max(key.0);
        if let Progress::Ended(_, response) = removed.progress {
            self.stored_bytes -= response.len();
            self.stored.retain(|stored| *stored != key);
        }
        true
    }

    fn store(&mut self, key: Key, status: Status, response: &[u8], bytes_max: usize) {
        if response.len() > bytes_max || !self.uses.contains_key(&key) {
            return;
        }
        while self.stored_bytes + response.len() > bytes_max {
            let Some(oldest) = self.stored.pop_front() else { break };
            if let Some(oldest) = self.uses.get_mut(&oldest)
                && let Progress::Ended(_, response) = std::mem::replace(&mut oldest.progress, Progress::Lost)
            {
                self.stored_bytes -= response.len();
            }
        }
        if let Some(known) = self.uses.get_mut(&key) {
            known.progress = Progress::Ended(status, response.into());
            self.stored.push_back(key);
            self.stored_bytes += response.len();
        }
    }
}

impl FirstUse {
    /// Marks the handler as started.
    pub fn start(&self) {
        self.has_started.set(true);
    }

    /// Stores the outcome of a handler that has started: the response from behind its id on. One that is larger than
    /// `once_bytes_max` is not stored.
    pub fn complete(&self, status: Status, response: &[u8], limits: &Limits) {
        if !self.has_started.get() {
            return;
        }
        self.states.lock().store(self.key, status, response, limits.once_bytes_max);
    }
}

impl Drop for FirstUse {
    fn drop(&mut self) {
        if !self.has_started.get() {
            self.states.lock().uses.remove(&self.key);
            return;
        }
        if let Some(known) = self.states.lock().uses.get_mut(&self.key)
            && matches!(known.progress, Progress::Running)
        {
            known.progress = Progress::Lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: AnswersDigest = [1; 32];

    fn begin(states: &Arc<OnceStates>, number: u64, expires: u64, now: u64) -> OnceUse {
        states.begin((OnceToken { owner: states.owner, number }, expires), ANSWERS, now, 3)
    }

    fn complete(states: &Arc<OnceStates>, number: u64, expires: u64, response: &[u8]) {
        let OnceUse::First(first) = begin(states, number, expires, 0) else { panic!("{number} was used") };
        first.start();
        first.complete(Status::Ok, response, &Limits { once_bytes_max: 10, ..Limits::default() });
    }

    #[test]
    fn state_is_used_once_and_its_outcome_repeated() {
        let states = Arc::new(OnceStates::default());
        let token = states.issue();
        assert_ne!(states.issue(), token);
        let at = |answers| states.begin((token, 100), answers, 0, 3);
        let OnceUse::First(first) = at(ANSWERS) else { panic!() };
        assert!(matches!(at(ANSWERS), OnceUse::Running));
        first.start();
        first.complete(Status::Ok, b"outcome", &Limits::default());
        drop(first);
        assert!(matches!(at(ANSWERS), OnceUse::Repeated(Status::Ok, outcome) if *outcome == *b"outcome"));
        assert!(matches!(at([2; 32]), OnceUse::Refused), "other answers");
        let foreign = Arc::new(OnceStates::default());
        assert!(matches!(foreign.begin((token, 100), ANSWERS, 0, 3), OnceUse::Refused));
    }

    #[test]
    fn cancelled_use_is_refused_and_one_that_did_not_run_is_free() {
        let states = Arc::new(OnceStates::default());
        let OnceUse::First(first) = begin(&states, 0, 100, 0) else { panic!() };
        drop(first);
        let OnceUse::First(first) = begin(&states, 0, 100, 0) else { panic!() };
        first.start();
        drop(first);
        assert!(matches!(begin(&states, 0, 100, 0), OnceUse::Refused));
    }

    #[test]
    fn states_beyond_the_maximum_count_as_expired() {
        let states = Arc::new(OnceStates::default());
        for number in 0..3 {
            complete(&states, number, 100 + number, b"1");
        }
        complete(&states, 3, 103, b"1");
        assert!(matches!(begin(&states, 0, 100, 0), OnceUse::Refused), "used and removed");
        assert!(matches!(begin(&states, 9, 100, 0), OnceUse::Refused), "not used, but as old");
        assert!(matches!(begin(&states, 1, 101, 0), OnceUse::Repeated(..)));
        assert_eq!(states.lock().uses.len(), 3);
        // At the expiry of all.
        complete(&states, 10, 2000, b"1");
        drop(begin(&states, 11, 2000, 1999));
        let table = states.lock();
        assert_eq!((table.uses.len(), table.stored.len(), table.stored_bytes), (1, 1, 1));
    }

    #[test]
    fn outcomes_beyond_the_bytes_are_removed_and_their_repeats_refused() {
        let states = Arc::new(OnceStates::default());
        complete(&states, 0, 100, b"123456");
        complete(&states, 1, 100, b"12345");
        assert!(matches!(begin(&states, 0, 100, 0), OnceUse::Refused));
        assert!(matches!(begin(&states, 1, 100, 0), OnceUse::Repeated(..)));
        complete(&states, 2, 100, b"12345678901");
        assert!(matches!(begin(&states, 2, 100, 0), OnceUse::Refused), "larger than the maximum");
        assert_eq!(states.lock().stored_bytes, 5);
    }
}
