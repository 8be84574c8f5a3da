//! The tasks of one shard, of the extension `io.modelcontextprotocol/tasks`: running ones, and ended ones until they expire.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use serde_json::Value;

use crate::{
    call::{InputRequest, TaskTerms},
    config::Limits,
    mcp::{TaskKey, TaskStatus, TaskView},
    peer::{NoRoom, PeerKey, Shares},
    runtime::Ticket,
    signed_token::SigningKey,
};

struct Task {
    view: TaskView,
    peer: PeerKey,
    /// Length of the result or error, as counted for the peer.
    bytes: u64,
    /// The call that the task is, while it runs.
    ticket: Option<Ticket>,
    nonce: u64,
    /// Time of expiry, after which the task is unknown to clients.
    expires: Instant,
}

struct Slot {
    task: Option<Task>,
    generation: u32,
}

/// A bounded slab of tasks. Tasks and the bytes of their results are counted by peer. Where the table is full, a peer within its share
/// gets the place of an ended task of the peer that is most above its own.
pub(crate) struct Tasks {
    shard: u16,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Tasks that run no more, by the time they expire at.
    ended: BTreeSet<(Instant, u32)>,
    ended_by_peer: ByPeer,
    /// Those of them that have a result or an error.
    results: ByPeer,
    shares: Shares,
    result_shares: Shares,
    tasks_max: usize,
    ttl: Duration,
}

/// Tasks by peer, each peer's by the time they expire at.
#[derive(Default)]
struct ByPeer(HashMap<PeerKey, BTreeSet<(Instant, u32)>, RandomState>);

impl ByPeer {
    fn insert(&mut self, peer: PeerKey, expires: Instant, index: u32) {
        self.0.entry(peer).or_default().insert((expires, index));
    }

    fn remove(&mut self, peer: PeerKey, expires: Instant, index: u32) {
        if let Entry::Occupied(mut of_peer) = self.0.entry(peer) {
            of_peer.get_mut().remove(&(expires, index));
            if of_peer.get().is_empty() {
                of_peer.remove();
            }
        }
    }

    fn first(&self, peer: PeerKey) -> Option<u32> {
        self.0.get(&peer)?.first().map(|(_, index)| *index)
    }
}

/// The error that replaces the result of a task whose peer has too many bytes of results.
const DROPPED: &[u8] =
    br#"{"code":-32603,"message":"The result was dropped: the results kept for this client are too large"}"#;

impl Tasks {
    /// An empty table.
    pub(crate) fn new(shard: u16, limits: &Limits) -> Self {
        let percent = limits.peer_share_percent;
        Self {
            shard,
            slots: Vec::new(),
            free: Vec::new(),
            ended: BTreeSet::new(),
            ended_by_peer: ByPeer::default(),
            results: ByPeer::default(),
            shares: Shares::new(limits.tasks_max as u64, percent),
            result_shares: Shares::new(limits.task_results_bytes_max as u64, percent),
            tasks_max: limits.tasks_max,
            ttl: limits.task_ttl,
        }
    }

    /// Makes a running call of a peer a task. `now` and `wall` are the same time by two clocks.
    ///
    /// # Errors
    /// There is no room, or the peer has its share of the tasks.
    pub(crate) fn insert(
        &mut self,
        (ticket, peer): (Ticket, PeerKey),
        terms: TaskTerms,
        signing_key: &SigningKey,
        (now, wall): (Instant, Duration),
        nonce: u64,
    ) -> Result<(TaskKey, Instant), NoRoom> {
        if self.shares.take(peer, 1).is_err() {
            self.free_expired(now);
            while let Err(reason) = self.shares.take(peer, 1) {
                let heaviest = self.shares.heaviest().filter(|_| self.shares.is_within_share(peer, 1));
                let victim = heaviest.and_then(|heaviest| self.ended_by_peer.first(heaviest));
                self.free(victim.ok_or(reason)?);
            }
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                debug_assert!(self.slots.len() < self.tasks_max, "the shares count every task");
                self.slots.push(Slot { task: None, generation: 0 });
                u32::try_from(self.slots.len() - 1).map_err(|_| NoRoom::Full)?
            }
        };
        let ttl = terms.ttl.unwrap_or(self.ttl);
        let slot = self.slots.get_mut(index as usize).ok_or(NoRoom::Full)?;
        let key = TaskKey { shard: self.shard, index, generation: slot.generation, nonce };
        let view = TaskView {
            id: key.sign(signing_key),
            status: TaskStatus::Working,
            created: wall,
            updated: wall,
            ttl: Some(ttl),
            poll_interval: terms.poll_interval,
        };
        let expires = crate::runtime::instant_after(now, ttl);
        slot.task = Some(Task { view, peer, bytes: 0, ticket: Some(ticket), nonce, expires });
        Ok((key, expires))
    }

    fn free_expired(&mut self, now: Instant) {
        while let Some((expires, index)) = self.ended.first().copied()
            && expires <= now
        {
            self.free(index);
        }
    }

    /// Frees the slot of an ended task.
    fn free(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(task) = slot.task.take() else { return };
        slot.generation = slot.generation.wrapping_add(1);
        self.ended.remove(&(task.expires, index));
        self.ended_by_peer.remove(task.peer, task.expires, index);
        self.results.remove(task.peer, task.expires, index);
        self.shares.give(task.peer, 1);
        self.result_shares.give(task.peer, task.bytes);
        self.free.push(index);
    }

    /// Counts the bytes of a result for a peer. Results of the peer, or of the one most above its share, are dropped in the order of
    /// their expiry until there is room. Returns the number of dropped results, and whether there is room.
    fn make_room(&mut self, peer: PeerKey, bytes: u64) -> (usize, bool) {
        let mut dropped = 0;
        while self.result_shares.take(peer, bytes).is_err() {
            let own = !self.result_shares.is_within_share(peer, bytes);
            let from = if own { Some(peer) } else { self.result_shares.heaviest() };
            let Some(index) = from.and_then(|from| self.results.first(from)) else { return (dropped, false) };
            let slot = self.slots.get_mut(index as usize);
            let Some(task) = slot.and_then(|slot| slot.task.as_mut()) else { return (dropped, false) };
            let (from, freed) = (task.peer, std::mem::take(&mut task.bytes));
            self.results.remove(from, task.expires, index);
            task.view.status = TaskStatus::Failed(DROPPED.to_vec());
            self.result_shares.give(from, freed);
            dropped += 1;
        }
        (dropped, true)
    }

    fn entry(&mut self, key: TaskKey) -> Option<&mut Task> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)?;
        slot.task.as_mut().filter(|task| task.nonce == key.nonce)
    }

    fn find(&mut self, key: TaskKey, now: Instant) -> Option<&mut Task> {
        self.entry(key).filter(|task| task.expires > now)
    }

    /// The task as clients see it.
    pub(crate) fn view(&mut self, key: TaskKey, now: Instant) -> Option<&TaskView> {
        self.find(key, now).map(|task| &task.view)
    }

    /// The call of a task that runs.
    pub(crate) fn ticket(&mut self, key: TaskKey, now: Instant) -> Option<Ticket> {
        self.find(key, now)?.ticket
    }

    /// Adds a question that the client is to answer.
    pub(crate) fn ask(
        &mut self,
        key: TaskKey,
        question: String,
        request: InputRequest,
        (now, wall): (Instant, Duration),
    ) {
        let Some(task) = self.find(key, now) else { return };
        if let TaskStatus::InputRequired(asked) = &mut task.view.status {
            asked.insert(question, request);
        } else if task.view.status == TaskStatus::Working {
            task.view.status = TaskStatus::InputRequired([(question, request)].into());
        }
        task.view.updated = wall;
    }

    /// Takes the answers to open questions and returns them; other answers are ignored.
    pub(crate) fn answer(
        &mut self,
        key: TaskKey,
        answers: BTreeMap<String, Value>,
        (now, wall): (Instant, Duration),
    ) -> Vec<(String, Value)> {
        let Some(task) = self.find(key, now) else { return Vec::new() };
        let TaskStatus::InputRequired(asked) = &mut task.view.status else { return Vec::new() };
        let wanted = answers.into_iter().filter(|(key, _)| asked.remove(key).is_some()).collect();
        if asked.is_empty() {
            task.view.status = TaskStatus::Working;
        }
        task.view.updated = wall;
        wanted
    }

    /// Ends a task, unless it has ended before. An expired task only makes room for another. Returns the number of results, of this
    /// task or others, that were dropped for lack of room.
    #[must_use]
    pub(crate) fn end(
        &mut self,
        key: TaskKey,
        status: TaskStatus,
        (now, wall): (Instant, Duration),
    ) -> usize {
        let Some(task) = self.entry(key) else { return 0 };
        let is_first = task.ticket.take().is_some();
        let (peer, expires) = (task.peer, task.expires);
        self.ended.insert((expires, key.index));
        self.ended_by_peer.insert(peer, expires, key.index);
        if !is_first || expires <= now {
            return 0;
        }
        let bytes = match &status {
            TaskStatus::Completed(bytes) | TaskStatus::Failed(bytes) => bytes.len() as u64,
            TaskStatus::Working | TaskStatus::InputRequired(_) | TaskStatus::Cancelled => 0,
        };
        let (dropped, is_kept) = self.make_room(peer, bytes);
        let Some(task) = self.entry(key) else { return dropped };
        task.view.updated = wall;
        if !is_kept {
            task.view.status = TaskStatus::Failed(DROPPED.to_vec());
            return dropped + 1;
        }
        (task.view.status, task.bytes) = (status, bytes);
        if bytes > 0 {
            self.results.insert(peer, expires, key.index);
        }
        dropped
    }

    /// Number of tasks.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Checks the order of expiry against the tasks: the first that does not agree.
    #[cfg(test)]
    fn check_invariants(&self) -> Result<(), String> {
        let (mut ended, mut bytes) = (0, 0);
        for (index, slot) in (0..).zip(&self.slots) {
            let Some(task) = &slot.task else { continue };
            let is_listed = self.ended.contains(&(task.expires, index));
            if is_listed != task.ticket.is_none() {
                return Err(format!("task {index} is listed as ended and runs, or the reverse"));
            }
            ended += usize::from(is_listed);
            let of_peer = self.ended_by_peer.0.get(&task.peer);
            if of_peer.is_some_and(|tasks| tasks.contains(&(task.expires, index))) != is_listed {
                return Err(format!("ended task {index} is not listed for its peer, or the reverse"));
            }
            bytes += task.bytes;
        }
        let live = self.slots.iter().filter(|slot| slot.task.is_some()).count();
        if (live, ended) != (self.len(), self.ended.len()) {
            return Err(format!(
                "{live} tasks, {ended} ended; {} and {} counted",
                self.len(),
                self.ended.len()
            ));
        }
        let counted = (self.shares.total(), self.result_shares.total());
        if counted != (live as u64, bytes) {
            return Err(format!("{live} tasks with {bytes} bytes of results; {counted:?} counted"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use corelane_ring::PeerAddress;
    use proptest::prelude::*;

    use super::*;

    fn insert(tasks: &mut Tasks, now: Instant, ttl: u64) -> Option<TaskKey> {
        let terms = TaskTerms { ttl: Some(Duration::from_secs(ttl)), poll_interval: Duration::ZERO };
        insert_for(tasks, PeerKey::default(), now, terms)
    }

    fn insert_for(tasks: &mut Tasks, peer: PeerKey, now: Instant, terms: TaskTerms) -> Option<TaskKey> {
        let call = (Ticket::default(), peer);
        let inserted = tasks.insert(call, terms, &SigningKey::new(b"key"), (now, Duration::ZERO), 7);
        inserted.ok().map(|(key, _)| key)
    }

    fn end(tasks: &mut Tasks, key: TaskKey, now: Instant) {
        assert_eq!(tasks.end(key, TaskStatus::Cancelled, (now, Duration::ZERO)), 0);
    }

    fn tasks(tasks_max: usize) -> Tasks {
        Tasks::new(0, &Limits { tasks_max, task_results_bytes_max: 1600, ..Limits::default() })
    }

    fn peer(last: u8) -> PeerKey {
        PeerKey::new(PeerAddress::new(Ipv4Addr::new(192, 0, 2, last).into(), 1))
    }

    const HOUR: TaskTerms = TaskTerms { ttl: Some(Duration::from_secs(3600)), poll_interval: Duration::ZERO };

    #[test]
    fn full_table_gives_a_newcomer_the_places_of_ended_tasks_above_the_share() {
        let now = Instant::now();
        let mut tasks = tasks(160);
        while let Some(key) = insert_for(&mut tasks, peer(1), now, HOUR) {
            end(&mut tasks, key, now);
        }
        assert_eq!(tasks.len(), 150);
        for _ in 0..40 {
            assert!(insert_for(&mut tasks, peer(2), now, HOUR).is_some());
            assert_eq!(tasks.check_invariants(), Ok(()));
        }
        assert!(insert_for(&mut tasks, peer(2), now, HOUR).is_none(), "above its share");
        assert_eq!((tasks.shares.of(peer(1)), tasks.shares.of(peer(2))), (120, 40));
    }

    #[test]
    fn results_beyond_the_budget_are_dropped_from_the_peer_that_has_most() {
        let now = Instant::now();
        let mut tasks = tasks(160);
        let complete = |tasks: &mut Tasks, peer, bytes| {
            let key = insert_for(tasks, peer, now, HOUR).unwrap();
            let dropped = tasks.end(key, TaskStatus::Completed(vec![b'1'; bytes]), (now, Duration::ZERO));
            assert_eq!(tasks.check_invariants(), Ok(()));
            (key, dropped)
        };
        let heavy: Vec<_> = (0..15).map(|_| complete(&mut tasks, peer(1), 100)).collect();
        assert!(heavy.iter().all(|(_, dropped)| *dropped == 0));
        assert_eq!(complete(&mut tasks, peer(1), 100).1, 1);
        for _ in 0..4 {
            assert!(complete(&mut tasks, peer(2), 100).1 <= 1);
        }
        assert_eq!((tasks.result_shares.of(peer(1)), tasks.result_shares.of(peer(2))), (1200, 400));
        assert_eq!(tasks.view(heavy[0].0, now).unwrap().status, TaskStatus::Failed(DROPPED.to_vec()));
        // A result that no budget has room for is dropped itself.
        let (key, _) = complete(&mut tasks, peer(3), 1601);
        assert_eq!(tasks.view(key, now).unwrap().status, TaskStatus::Failed(DROPPED.to_vec()));
    }

    #[test]
    fn violated_invariants_are_found() {
        let now = Instant::now();
        let mut tasks = tasks(10);
        let key = insert(&mut tasks, now, 1).unwrap();
        assert_eq!(tasks.check_invariants(), Ok(()));
        tasks.ended.insert((now, 9));
        assert!(tasks.check_invariants().is_err());
        tasks.ended.clear();
        end(&mut tasks, key, now);
        assert_eq!(tasks.check_invariants(), Ok(()));
        tasks.ended_by_peer = ByPeer::default();
        assert!(tasks.check_invariants().is_err());
        tasks.ended.clear();
        assert!(tasks.check_invariants().is_err());
    }

    proptest! {
        /// A full table frees the expired ones of the ended tasks, and no other.
        #[test]
        fn random_operations_free_expired_tasks_only(
            steps in prop::collection::vec((0_u8..4, 0_u64..8, any::<prop::sample::Index>()), 1..100)
        ) {
            let mut now = Instant::now();
            let mut tasks = tasks(4);
            // Key, time of expiry, and whether it has ended.
            let mut model: Vec<(TaskKey, Instant, bool)> = Vec::new();
            for (step, seconds, index) in steps {
                match step {
                    0 => now += Duration::from_secs(seconds),
                    1 if !model.is_empty() => {
                        let (key, _, has_ended) = index.get_mut(&mut model);
                        *has_ended = true;
                        end(&mut tasks, *key, now);
                    }
                    _ => {
                        if model.len() == 4 {
                            model.retain(|(_, expires, has_ended)| *expires > now || !has_ended);
                        }
                        let inserted = insert(&mut tasks, now, seconds);
                        prop_assert_eq!(inserted.is_some(), model.len() < 4);
                        model.extend(inserted.map(|key| (key, now + Duration::from_secs(seconds), false)));
                    }
                }
                prop_assert_eq!(tasks.check_invariants(), Ok(()));
                prop_assert_eq!(tasks.len(), model.len());
                for (key, expires, _) in &model {
                    prop_assert_eq!(tasks.view(*key, now).is_some(), *expires > now);
                }
            }
        }
    }
}
