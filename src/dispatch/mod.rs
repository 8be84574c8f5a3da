//! What becomes of a message, whatever it came by: it is answered, run, or passed on to whoever keeps what it is about.

pub(crate) mod call_events;
pub(crate) mod in_flight;

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use corelane_ring::SocketId;

use in_flight::{Calls, Elsewhere, Exchange, PendingCall, Recipient};

use crate::{
    config::Limits,
    http1::{RequestHead, Status},
    json::{Elements, Node, lacks_digits},
    jsonrpc::{Id, OwnedId, answerable_id, begin_result, finish_result, has_value_of, needs_text, write_id},
    mcp::{
        self, Call, CallAnswers, CallMethod, Handshake, Headers, Outcome, Refused, Session, SessionAction,
        Sessions, TaskRequest, Tie, Topic, Transport, Wanted, World,
    },
    mesh::{Answer, Broadcast, Message, Request, StreamId},
    registry::{Caller, Kind, Note, Reply, Revision, Snapshot},
    runtime::{CallEvent, Completions, Runner, Started, Ticket, instant_after},
    session::{Listener, ListenerKey, Moment, Plane},
    signed_token::Secret,
    telemetry::{metrics::ToolSeries, observer::Observer},
};

pub(crate) struct EngineConfig {
    pub(crate) shard: usize,
    pub(crate) shards: usize,
    pub(crate) secret: Secret,
    pub(crate) broadcast: Broadcast,
    pub(crate) limits: Limits,
}

pub(crate) struct Engine {
    pub(crate) shard: usize,
    pub(crate) snapshot: Rc<Snapshot>,
    pub(crate) calls: Calls,
    pub(crate) plane: Plane,
    pub(crate) observer: Observer,
    pub(crate) sessions: Sessions,
    /// Answers that are ready, for recipients that wait.
    pub(crate) told: VecDeque<(Ticket, Recipient, Status, Vec<u8>, CallMethod)>,
    /// Calls that were cancelled, and why.
    pub(crate) overdue: VecDeque<(Ticket, PendingCall, Refused)>,
    runner: Runner,
    pub(crate) answers: CallAnswers,
    /// The reply inline handlers write to, reused.
    reply: Reply,
    pub(crate) entropy: Entropy,
    pub(crate) moment: Moment,
    pub(crate) limits: Limits,
}

const TOO_MANY_SUBSCRIPTIONS: &str = "Too many subscriptions";

/// So much randomness is fetched at a time, in bytes.
const ENTROPY_BYTES: usize = 512;

/// Unguessable bytes, fetched in bulk.
pub(crate) struct Entropy {
    bytes: [u8; ENTROPY_BYTES],
    used: usize,
}

impl Entropy {
    pub(crate) fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > self.bytes.len() {
            // Without randomness nothing could be kept apart: better no session than one that can be guessed.
            if getrandom::fill(&mut self.bytes).is_err() {
                std::process::abort();
            }
            self.used = 0;
        }
        let mut taken = [0; N];
        let place = self.bytes.get(self.used..self.used + N).unwrap_or_default();
        taken.iter_mut().zip(place).for_each(|(to, from)| *to = *from);
        self.used += N;
        taken
    }
}

/// How a message came, and how its answer goes.
#[derive(Clone, Copy)]
pub(crate) enum Via<'a> {
    Http {
        socket: SocketId,
        exchange: Exchange<&'a [u8]>,
        head: (&'a RequestHead, &'a [u8]),
        in_batch: bool,
    },
    Line {
        socket: SocketId,
        /// It has as many calls in flight as it may, and is read for the answers they wait for.
        full: bool,
        /// Subscriptions of the 2026 era that it has open.
        listens: &'a [ListenerKey],
    },
}

impl Via<'_> {
    /// Whether anything can be said before an answer: to who reads streams of events, or lines. Not asked without need: the
    /// header is a list.
    fn hears(self) -> bool {
        match self {
            Self::Http { exchange, head: (head, bytes), .. } => {
                !exchange.http_1_0 && head.accepts_events(bytes)
            }
            Self::Line { .. } => true,
        }
    }

    /// Whether no further call may come this way.
    fn is_full(self) -> bool {
        matches!(self, Self::Line { full: true, .. })
    }

    /// The same, for one of several messages.
    pub(crate) fn in_batch(self) -> Self {
        match self {
            Self::Http { socket, exchange, head, .. } => {
                Self::Http { socket, exchange, head, in_batch: true }
            }
            line @ Self::Line { .. } => line,
        }
    }

    /// Who gets an answer that comes later.
    pub(crate) fn recipient(self) -> Recipient {
        match self {
            Self::Http { socket, exchange, in_batch, .. } => Recipient::Http {
                socket,
                exchange: exchange.to_owned(),
                accepts_events: self.hears(),
                streams: in_batch && self.hears(),
                stream: None,
                in_batch,
            },
            Self::Line { socket, .. } => Recipient::Line(socket),
        }
    }
}

/// A connection of lines.
pub(crate) struct Line {
    pub(crate) socket: SocketId,
    pub(crate) handshake: Option<Handshake>,
    /// What its legacy subscriptions hear by.
    pub(crate) listener: Option<ListenerKey>,
    /// Its subscriptions of the 2026 era.
    pub(crate) listens: Vec<ListenerKey>,
}

impl Line {
    /// Everything it hears by.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = ListenerKey> {
        self.listens.iter().copied().chain(self.listener)
    }
}

/// What was done about a message.
pub(crate) enum Performed {
    /// The answer is in the buffer; these notes come before it.
    Answered(Status, CallMethod, Vec<Note>),
    /// As `Answered`, to a handshake that opened a session.
    Opened(String),
    /// As `Answered`, to a handshake on a line.
    Agreed(Handshake),
    /// The answer comes later.
    Pending(Ticket),
    /// The answers to several messages.
    Batch(Parts),
    /// A stream is to begin with this.
    Listening(ListenerKey, Vec<u8>),
    /// The answer would be a stream, and the client reads none.
    NotAcceptable,
    /// Nothing was done: the text of an id's or a token's number must be known first.
    NeedsText,
    /// A stream that is kept elsewhere begins with these events, or is only these.
    Attached(StreamId, Vec<u8>, bool),
    /// For a connection of lines to do itself.
    Tied(OwnedId, SessionAction),
    /// No call has this id, but a subscription of the line may; there is no answer (checklist M-66).
    Unwanted(OwnedId),
    /// There is no answer.
    Silent,
}

/// Answers to a batch: those that are there, and how many are not.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) answers: Vec<Vec<u8>>,
    pub(crate) pending: u32,
    /// The client reads a stream of events.
    pub(crate) streams: bool,
    /// For a connection of lines to do itself.
    pub(crate) tied: Vec<(OwnedId, SessionAction)>,
}

impl Engine {
    pub(crate) fn new(config: EngineConfig, snapshot: Snapshot, runner: Runner) -> Self {
        let EngineConfig { shard, shards, secret, broadcast, limits } = config;
        let now = Instant::now();
        let mut observer = Observer::new(shard, limits.log_lines_per_second_max, now);
        let names = snapshot.tools().iter().map(|tool| tool.callable().name());
        observer.metrics().set_tools(ToolSeries::new(names));
        let ttl = limits.session_ttl.as_secs();
        Self {
            shard,
            snapshot: Rc::new(snapshot),
            calls: Calls::new(limits.calls_in_flight_max, now),
            plane: Plane::new(u16::try_from(shard).unwrap_or(u16::MAX), &limits, broadcast.clone()),
            observer,
            sessions: Sessions::new(secret, shards, ttl, limits.session_notes_max).of(broadcast.instance()),
            told: VecDeque::new(),
            overdue: VecDeque::new(),
            runner,
            answers: CallAnswers::new(&limits),
            reply: Reply::default(),
            entropy: Entropy { bytes: [0; ENTROPY_BYTES], used: ENTROPY_BYTES },
            moment: Moment { monotonic: now, wall: Duration::ZERO },
            limits,
        }
    }

    pub(crate) fn begin_turn(&mut self, now: Instant, wall: Duration) {
        self.observer.begin_turn(now);
        self.moment = Moment { monotonic: now, wall };
    }

    /// Where calls that have something to tell do it.
    pub(crate) fn completions(&self) -> Rc<Completions> {
        Rc::clone(self.runner.completions())
    }

    /// Whether tasks may run on this thread's executor besides the shard's own.
    pub(crate) fn may_have_tasks(&self) -> bool {
        self.runner.may_have_tasks()
    }

    /// What the next call has to tell.
    pub(crate) fn next_event(&self) -> Option<CallEvent> {
        self.runner.completions().pop()
    }

    pub(crate) fn takes_batches(&mut self, transport: Transport<'_>) -> bool {
        let snapshot = Rc::clone(&self.snapshot);
        self.with_world(&snapshot, |world| mcp::takes_batches(world, transport))
    }

    fn with_world<'a, T>(
        &mut self,
        snapshot: &'a Snapshot,
        use_it: impl FnOnce(&mut World<'a, '_>) -> T,
    ) -> T {
        let Self { sessions, entropy, moment, limits, .. } = self;
        let mut entropy = || entropy.take();
        let now = moment.wall.as_secs();
        use_it(&mut World { snapshot, sessions, now, entropy: &mut entropy, limits })
    }

    /// Answers one message, or starts what will.
    pub(crate) fn message(
        &mut self,
        transport: Transport<'_>,
        root: Node<'_>,
        via: Via<'_>,
        out: &mut Vec<u8>,
    ) -> Performed {
        let snapshot = Rc::clone(&self.snapshot);
        let start = out.len();
        let outcome = self.with_world(&snapshot, |world| mcp::route(world, transport, root, out));
        match outcome {
            Outcome::Run(call) => self.run(call, via, out),
            // Whatever its text is needed for cannot be read without.
            Outcome::Refused(..) if needs_text(root) => {
                out.truncate(start);
                Performed::NeedsText
            }
            refused @ Outcome::Refused(..) => self.refuse(refused),
            Outcome::RefusedCall(status, reason, callable) => {
                self.observer.call_refused(reason, callable);
                Performed::Answered(status, CallMethod::from(callable.kind()), Vec::new())
            }
            Outcome::Reply(method) => Performed::Answered(Status::Ok, method, Vec::new()),
            Outcome::Accepted => Performed::Silent,
            Outcome::Agreed(_, Some(session)) => Performed::Opened(session),
            Outcome::Agreed(handshake, None) => Performed::Agreed(handshake),
            Outcome::Listen(wanted) => self.listen(wanted, via, out),
            Outcome::Tied(id, Tie::Session(session), action) => self.tied(id, session, action, via, out),
            Outcome::Tied(id, _, action) => Performed::Tied(id.to_owned(), action),
            Outcome::Answered(answer) => {
                self.client_answer(answer);
                Performed::Silent
            }
            Outcome::Cancelled(tie, id) if self.cancel(tie, &id, via) => Performed::Silent,
            Outcome::Cancelled(_, id) => Performed::Unwanted(id),
            Outcome::Task(id, request) => {
                let keeper = request.key.shard;
                let method = request.action.method();
                let id = Some(id.to_owned());
                self.ask(keeper, Request::Task(request), (id, method), via.recipient(), out)
            }
        }
    }

    /// Does what a document asks for: one message, or several.
    #[inline(always)]
    pub(crate) fn messages(
        &mut self,
        transport: Transport<'_>,
        root: Node<'_>,
        via: Via<'_>,
        out: &mut Vec<u8>,
    ) -> Performed {
        match root.elements() {
            Some(messages) if messages.len() > 0 && self.takes_batches(transport) => {
                self.batch(transport, messages, via.in_batch(), out)
            }
            _ => self.message(transport, root, via, out),
        }
    }

    /// Answers several messages at once (checklist B-07, L-70).
    fn batch(
        &mut self,
        transport: Transport<'_>,
        messages: Elements<'_>,
        via: Via<'_>,
        out: &mut Vec<u8>,
    ) -> Performed {
        if messages.len() > self.limits.batch_messages_max {
            return self.refuse_plain(out, Refused::InvalidRequest, "Too many messages in a batch");
        }
        // None of them must have run when another one turns out to need it.
        if messages.clone().any(|message| needs_text(message) || lacks_digits(message)) {
            return Performed::NeedsText;
        }
        let mut parts = Parts { streams: via.hears(), ..Parts::default() };
        for message in messages {
            let start = out.len();
            if message.get("method").and_then(Node::as_str) == Some("initialize") {
                let id = answerable_id(message, self.limits.id_bytes_max);
                let told = "initialize must not be in a batch";
                let method = CallMethod::Initialize;
                let reason = Refused::InvalidRequest;
                self.refuse(mcp::write_refused(out, id, Revision::ASSUMED, method, reason, told));
            } else {
                match self.message(transport, message, via, out) {
                    Performed::Pending(_) => parts.pending += 1,
                    Performed::Tied(id, action) => parts.tied.push((id, action)),
                    Performed::NotAcceptable => {
                        self.refuse_plain(out, Refused::InvalidRequest, "Not in a batch");
                    }
                    Performed::Listening(listener, _) => {
                        self.plane.subscriptions.remove(listener);
                        self.refuse_plain(out, Refused::InvalidRequest, "Not in a batch");
                    }
                    _ => {}
                }
            }
            let answer = out.split_off(start);
            if !answer.is_empty() {
                parts.answers.push(answer);
            }
        }
        Performed::Batch(parts)
    }

    /// Counts a refusal that has been written, or anything else that is.
    pub(crate) fn refuse(&mut self, outcome: Outcome<'_>) -> Performed {
        match outcome {
            Outcome::Refused(status, method, reason, message) => {
                self.observer.refused(reason.name(), Some(&message));
                Performed::Answered(status, method, Vec::new())
            }
            _ => Performed::Silent,
        }
    }

    /// Refuses what is no method of the protocol.
    pub(crate) fn refuse_plain(
        &mut self,
        out: &mut Vec<u8>,
        reason: Refused,
        message: &'static str,
    ) -> Performed {
        self.refuse(mcp::write_refused(out, None, Revision::ASSUMED, CallMethod::Other, reason, message))
    }

    /// Whether there is a shard of this number: what a server of more shards kept is not known any more.
    pub(crate) fn has_shard(&self, shard: u16) -> bool {
        shard == self.plane.shard || usize::from(shard) < self.plane.broadcast.mailboxes().len()
    }

    /// The session that a request which is no message must name.
    pub(crate) fn session(&mut self, headers: Headers<'_>, out: &mut Vec<u8>) -> Result<Session, Performed> {
        let now = self.moment.wall.as_secs();
        let found = mcp::require_session(&mut self.sessions, now, headers, out);
        found.map_err(|(status, reason)| {
            self.observer.refused(reason.name(), None);
            Performed::Answered(status, CallMethod::Other, Vec::new())
        })
    }

    fn run(&mut self, call: Call<'_>, via: Via<'_>, out: &mut Vec<u8>) -> Performed {
        let Call { callable, input, id, revision, capabilities, tie, details, binding } = call;
        let method = CallMethod::from(callable.kind());
        self.reply.clear();
        let calls = &mut self.calls;
        let received = self.observer.turn_began();
        let file_call = || {
            if via.is_full() {
                return None;
            }
            calls.insert(PendingCall {
                recipient: via.recipient(),
                callable: Arc::clone(callable),
                id: id.to_owned(),
                revision,
                started: received,
                deadline: instant_after(received, callable.deadline()),
                session: tie.session().map(|session| session.key),
                binding,
                questions: Vec::new(),
                asked: 0,
            })
        };
        let caller = Caller { revision, capabilities, shard: self.shard };
        let reply = &mut self.reply;
        let started = self.runner.start(callable.handler(), input, caller, details, file_call, reply);
        let refused = match started {
            Started::Done(conversation) => {
                if callable.kind() == Kind::Tool {
                    self.observer.metrics().note_tool(callable.position());
                }
                let (status, told) = self.answers.result(out, &self.snapshot, callable, id, revision, reply);
                self.observer.answered(callable, reply, told);
                let heard = conversation.filter(|_| via.hears());
                let notes = heard.map(|conversation| conversation.take_held()).unwrap_or_default();
                return Performed::Answered(status, method, notes);
            }
            Started::Pending(ticket, cancel, conversation) => {
                calls.run(ticket, cancel, conversation, received);
                return Performed::Pending(ticket);
            }
            Started::NeedsDigits { unused } => {
                release(calls, unused);
                return Performed::NeedsText;
            }
            Started::Panicked { unused } => {
                release(calls, unused);
                Refused::ToolPanicked
            }
            Started::Busy { unused } => {
                release(calls, unused);
                Refused::Busy
            }
        };
        self.observer.call_refused(refused, callable);
        let status = mcp::write_call_refused(out, &self.snapshot, callable.kind(), id, revision, refused);
        Performed::Answered(status, method, Vec::new())
    }

    /// Opens a subscription (checklist M-60 to M-68).
    fn listen(&mut self, wanted: Wanted, via: Via<'_>, out: &mut Vec<u8>) -> Performed {
        let Wanted { id, topics, acknowledged } = wanted;
        if let Via::Http { exchange, head: (head, bytes), .. } = via
            && !exchange.http_1_0
            && !head.accepts_events(bytes)
        {
            return Performed::NotAcceptable;
        }
        // One connection has one stream; a line has many subscriptions, also ones without a topic.
        let listens = if let Via::Line { listens, .. } = via { listens } else { &[] };
        let named =
            |topics: usize, listener: &ListenerKey| topics + self.plane.subscriptions.named(*listener);
        let wanted = topics.iter().filter(|topic| !topic.is_list()).count();
        if listens.len() >= self.limits.subscriptions_per_connection_max
            || listens.iter().fold(wanted, named) > self.limits.subscription_topics_max
            || !self.plane.subscriptions.has_room(topics.len().max(1))
        {
            return self.refuse_subscription(id.as_id(), Revision::V2026_07_28, CallMethod::Listen, out);
        }
        let key = match via {
            Via::Http { socket, .. } => Listener::Stream(socket),
            Via::Line { socket, .. } => Listener::Line(socket),
        };
        let listener = self.plane.subscriptions.insert(key, Some(id_text(id.as_id())));
        for topic in topics {
            self.plane.subscriptions.subscribe(listener, topic);
        }
        Performed::Listening(listener, acknowledged)
    }

    fn refuse_subscription(
        &mut self,
        id: Id<'_>,
        revision: Revision,
        method: CallMethod,
        out: &mut Vec<u8>,
    ) -> Performed {
        let reason = Refused::TooManySubscriptions;
        self.refuse(mcp::write_refused(out, Some(id), revision, method, reason, TOO_MANY_SUBSCRIPTIONS))
    }

    fn tied(
        &mut self,
        id: Id<'_>,
        session: Session,
        action: SessionAction,
        via: Via<'_>,
        out: &mut Vec<u8>,
    ) -> Performed {
        let id = Some(id.to_owned());
        let method = action.method();
        match action {
            SessionAction::SetLevel(level) => {
                let request = Request::SetLevel(session.key, level);
                self.ask_all(request, (id, method), via.recipient(), out)
            }
            SessionAction::Subscribe(uri) => {
                let request = Request::Subscribe(session, uri);
                self.ask(session.home, request, (id, method), via.recipient(), out)
            }
            SessionAction::Unsubscribe(uri) => {
                let request = Request::Unsubscribe(session, uri);
                self.ask(session.home, request, (id, method), via.recipient(), out)
            }
        }
    }

    /// Has something done by the shard that keeps what it is about: at once, if that is this one. `about`: the request's id
    /// and its method.
    pub(crate) fn ask(
        &mut self,
        keeper: u16,
        request: Request,
        about: (Option<OwnedId>, CallMethod),
        recipient: Recipient,
        out: &mut Vec<u8>,
    ) -> Performed {
        let (id, method) = about;
        let started = self.observer.turn_began();
        let elsewhere = Elsewhere { recipient, id, method, started, left: 1 };
        // A task may be of a process that had more shards.
        let is_gone = matches!(request, Request::Task(_)) && !self.has_shard(keeper);
        if is_gone || keeper == self.plane.shard {
            let answer = if is_gone { Answer::Unknown } else { self.serve(&request, keeper) };
            return self.conclude(&elsewhere, answer, out);
        }
        let from = self.plane.shard;
        self.wait(elsewhere, out, |broadcast, ticket| {
            broadcast.post(keeper, Message::Ask { from, ticket, request })
        })
    }

    /// Has something done by every shard, and answers when all have.
    pub(crate) fn ask_all(
        &mut self,
        request: Request,
        about: (Option<OwnedId>, CallMethod),
        recipient: Recipient,
        out: &mut Vec<u8>,
    ) -> Performed {
        let (id, method) = about;
        let started = self.observer.turn_began();
        let from = self.plane.shard;
        let answer = self.serve(&request, from);
        let others = self.plane.broadcast.mailboxes().len().saturating_sub(1);
        let elsewhere = Elsewhere { recipient, id, method, started, left: others };
        if others == 0 {
            return self.conclude(&elsewhere, answer, out);
        }
        self.wait(elsewhere, out, |broadcast, ticket| {
            // Where one cannot be asked, others may have done it: asking again does no harm.
            (0..=u16::try_from(others).unwrap_or(u16::MAX))
                .filter(|shard| *shard != from)
                .all(|shard| broadcast.post(shard, Message::Ask { from, ticket, request: request.clone() }))
        })
    }

    /// Files a request that `ask` asks other shards about; `false`: it cannot.
    fn wait(
        &mut self,
        elsewhere: Elsewhere,
        out: &mut Vec<u8>,
        ask: impl FnOnce(&Broadcast, Ticket) -> bool,
    ) -> Performed {
        let (id, method) = (elsewhere.id.clone(), elsewhere.method);
        if let Some(ticket) = self.calls.wait(elsewhere, self.moment.monotonic) {
            if ask(&self.plane.broadcast, ticket) {
                return Performed::Pending(ticket);
            }
            self.calls.forget(ticket);
        }
        self.busy(id, method, out)
    }

    fn busy(&mut self, id: Option<OwnedId>, method: CallMethod, out: &mut Vec<u8>) -> Performed {
        let id = id.as_ref().map(OwnedId::as_id);
        let told = "Server busy";
        self.refuse(mcp::write_refused(out, id, Revision::ASSUMED, method, Refused::Busy, told))
    }

    /// Does what another shard, or this one, asks for.
    pub(crate) fn serve(&mut self, request: &Request, from: u16) -> Answer {
        let answer = self.plane.serve(request, from, &mut self.sessions, self.moment);
        if let (Request::Task(TaskRequest { key, action }), Answer::Task(_)) = (request, &answer) {
            self.task_action(*key, action);
        }
        answer
    }

    /// Writes what a request that was served elsewhere came to.
    pub(crate) fn conclude(&mut self, elsewhere: &Elsewhere, answer: Answer, out: &mut Vec<u8>) -> Performed {
        let id = elsewhere.id.as_ref().map(OwnedId::as_id);
        let method = elsewhere.method;
        let refused = |out: &mut Vec<u8>, reason, told| {
            mcp::write_refused(out, id, Revision::ASSUMED, method, reason, told)
        };
        match (answer, id) {
            (Answer::Done, Some(id)) => {
                begin_result(out, id);
                finish_result(out);
            }
            // A session has ended.
            (Answer::Done, None) => return Performed::Answered(Status::NoContent, method, Vec::new()),
            (Answer::Task(view), Some(id)) if method == CallMethod::TasksGet => {
                mcp::write_task(out, &self.snapshot, id, &view);
            }
            (Answer::Task(_), Some(id)) => mcp::write_task_acknowledged(out, &self.snapshot, id),
            (Answer::Unknown, Some(id)) => return self.refuse(mcp::write_unknown_task(out, id, method)),
            (Answer::Unknown | Answer::Task(_), None) => {
                return self.refuse(refused(out, Refused::UnknownStream, "Unknown Last-Event-ID"));
            }
            (Answer::Taken, _) => {
                return self.refuse(refused(
                    out,
                    Refused::StreamTaken,
                    "Conflict: the session has a stream already",
                ));
            }
            (Answer::Full, _) => {
                return self.refuse(refused(out, Refused::Busy, "Server busy"));
            }
            (Answer::TooMany, _) => {
                return self.refuse(refused(out, Refused::TooManySubscriptions, TOO_MANY_SUBSCRIPTIONS));
            }
            (Answer::Attached(stream, events, ended), _) => {
                return Performed::Attached(stream, events, ended);
            }
        }
        Performed::Answered(Status::Ok, method, Vec::new())
    }

    /// Finishes what came as a line: the answer, if there is one, becomes a line. How many answers will come later.
    pub(crate) fn settle_line(
        &mut self,
        performed: Performed,
        line: &mut Line,
        start: usize,
        out: &mut Vec<u8>,
    ) -> u32 {
        let mut pending = 0;
        match performed {
            Performed::Answered(_, method, notes) => {
                self.observer.metrics().note(method as usize);
                let answer = out.split_off(start);
                for note in notes {
                    if let Note::Message(message) = note {
                        out.extend_from_slice(&message);
                        out.push(b'\n');
                    }
                }
                out.extend_from_slice(&answer);
            }
            Performed::Agreed(handshake) => line.handshake = Some(handshake),
            Performed::Pending(_) => pending = 1,
            Performed::Batch(mut parts) => {
                pending = parts.pending;
                for (id, action) in parts.tied {
                    self.tied_to_line(&id, action, line, out);
                    parts.answers.push(out.split_off(start));
                }
                if !parts.answers.is_empty() {
                    out.push(b'[');
                    out.extend_from_slice(&parts.answers.join(b",".as_slice()));
                    out.push(b']');
                }
            }
            Performed::Listening(listener, acknowledged) => {
                out.extend_from_slice(&acknowledged);
                line.listens.push(listener);
            }
            Performed::Tied(id, action) => self.tied_to_line(&id, action, line, out),
            Performed::Unwanted(id) => {
                let subscriptions = &mut self.plane.subscriptions;
                line.listens.retain(|listener| {
                    let is_wanted =
                        !subscriptions.id(*listener).is_some_and(|other| has_value_of(id.as_id(), other));
                    if !is_wanted {
                        subscriptions.remove(*listener);
                    }
                    is_wanted
                });
            }
            Performed::Opened(_)
            | Performed::Attached(..)
            | Performed::NotAcceptable
            | Performed::NeedsText
            | Performed::Silent => {}
        }
        if out.len() > start {
            out.push(b'\n');
        }
        pending
    }

    /// Does for a connection of lines what a session asks for.
    fn tied_to_line(&mut self, id: &OwnedId, action: SessionAction, line: &mut Line, out: &mut Vec<u8>) {
        let method = action.method();
        let id = id.as_id();
        let subscriptions = &mut self.plane.subscriptions;
        match action {
            SessionAction::SetLevel(level) => {
                if let Some(handshake) = &mut line.handshake {
                    handshake.level = Some(level);
                }
            }
            SessionAction::Subscribe(uri) => {
                if !subscriptions.has_room(1) {
                    self.refuse_subscription(id, Revision::LATEST_LEGACY, method, out);
                    return;
                }
                let listener = self.line_listener(line);
                let (topic, topics_max) = (Topic::resource(&uri), self.limits.subscription_topics_max);
                if !self.plane.subscriptions.admits(listener, &topic, topics_max) {
                    self.refuse_subscription(id, Revision::LATEST_LEGACY, method, out);
                    return;
                }
                self.plane.subscriptions.subscribe(listener, topic);
            }
            SessionAction::Unsubscribe(uri) => {
                if let Some(listener) = line.listener {
                    subscriptions.unsubscribe(listener, &Topic::resource(&uri));
                }
            }
        }
        self.observer.metrics().note(method as usize);
        begin_result(out, id);
        finish_result(out);
    }

    /// What a legacy client of lines hears by; from its handshake on it hears of changed lists (checklist L-62).
    pub(crate) fn line_listener(&mut self, line: &mut Line) -> ListenerKey {
        let socket = line.socket;
        *line.listener.get_or_insert_with(|| self.plane.subscriptions.insert(Listener::Line(socket), None))
    }
}

/// Gives back a place that was not used.
fn release(calls: &mut Calls, unused: Option<Ticket>) {
    if let Some(unused) = unused {
        drop(calls.take(unused));
    }
}

/// An id as JSON.
fn id_text(id: Id<'_>) -> Box<[u8]> {
    let mut text = Vec::new();
    write_id(&mut text, id);
    text.into()
}
