//! The tasks one shard keeps (checklist ): running ones and those that have ended, until their time is over.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    call::{InputRequest, TaskTerms},
    mcp::{TaskKey, TaskStatus, TaskView},
    runtime::Ticket,
    signed_token::Secret,
};

struct Task {
    view: TaskView,
    /// The call it is, while it runs.
    ticket: Option<Ticket>,
    nonce: u64,
    /// From then on nobody finds it.
    expires: Instant,
}

struct Place {
    task: Option<Task>,
    generation: u32,
}

/// A bounded slab of tasks.
pub(crate) struct Tasks {
    shard: u16,
    places: Vec<Place>,
    free: Vec<u32>,
    tasks_max: usize,
    ttl: Duration,
}

impl Tasks {
    /// At most `tasks_max`, kept for `ttl` where they do not say how long.
    pub(crate) fn new(shard: u16, tasks_max: usize, ttl: Duration) -> Self {
        Self { shard, places: Vec::new(), free: Vec::new(), tasks_max, ttl }
    }

    /// Keeps a call as a task from now on; `None` when there are as many as may be. `now` and `wall` are the same moment.
    pub(crate) fn insert(
        &mut self,
        ticket: Ticket,
        terms: TaskTerms,
        secret: &Secret,
        (now, wall): (Instant, Duration),
        nonce: u64,
    ) -> Option<(TaskKey, Instant)> {
        if self.places.len() - self.free.len() >= self.tasks_max {
            self.forget_expired(now);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.places.len() >= self.tasks_max => return None,
            None => {
                self.places.push(Place { task: None, generation: 0 });
                u32::try_from(self.places.len() - 1).ok()?
            }
        };
        let ttl = terms.ttl.unwrap_or(self.ttl);
        let place = self.places.get_mut(index as usize)?;
        let key = TaskKey { shard: self.shard, index, generation: place.generation, nonce };
        let view = TaskView {
            id: key.seal(secret),
            status: TaskStatus::Working,
            created: wall,
            updated: wall,
            ttl: Some(ttl),
            poll_interval: terms.poll_interval,
        };
        let expires = crate::runtime::instant_after(now, ttl);
        place.task = Some(Task { view, ticket: Some(ticket), nonce, expires });
        Some((key, expires))
    }

    fn forget_expired(&mut self, now: Instant) {
        for (index, place) in self.places.iter_mut().enumerate() {
            if place.task.take_if(|task| task.expires <= now && task.ticket.is_none()).is_some() {
                place.generation = place.generation.wrapping_add(1);
                self.free.extend(u32::try_from(index));
            }
        }
    }

    fn entry(&mut self, key: TaskKey) -> Option<&mut Task> {
        let place =
            self.places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)?;
        place.task.as_mut().filter(|task| task.nonce == key.nonce)
    }

    fn find(&mut self, key: TaskKey, now: Instant) -> Option<&mut Task> {
        self.entry(key).filter(|task| task.expires > now)
    }

    /// The task as clients see it.
    pub(crate) fn view(&mut self, key: TaskKey, now: Instant) -> Option<&TaskView> {
        self.find(key, now).map(|task| &task.view)
    }

    /// The call that a task is, while it runs.
    pub(crate) fn ticket(&mut self, key: TaskKey, now: Instant) -> Option<Ticket> {
        self.find(key, now)?.ticket
    }

    /// One more question is to be answered.
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

    /// Takes the answers that are wanted; the rest is ignored (checklist X-06).
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

    /// The task has ended, unless it had before.
    pub(crate) fn end(&mut self, key: TaskKey, status: TaskStatus, (now, wall): (Instant, Duration)) {
        // Also one whose time is over: it runs no more, so its place can be another's.
        let Some(task) = self.entry(key) else { return };
        task.ticket = None;
        if task.expires > now && !task.view.status.is_terminal() {
            task.view.status = status;
            task.view.updated = wall;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
