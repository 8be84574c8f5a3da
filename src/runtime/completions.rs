//! Queue from pending calls to their shard: messages of running calls, and completions.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use crossbeam_queue::ArrayQueue;

use super::Unfinished;
use crate::registry::{Note, Reply};

/// Id of a pending call of one shard: a slot and its generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The slot's index.
    pub index: u32,
    /// The slot's generation, which distinguishes the calls that used the slot.
    pub generation: u32,
}

/// A pending call that has ended.
pub struct Completed {
    /// The call.
    pub ticket: Ticket,
    /// The reply, or why there is none.
    pub outcome: Result<Reply, Unfinished>,
}

/// Event of a pending call.
pub enum CallEvent {
    /// A message of a running call.
    Said(Ticket, Note),
    /// The call has ended.
    Ended(Completed),
}

/// Queue of one shard's call events.
pub struct Completions {
    /// Completions of tasks on this thread.
    local: RefCell<VecDeque<Completed>>,
    remote: RemoteCompletions,
    /// A completion that is returned after this many messages, which were queued before it.
    held: RefCell<Option<(Completed, usize)>>,
    /// Waker of the shard's task while it sleeps.
    sleeper: RefCell<Option<Waker>>,
}

/// The part of the queue that other threads use.
#[derive(Clone)]
pub struct RemoteCompletions {
    completed: Arc<ArrayQueue<Completed>>,
    messages: Arc<ArrayQueue<(Ticket, Note)>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl RemoteCompletions {
    /// Queues a completion. The queue has room for all calls that a shard may have in flight.
    pub(super) fn push(&self, completed: Completed) {
        let pushed = self.completed.push(completed);
        debug_assert!(pushed.is_ok(), "more completions than calls in flight");
        (self.wake)();
    }

    /// Queues a message of a call. Returns `false` if the queue is full.
    pub(super) fn push_message(&self, ticket: Ticket, message: Note) -> bool {
        let is_queued = self.messages.push((ticket, message)).is_ok();
        (self.wake)();
        is_queued
    }
}

impl Completions {
    /// Creates a queue for at most `calls_max` calls in flight and `messages_max` messages. `wake` is called after a push from another
    /// thread.
    #[must_use]
    pub fn new(calls_max: usize, messages_max: usize, wake: Arc<dyn Fn() + Send + Sync>) -> Rc<Self> {
        Rc::new(Self {
            local: RefCell::new(VecDeque::new()),
            remote: RemoteCompletions {
                completed: Arc::new(ArrayQueue::new(calls_max.max(1))),
                messages: Arc::new(ArrayQueue::new(messages_max.max(1))),
                wake,
            },
            held: RefCell::new(None),
            sleeper: RefCell::new(None),
        })
    }

    pub(super) fn remote(&self) -> RemoteCompletions {
        self.remote.clone()
    }

    pub(super) fn push(&self, completed: Completed) {
        self.local.borrow_mut().push_back(completed);
        if let Some(sleeper) = self.sleeper.borrow_mut().take() {
            sleeper.wake();
        }
    }

    /// Removes the next event. The messages of a call precede its completion.
    #[must_use]
    pub fn pop(&self) -> Option<CallEvent> {
        let message_event = |(ticket, note)| CallEvent::Said(ticket, note);
        if let Some((ended, left)) = self.held.take() {
            // Only the messages that were queued before the completion; other calls may push more meanwhile.
            let message = if left > 0 { self.remote.messages.pop() } else { None };
            return Some(match message {
                Some(message) => {
                    self.held.replace(Some((ended, left - 1)));
                    message_event(message)
                }
                None => CallEvent::Ended(ended),
            });
        }
        let ended = self.local.borrow_mut().pop_front().or_else(|| self.remote.completed.pop());
        let Some(ended) = ended else { return self.remote.messages.pop().map(message_event) };
        // The messages that the call sent before its end are in the queue by now.
        match self.remote.messages.len() {
            0 => Some(CallEvent::Ended(ended)),
            left => {
                self.held.replace(Some((ended, left)));
                self.pop()
            }
        }
    }

    /// Whether an event is queued.
    #[must_use]
    pub fn has_any(&self) -> bool {
        !self.local.borrow().is_empty()
            || !self.remote.completed.is_empty()
            || !self.remote.messages.is_empty()
            || self.held.borrow().is_some()
    }

    /// Whether an event is queued. If not, the task is woken when a task of this thread ends.
    pub fn is_ready(&self, context: &mut Context<'_>) -> bool {
        let is_ready = self.has_any();
        if !is_ready {
            *self.sleeper.borrow_mut() = Some(context.waker().clone());
        }
        is_ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_precede_the_completion_of_their_call() {
        let completions = Completions::new(2, 4, Arc::new(|| ()));
        let remote = completions.remote();
        let ticket = |index| Ticket { index, generation: 0 };
        assert!(remote.push_message(ticket(0), Note::Message(Vec::new())));
        remote.push(Completed { ticket: ticket(0), outcome: Ok(Reply::default()) });
        assert!(remote.push_message(ticket(1), Note::Message(Vec::new())));
        let events: Vec<_> = std::iter::from_fn(|| completions.pop())
            .map(|event| match event {
                CallEvent::Said(ticket, _) => (ticket.index, false),
                CallEvent::Ended(completed) => (completed.ticket.index, true),
            })
            .collect();
        assert_eq!(events, [(0, false), (1, false), (0, true)]);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "more completions than calls in flight")]
    fn completion_beyond_the_calls_in_flight_panics() {
        let remote = Completions::new(1, 1, Arc::new(|| ())).remote();
        for _ in 0..2 {
            remote.push(Completed { ticket: Ticket::default(), outcome: Ok(Reply::default()) });
        }
    }
}
