//! Runs tools: inline on the core, as a task beside the requests, on a thread of the blocking pool, or on tokio.
//!
//! Whatever a tool does, its panic ends here: it is a reply, not the end of a shard. A call that was started ends exactly
//! once, with a [`Completed`], also when it was cancelled.

mod cancel;
mod completions;
mod pool;
#[cfg(feature = "tokio")]
mod tokio_runtime;

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    task::{self, Poll},
};

use futures_lite::FutureExt;

pub use cancel::{Cancel, LocalCancel};
pub use completions::{Completed, Completions, RemoteCompletions, Ticket};
pub use pool::BlockingPool;
#[cfg(feature = "tokio")]
pub use tokio_runtime::TokioRuntime;

use crate::{
    json::Node,
    registry::{BlockingJob, Caller, Context, Handler, LocalReply, RemoteContext, Reply, ShardState},
};

/// Why a call gave no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The tool panicked.
    Panicked,
    /// It was cancelled.
    Cancelled,
}

/// What became of a call that was started.
pub enum Started {
    /// The reply is there.
    Done,
    /// The tool panicked.
    Panicked,
    /// The reply will come through the shard's [`Completions`], under this ticket.
    Pending(Ticket, Cancel),
    /// No room: no ticket was to be had, or the pool's queue is full and the ticket was not used.
    Busy {
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

/// One shard's way of running tools.
pub struct Runner {
    completions: Rc<Completions>,
    off_shard: OffShard,
    state: Option<ShardState>,
}

impl Runner {
    /// A runner for a shard with `state`.
    #[must_use]
    pub fn new(completions: Rc<Completions>, off_shard: OffShard, state: Option<ShardState>) -> Self {
        Self { completions, off_shard, state }
    }

    /// Where replies of pending calls arrive.
    #[must_use]
    pub fn completions(&self) -> &Rc<Completions> {
        &self.completions
    }

    /// Starts a tool. `reply` is empty and is filled when the call is [`Started::Done`]; `ticket` names the call if it
    /// is not done at once.
    pub fn start(
        &self,
        handler: &Handler,
        arguments: Node<'_>,
        caller: Caller,
        ticket: impl FnOnce() -> Option<Ticket>,
        reply: &mut Reply,
    ) -> Started {
        let context = || Context::new(caller, self.state.clone());
        let remote_context = || {
            let cancelled = Arc::new(AtomicBool::new(false));
            (RemoteContext::new(caller, Arc::clone(&cancelled)), cancelled)
        };
        // The handler itself, before its work begins, is the tool's code too.
        match handler {
            Handler::Inline(run) => match guarded(|| run(arguments, context(), reply)) {
                Ok(()) => Started::Done,
                Err(_) => Started::Panicked,
            },
            Handler::Async(run) => match guarded(|| run(arguments, context())) {
                Ok(work) => self.spawn(work, ticket()),
                Err(_) => Started::Panicked,
            },
            Handler::Blocking(run) => {
                let (context, cancelled) = remote_context();
                match guarded(|| run(arguments, context)) {
                    Ok(work) => self.submit(work, cancelled, ticket()),
                    Err(_) => Started::Panicked,
                }
            }
            #[cfg(feature = "tokio")]
            Handler::Tokio(run) => {
                let (context, cancelled) = remote_context();
                match guarded(|| run(arguments, context)) {
                    Ok(work) => match (&self.off_shard.tokio, ticket()) {
                        (Some(tokio), Some(ticket)) => {
                            let cancel = tokio.spawn(work, cancelled, ticket, self.completions.remote());
                            Started::Pending(ticket, cancel)
                        }
                        (_, unused) => Started::Busy { unused },
                    },
                    Err(_) => Started::Panicked,
                }
            }
        }
    }

    fn spawn(&self, work: LocalReply, ticket: Option<Ticket>) -> Started {
        let Some(ticket) = ticket else {
            return Started::Busy { unused: None };
        };
        let completions = Rc::clone(&self.completions);
        let cancel = Rc::new(LocalCancel::default());
        let cancelled = Rc::clone(&cancel);
        glommio::spawn_local(async move {
            let outcome = finish(work, cancelled.cancelled()).await;
            completions.push(Completed { ticket, outcome });
        })
        .detach();
        Started::Pending(ticket, Cancel::Task(cancel))
    }

    fn submit(&self, work: BlockingJob, cancelled: Arc<AtomicBool>, ticket: Option<Ticket>) -> Started {
        let (Some(pool), Some(ticket)) = (&self.off_shard.pool, ticket) else {
            return Started::Busy { unused: ticket };
        };
        match pool.submit(work, Arc::clone(&cancelled), ticket, self.completions.remote()) {
            Ok(()) => Started::Pending(ticket, Cancel::Job(cancelled)),
            Err(unused) => Started::Busy { unused: Some(unused) },
        }
    }
}

/// What a task's work comes to, unless it is cancelled before. Whichever is first; the other is dropped.
async fn finish(
    work: impl Future<Output = Reply> + Unpin,
    cancelled: impl Future<Output = ()>,
) -> Result<Reply, Unfinished> {
    let work = Guarded(Some(work));
    let finished = async { AssertUnwindSafe(work).catch_unwind().await.map_err(|_| Unfinished::Panicked) };
    let cancelled = async {
        cancelled.await;
        Err(Unfinished::Cancelled)
    };
    finished.or(cancelled).await
}

/// A tool's work, whose panic while it is dropped half done ends here too.
struct Guarded<W>(Option<W>);

impl<W: Future + Unpin> Future for Guarded<W> {
    type Output = W::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<W::Output> {
        match &mut self.0 {
            Some(work) => Pin::new(work).poll(context),
            None => Poll::Pending,
        }
    }
}

impl<W> Drop for Guarded<W> {
    fn drop(&mut self) {
        let work = self.0.take();
        // Nobody is told: the call has ended already.
        let _ = guarded(|| drop(work));
    }
}

fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Unfinished> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| Unfinished::Panicked)
}
