//! Cancellation of pending calls.

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

use super::completions::{Completions, Ticket, Unfinished};

/// Handle that cancels one call. A cancelled call still ends with one completion.
pub enum Cancel {
    /// A task on this thread; it is dropped at once.
    Task(Rc<LocalCancel>),
    /// A job on another thread; it polls the flag and stops cooperatively.
    Job(Arc<AtomicBool>),
    /// A call that has not started; it ends at once.
    Waiting(Rc<Completions>, Ticket),
    /// A task of the tokio runtime; it is dropped when it next awaits.
    #[cfg(feature = "tokio")]
    Tokio(Arc<AtomicBool>, Arc<tokio::sync::Notify>),
}

impl Cancel {
    /// Cancels the call. Idempotent.
    pub fn cancel(&self) {
        match self {
            Self::Task(cancel) => cancel.cancel(),
            Self::Job(cancelled) => cancelled.store(true, Ordering::Relaxed),
            Self::Waiting(completions, ticket) => {
                completions.push(*ticket, Err(Unfinished::Cancelled));
            }
            #[cfg(feature = "tokio")]
            Self::Tokio(cancelled, notify) => {
                cancelled.store(true, Ordering::Relaxed);
                notify.notify_one();
            }
        }
    }
}

/// Cancellation flag of a task on this thread.
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

    /// Completes when the call is cancelled.
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
