//! What a shard keeps of the legacy sessions that are at home here: a stream, and what they want to hear of. Only sessions that
//! asked for either are in here.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::{
    replay::Replay,
    subscriber::Listener,
    subscriptions::{ListenerKey, Subscriptions},
};
use crate::{
    mcp::{Session, SessionKey, Topic},
    mesh::StreamId,
    registry::List,
};

/// A session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) stream: StreamId,
    pub(crate) listener: ListenerKey,
    expires: u64,
}

/// A bounded table; when it is full the oldest session without a connection goes.
pub(crate) struct Homes {
    sessions: HashMap<SessionKey, Kept, RandomState>,
    order: VecDeque<SessionKey>,
    sessions_max: usize,
}

impl Homes {
    pub(crate) fn new(sessions_max: usize) -> Self {
        Self { sessions: HashMap::default(), order: VecDeque::new(), sessions_max }
    }

    /// What is kept of a session, from now on at least its stream. `None`: there is no room.
    pub(crate) fn keep(
        &mut self,
        session: &Session,
        now: u64,
        replay: &mut Replay,
        subscriptions: &mut Subscriptions<Listener>,
    ) -> Option<Kept> {
        if let Some(kept) = self.sessions.get(&session.key) {
            return Some(*kept);
        }
        // There may be no room in this table, or in one of those it leans on.
        let stream = loop {
            if self.sessions.len() < self.sessions_max
                && subscriptions.has_room(List::ALL.len())
                && let Some(stream) = replay.open(session.key, true, None)
            {
                break stream;
            }
            let is_idle = |key: &SessionKey| {
                let kept = self.sessions.get(key);
                kept.is_none_or(|kept| kept.expires <= now || replay.carrier(kept.stream).is_none())
            };
            let oldest = self.order.iter().copied().find(is_idle)?;
            self.forget(oldest, replay, subscriptions);
        };
        let listener = subscriptions.insert(Listener::Session(stream), None);
        // Every legacy client hears of changed lists (checklist L-62).
        for list in [List::Tools, List::Resources, List::Prompts] {
            subscriptions.subscribe(listener, Topic::list(list));
        }
        let kept = Kept { stream, listener, expires: session.expires };
        self.sessions.insert(session.key, kept);
        self.order.push_back(session.key);
        Some(kept)
    }

    /// What is kept of a session, if anything is.
    pub(crate) fn get(&self, key: SessionKey) -> Option<Kept> {
        self.sessions.get(&key).copied()
    }

    /// Lets go of a session: what was kept of it.
    pub(crate) fn forget(
        &mut self,
        key: SessionKey,
        replay: &mut Replay,
        subscriptions: &mut Subscriptions<Listener>,
    ) -> Option<Kept> {
        let kept = self.sessions.remove(&key)?;
        self.order.retain(|other| *other != key);
        subscriptions.remove(kept.listener);
        replay.close(kept.stream);
        Some(kept)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }
}
