//! The path of a request on one shard: guard → decode → route → run → encode. Bytes in, bytes out; no sockets.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    calls::{Calls, Exchange, PendingCall},
    observer::Observer,
};
use crate::{
    config::Limits,
    exec::{Completed, Completions, Runner, Started, Ticket, Unfinished},
    http::{
        Field, Flow, Guard, Handler, Method, Names, RejectReason, Request, RequestHead, ResponseHeads,
        ResponseStart, Route, Status, cors_headers, preflight_headers,
    },
    json::Decoder,
    jsonrpc::{ErrorCode, write_error},
    mcp::{self, CallAnswers, CallMethod, Headers, Outcome, Refused},
    metrics::ShardMetrics,
    registry::{Caller, Reply, Snapshot},
    ring::SocketId,
};

/// What a pipeline is built with.
pub struct PipelineConfig<'a> {
    /// The path of the one endpoint.
    pub endpoint: &'a str,
    /// Who may ask.
    pub names: Names,
    /// Which shard this is.
    pub shard: usize,
    /// Every bound.
    pub limits: &'a Limits,
}

/// Everything one shard needs to answer requests.
pub struct Pipeline {
    guard: Guard,
    shard: usize,
    decoder: Decoder,
    snapshot: Rc<Snapshot>,
    heads: ResponseHeads,
    runner: Runner,
    calls: Calls,
    answers: CallAnswers,
    /// The reply inline tools write to, reused.
    reply: Reply,
    observer: Observer,
    /// The server is ending: every reply closes its connection.
    draining: bool,
}

/// What became of a request.
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
}

impl Handled {
    /// What a framer should do behind it.
    #[must_use]
    pub fn flow(self) -> Flow {
        match self {
            Self::Replied => Flow::Continue,
            Self::Pending(_) => Flow::Pause,
            Self::RepliedLast | Self::Refused => Flow::Stop,
        }
    }
}

impl Pipeline {
    /// A pipeline that serves `snapshot`.
    #[must_use]
    pub fn new(config: PipelineConfig<'_>, snapshot: Snapshot, runner: Runner) -> Self {
        let PipelineConfig { endpoint, names, shard, limits } = config;
        let now = Instant::now();
        let mut observer = Observer::new(shard, limits.log_lines_per_second_max, now);
        observer.metrics().set_tools(snapshot.tools().iter().map(|tool| tool.name()));
        Self {
            guard: Guard::new(endpoint, names),
            shard,
            decoder: Decoder::new(limits),
            snapshot: Rc::new(snapshot),
            heads: ResponseHeads::new(SystemTime::now()),
            runner,
            calls: Calls::new(limits.calls_in_flight_max, now),
            answers: CallAnswers::new(limits),
            reply: Reply::default(),
            observer,
            draining: false,
        }
    }

    /// Serves something else from the next request on. Calls in flight end as they were started.
    pub fn replace(&mut self, snapshot: Snapshot) {
        self.observer.metrics().set_tools(snapshot.tools().iter().map(|tool| tool.name()));
        self.snapshot = Rc::new(snapshot);
    }

    /// Starts a turn: latencies count from `now`, replies are dated `wall`.
    pub fn begin_turn(&mut self, now: Instant, wall: SystemTime) {
        self.observer.begin_turn(now);
        self.heads.set_date(wall);
    }

    /// Ends a turn: its replies are on their way. One that took longer than `slow` is counted and logged.
    pub fn end_turn(&mut self, slow: Duration) {
        self.observer.end_turn(slow);
    }

    /// Counts and logs what was refused to a client whose fault it is.
    pub fn refused(&mut self, reason: &'static str) {
        self.observer.refused(reason, None);
    }

    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// From now on every reply closes its connection.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// What has been measured.
    pub fn metrics(&mut self) -> &mut ShardMetrics {
        self.observer.metrics()
    }

    /// Calls in flight.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Where calls that have ended arrive.
    #[must_use]
    pub fn completions(&self) -> Rc<Completions> {
        Rc::clone(self.runner.completions())
    }

    /// The next call that has ended.
    #[must_use]
    pub fn next_completed(&self) -> Option<Completed> {
        self.runner.completions().pop()
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
        let head = request.head;
        match self.guard.check(&head, request.head_bytes) {
            Ok(Route::Mcp) => {}
            Ok(Route::Options) => return self.preflight(&head, request.head_bytes, out),
            Err(reason) => return self.reject(reason, Some((&head, request.head_bytes)), out),
        }
        let exchange = exchange(&head, request.head_bytes);
        let response = self.heads.begin(out);
        match self.respond(request, exchange, socket, out) {
            Responded::Now(status, method) => {
                self.observer.metrics().note(method as usize);
                self.finish(out, response, status, exchange)
            }
            Responded::Later(ticket) => {
                response.abandon(out);
                Handled::Pending(ticket)
            }
        }
    }

    /// Writes the reply's body into `out`, or starts the call that will give one.
    fn respond(
        &mut self,
        request: Request<'_>,
        exchange: Exchange<&[u8]>,
        socket: SocketId,
        out: &mut Vec<u8>,
    ) -> Responded {
        let headers = Headers { head: &request.head, bytes: request.head_bytes };
        let decoded = self.decoder.decode(request.body, request.body_length);
        let outcome = match &decoded {
            Ok(document) => mcp::route(&self.snapshot, headers, document.root(), out),
            Err(refused) => mcp::write_not_json(out, refused),
        };
        let call = match outcome {
            Outcome::Run(call) => call,
            Outcome::Reply(method) => return Responded::Now(Status::Ok, method),
            Outcome::Accepted => return Responded::Now(Status::Accepted, CallMethod::Other),
            Outcome::Refused(status, method, reason) => {
                self.observer.refused(reason.name(), None);
                return Responded::Now(status, method);
            }
        };
        self.reply.clear();
        let calls = &mut self.calls;
        let received = self.observer.turn_began();
        let file_call = || {
            calls.insert(PendingCall {
                socket,
                tool: Arc::clone(call.tool),
                id: call.id.to_owned(),
                revision: call.revision,
                started: received,
                exchange: Exchange {
                    keep_alive: exchange.keep_alive,
                    http_1_0: exchange.http_1_0,
                    origin: exchange.origin.map(Box::from),
                },
            })
        };
        let caller = Caller { revision: call.revision, capabilities: call.capabilities, shard: self.shard };
        let (tool, reply) = (call.tool, &mut self.reply);
        let started = self.runner.start(tool.handler(), call.arguments, caller, file_call, reply);
        let refused = match started {
            Started::Done => {
                self.observer.metrics().note_tool(tool.position());
                let told = self.answers.result(out, &self.snapshot, tool, call.id, call.revision, reply);
                self.observer.answered(tool, reply, told);
                return Responded::Now(Status::Ok, CallMethod::ToolsCall);
            }
            Started::Pending(ticket, cancel) => {
                calls.run(ticket, cancel, received, tool.deadline());
                return Responded::Later(ticket);
            }
            Started::Panicked => Refused::ToolPanicked,
            Started::Busy { unused } => {
                if let Some(unused) = unused {
                    drop(calls.take(unused));
                }
                Refused::Busy
            }
        };
        self.observer.call_refused(refused, tool);
        let status = mcp::write_call_refused(out, &self.snapshot, call.id, call.revision, refused);
        Responded::Now(status, CallMethod::ToolsCall)
    }

    /// The call that has ended; `None` if nobody waits for it any more.
    pub fn take_call(&mut self, ticket: Ticket) -> Option<PendingCall> {
        self.calls.take(ticket)
    }

    /// The next call whose deadline has passed. It is cancelled; what remains is to answer it.
    pub fn next_overdue(&mut self, now: Instant) -> Option<(Ticket, PendingCall)> {
        self.calls.next_overdue(now)
    }

    /// When there may next be an overdue call.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.calls.next_deadline()
    }

    /// Whether the end of its connection is the end of a call: in the 2026 era it is (checklist M-80); before, a client
    /// that has closed its side may still wait for the answer.
    #[must_use]
    pub fn ends_with_connection(&self, ticket: Ticket) -> bool {
        self.calls.get(ticket).is_some_and(|call| call.revision.is_modern())
    }

    /// The client of a call has gone.
    pub fn abandon(&mut self, ticket: Ticket) {
        if self.ends_with_connection(ticket) && self.calls.abandon(ticket).is_some() {
            self.observer.metrics().event("cancelled");
        }
    }

    /// Answers a call that has ended.
    pub fn answer(
        &mut self,
        call: &PendingCall,
        outcome: Result<Reply, Unfinished>,
        out: &mut Vec<u8>,
    ) -> Handled {
        let response = self.heads.begin(out);
        let id = call.id.as_id();
        let status = match outcome {
            Ok(reply) => {
                let told = self.answers.result(out, &self.snapshot, &call.tool, id, call.revision, &reply);
                self.observer.answered(&call.tool, &reply, told);
                Status::Ok
            }
            Err(unfinished) => {
                let refused = match unfinished {
                    Unfinished::Panicked => Refused::ToolPanicked,
                    Unfinished::Cancelled => Refused::Deadline,
                };
                self.observer.call_refused(refused, &call.tool);
                mcp::write_call_refused(out, &self.snapshot, id, call.revision, refused)
            }
        };
        let exchange = &call.exchange;
        let exchange = Exchange {
            keep_alive: exchange.keep_alive,
            http_1_0: exchange.http_1_0,
            origin: exchange.origin.as_deref(),
        };
        let latency = call.started.elapsed();
        self.observer.metrics().record(CallMethod::ToolsCall as usize, latency);
        self.observer.metrics().record_tool(call.tool.position(), call.tool.name(), latency);
        self.finish(out, response, status, exchange)
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
        self.observer.refused(reason.name(), told(asked).as_deref());
        // Where the body of a refused request ends is of no interest any more.
        let goes_on = head.is_some_and(|(head, _)| head.keep_alive && !head.http_1_0 && !head.has_body());
        let closes = reason.closes() || self.draining || !goes_on;
        let mut extra = String::new();
        if reason == RejectReason::VerbNotAllowed {
            extra.push_str("Allow: POST, OPTIONS\r\n");
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
        self.observer.metrics().note(CallMethod::Other as usize);
        let keep_alive = self.describe(exchange, &mut extra);
        self.heads.write(out, Status::NoContent, &extra, &[]);
        if keep_alive { Handled::Replied } else { Handled::RepliedLast }
    }

    fn finish(
        &self,
        out: &mut Vec<u8>,
        response: ResponseStart,
        status: Status,
        exchange: Exchange<&[u8]>,
    ) -> Handled {
        let is_common =
            exchange.keep_alive && !self.draining && !exchange.http_1_0 && exchange.origin.is_none();
        if status == Status::Ok && is_common {
            self.heads.finish(out, response);
            return Handled::Replied;
        }
        let mut extra = String::new();
        if status == Status::ServiceUnavailable {
            extra.push_str("Retry-After: 1\r\n");
        }
        let keep_alive = self.describe(exchange, &mut extra);
        self.heads.finish_with(out, response, status, &extra);
        if keep_alive { Handled::Replied } else { Handled::RepliedLast }
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

/// A header as the log tells it, shortened.
fn told(field: Field<'_>) -> Option<String> {
    const BYTES_TOLD: usize = 100;
    match field {
        Field::Absent => None,
        Field::Repeated => Some("given more than once".to_owned()),
        Field::Value(value) => Some(value.get(..BYTES_TOLD).unwrap_or(value).escape_ascii().to_string()),
    }
}

fn exchange<'a>(head: &RequestHead, bytes: &'a [u8]) -> Exchange<&'a [u8]> {
    let origin = match head.origin(bytes) {
        Field::Value(origin) => Some(origin),
        Field::Absent | Field::Repeated => None,
    };
    Exchange { keep_alive: head.keep_alive, http_1_0: head.http_1_0, origin }
}

/// What the body of a reply turned out to be.
enum Responded {
    Now(Status, CallMethod),
    Later(Ticket),
}
