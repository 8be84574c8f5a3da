//! Runs tools: inline on the core, as a task beside the requests, or on a thread of the blocking pool.
//!
//! Whatever a tool does, its panic ends here: it is a reply, not the end of a shard.

mod completions;
mod pool;

use std::{panic::AssertUnwindSafe, rc::Rc};

use futures_lite::FutureExt;

pub use completions::{Completed, Completions, RemoteCompletions, Ticket};
pub use pool::BlockingPool;

use crate::{
    json::Node,
    registry::{Context, Handler, Reply},
};

/// The tool panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolPanicked;

/// What became of a call that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The reply is there.
    Done,
    /// The tool panicked.
    Panicked,
    /// The reply will come through the shard's [`Completions`], under this ticket.
    Pending(Ticket),
    /// No room: no ticket was to be had, or the pool's queue is full and the ticket was not used.
    Busy {
        /// The ticket that was not used.
        unused: Option<Ticket>,
    },
}

/// One shard's way of running tools.
pub struct Runner {
    completions: Rc<Completions>,
    pool: Option<BlockingPool>,
    context_shard: usize,
}

impl Runner {
    /// A runner for shard `shard`. Without a pool, blocking tools are answered "busy".
    #[must_use]
    pub fn new(shard: usize, completions: Rc<Completions>, pool: Option<BlockingPool>) -> Self {
        Self { completions, pool, context_shard: shard }
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
        mut context: Context,
        ticket: impl FnOnce() -> Option<Ticket>,
        reply: &mut Reply,
    ) -> Started {
        context.shard = self.context_shard;
        match handler {
            Handler::Inline(run) => match guarded(|| run(arguments, context, reply)) {
                Ok(()) => Started::Done,
                Err(ToolPanicked) => Started::Panicked,
            },
            Handler::Async(run) => {
                // The handler itself, before its future is polled, is the tool's code too.
                let Ok(work) = guarded(|| run(arguments, context)) else {
                    return Started::Panicked;
                };
                let Some(ticket) = ticket() else {
                    return Started::Busy { unused: None };
                };
                let completions = Rc::clone(&self.completions);
                glommio::spawn_local(async move {
                    let outcome = AssertUnwindSafe(work).catch_unwind().await.map_err(|_| ToolPanicked);
                    completions.push(Completed { ticket, outcome });
                })
                .detach();
                Started::Pending(ticket)
            }
            Handler::Blocking(run) => {
                let Some(pool) = &self.pool else {
                    return Started::Busy { unused: None };
                };
                let Ok(work) = guarded(|| run(arguments, context)) else {
                    return Started::Panicked;
                };
                let Some(ticket) = ticket() else {
                    return Started::Busy { unused: None };
                };
                match pool.submit(work, ticket, self.completions.remote()) {
                    Ok(()) => Started::Pending(ticket),
                    Err(unused) => Started::Busy { unused: Some(unused) },
                }
            }
        }
    }
}

fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, ToolPanicked> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| ToolPanicked)
}
