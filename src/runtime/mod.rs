//! Runs handlers: inline on the shard, as a task of the shard's executor, on a thread of the blocking pool, or on tokio.
//!
//! A handler's panic is caught here and becomes an error reply. Every pending call ends with exactly one [`Completed`], also if
//! it is cancelled.

mod cancel;
mod completions;
mod local;
mod pool;
mod timers;
#[cfg(feature = "tokio")]
mod tokio_runtime;

use std::{
    cell::Cell,
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    task::{self, Poll},
};

use futures_lite::FutureExt;

pub use cancel::{Cancel, LocalCancel};
pub use completions::{CallEvent, Completed, Completions, RemoteCompletions, Ticket};
pub use local::{Elapsed, LocalTask, sleep, spawn_local, timeout};
pub use pool::{BlockingPool, PoolConfig, PoolLoad, PoolObserver};
pub(crate) use timers::{Tick, Timers, instant_after};
#[cfg(feature = "tokio")]
pub use tokio_runtime::TokioRuntime;

use crate::{
    json::{Node, take_retry_with_digits},
    registry::{
        BlockingJob, CallDetails, Caller, Context, Conversation, Handler, InlineHandler, LocalReply,
        RemoteContext, Reply, ShardSide,
    },
};

/// Why a call ended without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The handler panicked.
    Panicked,
    /// The call was cancelled.
    Cancelled,
    /// The call returned `input_required`; it starts again with the client's answer.
    InputRequired,
}

/// Result of starting a call.
pub enum Started {
    /// The reply is complete. Holds the notifications of the call, if it could send any.
    Done(Option<Arc<Conversation>>),
    /// The handler panicked.
    Panicked {
        /// The ticket that was not used.
        unused: Option<Ticket>,
    },
    /// The reply will arrive in the shard's [`Completions`] with this ticket.
    Pending(Ticket, Cancel, Arc<Conversation>),
    /// A limit is reached: there is no ticket, or the pool's queue is full and the ticket was not used.
    Busy {
        /// The ticket that was not used.
        unused: Option<Ticket>,
    },
    /// The handler has not run, because its arguments need the digits of their numbers. The caller handles the document again with
    /// its [`Digits`](crate::json::Digits).
    NeedsDigits {
        /// The ticket that was not used.
        unused: Option<Ticket>,
    },
}

/// Thread pools for handlers that do not run on a shard.
#[derive(Clone, Default)]
pub struct OffShard {
    /// Pool for blocking handlers; without it their calls are answered "busy".
    pub pool: Option<BlockingPool>,
    /// Runtime for handlers on tokio; without it their calls are answered "busy".
    #[cfg(feature = "tokio")]
    pub tokio: Option<TokioRuntime>,
}

/// Runner of one shard's calls.
pub struct Runner {
    completions: Rc<Completions>,
    off_shard: OffShard,
    side: Rc<ShardSide>,
    tasks: Cell<bool>,
}

/// Ticket and client channel of a call that does not run inline.
struct CallHandle {
    ticket: Ticket,
    conversation: Arc<Conversation>,
}

impl Runner {
    /// Creates the runner of a shard.
    #[must_use]
    pub fn new(completions: Rc<Completions>, off_shard: OffShard, side: ShardSide) -> Self {
        let tasks = Cell::new(side.state.is_some());
        Self { completions, off_shard, side: Rc::new(side), tasks }
    }

    /// The queue of replies of pending calls.
    #[must_use]
    pub fn completions(&self) -> &Rc<Completions> {
        &self.completions
    }

    /// Whether tasks may exist on this thread's executor: `true` after the first async call, and always if the shard has a state. A
    /// handler may have detached a task that outlives its call.
    #[must_use]
    pub fn may_have_tasks(&self) -> bool {
        self.tasks.get()
    }

    /// Whether there is a blocking pool.
    #[must_use]
    pub fn has_pool(&self) -> bool {
        self.off_shard.pool.is_some()
    }

    /// Runs work of the server's own on the blocking pool, under the ticket of a call, which gets an empty reply. `None`: there
    /// is no room in the queue, or no pool.
    pub fn submit(
        &self,
        ticket: Ticket,
        cancelled: Arc<AtomicBool>,
        work: impl FnOnce() + Send + 'static,
    ) -> Option<Cancel> {
        let work = Box::new(move || {
            work();
            Ok(Reply::default())
        });
        let home = self.completions.remote();
        self.off_shard.pool.as_ref()?.submit(work, Arc::clone(&cancelled), ticket, home).ok()?;
        Some(Cancel::Job(cancelled))
    }

    /// Starts a call. `reply` is empty and is filled if the result is [`Started::Done`]; `ticket` allocates a ticket for a call that
    /// does not run inline.
    pub fn start(
        &self,
        handler: &Handler,
        input: Node<'_>,
        caller: Caller,
        details: Option<Box<CallDetails>>,
        ticket: impl FnOnce() -> Option<Ticket>,
        reply: &mut Reply,
    ) -> Started {
        if let Handler::Inline(run) = handler {
            return self.run_inline(&**run, input, caller, details, reply);
        }
        let Some(ticket) = ticket() else { return Started::Busy { unused: None } };
        let sender = self.completions.remote();
        let carrier = Box::new(move |message| sender.push_message(ticket, message));
        let details = *details.unwrap_or_default();
        let becomes_task = details.task;
        let mut conversation = Conversation::carried(caller.revision, caller.capabilities, details, carrier);
        if let (Handler::Blocking(_), Some(pool)) = (handler, &self.off_shard.pool) {
            conversation = conversation.with_wait_gauge(pool.wait_gauge());
        }
        let conversation = Arc::new(conversation);
        if let Some(terms) = becomes_task {
            // Before the handler starts, because on another thread it may send a client request at once.
            let _ = conversation.become_task(terms);
        }
        let call = CallHandle { ticket, conversation: Arc::clone(&conversation) };
        let remote_context = || {
            let cancelled = Arc::new(AtomicBool::new(false));
            let publisher = self.side.publisher.clone();
            let context = RemoteContext::new(
                caller,
                Arc::clone(&cancelled),
                publisher,
                Some(Arc::clone(&conversation)),
            );
            (context, cancelled)
        };
        // Creating the work runs code of the handler, which may panic.
        let started = match handler {
            Handler::Inline(_) => return Started::Busy { unused: Some(ticket) },
            Handler::Async(run) => {
                let context = Context::new(caller, Rc::clone(&self.side), Some(Arc::clone(&conversation)));
                prepare_work(|| run(input, context)).map(|work| self.spawn(work, call))
            }
            Handler::Blocking(run) => {
                let (context, cancelled) = remote_context();
                prepare_work(|| run(input, context)).map(|work| self.submit_handler(work, cancelled, call))
            }
            #[cfg(feature = "tokio")]
            Handler::Tokio(run) => {
                let (context, cancelled) = remote_context();
                prepare_work(|| run(input, context)).map(|work| match &self.off_shard.tokio {
                    Some(tokio) => {
                        let completions = self.completions.remote();
                        let cancel = tokio.spawn(work, cancelled, &call, completions);
                        Started::Pending(ticket, cancel, call.conversation)
                    }
                    None => Started::Busy { unused: Some(ticket) },
                })
            }
        };
        match started {
            Ok(started) => started,
            Err(PrepareError::NeedsDigits) => Started::NeedsDigits { unused: Some(ticket) },
            Err(PrepareError::Panicked) => Started::Panicked { unused: Some(ticket) },
        }
    }

    #[inline]
    fn run_inline(
        &self,
        run: &InlineHandler,
        input: Node<'_>,
        caller: Caller,
        details: Option<Box<CallDetails>>,
        reply: &mut Reply,
    ) -> Started {
        let conversation = details
            .map(|details| Arc::new(Conversation::held(caller.revision, caller.capabilities, *details)));
        // A client of 2026-07-28 that names no level gets no log messages.
        let inline_call = (!caller.revision.is_modern()).then(|| self.side.inline_log.begin());
        let context = Context::inline(caller, Rc::clone(&self.side), conversation.clone(), inline_call);
        let done = catch_panic(|| run(input, context, reply));
        let logged = inline_call.and_then(|_| self.side.inline_log.end());
        match done {
            Ok(()) if reply.is_error() && take_retry_with_digits() => Started::NeedsDigits { unused: None },
            Ok(()) => Started::Done(conversation.or(logged)),
            Err(_) => Started::Panicked { unused: None },
        }
    }

    fn spawn(&self, work: LocalReply, call: CallHandle) -> Started {
        self.tasks.set(true);
        let CallHandle { ticket, conversation } = call;
        let completions = Rc::clone(&self.completions);
        let cancel = Rc::new(LocalCancel::default());
        let cancelled = Rc::clone(&cancel);
        let channel = Arc::clone(&conversation);
        glommio::spawn_local(async move {
            let outcome = finish(work, channel, cancelled.cancelled()).await;
            completions.push(Completed { ticket, outcome });
        })
        .detach();
        Started::Pending(ticket, Cancel::Task(cancel), conversation)
    }

    fn submit_handler(&self, work: BlockingJob, cancelled: Arc<AtomicBool>, call: CallHandle) -> Started {
        let CallHandle { ticket, conversation } = call;
        let Some(pool) = &self.off_shard.pool else {
            return Started::Busy { unused: Some(ticket) };
        };
        let channel = Arc::clone(&conversation);
        // The reply of a handler with an unanswered client request is a placeholder.
        let work = Box::new(move || {
            let reply = work();
            if channel.has_unanswered() { Err(Unfinished::InputRequired) } else { Ok(reply) }
        });
        match pool.submit(work, Arc::clone(&cancelled), ticket, self.completions.remote()) {
            Ok(()) => Started::Pending(ticket, Cancel::Job(cancelled), conversation),
            Err(unused) => Started::Busy { unused: Some(unused) },
        }
    }
}

/// Runs a task's work until it ends or is cancelled, and drops the other future.
async fn finish(
    work: impl Future<Output = Reply> + Unpin,
    conversation: Arc<Conversation>,
    cancelled: impl Future<Output = ()>,
) -> Result<Reply, Unfinished> {
    let work = Guarded { work: Some(work), conversation };
    let finished = async { AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(Unfinished::Panicked)) };
    let cancelled = async {
        cancelled.await;
        Err(Unfinished::Cancelled)
    };
    finished.or(cancelled).await
}

/// A handler's work. Ends when the handler waits for a client request that has no answer. Catches panics of dropping unfinished
/// work.
struct Guarded<W> {
    work: Option<W>,
    conversation: Arc<Conversation>,
}

impl<W: Future<Output = Reply> + Unpin> Future for Guarded<W> {
    type Output = Result<Reply, Unfinished>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        match Pin::new(work).poll(context) {
            Poll::Ready(reply) => Poll::Ready(Ok(reply)),
            Poll::Pending if self.conversation.has_unanswered() => {
                Poll::Ready(Err(Unfinished::InputRequired))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<W> Drop for Guarded<W> {
    fn drop(&mut self) {
        let work = self.work.take();
        // The call has already ended, so the panic is not reported.
        let _ = catch_panic(|| drop(work));
    }
}

/// Why a handler's work was not created.
enum PrepareError {
    Panicked,
    NeedsDigits,
}

/// Calls `prepare`, which reads the arguments and creates the handler's work.
fn prepare_work<W>(prepare: impl FnOnce() -> W) -> Result<W, PrepareError> {
    match catch_panic(prepare) {
        Ok(_) if take_retry_with_digits() => Err(PrepareError::NeedsDigits),
        Ok(work) => Ok(work),
        Err(_) => Err(PrepareError::Panicked),
    }
}

/// Calls `run` and catches its panic.
fn catch_panic<T>(run: impl FnOnce() -> T) -> Result<T, Unfinished> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| Unfinished::Panicked)
}
