//! Where replies of pending calls come back to their shard.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use crossbeam_queue::ArrayQueue;

use super::Unfinished;
use crate::registry::Reply;

/// Names a pending call of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub u32);

/// A pending call that has ended.
pub struct Completed {
    /// Which call.
    pub ticket: Ticket,
    /// What the tool said.
    pub outcome: Result<Reply, Unfinished>,
}

/// One shard's inbox of ended calls.
pub struct Completions {
    /// From tasks on this thread.
    local: RefCell<VecDeque<Completed>>,
    remote: RemoteCompletions,
    /// The shard's task, when it sleeps.
    sleeper: RefCell<Option<Waker>>,
}

/// The part of it that other threads see.
#[derive(Clone)]
pub struct RemoteCompletions {
    queue: Arc<ArrayQueue<Completed>>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl RemoteCompletions {
    /// Hands an ended call to its shard. The queue holds as many as a shard may have in flight, so it has room.
    pub(super) fn push(&self, completed: Completed) {
        let refused = self.queue.push(completed);
        debug_assert!(refused.is_ok(), "more completions than calls in flight");
        (self.wake)();
    }
}

impl Completions {
    /// An inbox for at most `capacity` calls in flight. `wake` is called from other threads, after a push.
    #[must_use]
    pub fn new(capacity: usize, wake: Arc<dyn Fn() + Send + Sync>) -> Rc<Self> {
        Rc::new(Self {
            local: RefCell::new(VecDeque::new()),
            remote: RemoteCompletions { queue: Arc::new(ArrayQueue::new(capacity.max(1))), wake },
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

    /// The next ended call.
    #[must_use]
    pub fn pop(&self) -> Option<Completed> {
        self.local.borrow_mut().pop_front().or_else(|| self.remote.queue.pop())
    }

    /// Whether a call has ended; if not, the task is woken when one does on this thread.
    pub fn is_ready(&self, context: &mut Context<'_>) -> bool {
        if !self.local.borrow().is_empty() || !self.remote.queue.is_empty() {
            return true;
        }
        *self.sleeper.borrow_mut() = Some(context.waker().clone());
        false
    }
}
