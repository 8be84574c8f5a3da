//! The queues by which pending calls send their messages and completions to their shard.

use std::{
    cell::RefCell,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use crossbeam_queue::ArrayQueue;

use super::result_memory::{ResultMemory, ResultReservation};
use crate::call::{CallMessage, Reply};

/// Why a call ended without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The handler panicked.
    Panicked,
    /// The call was cancelled.
    Cancelled,
    /// The call ends with an `input_required` result, and starts again with the answer.
    InputRequired,
    /// The memory of results that wait to be encoded is used up.
    ResultMemory,
}

/// Runs code of a handler; a panic is caught.
pub(super) fn catch_panic<T>(run: impl FnOnce() -> T) -> Result<T, Unfinished> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| Unfinished::Panicked)
}

/// Identifies a pending call of one shard: its slot and the generation of the slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Index of the slot.
    pub index: u32,
    /// Generation of the slot.
    pub generation: u32,
}

/// A pending call that has ended.
pub struct Completed {
    /// Ticket of the call.
    pub ticket: Ticket,
    /// The reply, or the reason without one.
    pub outcome: Result<Reply, Unfinished>,
    /// The memory of a large reply.
    pub reserved: Option<ResultReservation>,
}

impl Completed {
    /// A call that has ended. A reply that exceeds the memory of waiting results is dropped.
    fn new(ticket: Ticket, outcome: Result<Reply, Unfinished>, memory: &ResultMemory) -> Self {
        let bytes = outcome.as_ref().map_or(0, Reply::buffered_bytes);
        match memory.reserve(bytes) {
            Ok(reserved) => Self { ticket, outcome, reserved },
            Err(()) => Self { ticket, outcome: Err(Unfinished::ResultMemory), reserved: None },
        }
    }
}

/// An event of a pending call.
#[allow(clippy::large_enum_variant, reason = "moved once, and a box would be an allocation for each call")]
pub enum CallEvent {
    /// A message of the call.
    Message(Ticket, CallMessage),
    /// The call has ended.
    Ended(Completed),
}

/// Queue of events of the pending calls of one shard.
pub struct Completions {
    /// Completions of tasks on this thread.
    local: RefCell<VecDeque<Completed>>,
    remote: RemoteCompletions,
    /// A completion that is held until the messages queued before it were taken, and the number of these.
    held: RefCell<Option<(Completed, usize)>>,
    /// The waker of the shard's task, while it sleeps.
    sleeper: RefCell<Option<Waker>>,
}

/// The part of the queue that other threads push to.
#[derive(Clone)]
pub struct RemoteCompletions {
    ends: Arc<ArrayQueue<Completed>>,
    messages: Arc<ArrayQueue<(Ticket, CallMessage)>>,
    memory: ResultMemory,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl RemoteCompletions {
    /// Queues the completion of a call. The queue has a place for each call in flight, so there is room.
    pub(super) fn push(&self, ticket: Ticket, outcome: Result<Reply, Unfinished>) {
        let pushed = self.ends.push(Completed::new(ticket, outcome, &self.memory));
        debug_assert!(pushed.is_ok(), "more completions than calls in flight");
        (self.wake)();
    }

    /// Reserves the memory of a reply that waits elsewhere.
    pub(super) fn reserve(&self, reply: &Reply) -> Result<Option<ResultReservation>, ()> {
        self.memory.reserve(reply.buffered_bytes())
    }

    /// Queues a message of a call. Returns `false` if there is no room.
    pub(super) fn send(&self, ticket: Ticket, message: CallMessage) -> bool {
        let is_queued = self.messages.push((ticket, message)).is_ok();
        (self.wake)();
        is_queued
    }
}

impl Completions {
    /// A queue for at most `calls_max` calls in flight, `results_bytes_max` bytes of their results, and `notes_max` messages. `wake` is
    /// called after a push from another thread.
    #[must_use]
    pub fn new(
        calls_max: usize,
        results_bytes_max: usize,
        notes_max: usize,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Rc<Self> {
        Rc::new(Self {
            local: RefCell::new(VecDeque::new()),
            remote: RemoteCompletions {
                ends: Arc::new(ArrayQueue::new(calls_max.max(1))),
                messages: Arc::new(ArrayQueue::new(notes_max.max(1))),
                memory: ResultMemory::new(results_bytes_max),
                wake,
            },
            held: RefCell::new(None),
            sleeper: RefCell::new(None),
        })
    }

    pub(super) fn remote(&self) -> RemoteCompletions {
        self.remote.clone()
    }

    pub(super) fn push(&self, ticket: Ticket, outcome: Result<Reply, Unfinished>) {
        let completed = Completed::new(ticket, outcome, &self.remote.memory);
        self.local.borrow_mut().push_back(completed);
        if let Some(sleeper) = self.sleeper.borrow_mut().take() {
            sleeper.wake();
        }
    }

    /// Removes the next event. The messages of a call precede its completion.
    #[must_use]
    pub fn pop(&self) -> Option<CallEvent> {
        let event = |(ticket, message)| CallEvent::Message(ticket, message);
        if let Some((ended, left)) = self.held.take() {
            // Other calls may queue more messages meanwhile: only those that were queued before the completion are taken.
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
        // The call has queued all its messages before its completion.
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
            || !self.remote.ends.is_empty()
            || !self.remote.messages.is_empty()
            || self.held.borrow().is_some()
    }

    /// Whether an event is queued; if not, the task is woken when a task of this thread ends.
    pub fn is_ready(&self, context: &mut Context<'_>) -> bool {
        let is_ready = self.has_any();
        if !is_ready {
            *self.sleeper.borrow_mut() = Some(context.waker().clone());
        }
        is_ready
    }
}
