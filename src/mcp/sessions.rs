//! Legacy sessions ([Session Management][spec]). A session id is signed and contains what any shard needs to serve a request of
//! the session, so that a session takes no memory. Two facts are recorded on every shard, in a bounded table
//! (`session_records.rs`): that a session has ended, and its log level.
//!
//! [spec]: https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#session-management

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, AtomicU32, Ordering},
};

pub(in crate::mcp) use super::model::session::{Session, SessionKey};
use super::{
    model::session::PeerHash,
    session_records::{EndRecord, SessionRecords},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    call::{Capabilities, Level, Revision},
    signed_token::{SigningKey, TAG_BYTES, TokenKind},
};

/// Identifies one run of a server process. Its state is not available to later runs or to other processes with the same key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// Time of the start: the low 32 bits of the seconds since 1970.
    pub epoch: u32,
    /// The node: random bytes.
    pub node: [u8; 5],
}

impl Instance {
    /// Bytes of an instance in an id.
    const BYTES: usize = 4 + 5;

    /// The instance in the ids of sessions whose home has been restarted `life` times.
    fn with_life(self, life: u8) -> Self {
        let [a, b, c, d, last] = self.node;
        Self { node: [a, b, c, d, last.wrapping_add(life)], ..self }
    }

    /// The number of restarts for which [`Self::with_life`] has these bytes; `None` if they are of another instance.
    fn life_of(self, bytes: &[u8]) -> Option<u8> {
        let own = self.bytes();
        let (([shared @ .., last], [of_own @ .., first]), true) =
            ((bytes, &own[..]), bytes.len() == own.len())
        else {
            return None;
        };
        (shared == of_own).then(|| last.wrapping_sub(*first))
    }

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

/// The number of times that each shard of an instance was restarted. A session whose home was restarted since is lost.
#[derive(Clone, Debug, Default)]
pub struct ShardLives(Arc<OnceLock<Lives>>);

#[derive(Debug)]
struct Lives {
    by_shard: Box<[AtomicU8]>,
    restarts: AtomicU32,
}

impl ShardLives {
    /// Sets the number of shards, once.
    pub fn set_shards(&self, shards: usize) {
        let by_shard = (0..shards).map(|_| AtomicU8::new(0)).collect();
        let _ = self.0.set(Lives { by_shard, restarts: AtomicU32::new(0) });
    }

    /// Records that a shard has lost its state.
    pub fn restart(&self, shard: usize) {
        let Some(lives) = self.0.get() else { return };
        if let Some(life) = lives.by_shard.get(shard) {
            life.fetch_add(1, Ordering::Relaxed);
        }
        lives.restarts.fetch_add(1, Ordering::Release);
    }

    fn of(&self, shard: u16) -> u8 {
        let life = self.0.get().and_then(|lives| lives.by_shard.get(usize::from(shard)));
        life.map_or(0, |life| life.load(Ordering::Relaxed))
    }

    /// Number of restarts of all shards.
    fn restarts(&self) -> u32 {
        self.0.get().map_or(0, |lives| lives.restarts.load(Ordering::Acquire))
    }
}

/// The layout of an id: version, home, revision, capabilities, expiry, key, instance, hash of the peer.
const PAYLOAD_BYTES: usize = PAYLOAD_KEY + 16 + Instance::BYTES + 3;
/// Bytes before the key.
const PAYLOAD_KEY: usize = 1 + 2 + 1 + 1 + 8;
const ID_BYTES: usize = (PAYLOAD_BYTES + TAG_BYTES) / 3 * 4;
const VERSION: u8 = 3;

const _: () =
    assert!((PAYLOAD_BYTES + TAG_BYTES).is_multiple_of(3), "the base64 of an id has no partial group");

/// Slots of the cache of ids whose signature was verified.
const VERIFIED: usize = 512;

/// Opens and verifies session ids on one shard.
pub struct Sessions {
    signing_key: SigningKey,
    instance: Instance,
    lives: ShardLives,
    /// Restarts of shards when `verified` was last cleared.
    restarts: u32,
    shards: u16,
    ttl_seconds: u64,
    verified: Vec<Option<([u8; ID_BYTES], Session)>>,
    records: SessionRecords,
}

impl Sessions {
    /// The table of one of `shards` shards, all of which have the same signing key. Sessions expire after `ttl_seconds`; at
    /// most `records_max` of them have a record.
    #[must_use]
    pub fn new(signing_key: SigningKey, shards: usize, ttl_seconds: u64, records_max: usize) -> Self {
        Self {
            signing_key,
            instance: Instance::default(),
            lives: ShardLives::default(),
            restarts: 0,
            shards: u16::try_from(shards).unwrap_or(u16::MAX).max(1),
            ttl_seconds,
            verified: vec![None; VERIFIED],
            records: SessionRecords::new(records_max),
        }
    }

    /// Sets the instance.
    #[must_use]
    pub fn of(self, instance: Instance) -> Self {
        Self { instance, ..self }
    }

    /// Sets the lives of the instance's shards.
    #[must_use]
    pub fn with_lives(self, lives: ShardLives) -> Self {
        Self { lives, ..self }
    }

    /// The instance that opens sessions.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// The signing key.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing_key
    }

    /// Opens a session and returns its id. `entropy` must be unguessable; `now` is in seconds since 1970. `peer` identifies the
    /// client; the id contains a keyed hash of it.
    #[must_use]
    pub fn open(
        &self,
        revision: Revision,
        capabilities: Capabilities,
        now: u64,
        entropy: [u8; 16],
        peer: &[u8],
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
        payload.extend_from_slice(&self.instance.with_life(self.lives.of(home)).bytes());
        let peer: PeerHash = self.signing_key.hash(TokenKind::Peer, peer);
        payload.extend_from_slice(&peer);
        self.signing_key.sign(TokenKind::Session, &payload, &[])
    }

    /// The key in the text of an id, whose signature is not verified; `None` for a text of another length or form.
    #[must_use]
    pub fn key_of(id: &[u8]) -> Option<SessionKey> {
        // The key, and the bytes before and behind it that share a group of four characters with it.
        const BEFORE: usize = PAYLOAD_KEY % 3;
        const FIRST: usize = (PAYLOAD_KEY - BEFORE) / 3 * 4;
        const CHARACTERS: usize = (BEFORE + size_of::<SessionKey>()).div_ceil(3) * 4;
        let id: &[u8; ID_BYTES] = id.try_into().ok()?;
        let mut bytes = [0; CHARACTERS / 4 * 3];
        let text = id.get(FIRST..FIRST + CHARACTERS)?;
        BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let key = bytes.get(BEFORE..)?.first_chunk()?;
        Some(SessionKey::from_le_bytes(*key))
    }

    /// Verifies an id and returns its session; `None` if the session was never opened, has ended or has expired.
    #[must_use]
    pub fn verify(&mut self, id: &[u8], now: u64) -> Option<Session> {
        let id: [u8; ID_BYTES] = id.try_into().ok()?;
        let restarts = self.lives.restarts();
        if self.restarts != restarts {
            self.restarts = restarts;
            self.verified.fill(None);
        }
        let session = match self.cached(&id) {
            Some(session) => session,
            None => {
                let session = self.decode(&id)?;
                if let Some(cached) = self.verified.get_mut(slot(&id)) {
                    *cached = Some((id, session));
                }
                session
            }
        };
        (session.expires > now && !self.records.has_ended(&session)).then_some(session)
    }

    fn cached(&self, id: &[u8; ID_BYTES]) -> Option<Session> {
        let (other, session) = self.verified.get(slot(id))?.as_ref()?;
        (other == id).then_some(*session)
    }

    fn decode(&self, id: &[u8; ID_BYTES]) -> Option<Session> {
        let payload = self.signing_key.verify(TokenKind::Session, id, &[])?;
        let payload: [u8; PAYLOAD_BYTES] = payload.try_into().ok()?;
        let [version, home_low, home_high, revision, capabilities, rest @ ..] = payload;
        let (expires, rest) = rest.split_at_checked(8)?;
        let (key, rest) = rest.split_at_checked(16)?;
        let (instance, peer) = rest.split_at_checked(Instance::BYTES)?;
        let home = u16::from_le_bytes([home_low, home_high]);
        let life = self.instance.life_of(instance);
        if life.is_some_and(|life| life != self.lives.of(home)) {
            return None;
        }
        let session = Session {
            key: u128::from_le_bytes(key.try_into().ok()?),
            home,
            revision: Revision::ALL.get(usize::from(revision)).copied()?,
            capabilities: Capabilities::from_bits(capabilities),
            expires: u64::from_le_bytes(expires.try_into().ok()?),
            peer: peer.try_into().ok()?,
            is_foreign: life.is_none(),
        };
        // With fewer shards than when the session was opened, its home may not exist.
        (version == VERSION && session.home < self.shards).then_some(session)
    }

    /// The log level of a session, if the client has set one.
    #[must_use]
    pub fn level(&self, key: SessionKey) -> Option<Level> {
        self.records.level(key)
    }

    /// Sets the log level of a session. `now`: seconds since 1970.
    pub fn set_level(&mut self, session: &Session, level: Level, now: u64) {
        self.records.set_level(session, level, now);
    }

    /// Ends a session. Returns whether it had not ended before. `now`: seconds since 1970.
    pub fn end(&mut self, session: &Session, now: u64) -> bool {
        self.records.end(session, now)
    }

    /// Ends sessions that ended in another run of the process. `now`: seconds since 1970.
    pub fn restore(&mut self, ends: &[EndRecord], now: u64) {
        ends.iter().for_each(|record| self.records.restore(*record, now));
    }

    /// The ends of sessions that have not expired. `now`: seconds since 1970.
    pub fn ends(&self, now: u64) -> impl Iterator<Item = EndRecord> {
        self.records.ends(now)
    }

    /// Number of sessions with a record.
    #[must_use]
    pub fn recorded(&self) -> usize {
        self.records.len()
    }
}

/// The slot of an id in the cache: a hash of a part of its key, which is random.
fn slot(id: &[u8; ID_BYTES]) -> usize {
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
        Sessions::new(SigningKey::new(b"key"), shards, 100, 4)
    }

    fn entropy(number: u64) -> [u8; 16] {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        u128::from(mixed ^ mixed >> 29).wrapping_mul(0x1234_5678_9ABC_DEF1).to_le_bytes()
    }

    #[test]
    fn id_is_visible_ascii_and_contains_the_negotiated_revision() {
        let mut sessions = sessions(4);
        let able = Capabilities::default().with(Capability::Sampling).with(Capability::Roots);
        let id = sessions.open(Revision::V2025_06_18, able, 1000, entropy(1), b"peer");
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
        let session = sessions.verify(id.as_bytes(), 1000).unwrap();
        assert_eq!((session.revision, session.capabilities), (Revision::V2025_06_18, able));
        assert_eq!(sessions.verify(id.as_bytes(), 1000), Some(session), "also from the cache");
        assert_eq!(sessions.verify(id.as_bytes(), 1099), Some(session));
        assert_eq!(sessions.verify(id.as_bytes(), 1100), None, "expired");
    }

    #[test]
    fn forged_and_foreign_session_ids_are_rejected() {
        let mut sessions = sessions(1);
        let id = sessions.open(Revision::V2025_11_25, Capabilities::default(), 0, entropy(1), b"peer");
        for index in 0..id.len() {
            let mut forged = id.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(sessions.verify(&forged, 0), None, "{index}");
        }
        let foreign = Sessions::new(SigningKey::new(b"other"), 1, 100, 4).open(
            Revision::V2025_11_25,
            Capabilities::default(),
            0,
            entropy(1),
            b"peer",
        );
        assert_eq!(sessions.verify(foreign.as_bytes(), 0), None);
        for id in ["", "x", &id[1..], &format!("{id}A")] {
            assert_eq!(sessions.verify(id.as_bytes(), 0), None, "{id}");
        }
    }

    #[test]
    fn session_of_another_instance_is_valid_and_foreign() {
        let of = |epoch, node| sessions(1).of(Instance { epoch, node: [node; 5] });
        let id = of(1, 1).open(Revision::V2025_11_25, Capabilities::default(), 0, entropy(1), b"peer");
        for (epoch, node, is_foreign) in [(1, 1, false), (2, 1, true), (1, 2, true)] {
            let session = of(epoch, node).verify(id.as_bytes(), 0).unwrap();
            assert_eq!(session.is_foreign, is_foreign, "{epoch} {node}");
        }
    }

    #[test]
    fn sessions_of_a_restarted_home_are_unknown_on_every_shard() {
        let lives = ShardLives::default();
        lives.set_shards(2);
        let instance = Instance { epoch: 1, node: [255; 5] };
        let shard = || sessions(2).of(instance).with_lives(lives.clone());
        let (mut one, mut other) = (shard(), shard());
        let open = |sessions: &Sessions, home: u16| {
            (0..)
                .map(|number| {
                    sessions.open(Revision::V2025_11_25, Capabilities::default(), 0, entropy(number), b"peer")
                })
                .find(|id| sessions.decode(&id.as_bytes().try_into().unwrap()).unwrap().home == home)
                .unwrap()
        };
        let (lost, kept) = (open(&one, 0), open(&one, 1));
        assert!(one.verify(lost.as_bytes(), 0).is_some() && other.verify(lost.as_bytes(), 0).is_some());
        lives.restart(0);
        let later = open(&other, 0);
        for sessions in [&mut one, &mut other] {
            assert_eq!(sessions.verify(lost.as_bytes(), 0), None);
            for id in [&kept, &later] {
                assert!(!sessions.verify(id.as_bytes(), 0).unwrap().is_foreign);
            }
        }
    }

    #[test]
    fn homes_are_balanced_and_few_move_when_a_shard_is_added() {
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
    fn sessions_of_removed_shards_are_unknown() {
        let many = sessions(8);
        let mut few = sessions(2);
        let ids = (0..100).map(|number| {
            many.open(Revision::V2025_11_25, Capabilities::default(), 0, entropy(number), b"peer")
        });
        let known = ids.filter(|id| few.verify(id.as_bytes(), 0).is_some()).count();
        assert!(
            (10..50).contains(&known),
            "a quarter of the sessions has its home on the two shards: {known}"
        );
    }

    #[test]
    fn session_records_are_bounded() {
        let mut sessions = sessions(1);
        let id = sessions.open(Revision::V2025_11_25, Capabilities::default(), 0, entropy(1), b"peer");
        let session = sessions.verify(id.as_bytes(), 0).unwrap();
        sessions.set_level(&session, Level::Error, 0);
        assert_eq!(sessions.level(session.key), Some(Level::Error));
        assert!(sessions.end(&session, 0));
        assert!(!sessions.end(&session, 0));
        assert_eq!(sessions.verify(id.as_bytes(), 0), None, "although its signature was cached");
        for key in 0..1000 {
            sessions.end(&Session { key, ..session }, 0);
        }
        assert_eq!(sessions.verify(id.as_bytes(), 0), None);
        assert_eq!(sessions.recorded(), 4);
    }
}
