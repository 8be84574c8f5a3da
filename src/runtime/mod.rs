//! Runs handlers: inline, as a task of the shard's executor, on the blocking pool, or on tokio.
//!
//! A handler's panic is caught here and becomes an error reply. Each call that is [`Started::Pending`] ends exactly once, with a
//! [`Completed`], also when it was cancelled.

mod cancel;
mod completions;
mod fair_queue;
#[cfg(feature = "faults")]
mod faults;
mod local;
mod polls;
mod pool;
mod result_memory;
mod timers;
#[cfg(feature = "tokio")]
mod tokio_runtime;

use std::{
    cell::{Cell, OnceCell},
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    task::{self, Poll},
    time::Duration,
};

use futures_lite::FutureExt;

pub use cancel::{Cancel, LocalCancel};
use completions::catch_panic;
pub use completions::{CallEvent, Completed, Completions, RemoteCompletions, Ticket, Unfinished};
pub use local::{Elapsed, LocalTask, sleep, spawn_local, timeout};
pub(crate) use polls::SlowPoll;
use polls::{PollObserver, TaskOf};
use pool::Recipient;
pub use pool::{BlockingPool, PoolConfig, PoolLoad, PoolObserver};
pub(crate) use timers::{Tick, Timers, instant_after};
#[cfg(feature = "tokio")]
pub use tokio_runtime::TokioRuntime;

use crate::{
    call::{
        BlockingJob, CallDetails, CallMessage, Callable, Caller, ClientChannel, Context, Handler,
        InlineContext, LocalReply, OutputValidator, OwnedRequest, RemoteContext, Reply, RequestContext,
        ShardContext,
    },
    config::Limits,
    json::{Node, take_retry_with_digits},
    jsonrpc::OwnedId,
    peer::{NoRoom, PeerKey},
    policy::Flags,
    schema::Validator,
    telemetry::turn_status::TurnStatus,
};

/// The result of starting a call.
pub enum Started {
    /// The reply is complete. The messages go to the client before it.
    Done(Option<Vec<CallMessage>>),
    /// The handler panicked.
    Panicked {
        /// The ticket that was not used.
        unused: Option<Ticket>,
    },
    /// The reply will come through the shard's [`Completions`], under this ticket.
    Pending(Ticket, Cancel, Arc<ClientChannel>),
    /// The parts of its request that the call reads exceed [`REQUEST_COPY_BYTES_MAX`](crate::call::REQUEST_COPY_BYTES_MAX).
    RequestCopyTooLarge,
    /// The maximum number of calls is in flight, or the pool's queue is full.
    Busy {
        /// The ticket that was not used.
        unused: Option<Ticket>,
        /// The reason.
        reason: NoRoom,
    },
    /// The arguments could not be read without the digits of their numbers, so the handler has not run: the document is to be
    /// handled again with its [`Digits`](crate::json::Digits).
    NeedsDigits {
        /// The ticket that was not used.
        unused: Option<Ticket>,
    },
}

/// The threads of handlers that do not run on a shard.
#[derive(Clone, Default)]
pub struct WorkerPools {
    /// For blocking handlers; without it their calls are rejected as busy.
    pub pool: Option<BlockingPool>,
    /// For handlers on tokio; without it their calls are rejected as busy.
    #[cfg(feature = "tokio")]
    pub tokio: Option<TokioRuntime>,
}

/// Starts the calls of one shard.
pub struct Runner {
    completions: Rc<Completions>,
    pools: WorkerPools,
    shard: Rc<ShardContext>,
    /// For the validation of results on the pool.
    limits: Arc<Limits>,
    flags: Cell<Flags>,
    tasks: Cell<bool>,
    /// Observes the tasks; `None` until the shard publishes its turns.
    polls: Option<Rc<PollObserver>>,
}

/// A pending call before it is started.
struct CallHandle {
    ticket: Ticket,
    channel: Arc<ClientChannel>,
}

impl Runner {
    /// A runner of handlers of one shard.
    #[must_use]
    pub fn new(
        completions: Rc<Completions>,
        pools: WorkerPools,
        shard: ShardContext,
        limits: &Limits,
    ) -> Self {
        let tasks = Cell::new(shard.state.is_some());
        Self {
            completions,
            pools,
            shard: Rc::new(shard),
            limits: Arc::new(*limits),
            flags: Cell::default(),
            tasks,
            polls: None,
        }
    }

    /// Validates results with these flags from the next call on.
    pub(crate) fn set_flags(&self, flags: Flags) {
        self.flags.set(flags);
    }

    /// Publishes the polls of tasks there from now on. Called on the thread of the shard.
    pub(crate) fn set_turn_status(&mut self, turn: Arc<TurnStatus>) {
        self.polls = Some(PollObserver::install(turn, self.limits.turn_slow));
    }

    /// Takes the time of all polls of tasks since the last call.
    #[inline]
    pub(crate) fn take_polled(&self) -> Duration {
        self.polls.as_ref().map_or(Duration::ZERO, |polls| polls.take_polled())
    }

    /// Takes the polls that took longer than `turn_slow`.
    #[inline]
    pub(crate) fn take_slow_polls(&self) -> Vec<SlowPoll> {
        match &self.polls {
            Some(polls) if polls.has_any() => polls.take(),
            _ => Vec::new(),
        }
    }

    /// The queue of events of pending calls.
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
        self.pools.pool.is_some()
    }

    /// Runs internal work for a peer on the blocking pool, under the ticket of a call, which receives the reply.
    ///
    /// # Errors
    /// The queue is full, the peer uses its share of it, or there is no pool.
    pub(crate) fn submit(
        &self,
        ticket: Ticket,
        peer: PeerKey,
        work: impl FnOnce() -> Reply + Send + 'static,
    ) -> Result<Cancel, NoRoom> {
        let work = Box::new(move || Ok(work()));
        let pool = self.pools.pool.as_ref().ok_or(NoRoom::Full)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let completions = self.completions.remote();
        let recipient = Recipient { cancelled: Arc::clone(&cancelled), ticket, completions };
        pool.submit(peer, work, recipient)?;
        Ok(Cancel::Job(cancelled))
    }

    /// Validates the reply of a call on the blocking pool, under the ticket of the call, which receives it again with the result. The
    /// handler has run, so the validation waits however long the queue is.
    ///
    /// # Errors
    /// The memory of results that wait is used up.
    pub(crate) fn submit_validation(
        &self,
        ticket: Ticket,
        peer: PeerKey,
        output: Validator,
        mut reply: Reply,
    ) -> Result<Cancel, Unfinished> {
        let (limits, flags) = (Arc::clone(&self.limits), self.flags.get());
        let completions = self.completions.remote();
        let reserved = completions.reserve(&reply).map_err(|()| Unfinished::ResultMemory)?;
        let work = Box::new(move || {
            let _reserved = reserved;
            OutputValidator::new(&limits).with(flags).validate(&output, &mut reply);
            Ok(reply)
        });
        let pool = self.pools.pool.as_ref().ok_or(Unfinished::Cancelled)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let recipient = Recipient { cancelled: Arc::clone(&cancelled), ticket, completions };
        pool.submit_admitted(peer, work, recipient);
        Ok(Cancel::Job(cancelled))
    }

    /// The cancellation of a call that has not started.
    pub(crate) fn cancel_waiting(&self, ticket: Ticket) -> Cancel {
        Cancel::Waiting(Rc::clone(&self.completions), ticket)
    }

    /// Starts a call. `reply` is empty and is filled when the call is [`Started::Done`]. `file` allocates
    /// the slot of a pending call with its id, unless there is no room.
    pub fn start(
        &self,
        callable: &Callable,
        input: Node<'_>,
        request: &RequestContext<'_>,
        details: Option<Box<CallDetails>>,
        file: impl FnOnce(OwnedId) -> Result<Ticket, NoRoom>,
        reply: &mut Reply,
    ) -> Started {
        let handler = callable.handler();
        let Handler::Inline(run) = handler else {
            return self.start_pending(callable, input, request, details, file);
        };
        let Caller { revision, capabilities, .. } = request.caller;
        let channel = OnceCell::new();
        if let Some(details) = details {
            let _ = channel.set(Box::new(ClientChannel::buffered(revision, capabilities, *details)));
        }
        let context = InlineContext::new(request, &self.shard, &channel);
        match catch_unwind(AssertUnwindSafe(|| run(input, context, reply))) {
            Ok(()) if reply.is_error() && take_retry_with_digits() => Started::NeedsDigits { unused: None },
            Ok(()) => Started::Done(channel.get().map(|channel| channel.take_buffered())),
            Err(_) => Started::Panicked { unused: None },
        }
    }

    /// Starts a call whose handler does not run inline.
    fn start_pending(
        &self,
        callable: &Callable,
        input: Node<'_>,
        request: &RequestContext<'_>,
        details: Option<Box<CallDetails>>,
        file: impl FnOnce(OwnedId) -> Result<Ticket, NoRoom>,
    ) -> Started {
        let handler = callable.handler();
        let peer = PeerKey::new(request.peer);
        let Ok(request) = request.to_owned(callable.reads()) else { return Started::RequestCopyTooLarge };
        let ticket = match file(request.id().clone()) {
            Ok(ticket) => ticket,
            Err(reason) => return Started::Busy { unused: None, reason },
        };
        let channel = self.open_channel(handler, &request, peer, details, ticket);
        let handle = CallHandle { ticket, channel: Arc::clone(&channel) };
        // The handler is code of the tool and may panic before its work begins.
        let started = match handler {
            Handler::Inline(_) => return Started::Busy { unused: Some(ticket), reason: NoRoom::Full },
            Handler::Async(run) => {
                let context = Context::new(request, Rc::clone(&self.shard), channel);
                prepare_work(|| run(input, context))
                    .map(|work| self.spawn(work, TaskOf::new(callable), handle))
            }
            Handler::Blocking(run) => {
                let (context, cancelled) = self.remote_context(request, channel);
                let submit = |work| self.submit_handler(work, callable.output(), peer, cancelled, handle);
                prepare_work(|| run(input, context)).map(submit)
            }
            #[cfg(feature = "tokio")]
            Handler::Tokio(run) => {
                let (context, cancelled) = self.remote_context(request, channel);
                prepare_work(|| run(input, context)).map(|work| match &self.pools.tokio {
                    Some(tokio) => {
                        let home = self.completions.remote();
                        let cancel = tokio.spawn(work, cancelled, &handle, home);
                        Started::Pending(ticket, cancel, handle.channel)
                    }
                    None => Started::Busy { unused: Some(ticket), reason: NoRoom::Full },
                })
            }
        };
        match started {
            Ok(started) => started,
            Err(Unprepared::NeedsDigits) => Started::NeedsDigits { unused: Some(ticket) },
            Err(Unprepared::Panicked) => Started::Panicked { unused: Some(ticket) },
        }
    }

    /// Creates the channel of a pending call.
    fn open_channel(
        &self,
        handler: &Handler,
        request: &OwnedRequest,
        peer: PeerKey,
        details: Option<Box<CallDetails>>,
        ticket: Ticket,
    ) -> Arc<ClientChannel> {
        let Caller { revision, capabilities, .. } = request.caller();
        let remote = self.completions.remote();
        let sender = Box::new(move |message| remote.send(ticket, message));
        let details = *details.unwrap_or_default();
        let becomes_task = details.task;
        let mut channel = ClientChannel::queued(revision, capabilities, details, sender);
        if let (Handler::Blocking(_), Some(pool)) = (handler, &self.pools.pool) {
            channel = channel.with_wait_gauge(pool.wait_gauge(peer));
        }
        if let Some(terms) = becomes_task {
            // Before the handler begins, because it may immediately send a request to the client from another thread.
            let _ = channel.become_task(terms);
        }
        Arc::new(channel)
    }

    fn remote_context(
        &self,
        request: OwnedRequest,
        channel: Arc<ClientChannel>,
    ) -> (RemoteContext, Arc<AtomicBool>) {
        let cancelled = Arc::new(AtomicBool::new(false));
        let publisher = self.shard.publisher.clone();
        (RemoteContext::new(request, Arc::clone(&cancelled), publisher, channel), cancelled)
    }

    fn spawn(&self, work: LocalReply, task: TaskOf, handle: CallHandle) -> Started {
        self.tasks.set(true);
        let CallHandle { ticket, channel } = handle;
        let completions = Rc::clone(&self.completions);
        let cancel = Rc::new(LocalCancel::default());
        let cancelled = Rc::clone(&cancel);
        let waits = Arc::clone(&channel);
        let observer = self.polls.clone();
        #[cfg(feature = "faults")]
        let flags = self.flags.get();
        glommio::spawn_local(async move {
            #[cfg(feature = "faults")]
            faults::slow_down(flags).await;
            let mut ended = pin!(finish(work, waits, cancelled.cancelled()));
            let outcome = poll_fn(|context| {
                polls::observe(observer.as_deref(), Some(&task), || ended.as_mut().poll(context))
            });
            let outcome = outcome.await;
            completions.push(ticket, outcome);
        })
        .detach();
        Started::Pending(ticket, Cancel::Task(cancel), channel)
    }

    fn submit_handler(
        &self,
        work: BlockingJob,
        output: Option<&Validator>,
        peer: PeerKey,
        cancelled: Arc<AtomicBool>,
        handle: CallHandle,
    ) -> Started {
        let CallHandle { ticket, channel } = handle;
        let Some(pool) = &self.pools.pool else {
            return Started::Busy { unused: Some(ticket), reason: NoRoom::Full };
        };
        let waits = Arc::clone(&channel);
        let output = output.map(|output| (output.clone(), Arc::clone(&self.limits)));
        let flags = self.flags.get();
        // A handler that had to return for a request to the client has no result: its reply is dropped.
        let work = Box::new(move || {
            let mut reply = work();
            if waits.has_unanswered() {
                return Err(Unfinished::InputRequired);
            }
            if let Some((output, limits)) = output {
                OutputValidator::new(&limits).with(flags).validate(&output, &mut reply);
            }
            Ok(reply)
        });
        let completions = self.completions.remote();
        let recipient = Recipient { cancelled: Arc::clone(&cancelled), ticket, completions };
        match pool.submit(peer, work, recipient) {
            Ok(()) => Started::Pending(ticket, Cancel::Job(cancelled), channel),
            Err(reason) => Started::Busy { unused: Some(ticket), reason },
        }
    }
}

/// Drives a task's work until it ends or is cancelled, whichever is first; the other is dropped.
async fn finish(
    work: impl Future<Output = Reply> + Unpin,
    channel: Arc<ClientChannel>,
    cancelled: impl Future<Output = ()>,
) -> Result<Reply, Unfinished> {
    let work = Guarded { work: Some(work), channel };
    let finished = async { AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(Unfinished::Panicked)) };
    let cancelled = async {
        cancelled.await;
        Err(Unfinished::Cancelled)
    };
    finished.or(cancelled).await
}

/// A handler's work: ends when the handler waits for an answer that only a retried request can bring. A panic while unfinished
/// work is dropped is caught.
struct Guarded<W> {
    work: Option<W>,
    channel: Arc<ClientChannel>,
}

impl<W: Future<Output = Reply> + Unpin> Future for Guarded<W> {
    type Output = Result<Reply, Unfinished>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        match Pin::new(work).poll(context) {
            Poll::Ready(reply) => Poll::Ready(Ok(reply)),
            Poll::Pending if self.channel.has_unanswered() => Poll::Ready(Err(Unfinished::InputRequired)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<W> Drop for Guarded<W> {
    fn drop(&mut self) {
        let work = self.work.take();
        // A panic is ignored: the call has ended already.
        let _ = catch_panic(|| drop(work));
    }
}

/// Why a handler returned no work.
enum Unprepared {
    Panicked,
    NeedsDigits,
}

/// Calls a handler, which reads its arguments and returns its work.
fn prepare_work<W>(prepare: impl FnOnce() -> W) -> Result<W, Unprepared> {
    match catch_panic(prepare) {
        Ok(_) if take_retry_with_digits() => Err(Unprepared::NeedsDigits),
        Ok(work) => Ok(work),
        Err(_) => Err(Unprepared::Panicked),
    }
}
