//! The records of legacy sessions: that one has ended, and its log level. The table is bounded. When it is full, the peer with the
//! most records loses its oldest one. If that was the end of a session, all sessions of this peer that expire no later are
//! rejected from then on, so that an ended session is never accepted again. Peers are known by a short hash, which session ids
//! contain.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::model::session::{PeerHash, Session, SessionKey};
use crate::call::Level;

/// Expired records of a peer that are freed when it gets another one.
const EXPIRED_PER_INSERT: usize = 16;

/// The end of sessions, as it is stored beyond the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndRecord {
    /// A session has ended. Its id expires at `expires`, in seconds since 1970.
    Session {
        /// Key of the session.
        key: SessionKey,
        /// The peer that opened it.
        peer: PeerHash,
        /// Time of expiry.
        expires: u64,
    },
    /// All sessions of a group of peers that expire no later than `expires` have ended.
    Group {
        /// The group: the first bytes of the hash of its peers.
        group: PeerGroup,
        /// Time of expiry.
        expires: u64,
    },
}

impl EndRecord {
    /// Time of expiry, in seconds since 1970. Afterwards the record has no effect.
    #[must_use]
    pub fn expires(&self) -> u64 {
        match self {
            Self::Session { expires, .. } | Self::Group { expires, .. } => *expires,
        }
    }
}

/// The first bytes of a peer's hash. There are few enough groups for one entry each.
pub type PeerGroup = [u8; 2];

fn group([a, b, _]: PeerHash) -> PeerGroup {
    [a, b]
}

/// The record of a session.
#[derive(Clone, Copy, Debug)]
struct SessionRecord {
    ended: bool,
    level: Option<Level>,
    peer: PeerHash,
    expires: u64,
}

/// The table.
pub(super) struct SessionRecords {
    records: HashMap<SessionKey, SessionRecord, RandomState>,
    /// The records by peer and time of expiry.
    by_peer: BTreeSet<(PeerHash, u64, SessionKey)>,
    /// Number of records of each peer that has any.
    counts: HashMap<PeerHash, usize, RandomState>,
    /// Peers by their number of records.
    by_count: BTreeSet<(usize, PeerHash)>,
    /// For each group of peers the time up to which its sessions are rejected by their expiry.
    ended_groups: HashMap<PeerGroup, u64, RandomState>,
    records_max: usize,
}

impl SessionRecords {
    /// A table of at most `records_max` records.
    pub(super) fn new(records_max: usize) -> Self {
        Self {
            records: HashMap::default(),
            by_peer: BTreeSet::new(),
            counts: HashMap::default(),
            by_count: BTreeSet::new(),
            ended_groups: HashMap::default(),
            records_max: records_max.max(1),
        }
    }

    /// Whether a session has ended.
    pub(super) fn has_ended(&self, session: &Session) -> bool {
        let is_recorded = self.records.get(&session.key).is_some_and(|record| record.ended);
        is_recorded
            || !self.ended_groups.is_empty()
                && self.ended_groups.get(&group(session.peer)).is_some_and(|until| session.expires <= *until)
    }

    /// The log level of a session, if it is recorded.
    pub(super) fn level(&self, key: SessionKey) -> Option<Level> {
        self.records.get(&key)?.level
    }

    /// Records the log level of a session. `now`: seconds since 1970.
    pub(super) fn set_level(&mut self, session: &Session, level: Level, now: u64) {
        self.record(session.key, session.peer, session.expires, now).level = Some(level);
    }

    /// Records that a session has ended. Returns whether that was not recorded.
    pub(super) fn end(&mut self, session: &Session, now: u64) -> bool {
        self.record_end(session.key, session.peer, session.expires, now)
    }

    fn record_end(&mut self, key: SessionKey, peer: PeerHash, expires: u64, now: u64) -> bool {
        !std::mem::replace(&mut self.record(key, peer, expires, now).ended, true)
    }

    /// Adds the record of another run of the process, or of another process.
    pub(super) fn restore(&mut self, record: EndRecord, now: u64) {
        match record {
            record if record.expires() <= now => {}
            EndRecord::Session { key, peer, expires } => _ = self.record_end(key, peer, expires, now),
            EndRecord::Group { group, expires } => self.end_group(group, expires),
        }
    }

    /// The ends of sessions that have not expired.
    pub(super) fn ends(&self, now: u64) -> impl Iterator<Item = EndRecord> {
        let sessions = self.records.iter().filter(|(_, record)| record.ended);
        let sessions = sessions.map(|(key, record)| EndRecord::Session {
            key: *key,
            peer: record.peer,
            expires: record.expires,
        });
        let groups = self
            .ended_groups
            .iter()
            .map(|(group, expires)| EndRecord::Group { group: *group, expires: *expires });
        groups.chain(sessions).filter(move |record| record.expires() > now)
    }

    /// Number of sessions with a record.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    fn end_group(&mut self, group: PeerGroup, expires: u64) {
        let until = self.ended_groups.entry(group).or_default();
        *until = expires.max(*until);
    }

    fn record(&mut self, key: SessionKey, peer: PeerHash, expires: u64, now: u64) -> &mut SessionRecord {
        if !self.records.contains_key(&key) {
            for _ in 0..EXPIRED_PER_INSERT {
                if self.oldest(peer).is_none_or(|(oldest, _)| oldest > now) {
                    break;
                }
                self.remove_oldest(peer, now);
            }
            if self.records.len() >= self.records_max
                && let Some((_, most)) = self.by_count.last().copied()
            {
                self.remove_oldest(most, now);
            }
            self.by_peer.insert((peer, expires, key));
            self.change_count(peer, |count| count + 1);
        }
        let unrecorded = SessionRecord { ended: false, level: None, peer, expires };
        self.records.entry(key).or_insert(unrecorded)
    }

    fn oldest(&self, peer: PeerHash) -> Option<(u64, SessionKey)> {
        let records = self.by_peer.range((peer, 0, 0)..=(peer, u64::MAX, SessionKey::MAX));
        records.map(|(_, expires, key)| (*expires, *key)).next()
    }

    fn remove_oldest(&mut self, peer: PeerHash, now: u64) {
        let Some((expires, key)) = self.oldest(peer) else { return };
        self.by_peer.remove(&(peer, expires, key));
        self.change_count(peer, |count| count - 1);
        if self.records.remove(&key).is_some_and(|record| record.ended) && expires > now {
            self.end_group(group(peer), expires);
        }
    }

    fn change_count(&mut self, peer: PeerHash, change: impl FnOnce(usize) -> usize) {
        let before = self.counts.get(&peer).copied().unwrap_or_default();
        let after = change(before);
        self.by_count.remove(&(before, peer));
        if after == 0 {
            self.counts.remove(&peer);
        } else {
            self.counts.insert(peer, after);
            self.by_count.insert((after, peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::{Capabilities, Revision};

    fn session(key: SessionKey, peer: u8, expires: u64) -> Session {
        Session {
            key,
            home: 0,
            revision: Revision::V2025_11_25,
            capabilities: Capabilities::default(),
            expires,
            peer: [peer, 0, 0],
            is_foreign: false,
        }
    }

    #[test]
    fn full_table_rejects_older_sessions_of_the_peer_with_the_most_records_only() {
        let mut records = SessionRecords::new(4);
        let quiet = session(1, 1, 10);
        assert!(records.end(&quiet, 0) && !records.end(&quiet, 0));
        for key in 2..1000 {
            assert!(records.end(&session(key, 2, 20 + u64::try_from(key).unwrap()), 0));
        }
        assert_eq!(records.len(), 4);
        assert!((2..1000).all(|key| records.has_ended(&session(key, 2, 20 + u64::try_from(key).unwrap()))));
        assert!(records.has_ended(&quiet), "its record is kept");
        assert!(!records.has_ended(&session(5000, 1, 10)), "another session of the quiet peer");
        assert!(!records.has_ended(&session(5000, 3, 10)), "a session of a third peer");
        assert!(records.has_ended(&session(5000, 2, 22)), "an older session of the busy peer");
        assert!(!records.has_ended(&session(5000, 2, 2000)), "a newer one");
        assert_eq!(records.ended_groups.len(), 1);
    }

    #[test]
    fn expired_records_make_room_and_reject_nobody() {
        let mut records = SessionRecords::new(2);
        for key in 0..10 {
            let expires = 10 * (u64::try_from(key).unwrap() + 1);
            records.end(&session(key, 1, expires), expires - 10);
        }
        assert!(records.len() <= 2 && records.ended_groups.is_empty());
    }

    proptest! {
        /// No ended session is accepted, whatever was recorded since, and whether the records were stored and restored.
        #[test]
        fn ended_sessions_are_never_accepted(
            steps in prop::collection::vec((0_u8..4, 0_u8..4, 1_u64..50, any::<bool>()), 1..200)
        ) {
            let mut records = SessionRecords::new(5);
            let mut ended = Vec::new();
            let mut now = 0;
            for (key, (step, peer, expires, is_restored)) in (0..).zip(steps) {
                let session = session(key, peer, now + expires);
                match step {
                    0 => records.set_level(&session, Level::Error, now),
                    1 => now += 1,
                    _ => {
                        records.end(&session, now);
                        ended.push(session);
                    }
                }
                if is_restored {
                    let mut restored = SessionRecords::new(5);
                    records.ends(now).for_each(|record| restored.restore(record, now));
                    records = restored;
                }
                prop_assert!(records.len() <= 5);
                prop_assert_eq!(records.by_peer.len(), records.len());
                prop_assert_eq!(records.counts.values().sum::<usize>(), records.len());
                prop_assert_eq!(records.by_count.len(), records.counts.len());
                for session in ended.iter().filter(|session| session.expires > now) {
                    prop_assert!(records.has_ended(session), "{:?}", session);
                }
            }
        }
    }
}
