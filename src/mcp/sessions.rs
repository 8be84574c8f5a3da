//! Legacy sessions (checklist L-55, O-05). An id is signed and says what any shard needs to serve a request of it, so that
//! opening one costs no memory; what must be remembered of some sessions, that they have ended or which log messages they
//! want, is noted on every shard, in bounded tables.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::{
    call::{Capabilities, Level, Revision},
    signed_token::{Purpose, Secret, TAG_BYTES},
};

/// Names a session: the random part of its id.
pub type SessionKey = u128;

/// One run of one server process: what it kept is unknown to the next run, and to other processes with the same key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// When it started, in seconds since 1970, without what 32 bits do not hold.
    pub epoch: u32,
    /// The node: random bytes.
    pub node: [u8; 5],
}

impl Instance {
    /// Bytes of an instance in an id.
    const BYTES: usize = 4 + 5;

    pub(super) fn bytes(self) -> [u8; Self::BYTES] {
        let ([a, b, c, d], [e, f, g, h, i]) = (self.epoch.to_be_bytes(), self.node);
        [a, b, c, d, e, f, g, h, i]
    }
}

impl std::fmt::Display for Instance {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes().iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A session, as its id tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Which one.
    pub key: SessionKey,
    /// The shard that keeps its subscriptions and its stream.
    pub home: u16,
    /// What the handshake agreed on.
    pub revision: Revision,
    /// What the client said it can do.
    pub capabilities: Capabilities,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    /// Another instance opened it: whatever that one keeps of it, a stream or subscriptions, is unknown here.
    pub is_foreign: bool,
}

/// The layout of an id: version, home, revision, capabilities, end, key, instance.
const PAYLOAD_BYTES: usize = 1 + 2 + 1 + 1 + 8 + 16 + Instance::BYTES;
const ID_BYTES: usize = (PAYLOAD_BYTES + TAG_BYTES) / 3 * 4;
const VERSION: u8 = 2;

const _: () = assert!((PAYLOAD_BYTES + TAG_BYTES).is_multiple_of(3), "no byte of an id is half used");

/// Ids whose signature has been checked, so that a busy session's is not checked each time.
const VERIFIED: usize = 512;

/// What a shard knows of sessions.
pub struct Sessions {
    secret: Secret,
    instance: Instance,
    shards: u16,
    ttl_seconds: u64,
    verified: Vec<Option<([u8; ID_BYTES], Session)>>,
    notes: HashMap<SessionKey, Note, RandomState>,
    /// The keys of `notes`, oldest first.
    noted: VecDeque<SessionKey>,
    notes_max: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Note {
    ended: bool,
    level: Option<Level>,
}

impl Sessions {
    /// For one of `shards` shards, all of which have the same secret. Sessions last for `ttl_seconds`; of `notes_max` of them
    /// something is remembered.
    #[must_use]
    pub fn new(secret: Secret, shards: usize, ttl_seconds: u64, notes_max: usize) -> Self {
        Self {
            secret,
            instance: Instance::default(),
            shards: u16::try_from(shards).unwrap_or(u16::MAX).max(1),
            ttl_seconds,
            verified: vec![None; VERIFIED],
            notes: HashMap::default(),
            noted: VecDeque::new(),
            notes_max: notes_max.max(1),
        }
    }

    /// The same, of this instance.
    #[must_use]
    pub fn of(self, instance: Instance) -> Self {
        Self { instance, ..self }
    }

    /// The instance that opens them.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// The key everything is signed with.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Opens a session: its id. `entropy` must be unguessable.
    #[must_use]
    pub fn open(
        &self,
        revision: Revision,
        capabilities: Capabilities,
        now: u64,
        entropy: [u8; 16],
    ) -> String {
        let key = u128::from_le_bytes(entropy);
        let home = home(key, self.shards);
        let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
        payload.push(VERSION);
        payload.extend_from_slice(&home.to_le_bytes());
        payload.push(u8::try_from(revision.index()).unwrap_or(u8::MAX));
        payload.push(capabilities.bits());
        payload.extend_from_slice(&now.saturating_add(self.ttl_seconds).to_le_bytes());
        payload.extend_from_slice(&entropy);
        payload.extend_from_slice(&self.instance.bytes());
        self.secret.seal(Purpose::Session, &payload, &[])
    }

    /// The session an id names; `None` for one that was never opened, has ended, or has grown too old.
    #[must_use]
    pub fn verify(&mut self, id: &[u8], now: u64) -> Option<Session> {
        let id: [u8; ID_BYTES] = id.try_into().ok()?;
        let session = match self.remembered(&id) {
            Some(session) => session,
            None => {
                let session = self.read(&id)?;
                if let Some(place) = self.verified.get_mut(place(&id)) {
                    *place = Some((id, session));
                }
                session
            }
        };
        let ended = self.notes.get(&session.key).is_some_and(|note| note.ended);
        (session.expires > now && !ended).then_some(session)
    }

    fn remembered(&self, id: &[u8; ID_BYTES]) -> Option<Session> {
        let (other, session) = self.verified.get(place(id))?.as_ref()?;
        (other == id).then_some(*session)
    }

    fn read(&self, id: &[u8; ID_BYTES]) -> Option<Session> {
        let payload = self.secret.open(Purpose::Session, id, &[])?;
        let payload: [u8; PAYLOAD_BYTES] = payload.try_into().ok()?;
        let [version, home_low, home_high, revision, capabilities, rest @ ..] = payload;
        let (expires, rest) = rest.split_at_checked(8)?;
        let (key, instance) = rest.split_at_checked(16)?;
        let session = Session {
            key: u128::from_le_bytes(key.try_into().ok()?),
            home: u16::from_le_bytes([home_low, home_high]),
            revision: Revision::ALL.get(usize::from(revision)).copied()?,
            capabilities: Capabilities::from_bits(capabilities),
            expires: u64::from_le_bytes(expires.try_into().ok()?),
            is_foreign: instance != self.instance.bytes(),
        };
        // Fewer shards than when it was opened: nobody keeps what it left there.
        (version == VERSION && session.home < self.shards).then_some(session)
    }

    /// The least severe log messages a session wants, if it said so.
    #[must_use]
    pub fn level(&self, key: SessionKey) -> Option<Level> {
        self.notes.get(&key)?.level
    }

    /// From now on the session wants these log messages.
    pub fn set_level(&mut self, key: SessionKey, level: Level) {
        self.note(key).level = Some(level);
    }

    /// The session has ended. Whether that was news.
    pub fn end(&mut self, key: SessionKey) -> bool {
        !std::mem::replace(&mut self.note(key).ended, true)
    }

    /// How many sessions something is remembered of.
    #[must_use]
    pub fn noted(&self) -> usize {
        self.notes.len()
    }

    fn note(&mut self, key: SessionKey) -> &mut Note {
        if !self.notes.contains_key(&key) {
            // The oldest is forgotten: a session that ended that many others ago would be served again, to whoever has its
            // id; nothing but its name was ever kept of it.
            if self.noted.len() >= self.notes_max
                && let Some(oldest) = self.noted.pop_front()
            {
                self.notes.remove(&oldest);
            }
            self.noted.push_back(key);
        }
        self.notes.entry(key).or_default()
    }
}

/// Where an id is remembered: its key is random, so a part of it will do.
fn place(id: &[u8; ID_BYTES]) -> usize {
    let random = id.iter().skip(24).take(8).fold(0_u64, |hash, byte| hash << 7 ^ u64::from(*byte));
    usize::try_from(random.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).unwrap_or_default() % VERIFIED
}

/// The home of a session: jump consistent hash (Lamping and Veach, 2014), so that another number of shards moves as few
/// sessions as can be.
fn home(key: SessionKey, shards: u16) -> u16 {
    let mut hash = u64::try_from(key & u128::from(u64::MAX)).unwrap_or_default();
    let (mut bucket, mut next) = (0_u64, 0_u64);
    while next < u64::from(shards) {
        bucket = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let divisor = (hash >> 33) + 1;
        next = ((bucket + 1) << 31) / divisor;
    }
    u16::try_from(bucket).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Capability;

    fn sessions(shards: usize) -> Sessions {
        Sessions::new(Secret::new(b"key"), shards, 100, 4)
    }

    fn entropy(number: u64) -> [u8; 16] {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        u128::from(mixed ^ mixed >> 29).wrapping_mul(0x1234_5678_9ABC_DEF1).to_le_bytes()
    }

    #[test]
    fn l_55_an_id_is_visible_ascii_and_says_what_was_agreed_on() {
        let mut sessions = sessions(4);
        let able = Capabilities::default().with(Capability::Sampling).with(Capability::Roots);
        let id = sessions.open(Revision::V2025_06_18, able, 1000, entropy(1));
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
        let session = sessions.verify(id.as_bytes(), 1000).unwrap();
        assert_eq!((session.revision, session.capabilities), (Revision::V2025_06_18, able));
        assert_eq!(sessions.verify(id.as_bytes(), 1000), Some(session), "also from memory");
        assert_eq!(sessions.verify(id.as_bytes(), 1099), Some(session));
        assert_eq!(sessions.verify(id.as_bytes(), 1100), None, "too old");
    }

    #[test]
    fn o_05_forged_and_foreign_ids_are_unknown() {
        let mut sessions = sessions(1);
        let id = sessions.open(Revision::V2025_11_25, Capabilities::default(), 0, entropy(1));
        for place in 0..id.len() {
            let mut forged = id.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(sessions.verify(&forged, 0), None, "{place}");
        }
        let foreign = Sessions::new(Secret::new(b"other"), 1, 100, 4).open(
            Revision::V2025_11_25,
            Capabilities::default(),
            0,
            entropy(1),
        );
        assert_eq!(sessions.verify(foreign.as_bytes(), 0), None);
        for id in ["", "x", &id[1..], &format!("{id}A")] {
            assert_eq!(sessions.verify(id.as_bytes(), 0), None, "{id}");
        }
    }

    #[test]
    fn session_of_another_instance_is_known_and_foreign() {
        let of = |epoch, node| sessions(1).of(Instance { epoch, node: [node; 5] });
        let id = of(1, 1).open(Revision::V2025_11_25, Capabilities::default(), 0, entropy(1));
        for (epoch, node, is_foreign) in [(1, 1, false), (2, 1, true), (1, 2, true)] {
            let session = of(epoch, node).verify(id.as_bytes(), 0).unwrap();
            assert_eq!(session.is_foreign, is_foreign, "{epoch} {node}");
        }
    }

    #[test]
    fn sessions_are_spread_and_most_stay_where_they_are_when_a_shard_comes() {
        let mut counts = [0; 4];
        let mut moved = 0;
        for number in 0..10_000 {
            let key = u128::from_le_bytes(entropy(number));
            let (four, five) = (home(key, 4), home(key, 5));
            counts[usize::from(four)] += 1;
            moved += u32::from(four != five);
            assert!(four == five || five == 4, "a session moves to the new shard only");
        }
        assert!(counts.iter().all(|count| (2200..2800).contains(count)), "{counts:?}");
        assert!((1700..2300).contains(&moved), "{moved}");
    }

    #[test]
    fn fewer_shards_know_nothing_of_the_sessions_of_those_that_are_gone() {
        let many = sessions(8);
        let mut few = sessions(2);
        let ids = (0..100)
            .map(|number| many.open(Revision::V2025_11_25, Capabilities::default(), 0, entropy(number)));
        let known = ids.filter(|id| few.verify(id.as_bytes(), 0).is_some()).count();
        assert!((10..50).contains(&known), "a quarter has its home on the two: {known}");
    }

    #[test]
    fn what_is_remembered_of_sessions_is_bounded() {
        let mut sessions = sessions(1);
        let id = sessions.open(Revision::V2025_11_25, Capabilities::default(), 0, entropy(1));
        let key = sessions.verify(id.as_bytes(), 0).unwrap().key;
        sessions.set_level(key, Level::Error);
        assert_eq!(sessions.level(key), Some(Level::Error));
        assert!(sessions.end(key));
        assert!(!sessions.end(key));
        assert_eq!(sessions.verify(id.as_bytes(), 0), None, "although its signature was remembered");
        for number in 0..1000 {
            sessions.end(number);
        }
        assert_eq!(sessions.noted(), 4);
    }
}
