//! Ending a call before it has ended by itself.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

/// Cancels one call. What follows is a completion all the same, so that a call ends exactly once.
pub enum Cancel {
    /// A task on this thread: dropped at once.
    Task(Rc<LocalCancel>),
    /// A job on another thread: asked to stop, for nothing can make it.
    Job(Arc<AtomicBool>),
    /// A task of the tokio runtime: dropped where it next waits.
    #[cfg(feature = "tokio")]
    Tokio(Arc<AtomicBool>, Arc<tokio::sync::Notify>),
}

impl Cancel {
    /// Cancels the call; more than once does no harm.
    pub fn cancel(&self) {
        match self {
            Self::Task(cancel) => cancel.cancel(),
            Self::Job(cancelled) => cancelled.store(true, Ordering::Relaxed),
            #[cfg(feature = "tokio")]
            Self::Tokio(cancelled, notify) => {
                cancelled.store(true, Ordering::Relaxed);
                notify.notify_one();
            }
        }
    }
}

/// The flag of a task on this thread.
#[derive(Default)]
pub struct LocalCancel {
    cancelled: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl LocalCancel {
    fn cancel(&self) {
        self.cancelled.set(true);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Resolves when the call is cancelled.
    pub(super) async fn cancelled(&self) {
        poll_fn(|context| {
            if self.cancelled.get() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
