//! How calls that run beside the requests reach their shard: what they say meanwhile, and their end.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use crossbeam_queue::ArrayQueue;

use super::Unfinished;
use crate::call::{CallMessage, Reply};

/// Names a pending call of one shard: its place, and which of the calls that had this place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The place.
    pub index: u32,
    /// Which one.
    pub generation: u32,
}

/// A pending call that has ended.
pub struct Completed {
    /// Which call.
    pub ticket: Ticket,
    /// What it came to.
    pub outcome: Result<Reply, Unfinished>,
}

/// What a pending call has to tell.
pub enum CallEvent {
    /// It says something.
    Message(Ticket, CallMessage),
    /// It has ended.
    Ended(Completed),
}

/// One shard's inbox of its calls.
pub struct Completions {
    /// Ends of tasks on this thread.
    local: RefCell<VecDeque<Completed>>,
    remote: RemoteCompletions,
    /// An end that waits until what was said before it has been heard: that many messages.
    held: RefCell<Option<(Completed, usize)>>,
    /// The shard's task, when it sleeps.
    sleeper: RefCell<Option<Waker>>,
}

/// The part of it that other threads see.
#[derive(Clone)]
pub struct RemoteCompletions {
    ends: Arc<ArrayQueue<Completed>>,
    messages: Arc<ArrayQueue<(Ticket, CallMessage)>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl RemoteCompletions {
    /// Hands an ended call to its shard. The queue holds as many as a shard may have in flight, so it has room.
    pub(super) fn push(&self, completed: Completed) {
        let refused = self.ends.push(completed);
        debug_assert!(refused.is_ok(), "more completions than calls in flight");
        (self.wake)();
    }

    /// Hands over what a call says, if there is room.
    pub(super) fn send(&self, ticket: Ticket, message: CallMessage) -> bool {
        let is_taken = self.messages.push((ticket, message)).is_ok();
        (self.wake)();
        is_taken
    }
}

impl Completions {
    /// An inbox for at most `calls_max` calls in flight, and `notes_max` messages of theirs. `wake` is called after a push from
    /// another thread.
    #[must_use]
    pub fn new(calls_max: usize, notes_max: usize, wake: Arc<dyn Fn() + Send + Sync>) -> Rc<Self> {
        Rc::new(Self {
            local: RefCell::new(VecDeque::new()),
            remote: RemoteCompletions {
                ends: Arc::new(ArrayQueue::new(calls_max.max(1))),
                messages: Arc::new(ArrayQueue::new(notes_max.max(1))),
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

    /// The next thing a call has to tell. What it said comes before its end.
    #[must_use]
    pub fn pop(&self) -> Option<CallEvent> {
        let event = |(ticket, message)| CallEvent::Message(ticket, message);
        if let Some((ended, left)) = self.held.take() {
            // Others may go on talking: those that were there are enough.
            let message = if left > 0 { self.remote.messages.pop() } else { None };
            return Some(match message {
                Some(message) => {
                    self.held.replace(Some((ended, left - 1)));
                    event(message)
                }
                None => CallEvent::Ended(ended),
            });
        }
        let ended = self.local.borrow_mut().pop_front().or_else(|| self.remote.ends.pop());
        let Some(ended) = ended else { return self.remote.messages.pop().map(event) };
        // What it said before it ended is there by now.
        match self.remote.messages.len() {
            0 => Some(CallEvent::Ended(ended)),
            left => {
                self.held.replace(Some((ended, left)));
                self.pop()
            }
        }
    }

    /// Whether there is anything.
    #[must_use]
    pub fn has_any(&self) -> bool {
        !self.local.borrow().is_empty()
            || !self.remote.ends.is_empty()
            || !self.remote.messages.is_empty()
            || self.held.borrow().is_some()
    }

    /// Whether there is anything; if not, the task is woken when something comes from this thread.
    pub fn is_ready(&self, context: &mut Context<'_>) -> bool {
        let is_ready = self.has_any();
        if !is_ready {
            *self.sleeper.borrow_mut() = Some(context.waker().clone());
        }
        is_ready
    }
}
