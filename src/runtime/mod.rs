//! Runs what is offered: inline on the core, as a task beside the requests, on a thread of the blocking pool, or on tokio.
//!
//! Whatever a handler does, its panic ends here: it is a reply, not the end of a shard. A call that was started ends exactly
//! once, with a [`Completed`], also when it was cancelled.

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

/// Why a call gave no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The tool panicked.
    Panicked,
    /// It was cancelled.
    Cancelled,
    /// It ends with a question, and starts again with the answer.
    InputRequired,
}

/// What became of a call that was started.
pub enum Started {
    /// The reply is there; and what was said before, if anything could be.
    Done(Option<Arc<Conversation>>),
    /// The handler panicked.
    Panicked {
        /// The ticket that was not used.
        unused: Option<Ticket>,
    },
    /// The reply will come through the shard's [`Completions`], under this ticket.
    Pending(Ticket, Cancel, Arc<Conversation>),
    /// No room: no ticket was to be had, or the pool's queue is full and the ticket was not used.
    Busy {
        /// The ticket that was not used.
        unused: Option<Ticket>,
    },
    /// The arguments could not be read without the digits of their numbers, so the handler has not run: the document is to be
    /// handled again with its [`Digits`](crate::json::Digits).
    NeedsDigits {
        /// The ticket that was not used.
        unused: Option<Ticket>,
    },
}

/// Where tools run that do not run on a shard.
#[derive(Clone, Default)]
pub struct OffShard {
    /// For blocking tools; without it they are answered "busy".
    pub pool: Option<BlockingPool>,
    /// For tools on tokio; without it they are answered "busy".
    #[cfg(feature = "tokio")]
    pub tokio: Option<TokioRuntime>,
}

/// One shard's way of running handlers.
pub struct Runner {
    completions: Rc<Completions>,
    off_shard: OffShard,
    side: Rc<ShardSide>,
    tasks: Cell<bool>,
}

/// What runs beside the requests, before it is started.
struct Beside {
    ticket: Ticket,
    conversation: Arc<Conversation>,
}

impl Runner {
    /// A runner for a shard with this side.
    #[must_use]
    pub fn new(completions: Rc<Completions>, off_shard: OffShard, side: ShardSide) -> Self {
        let tasks = Cell::new(side.state.is_some());
        Self { completions, off_shard, side: Rc::new(side), tasks }
    }

    /// Where replies of pending calls arrive.
    #[must_use]
    pub fn completions(&self) -> &Rc<Completions> {
        &self.completions
    }

    /// Whether tasks may run on this thread's executor: from the first async call on, or from the start where the shard has
    /// a state. A handler may have detached a task that outlives its call.
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

    /// Starts a call. `reply` is empty and is filled when the call is [`Started::Done`]; `ticket` names the call if it
    /// is not done at once.
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
        let outlet = self.completions.remote();
        let carrier = Box::new(move |note| outlet.say(ticket, note));
        let details = *details.unwrap_or_default();
        let becomes_task = details.task;
        let mut conversation = Conversation::carried(caller.revision, caller.capabilities, details, carrier);
        if let (Handler::Blocking(_), Some(pool)) = (handler, &self.off_shard.pool) {
            conversation = conversation.with_wait_gauge(pool.wait_gauge());
        }
        let conversation = Arc::new(conversation);
        if let Some(terms) = becomes_task {
            // What the handler would do first, done for it: it may ask at once, on a thread of its own.
            let _ = conversation.become_task(terms);
        }
        let beside = Beside { ticket, conversation: Arc::clone(&conversation) };
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
        // The handler itself, before its work begins, is the tool's code too.
        let started = match handler {
            Handler::Inline(_) => return Started::Busy { unused: Some(ticket) },
            Handler::Async(run) => {
                let context = Context::new(caller, Rc::clone(&self.side), Some(Arc::clone(&conversation)));
                prepared(|| run(input, context)).map(|work| self.spawn(work, beside))
            }
            Handler::Blocking(run) => {
                let (context, cancelled) = remote_context();
                prepared(|| run(input, context)).map(|work| self.submit_handler(work, cancelled, beside))
            }
            #[cfg(feature = "tokio")]
            Handler::Tokio(run) => {
                let (context, cancelled) = remote_context();
                prepared(|| run(input, context)).map(|work| match &self.off_shard.tokio {
                    Some(tokio) => {
                        let home = self.completions.remote();
                        let cancel = tokio.spawn(work, cancelled, &beside, home);
                        Started::Pending(ticket, cancel, beside.conversation)
                    }
                    None => Started::Busy { unused: Some(ticket) },
                })
            }
        };
        match started {
            Ok(started) => started,
            Err(Unprepared::NeedsDigits) => Started::NeedsDigits { unused: Some(ticket) },
            Err(Unprepared::Panicked) => Started::Panicked { unused: Some(ticket) },
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
        // A client of the 2026 era that names no level wants no log messages.
        let inline_call = (!caller.revision.is_modern()).then(|| self.side.inline_log.begin());
        let context = Context::inline(caller, Rc::clone(&self.side), conversation.clone(), inline_call);
        let done = guarded(|| run(input, context, reply));
        let logged = inline_call.and_then(|_| self.side.inline_log.end());
        match done {
            Ok(()) if reply.is_error() && take_retry_with_digits() => Started::NeedsDigits { unused: None },
            Ok(()) => Started::Done(conversation.or(logged)),
            Err(_) => Started::Panicked { unused: None },
        }
    }

    fn spawn(&self, work: LocalReply, beside: Beside) -> Started {
        self.tasks.set(true);
        let Beside { ticket, conversation } = beside;
        let completions = Rc::clone(&self.completions);
        let cancel = Rc::new(LocalCancel::default());
        let cancelled = Rc::clone(&cancel);
        let talk = Arc::clone(&conversation);
        glommio::spawn_local(async move {
            let outcome = finish(work, talk, cancelled.cancelled()).await;
            completions.push(Completed { ticket, outcome });
        })
        .detach();
        Started::Pending(ticket, Cancel::Task(cancel), conversation)
    }

    fn submit_handler(&self, work: BlockingJob, cancelled: Arc<AtomicBool>, beside: Beside) -> Started {
        let Beside { ticket, conversation } = beside;
        let Some(pool) = &self.off_shard.pool else {
            return Started::Busy { unused: Some(ticket) };
        };
        let talk = Arc::clone(&conversation);
        // A handler that has hit upon a question says something for the sake of form only.
        let work = Box::new(move || {
            let reply = work();
            if talk.has_unanswered() { Err(Unfinished::InputRequired) } else { Ok(reply) }
        });
        match pool.submit(work, Arc::clone(&cancelled), ticket, self.completions.remote()) {
            Ok(()) => Started::Pending(ticket, Cancel::Job(cancelled), conversation),
            Err(unused) => Started::Busy { unused: Some(unused) },
        }
    }
}

/// What a task's work comes to, unless it is cancelled before. Whichever is first; the other is dropped.
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

/// A handler's work: it ends where it has hit upon a question that nobody has answered yet; and its panic while it is dropped
/// half done ends here.
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
        // Nobody is told: the call has ended already.
        let _ = guarded(|| drop(work));
    }
}

/// Why there is no work of a handler.
enum Unprepared {
    Panicked,
    NeedsDigits,
}

/// What reads the arguments and makes work of them that has not begun.
fn prepared<W>(prepare: impl FnOnce() -> W) -> Result<W, Unprepared> {
    match guarded(prepare) {
        Ok(_) if take_retry_with_digits() => Err(Unprepared::NeedsDigits),
        Ok(work) => Ok(work),
        Err(_) => Err(Unprepared::Panicked),
    }
}

fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Unfinished> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| Unfinished::Panicked)
}
