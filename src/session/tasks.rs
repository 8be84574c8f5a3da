//! The tasks of one shard, of the extension `io.modelcontextprotocol/tasks`: running ones, and ended ones until they expire.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    call::{InputRequest, TaskTerms},
    mcp::{TaskKey, TaskStatus, TaskView},
    runtime::Ticket,
    signed_token::SigningKey,
};

struct Task {
    view: TaskView,
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

/// A bounded slab of tasks.
pub(crate) struct Tasks {
    shard: u16,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Tasks that run no more, by the time they expire at.
    ended: BTreeSet<(Instant, u32)>,
    tasks_max: usize,
    ttl: Duration,
}

impl Tasks {
    /// At most `tasks_max` tasks, kept for `ttl` unless their terms set another time.
    pub(crate) fn new(shard: u16, tasks_max: usize, ttl: Duration) -> Self {
        Self { shard, slots: Vec::new(), free: Vec::new(), ended: BTreeSet::new(), tasks_max, ttl }
    }

    /// Makes a running call a task; `None` if there is no room. `now` and `wall` are the same time by two clocks.
    pub(crate) fn insert(
        &mut self,
        ticket: Ticket,
        terms: TaskTerms,
        signing_key: &SigningKey,
        (now, wall): (Instant, Duration),
        nonce: u64,
    ) -> Option<(TaskKey, Instant)> {
        if self.slots.len() - self.free.len() >= self.tasks_max {
            self.free_expired(now);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() >= self.tasks_max => return None,
            None => {
                self.slots.push(Slot { task: None, generation: 0 });
                u32::try_from(self.slots.len() - 1).ok()?
            }
        };
        let ttl = terms.ttl.unwrap_or(self.ttl);
        let slot = self.slots.get_mut(index as usize)?;
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
        slot.task = Some(Task { view, ticket: Some(ticket), nonce, expires });
        Some((key, expires))
    }

    fn free_expired(&mut self, now: Instant) {
        while let Some((expires, index)) = self.ended.first().copied()
            && expires <= now
        {
            self.ended.remove(&(expires, index));
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.task = None;
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(index);
            }
        }
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

    /// Ends a task, unless it has ended before. An expired task only makes room for another.
    pub(crate) fn end(&mut self, key: TaskKey, status: TaskStatus, (now, wall): (Instant, Duration)) {
        let Some(task) = self.entry(key) else { return };
        task.ticket = None;
        if task.expires > now && !task.view.status.is_terminal() {
            task.view.status = status;
            task.view.updated = wall;
        }
        let expires = task.expires;
        self.ended.insert((expires, key.index));
    }

    /// Number of tasks.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Checks the order of expiry against the tasks: the first that does not agree.
    #[cfg(test)]
    fn check_invariants(&self) -> Result<(), String> {
        let mut ended = 0;
        for (index, slot) in (0..).zip(&self.slots) {
            let Some(task) = &slot.task else { continue };
            let is_listed = self.ended.contains(&(task.expires, index));
            if is_listed != task.ticket.is_none() {
                return Err(format!("task {index} is listed as ended and runs, or the reverse"));
            }
            ended += usize::from(is_listed);
        }
        let live = self.slots.iter().filter(|slot| slot.task.is_some()).count();
        if (live, ended) != (self.len(), self.ended.len()) {
            return Err(format!(
                "{live} tasks, {ended} ended; {} and {} counted",
                self.len(),
                self.ended.len()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn insert(tasks: &mut Tasks, now: Instant, ttl: u64) -> Option<TaskKey> {
        let terms = TaskTerms { ttl: Some(Duration::from_secs(ttl)), poll_interval: Duration::ZERO };
        let inserted =
            tasks.insert(Ticket::default(), terms, &SigningKey::new(b"key"), (now, Duration::ZERO), 7);
        inserted.map(|(key, _)| key)
    }

    fn end(tasks: &mut Tasks, key: TaskKey, now: Instant) {
        tasks.end(key, TaskStatus::Cancelled, (now, Duration::ZERO));
    }

    #[test]
    fn violated_invariants_are_found() {
        let now = Instant::now();
        let mut tasks = Tasks::new(0, 10, Duration::ZERO);
        let key = insert(&mut tasks, now, 1).unwrap();
        assert_eq!(tasks.check_invariants(), Ok(()));
        tasks.ended.insert((now, 9));
        assert!(tasks.check_invariants().is_err());
        tasks.ended.clear();
        end(&mut tasks, key, now);
        assert_eq!(tasks.check_invariants(), Ok(()));
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
            let mut tasks = Tasks::new(0, 4, Duration::ZERO);
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
