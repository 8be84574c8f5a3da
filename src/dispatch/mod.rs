//! Dispatches one message, independent of its transport: decode → route → validate → run → encode.
//!
//! [`Dispatcher::dispatch`] performs these steps. The router returns an [`Outcome`]; a [`Disposition`] is the next action of
//! the connection. An immediate reply is in the caller's buffer. A later reply and every other message to a client is a
//! [`Delivery`](crate::delivery::Delivery).

mod batch;
mod batch_rest;
pub(crate) mod call_events;
mod cohorts;
mod disposition;
mod entropy;
mod fallbacks;
mod handling;
pub(crate) mod in_flight;
mod orphans;
mod once;
mod pending;
mod remote;
mod results;
mod session_requests;
mod slots;
mod source;
mod stage_clock;
mod stages;
mod subscribe;
mod suspended;
mod turn_budget;
mod validation;
mod waiting;
mod waiting_calls;

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) use batch_rest::BatchRest;
pub(crate) use disposition::{BatchReplies, Disposition};
pub(crate) use source::{JsonLinesClient, ReplyStream, ReplyTo, Source};

use corelane_ring::SocketId;
use entropy::Entropy;
use handling::Handling;
use in_flight::InFlightCalls;
use pending::PendingCall;
use slots::{free_unused, insert_call, start_use};
use stage_clock::StageClock;
use suspended::StoredDocument;
use turn_budget::LONG_BYTES;
pub(crate) use turn_budget::{EventBudget, TurnBudget};

use crate::{
    call::{Callable, Caller, Kind, Reply, RequestContext, Revision},
    config::Limits,
    json::{Decoder, Digits, Node, OwnedDocument, Places},
    jsonrpc::{ErrorCode, Id, OwnedId, Rewritten, needs_text},
    mcp::{
        self, Affinity, Call, CallAnswers, ErrorKind, Handshake, InvalidArguments, Outcome, RouterContext,
        RpcMethod, Sessions,
    },
    memory::{MemoryBudget, MemoryPressure},
    mesh::{Broadcast, Request},
    peer::{NoRoom, PeerKey},
    policy::{Flag, Flags, ShardFlags},
    registry::Snapshot,
    runtime::{CallEvent, Completions, Runner, SlowPoll, Started, Ticket},
    session::{Clock, SessionState},
    signed_token::SigningKey,
    telemetry::{
        metrics::{ShardMetrics, Stage, ToolSeries},
        observer::{Observer, RequestFields},
        turn_status::TurnStatus,
    },
};

/// Configuration of a dispatcher.
pub(crate) struct DispatcherConfig {
    pub(crate) shard: usize,
    pub(crate) shards: usize,
    pub(crate) signing_key: SigningKey,
    pub(crate) broadcast: Broadcast,
    pub(crate) pressure: MemoryPressure,
    pub(crate) limits: Limits,
}

/// Dispatcher of one shard. The decoder is separate because a decoded document borrows it.
pub(crate) struct Dispatcher {
    pub(crate) shard: usize,
    pub(crate) snapshot: Rc<Snapshot>,
    pub(crate) calls: InFlightCalls,
    pub(crate) state: SessionState,
    pub(crate) observer: Observer,
    /// The buffers of the connections.
    pub(crate) memory: MemoryBudget<SocketId>,
    pub(crate) sessions: Sessions,
    /// Calls that were cancelled at a limit, to be answered with the error.
    cancelled: VecDeque<(Ticket, PendingCall, ErrorKind)>,
    runner: Runner,
    answers: CallAnswers,
    /// Length of the document that is dispatched, an upper bound of its strings; in a batch its part for each message.
    request_bytes: usize,
    /// The reply that inline handlers fill; its allocations are reused.
    reply: Reply,
    entropy: Entropy,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// The flags of the shard, and those of the message or call that is handled.
    shard_flags: ShardFlags,
    handling: Handling,
    /// The position of the message that is dispatched, in its batch.
    batch_position: Option<usize>,
    /// Calls that wait since the document that is dispatched, which they do not have yet.
    without_document: Vec<Ticket>,
    /// Work that is left for validations of the current batch.
    batch_work: u64,
    /// Text of the current document behind its first bracket, if it may be a batch.
    batch_text: Vec<u8>,
    /// The time left for requests in this turn.
    pub(crate) budget: TurnBudget,
    pub(crate) stages: StageClock,
}

/// The part of an HTTP body or a line that a message is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of it.
    Whole,
    /// A message of a batch, which is not suspended.
    InBatch,
}

/// Why the dispatch of a document is suspended.
enum Suspension {
    /// Nothing was done: the document contains a number that must be read as text first.
    NeedsText,
    /// The arguments of this call are validated off the shard.
    Validation(Ticket),
}

impl Dispatcher {
    /// A dispatcher that serves `snapshot`.
    pub(crate) fn new(config: DispatcherConfig, snapshot: Snapshot, runner: Runner) -> Self {
        let DispatcherConfig { shard, shards, signing_key, broadcast, pressure, limits } = config;
        let buffers = limits.buffers_bytes_max as u64;
        let now = Instant::now();
        let mut observer = Observer::new(shard, limits.log_lines_per_second_max, now);
        let names = snapshot.tools().iter().map(|tool| tool.callable().name());
        observer.metrics().set_tools(ToolSeries::new(names));
        let ttl = limits.session_ttl.as_secs();
        let mut sessions = Sessions::new(signing_key, shards, ttl, limits.session_notes_max)
            .of(broadcast.instance())
            .with_lives(broadcast.lives().clone());
        broadcast.restore(&mut sessions);
        Self {
            shard,
            snapshot: Rc::new(snapshot),
            calls: InFlightCalls::new(&limits, now),
            state: SessionState::new(u16::try_from(shard).unwrap_or(u16::MAX), &limits, broadcast.clone()),
            observer,
            memory: MemoryBudget::new(buffers, limits.peer_share_percent, pressure),
            sessions,
            cancelled: VecDeque::new(),
            runner,
            answers: CallAnswers::new(&limits),
            request_bytes: 0,
            reply: Reply::default(),
            entropy: Entropy::default(),
            clock: Clock { monotonic: now, wall: Duration::ZERO },
            limits,
            shard_flags: ShardFlags::for_all(Flags::default()),
            handling: Handling::with(Flags::default()),
            batch_position: None,
            without_document: Vec::new(),
            batch_work: 0,
            batch_text: Vec::new(),
            budget: TurnBudget::new(limits.turn_budget, now),
            stages: StageClock::new(limits.stage_sample_interval, now),
        }
    }

    /// Takes the records of sessions out of a shard that ends.
    pub(crate) fn take_sessions(&mut self) -> Sessions {
        let empty = Sessions::new(self.sessions.signing_key().clone(), 1, 0, 1);
        std::mem::replace(&mut self.sessions, empty)
    }

    /// Takes over the records of sessions and the counters of a shard of this number that has failed. `life`: how many of them
    /// have failed.
    pub(crate) fn succeed(&mut self, sessions: Sessions, metrics: ShardMetrics, life: u32) {
        self.sessions = sessions;
        let before = std::mem::replace(self.observer.metrics(), metrics);
        self.observer.metrics().set_tools(before.tools().clone());
        self.observer.metrics().event("shard_restarted");
        self.calls.set_life(life);
        self.state.table.set_life(life);
    }

    /// Publishes the calls of each turn, and the polls of tasks, there from now on.
    pub(crate) fn set_turn_status(&mut self, turn: Arc<TurnStatus>) {
        self.observer.set_turn_status(Arc::clone(&turn));
        self.runner.set_turn_status(turn);
    }

    /// Sets the time of the turn that begins.
    pub(crate) fn begin_turn(&mut self, now: Instant, wall: Duration) {
        for SlowPoll { name, took } in self.runner.take_slow_polls() {
            self.observer.slow_poll(name.as_deref(), took);
        }
        self.budget.begin_turn(now);
        self.observer.begin_turn(now);
        self.clock = Clock { monotonic: now, wall };
    }

    /// Dispatches a document: one message, or a batch. Appends the answer to `out` if it is ready. `padded` is the document in its
    /// first `length` bytes and the padding that [`Decoder::decode`] needs.
    #[inline]
    pub(crate) fn dispatch(
        &mut self,
        decoder: &mut Decoder,
        source: &mut Source<'_>,
        padded: &mut [u8],
        length: usize,
        out: &mut Vec<u8>,
    ) -> Disposition {
        // Where a flag has a cohort, it is off for all others.
        if self.handling.flags != Flags::ALL {
            return self.dispatch_with_fallbacks(decoder, source, (padded, length), out);
        }
        self.observer.metrics().flags.request(Flags::ALL);
        self.dispatch_document(decoder, source, (padded, length), Part::Whole, out)
    }

    /// Dispatches a document with the parser and from the buffer of the flags.
    #[inline(always)]
    fn dispatch_document(
        &mut self,
        decoder: &mut Decoder,
        source: &mut Source<'_>,
        (padded, length): (&mut [u8], usize),
        part: Part,
        out: &mut Vec<u8>,
    ) -> Disposition {
        self.request_bytes = length;
        if length >= LONG_BYTES {
            self.budget.check_next();
        }
        if padded.first() != Some(&b'{') {
            // Decoding changes the text.
            self.batch_text = batch_rest::elements(padded.get(..length).unwrap_or_default());
        }
        let document = match decoder.decode(&mut *padded, length) {
            Ok(document) => document,
            Err(rejected) => {
                return self.reject(mcp::write_decode_error(out, &rejected, self.limits.id_bytes_max));
            }
        };
        let dispatched = match self.dispatch_message(source, document.root(), part, out) {
            Ok(disposition) if self.without_document.is_empty() => return disposition,
            Err(Suspension::NeedsText) => {
                let rewritten = Rewritten::new(document.root());
                drop(document);
                let rewritten = rewritten.finish(padded.get(..length).unwrap_or_default());
                return self.dispatch_rewritten(decoder, source, rewritten, part, out);
            }
            dispatched => dispatched,
        };
        let (copy, places) = (OwnedDocument::copy_of(document.root()), Places::of(document.root()));
        drop(document);
        let digits = places.find(padded.get(..length).unwrap_or_default());
        self.store(dispatched, copy, digits, out)
    }

    /// As [`Self::dispatch_document`], with the text of every number.
    #[cold]
    fn dispatch_rewritten(
        &mut self,
        decoder: &mut Decoder,
        source: &mut Source<'_>,
        (mut padded, length, digits): (Vec<u8>, usize, Digits),
        part: Part,
        out: &mut Vec<u8>,
    ) -> Disposition {
        self.request_bytes = length;
        let document = match decoder.decode(&mut padded, length) {
            Ok(document) => document,
            Err(rejected) => {
                return self.reject(mcp::write_decode_error(out, &rejected, self.limits.id_bytes_max));
            }
        };
        let root = document.root();
        let installed = digits.clone().install(root);
        let dispatched = self.dispatch_message(source, root, part, out);
        drop(installed);
        match dispatched {
            Ok(disposition) if self.without_document.is_empty() => disposition,
            dispatched => self.store(dispatched, OwnedDocument::copy_of(root), digits, out),
        }
    }

    /// Stores a copy of a document in the calls that need it: one whose arguments are validated off the shard, or those that wait.
    #[cold]
    fn store(
        &mut self,
        dispatched: Result<Disposition, Suspension>,
        copy: OwnedDocument,
        digits: Digits,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let stored = StoredDocument { document: Arc::new(copy), digits };
        match dispatched {
            Ok(disposition) => {
                self.store_document(&stored);
                disposition
            }
            Err(Suspension::Validation(ticket)) => self.validate_off_shard(ticket, stored, out),
            // A rewritten document contains the text of every number.
            Err(Suspension::NeedsText) => Disposition::NoReply,
        }
    }

    /// Routes one message, validates and runs its call, and encodes the reply if it is ready. Dispatches each message of a batch.
    fn dispatch_message(
        &mut self,
        source: &mut Source<'_>,
        root: Node<'_>,
        part: Part,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Suspension> {
        self.stages.mark(Stage::Decode);
        let start = out.len();
        if part == Part::InBatch
            && let Some(rejected) = self.reject_in_batch(root, out)
        {
            return Ok(rejected);
        }
        let snapshot = Rc::clone(&self.snapshot);
        let Self { sessions, entropy, limits, .. } = self;
        let now = self.clock.wall.as_secs();
        if part != Part::InBatch
            && let Some(messages) = root.elements().filter(|messages| messages.len() > 0)
            && mcp::accepts_batches(sessions, now, source.transport())
        {
            return self.dispatch_batch(source, messages, out);
        }
        let mut entropy = || entropy.take();
        let mut context = RouterContext { snapshot: &snapshot, sessions, now, entropy: &mut entropy, limits };
        let mut outcome = mcp::route(&mut context, source.transport(), root, out);
        self.mark_routed(&outcome);
        let Outcome::Run(call) = &mut outcome else {
            // The message may be valid when its numbers are read as text.
            if matches!(outcome, Outcome::Rejected(..)) && needs_text(root) {
                out.truncate(start);
                return Err(Suspension::NeedsText);
            }
            return Ok(self.act(outcome, source, out));
        };
        self.observer.call_begins(call.callable);
        if let Some(once) = call.state.as_mut().and_then(|state| state.once.take())
            && let Some(disposition) = self.use_state(call, once, out)
        {
            return Ok(disposition);
        }
        if let Some(schema) = call.schema {
            let can_suspend = part == Part::Whole;
            let validated = match can_suspend && self.handling.flags.is_on(Flag::SchemaCache) {
                true => schema.validate_small(call.input, self.request_bytes, self.inline_work_max()),
                false => None,
            };
            let validation = match validated {
                Some(validation) => {
                    self.observer.metrics().flags.schema_cache_hits += 1;
                    validation
                }
                None => match self.validate_large(call, schema, source, can_suspend, out) {
                    Ok(validation) => validation,
                    Err(ended) => return ended,
                },
            };
            self.stages.mark(Stage::Validate);
            if let Some(invalid) = InvalidArguments::of(validation) {
                return self.reject_arguments(call, schema, invalid, source, can_suspend, out);
            }
        }
        self.run(call, source, out)
    }

    // Long: one value for each part of a call, and one arm for each result of starting it.
    /// Runs a call whose input is valid, and encodes its reply if it is ready.
    fn run(
        &mut self,
        call: &mut Call<'_>,
        source: &Source<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Disposition, Suspension> {
        if self.handling.flags != Flags::ALL
            && self.must_wait(call.callable.kind(), source.connection(), None)
        {
            return self.wait(call, source, out);
        }
        let Call { callable, input, id, meta, revision, capabilities, .. } = *call;
        let details = call.details.take();
        self.reply.clear();
        let received = self.observer.turn_began();
        let request = RequestContext {
            caller: Caller { revision, capabilities, shard: self.shard },
            target: callable.shared_name(),
            id,
            headers: source.headers(),
            meta,
            peer: source.peer(),
            received,
        };
        let (calls, handling) = (&mut self.calls, self.handling);
        let bytes = self.request_bytes;
        let memory = &self.memory;
        let insert = |id| match memory.is_high() && calls.has_calls_of(source.peer()) {
            true => Err(NoRoom::Full),
            false => insert_call(calls, call, source, (id, bytes), (received, handling), None),
        };
        let started = self.runner.start(callable, input, &request, details, insert, &mut self.reply);
        let error = match started {
            Started::Done(messages)
                if callable.output().is_some()
                    && !self.answers.validate_inline(callable, &mut self.reply)
                    && self.runner.has_pool() =>
            {
                return Ok(self.suspend_result(call, source, messages.unwrap_or_default(), out));
            }
            Started::Done(messages) => {
                self.stages.mark(Stage::Run);
                if callable.kind() == Kind::Tool {
                    self.observer.metrics().note_tool(callable.position());
                }
                let reply = &mut self.reply;
                let (status, failed) =
                    self.answers.result(out, &self.snapshot, callable, id, revision, reply);
                if failed.is_some() || reply.is_failed() {
                    self.observer.call_failed(callable, reply, failed, revision, (id, received));
                }
                self.observer.metrics().note(RpcMethod::from(callable.kind()) as usize);
                let sent = messages.filter(|messages| !messages.is_empty() && source.accepts_streaming());
                return Ok(match sent {
                    Some(messages) => Disposition::RepliedAfter(messages),
                    None => Disposition::Replied(status),
                });
            }
            Started::Pending(ticket, cancel, channel) => {
                start_use(calls, Some(ticket));
                calls.run(ticket, cancel, channel, received);
                self.mark_pending(ticket, Stage::RunPending);
                return Ok(Disposition::Pending(ticket));
            }
            Started::NeedsDigits { unused } => {
                free_unused(calls, unused);
                return Err(Suspension::NeedsText);
            }
            Started::Panicked { unused } => {
                start_use(calls, unused);
                free_unused(calls, unused);
                ErrorKind::ToolPanicked
            }
            Started::Busy { unused, reason } => {
                free_unused(calls, unused);
                reason.into()
            }
            Started::RequestCopyTooLarge => ErrorKind::RequestCopyTooLarge,
        };
        Ok(self.reject_call(callable, id, revision, error, out))
    }

    /// Encodes the error for a call without a reply.
    fn reject_call(
        &mut self,
        callable: &Callable,
        id: Id<'_>,
        revision: Revision,
        error: ErrorKind,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let request = RequestFields::of_call(callable, id, self.observer.turn_began());
        self.observer.call_rejected(error, callable, request, revision);
        self.observer.metrics().note(RpcMethod::from(callable.kind()) as usize);
        let status = self.answers.error(out, &self.snapshot, callable, id, revision, error);
        Disposition::Replied(status)
    }

    /// Carries out the outcome of a message that calls no handler.
    fn act(&mut self, outcome: Outcome<'_>, source: &mut Source<'_>, out: &mut Vec<u8>) -> Disposition {
        match outcome {
            Outcome::Reply(method) => self.replied(method),
            Outcome::Run(_) | Outcome::Accepted => Disposition::NoReply,
            error @ Outcome::Rejected(..) => self.reject(error),
            Outcome::Initialized(handshake) => self.initialized(handshake, source),
            Outcome::Listen(request) => self.listen(request, source, out),
            Outcome::SessionCommand(id, Affinity::Session(session), action) => {
                self.act_for_session(id, session, action, source, out)
            }
            Outcome::SessionCommand(id, _, action) => self.act_for_connection(id, action, source, out),
            Outcome::Answered(answer) => {
                self.client_answer(answer);
                Disposition::NoReply
            }
            Outcome::Cancelled(affinity, id) => {
                self.cancel(affinity, &id, source);
                Disposition::NoReply
            }
            Outcome::Task(id, request) => {
                let owner = request.key.shard;
                let method = request.action.method();
                let id = Some(id.to_owned());
                self.request_shard(owner, Request::Task(request), (id, method), source.reply_to(), out)
            }
        }
    }

    /// Stores the result of `initialize` on a newline-delimited connection. Over HTTP, opens a session.
    fn initialized(&mut self, handshake: Handshake, source: &mut Source<'_>) -> Disposition {
        self.observer.metrics().note(RpcMethod::Initialize as usize);
        match source {
            Source::JsonLines { client, .. } => {
                client.handshake = Some(handshake);
                self.subscribe_to_lists(client);
                Disposition::Replied(crate::http1::Status::Ok)
            }
            Source::Http { peer, .. } => {
                let Handshake { revision, capabilities, .. } = handshake;
                let (now, peer) = (self.clock.wall.as_secs(), PeerKey::new(*peer).bytes());
                let entropy = self.entropy.take();
                Disposition::SessionOpened(self.sessions.open(revision, capabilities, now, entropy, &peer))
            }
        }
    }

    fn replied(&mut self, method: RpcMethod) -> Disposition {
        self.observer.metrics().note(method as usize);
        Disposition::Replied(crate::http1::Status::Ok)
    }

    /// Counts and logs an error that was encoded, and the latency of its request.
    pub(crate) fn reject(&mut self, outcome: Outcome<'_>) -> Disposition {
        if let Outcome::Rejected(_, method, ..) = &outcome {
            self.observer.metrics().note(*method as usize);
        }
        let received = self.observer.turn_began();
        self.record_error(outcome, Some(received))
    }

    /// As [`Self::reject`], for a request whose latency is recorded by the caller.
    fn record_error(&mut self, outcome: Outcome<'_>, started: Option<Instant>) -> Disposition {
        let Outcome::Rejected(status, method, reason, message, id) = outcome else {
            return Disposition::NoReply;
        };
        let request = RequestFields {
            method: Some(method),
            id: id.as_ref().map(OwnedId::as_id),
            code: reason.code().map(ErrorCode::number),
            status: Some(status),
            started,
            ..RequestFields::default()
        };
        self.observer.rejected(reason.name(), request, Some(&message));
        Disposition::Replied(status)
    }

    /// The queue of events of calls that run on this shard.
    pub(crate) fn completions(&self) -> Rc<Completions> {
        Rc::clone(self.runner.completions())
    }

    /// Whether tasks of handlers may be alive on this thread's executor.
    pub(crate) fn may_have_tasks(&self) -> bool {
        self.runner.may_have_tasks()
    }

    /// Takes the next event of a call.
    pub(crate) fn next_event(&self) -> Option<CallEvent> {
        self.runner.completions().pop()
    }
}
