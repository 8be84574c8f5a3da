//! The path of a request on one shard: guard → decode → route → run → encode. Bytes in, bytes out; no sockets.

use std::{
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use corelane_ring::SocketId;

use super::{connection::Collected, inbox::Served};
use crate::{
    config::Limits,
    dispatch::{
        Engine, EngineConfig, Line, Parts, Performed, Via,
        call_events::frame_events,
        in_flight::{Exchange, Recipient},
    },
    http1::{
        Assembly, Field, Flow, Guard, Handler, METHODS, Method, Names, RejectReason, Request, RequestHead,
        ResponseHeads, ResponseStart, Route, Status, begin_event, chunk, cors_headers, excerpt, finish_event,
        preflight_headers, write_event,
    },
    json::Decoder,
    jsonrpc::{ErrorCode, Rewritten, write_error},
    mcp::{self, CallMethod, Headers, Refused, Session, Transport},
    mesh::{Broadcast, Request as Elsewhere, StreamId},
    registry::{Note, Snapshot},
    runtime::{Runner, Ticket},
    session::{ListenerKey, read_event_id},
    signed_token::Secret,
    telemetry::metrics::ShardMetrics,
};

/// The largest spare assembly buffer that is kept, in bytes.
const SPARE_ASSEMBLY_BYTES_MAX: usize = 64 * 1024;

/// What a pipeline is built with.
pub struct PipelineConfig<'a> {
    /// The path of the one endpoint.
    pub endpoint: &'a str,
    /// Who may ask.
    pub names: Names,
    /// Which shard this is.
    pub shard: usize,
    /// Of how many.
    pub shards: usize,
    /// What signs what clients carry; the same for all shards.
    pub secret: Secret,
    /// Reaches the other shards.
    pub broadcast: Broadcast,
    /// Every bound.
    pub limits: &'a Limits,
}

/// Everything one shard needs to answer requests.
pub struct Pipeline {
    guard: Guard,
    decoder: Decoder,
    pub(super) heads: ResponseHeads,
    pub(super) engine: Engine,
    /// The server is ending: every reply closes its connection.
    draining: bool,
    /// An empty buffer for the next request that is split over receive buffers: at most one, so that a warm shard allocates none.
    spare_assembly: Option<Box<Assembly>>,
    /// With [`Handled::Collecting`]: what its connection keeps from here on.
    pub(super) collected: Option<Box<Collected>>,
}

/// What became of a request.
#[allow(private_interfaces, reason = "internals only")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// The reply is in the buffer; the connection goes on.
    Replied,
    /// The reply is in the buffer; the connection ends behind it.
    RepliedLast,
    /// As [`Handled::RepliedLast`], and the peer may still be sending what nobody will read.
    Refused,
    /// The reply comes later, under this ticket.
    Pending(Ticket),
    /// The reply is a stream that has begun, and ends when that many answers have come.
    Batch(u32),
    /// The reply is a JSON array, begun when that many more answers have come.
    Collecting(u32),
    /// The reply is a stream of notifications that has begun.
    Listening(ListenerKey),
    /// The reply is a session's stream that has begun.
    Carrying {
        /// The stream.
        stream: StreamId,
        /// The connection ends with it.
        last: bool,
    },
}

impl Handled {
    /// What a framer should do behind it.
    #[must_use]
    pub fn flow(self) -> Flow {
        match self {
            Self::Replied => Flow::Continue,
            Self::Pending(_)
            | Self::Batch(_)
            | Self::Collecting(_)
            | Self::Listening(_)
            | Self::Carrying { .. } => Flow::Pause,
            Self::RepliedLast | Self::Refused => Flow::Stop,
        }
    }
}

impl Pipeline {
    /// A pipeline that serves `snapshot`.
    #[must_use]
    pub fn new(config: PipelineConfig<'_>, snapshot: Snapshot, runner: Runner) -> Self {
        let PipelineConfig { endpoint, names, shard, shards, secret, broadcast, limits } = config;
        let engine = EngineConfig { shard, shards, secret, broadcast, limits: *limits };
        Self {
            guard: Guard::new(endpoint, names),
            decoder: Decoder::new(limits),
            heads: ResponseHeads::new(SystemTime::now()),
            engine: Engine::new(engine, snapshot, runner),
            draining: false,
            spare_assembly: None,
            collected: None,
        }
    }

    /// Starts a turn: latencies count from `now`, replies are dated `wall`.
    pub fn begin_turn(&mut self, now: Instant, wall: SystemTime) {
        self.engine.begin_turn(now, wall.duration_since(UNIX_EPOCH).unwrap_or_default());
        self.heads.set_date(wall);
    }

    /// Ends a turn: its replies are on their way. One that took longer than `slow` is counted and logged.
    pub fn end_turn(&mut self, slow: Duration) {
        self.engine.observer.end_turn(slow);
    }

    /// Counts and logs what was refused to a client whose fault it is.
    pub fn refused(&mut self, reason: &'static str) {
        self.engine.observer.refused(reason, None);
    }

    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.engine.shard
    }

    /// From now on every reply closes its connection.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// What has been measured.
    pub fn metrics(&mut self) -> &mut ShardMetrics {
        self.engine.observer.metrics()
    }

    /// Looks at a head whose body is not there yet. A refusal is written into `out`.
    pub fn check(&mut self, head: &RequestHead, head_bytes: &[u8], out: &mut Vec<u8>) -> Option<Handled> {
        let reason = self.guard.check(head, head_bytes).err()?;
        Some(self.reject(reason, Some((head, head_bytes)), out))
    }

    /// Answers one request, or a refusal of the framer, into `out`.
    pub fn handle(
        &mut self,
        request: Result<Request<'_>, RejectReason>,
        socket: SocketId,
        out: &mut Vec<u8>,
    ) -> Handled {
        let request = match request {
            Ok(request) => request,
            Err(reason) => return self.reject(reason, None, out),
        };
        let (head, bytes) = (request.head, request.head_bytes);
        let route = match self.guard.check(&head, bytes) {
            Ok(route) => route,
            Err(reason) => return self.reject(reason, Some((&head, bytes)), out),
        };
        let exchange = exchange(&head, bytes);
        let headers = Headers { head: &head, bytes };
        match route {
            Route::Options => self.preflight(&head, bytes, out),
            Route::Mcp => {
                let via = Via::Http { socket, exchange, head: (&head, bytes), in_batch: false };
                self.reply(exchange, out, |pipeline, out| {
                    let transport = Transport::Http(headers);
                    pipeline.perform(request.body, request.body_length, transport, via, out)
                })
            }
            Route::Stream => self
                .reply(exchange, out, |pipeline, out| pipeline.open_stream(headers, exchange, socket, out)),
            Route::End => self
                .reply(exchange, out, |pipeline, out| pipeline.end_session(headers, exchange, socket, out)),
        }
    }

    /// Replies with what `perform` does and writes.
    fn reply(
        &mut self,
        exchange: Exchange<&[u8]>,
        out: &mut Vec<u8>,
        perform: impl FnOnce(&mut Self, &mut Vec<u8>) -> Performed,
    ) -> Handled {
        let response = self.heads.begin(out);
        let performed = perform(self, out);
        self.settle(out, response, performed, exchange)
    }

    /// Decodes what a client has sent, and does it: one message, or several.
    fn perform(
        &mut self,
        padded: &mut [u8],
        length: usize,
        transport: Transport<'_>,
        via: Via<'_>,
        out: &mut Vec<u8>,
    ) -> Performed {
        let Self { decoder, engine, .. } = self;
        let id_bytes_max = engine.limits.id_bytes_max;
        let rewritten = match decoder.decode(&mut *padded, length) {
            Ok(document) => {
                let root = document.root();
                match engine.messages(transport, root, via, out) {
                    Performed::NeedsText => Rewritten::new(root),
                    performed => return performed,
                }
            }
            Err(refused) => return engine.refuse(mcp::write_not_json(out, &refused, id_bytes_max)),
        };
        self.perform_rewritten(rewritten, padded.get(..length).unwrap_or_default(), transport, via, out)
    }

    /// Decodes a document that has been rewritten, and does what it asks for: it needs no further text. `source`: the bytes it was
    /// read from.
    #[cold]
    fn perform_rewritten(
        &mut self,
        rewritten: Rewritten,
        source: &[u8],
        transport: Transport<'_>,
        via: Via<'_>,
        out: &mut Vec<u8>,
    ) -> Performed {
        let Self { decoder, engine, .. } = self;
        let (mut again, length, digits) = rewritten.finish(source);
        match decoder.decode(&mut again, length) {
            Ok(document) => {
                let root = document.root();
                let _at_hand = digits.install(root);
                engine.messages(transport, root, via, out)
            }
            Err(refused) => engine.refuse(mcp::write_not_json(out, &refused, engine.limits.id_bytes_max)),
        }
    }

    /// Finishes a reply that was begun, in the way that what was done asks for.
    fn settle(
        &mut self,
        out: &mut Vec<u8>,
        response: ResponseStart,
        performed: Performed,
        exchange: Exchange<&[u8]>,
    ) -> Handled {
        match performed {
            Performed::Answered(status, method, notes) => {
                self.metrics().note(method as usize);
                if notes.is_empty() {
                    return self.finish(out, response, status, exchange, "");
                }
                self.finish_with_notes(out, response, &notes, exchange)
            }
            Performed::Opened(session) => {
                self.metrics().note(CallMethod::Initialize as usize);
                self.finish(out, response, Status::Ok, exchange, &format!("Mcp-Session-Id: {session}\r\n"))
            }
            Performed::Pending(ticket) => {
                response.abandon(out);
                Handled::Pending(ticket)
            }
            Performed::Batch(parts) => self.batch(out, response, parts, exchange),
            Performed::Listening(listener, acknowledged) => {
                self.metrics().note(CallMethod::Listen as usize);
                if exchange.http_1_0 {
                    self.engine.plane.subscriptions.remove(listener);
                    response.abandon(out);
                    return self.reject(RejectReason::VersionNotSupported, None, out);
                }
                response.abandon(out);
                self.begin_events(out, exchange);
                chunk(out, true, |out| write_event(out, None, &acknowledged));
                Handled::Listening(listener)
            }
            Performed::NotAcceptable => {
                response.abandon(out);
                self.reject(RejectReason::NotAcceptable, None, out)
            }
            Performed::Attached(stream, events, ended) => {
                response.abandon(out);
                self.begin_events(out, exchange);
                out.extend_from_slice(&frame_events(&events, ended));
                if ended {
                    self.after_events(exchange)
                } else {
                    Handled::Carrying { stream, last: !exchange.keep_alive }
                }
            }
            // Agreements and lines are for connections of lines.
            Performed::Agreed(_)
            | Performed::Tied(..)
            | Performed::Unwanted(_)
            | Performed::NeedsText
            | Performed::Silent => self.finish(out, response, Status::Accepted, exchange, ""),
        }
    }

    /// Turns a reply with something to be said before it into a stream that has ended already.
    fn finish_with_notes(
        &mut self,
        out: &mut Vec<u8>,
        response: ResponseStart,
        notes: &[Note],
        exchange: Exchange<&[u8]>,
    ) -> Handled {
        let answer = response.take_body(out);
        for note in notes {
            if let Note::Message(message) = note {
                write_event(out, None, message);
            }
        }
        begin_event(out, None);
        out.extend_from_slice(&answer);
        finish_event(out);
        let mut extra = String::new();
        let keep_alive = self.describe(exchange, &mut extra);
        self.heads.finish_events(out, response, &extra);
        if keep_alive { Handled::Replied } else { Handled::RepliedLast }
    }

    /// The answers to a batch: an array if all are there, else a stream (checklist L-70); an array later where the client reads
    /// no stream.
    fn batch(
        &mut self,
        out: &mut Vec<u8>,
        response: ResponseStart,
        parts: Parts,
        exchange: Exchange<&[u8]>,
    ) -> Handled {
        let Parts { answers, pending, streams, tied: _ } = parts;
        self.metrics().note(CallMethod::Other as usize);
        if pending == 0 {
            return self.finish_batch(out, response, &answers, exchange);
        }
        response.abandon(out);
        if !streams {
            self.collected = Some(Box::new(Collected { answers, exchange: exchange.to_owned() }));
            return Handled::Collecting(pending);
        }
        self.begin_events(out, exchange);
        for answer in answers {
            chunk(out, true, |out| write_event(out, None, &answer));
        }
        Handled::Batch(pending)
    }

    /// Finishes a reply to a batch all of whose answers are there: an array, or nothing where there are none.
    pub(super) fn finish_batch(
        &self,
        out: &mut Vec<u8>,
        response: ResponseStart,
        answers: &[Vec<u8>],
        exchange: Exchange<&[u8]>,
    ) -> Handled {
        if answers.is_empty() {
            return self.finish(out, response, Status::Accepted, exchange, "");
        }
        out.push(b'[');
        out.extend_from_slice(&answers.join(b",".as_slice()));
        out.push(b']');
        self.finish(out, response, Status::Ok, exchange, "")
    }

    /// A legacy session's stream is asked for (checklist L-24, L-50).
    fn open_stream(
        &mut self,
        headers: Headers<'_>,
        exchange: Exchange<&[u8]>,
        socket: SocketId,
        out: &mut Vec<u8>,
    ) -> Performed {
        let engine = &mut self.engine;
        let session = match engine.session(headers, out) {
            Ok(session) => session,
            Err(performed) => return performed,
        };
        let resume = match headers.head.last_event_id(headers.bytes) {
            Field::Absent => None,
            Field::Value(id) => {
                let resume = read_event_id(engine.plane.broadcast.instance(), id);
                match resume.filter(|(stream, _)| engine.has_shard(stream.shard)) {
                    Some(resume) => Some(resume),
                    None => return engine.refuse_plain(out, Refused::UnknownStream, "Unknown Last-Event-ID"),
                }
            }
            Field::Repeated => {
                return engine.refuse_plain(
                    out,
                    Refused::UnknownStream,
                    "Last-Event-ID is given more than once",
                );
            }
        };
        if exchange.http_1_0 {
            return engine.refuse_plain(out, Refused::InvalidRequest, "A stream needs HTTP/1.1");
        }
        if session.is_foreign {
            // What another instance kept for it is unknown here. Its client opens another session, and subscribes again.
            return engine.refuse_plain(out, Refused::UnknownSession, "Session not found");
        }
        let keeper = resume.map_or(session.home, |(stream, _)| stream.shard);
        let request = Elsewhere::Attach { session, socket, resume };
        let recipient = recipient(socket, exchange);
        engine.ask(keeper, request, (None, CallMethod::Other), recipient, out)
    }

    /// A legacy session is to end (checklist L-55).
    fn end_session(
        &mut self,
        headers: Headers<'_>,
        exchange: Exchange<&[u8]>,
        socket: SocketId,
        out: &mut Vec<u8>,
    ) -> Performed {
        let engine = &mut self.engine;
        let session: Session = match engine.session(headers, out) {
            Ok(session) => session,
            Err(performed) => return performed,
        };
        let request = Elsewhere::End(session.key);
        let recipient = recipient(socket, exchange);
        engine.ask_all(request, (None, CallMethod::Other), recipient, out)
    }

    /// Whether a connection of lines that is owed so many answers is not read until there is one of them. It is, where a call
    /// waits for an answer of its client.
    pub(super) fn waits_for_calls(&self, socket: SocketId, owed: usize, limits: &Limits) -> bool {
        owed >= limits.calls_per_line_max && !self.engine.calls.asks(socket)
    }

    /// Answers one line into `out`; every answer ends with a line feed. How many answers will come later. `full`: no further call
    /// may come.
    pub(super) fn line(
        &mut self,
        padded: &mut [u8],
        length: usize,
        line: &mut Line,
        full: bool,
        out: &mut Vec<u8>,
    ) -> u32 {
        let start = out.len();
        let transport = Transport::Line(line.handshake);
        let via = Via::Line { socket: line.socket, full, listens: &line.listens };
        let performed = self.perform(padded, length, transport, via, out);
        self.engine.settle_line(performed, line, start, out)
    }

    /// Writes the head of a stream of events.
    pub(super) fn begin_events(&mut self, out: &mut Vec<u8>, exchange: Exchange<&[u8]>) {
        let mut extra = String::new();
        self.describe(exchange, &mut extra);
        self.heads.write_events_head(out, true, &extra);
    }

    /// Answers a request that never came, or never ended, or may not be.
    pub fn reject(
        &mut self,
        reason: RejectReason,
        head: Option<(&RequestHead, &[u8])>,
        out: &mut Vec<u8>,
    ) -> Handled {
        let asked = match (reason, head) {
            (RejectReason::HostForbidden, Some((head, bytes))) => head.host(bytes),
            (RejectReason::OriginForbidden, Some((head, bytes))) => head.origin(bytes),
            _ => Field::Absent,
        };
        match excerpt(asked) {
            Some(name) => self.engine.observer.forbidden(reason.name(), &name),
            None => self.engine.observer.refused(reason.name(), None),
        }
        // Where the body of a refused request ends is of no interest any more.
        let goes_on = head.is_some_and(|(head, _)| head.keep_alive && !head.http_1_0 && !head.has_body());
        let closes = reason.closes() || self.draining || !goes_on;
        let mut extra = String::new();
        if reason == RejectReason::VerbNotAllowed {
            extra.push_str(&format!("Allow: {METHODS}\r\n"));
        }
        if reason == RejectReason::ContentEncodingUnsupported {
            // RFC 9110, section 15.5.16: what it should have been.
            extra.push_str("Accept-Encoding: identity\r\n");
        }
        if let Some((head, bytes)) = head
            && !matches!(reason, RejectReason::HostForbidden | RejectReason::OriginForbidden)
            && let Field::Value(origin) = head.origin(bytes)
        {
            extra.push_str(&cors_headers(origin));
        }
        if closes {
            extra.push_str("Connection: close\r\n");
        }
        let mut body = Vec::new();
        // A reply to HEAD has no body (RFC 9110, section 9.3.2).
        if head.is_none_or(|(head, _)| head.method != Method::Head) {
            write_error(&mut body, None, ErrorCode::InvalidRequest, reason.message(), None);
        }
        self.heads.write(out, reason.status(), &extra, &body);
        if closes { Handled::Refused } else { Handled::Replied }
    }

    /// Answers OPTIONS.
    fn preflight(&mut self, head: &RequestHead, head_bytes: &[u8], out: &mut Vec<u8>) -> Handled {
        let exchange = exchange(head, head_bytes);
        let mut extra = preflight_headers(head, head_bytes);
        self.metrics().note(CallMethod::Other as usize);
        let keep_alive = self.describe(exchange, &mut extra);
        self.heads.write(out, Status::NoContent, &extra, &[]);
        if keep_alive { Handled::Replied } else { Handled::RepliedLast }
    }

    /// Puts the status and the length of a reply's body in their places. `more` is whole header lines.
    pub(super) fn finish(
        &self,
        out: &mut Vec<u8>,
        response: ResponseStart,
        status: Status,
        exchange: Exchange<&[u8]>,
        more: &str,
    ) -> Handled {
        let is_common =
            exchange.keep_alive && !self.draining && !exchange.http_1_0 && exchange.origin.is_none();
        if status == Status::Ok && is_common && more.is_empty() {
            self.heads.finish(out, response);
            return Handled::Replied;
        }
        let mut extra = more.to_owned();
        if status == Status::ServiceUnavailable {
            extra.push_str("Retry-After: 1\r\n");
        }
        let keep_alive = self.describe(exchange, &mut extra);
        self.heads.finish_with(out, response, status, &extra);
        if keep_alive { Handled::Replied } else { Handled::RepliedLast }
    }

    /// What follows a stream that has ended.
    pub(super) fn after_events(&self, exchange: Exchange<&[u8]>) -> Handled {
        if exchange.keep_alive && !self.draining { Handled::Replied } else { Handled::RepliedLast }
    }

    /// Adds the header lines that depend on who asked. Whether the connection goes on.
    fn describe(&self, exchange: Exchange<&[u8]>, extra: &mut String) -> bool {
        if let Some(origin) = exchange.origin {
            extra.push_str(&cors_headers(origin));
        }
        let keep_alive = exchange.keep_alive && !self.draining;
        match (keep_alive, exchange.http_1_0) {
            (false, _) => extra.push_str("Connection: close\r\n"),
            (true, true) => extra.push_str("Connection: keep-alive\r\n"),
            (true, false) => {}
        }
        keep_alive
    }

    /// An empty assembly buffer: the spare one, if it is there.
    pub(super) fn take_assembly(&mut self) -> Box<Assembly> {
        self.spare_assembly.take().unwrap_or_default()
    }

    /// Serves something else from the next request on. Calls in flight end as they were started. Returns what was served
    /// before, to be freed elsewhere.
    pub fn replace(&mut self, served: Served) -> Option<Served> {
        let tools = self.metrics().set_tools(served.tools);
        let before = std::mem::replace(&mut self.engine.snapshot, Rc::new(served.snapshot));
        Rc::into_inner(before).map(|snapshot| Served { snapshot, tools })
    }
}

/// One connection's requests on their way from its framer through a pipeline.
pub struct Requests<'a> {
    /// Answers them.
    pub pipeline: &'a mut Pipeline,
    /// Every bound.
    pub limits: &'a Limits,
    /// The connection.
    pub socket: SocketId,
    /// Where replies go.
    pub out: &'a mut Vec<u8>,
    /// What became of the last one.
    pub last: Option<Handled>,
    /// How many have been handled in this turn.
    pub handled: usize,
}

impl Handler for Requests<'_> {
    fn take_assembly(&mut self) -> Box<Assembly> {
        self.pipeline.take_assembly()
    }

    fn keep_assembly(&mut self, mut assembly: Box<Assembly>) {
        assembly.clear(SPARE_ASSEMBLY_BYTES_MAX);
        self.pipeline.spare_assembly = Some(assembly);
    }

    fn wants_body(&mut self, head: &RequestHead, head_bytes: &[u8]) -> bool {
        let refused = self.pipeline.check(head, head_bytes, self.out);
        self.last = refused.or(self.last);
        refused.is_none()
    }

    fn handle(&mut self, request: Result<Request<'_>, RejectReason>) -> Flow {
        let handled = self.pipeline.handle(request, self.socket, self.out);
        self.last = Some(handled);
        self.handled += 1;
        let has_had_its_turn = self.handled >= self.limits.requests_per_turn_max
            || self.out.len() > self.limits.outbox_bytes_max;
        if handled == Handled::Replied && has_had_its_turn { Flow::Pause } else { handled.flow() }
    }
}

fn exchange<'a>(head: &RequestHead, bytes: &'a [u8]) -> Exchange<&'a [u8]> {
    let origin = match head.origin(bytes) {
        Field::Value(origin) => Some(origin),
        Field::Absent | Field::Repeated => None,
    };
    Exchange { keep_alive: head.keep_alive, http_1_0: head.http_1_0, origin }
}

/// Who gets the answer to a request that is no message.
fn recipient(socket: SocketId, exchange: Exchange<&[u8]>) -> Recipient {
    Recipient::Http {
        socket,
        exchange: exchange.to_owned(),
        accepts_events: false,
        streams: false,
        stream: None,
        in_batch: false,
    }
}
