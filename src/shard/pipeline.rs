//! The path of a request on one shard: guard → decode → route → run → encode. Bytes in, bytes out; no sockets.

use std::{
    rc::Rc,
    time::{Instant, SystemTime},
};

use super::calls::{Calls, PendingCall};
use crate::{
    config::Limits,
    exec::{Completed, Completions, Runner, Started, Ticket, ToolPanicked},
    http::{Flow, Guard, Method, RejectReason, Request, RequestHead, ResponseHeads, ResponseStart, Status},
    json::Decoder,
    jsonrpc::{ErrorCode, write_error},
    mcp::{self, CallMethod, Headers, Outcome},
    metrics::ShardMetrics,
    registry::{Context, Reply, Snapshot},
    ring::SocketId,
};

/// Everything one shard needs to answer requests.
pub struct Pipeline {
    guard: Guard,
    decoder: Decoder,
    snapshot: Rc<Snapshot>,
    heads: ResponseHeads,
    runner: Runner,
    calls: Calls,
    /// The reply inline tools write to, reused.
    reply: Reply,
    metrics: ShardMetrics,
    /// When the bytes at hand were reaped.
    received: Instant,
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
    /// A pipeline that serves `snapshot` on `endpoint`.
    #[must_use]
    pub fn new(endpoint: &str, snapshot: Rc<Snapshot>, runner: Runner, limits: &Limits) -> Self {
        Self {
            guard: Guard::new(endpoint),
            decoder: Decoder::new(limits),
            snapshot,
            heads: ResponseHeads::new(SystemTime::now()),
            runner,
            calls: Calls::new(limits.calls_in_flight_max),
            reply: Reply::default(),
            metrics: ShardMetrics::new(CallMethod::ALL.map(CallMethod::as_str)),
            received: Instant::now(),
            draining: false,
        }
    }

    /// Starts a turn: latencies count from `now`, replies are dated `wall`.
    pub fn begin_turn(&mut self, now: Instant, wall: SystemTime) {
        self.received = now;
        self.heads.set_date(wall);
    }

    /// Ends a turn: its replies are on their way.
    pub fn end_turn(&mut self) {
        self.metrics.record_noted(self.received.elapsed());
    }

    /// From now on every reply closes its connection.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// What has been measured.
    pub fn metrics(&mut self) -> &mut ShardMetrics {
        &mut self.metrics
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
        if let Err(reason) = self.guard.check(&head, request.head_bytes) {
            return self.reject(reason, Some(&head), out);
        }
        let response = self.heads.begin(out);
        match self.respond(request, socket, out) {
            Responded::Now(status, method) => self.finish(out, response, status, method, &head),
            Responded::Later(ticket) => {
                response.abandon(out);
                Handled::Pending(ticket)
            }
        }
    }

    /// Writes the reply's body into `out`, or starts the call that will give one.
    fn respond(&mut self, request: Request<'_>, socket: SocketId, out: &mut Vec<u8>) -> Responded {
        let head = request.head;
        let document = match self.decoder.decode(request.body, request.body_length) {
            Ok(document) => document,
            Err(refused) => {
                self.metrics.refuse(refused.reason.name());
                return Responded::Now(mcp::write_not_json(out, &refused), CallMethod::Other);
            }
        };
        let headers = Headers {
            protocol_version: head.protocol_version(request.head_bytes),
            method: head.mcp_method(request.head_bytes),
            name: head.mcp_name(request.head_bytes),
        };
        let call = match mcp::route(&self.snapshot, &headers, document.root(), out) {
            Outcome::Run(call) => call,
            Outcome::Reply(status, method) => return Responded::Now(status, method),
            Outcome::Accepted => return Responded::Now(Status::Accepted, CallMethod::Other),
        };
        self.reply.clear();
        let calls = &mut self.calls;
        let file_call = || {
            calls.insert(PendingCall {
                socket,
                id: call.id.to_owned(),
                revision: call.revision,
                started: self.received,
                keep_alive: head.keep_alive,
                http_1_0: head.http_1_0,
            })
        };
        let context = Context { revision: call.revision, shard: 0 };
        let started =
            self.runner.start(call.tool.handler(), call.arguments, context, file_call, &mut self.reply);
        match started {
            Started::Done => mcp::write_call_result(out, &self.snapshot, call.id, call.revision, &self.reply),
            Started::Panicked => {
                mcp::write_call_failed(out, call.id);
                self.metrics.refuse("tool_panicked");
            }
            Started::Busy { unused } => {
                if let Some(unused) = unused {
                    drop(self.calls.take(unused));
                }
                mcp::write_busy(out, call.id);
                self.metrics.refuse("busy");
                return Responded::Now(Status::ServiceUnavailable, CallMethod::ToolsCall);
            }
            Started::Pending(ticket) => return Responded::Later(ticket),
        }
        Responded::Now(Status::Ok, CallMethod::ToolsCall)
    }

    /// The call a ticket stands for; it is in flight no more.
    pub fn take_call(&mut self, ticket: Ticket) -> Option<PendingCall> {
        self.calls.take(ticket)
    }

    /// Answers a call that has ended.
    pub fn answer(
        &mut self,
        call: &PendingCall,
        outcome: Result<Reply, ToolPanicked>,
        out: &mut Vec<u8>,
    ) -> Handled {
        let response = self.heads.begin(out);
        let id = call.id.as_id();
        match outcome {
            Ok(reply) => mcp::write_call_result(out, &self.snapshot, id, call.revision, &reply),
            Err(ToolPanicked) => {
                mcp::write_call_failed(out, id);
                self.metrics.refuse("tool_panicked");
            }
        }
        let persistence = Persistence { keep_alive: call.keep_alive, http_1_0: call.http_1_0 };
        let handled = self.finish_as(out, response, Status::Ok, persistence);
        self.metrics.record(CallMethod::ToolsCall as usize, call.started.elapsed());
        handled
    }

    /// Answers a request that never came, or never ended.
    pub fn reject(&mut self, reason: RejectReason, head: Option<&RequestHead>, out: &mut Vec<u8>) -> Handled {
        self.metrics.refuse(reason.name());
        let closes = reason.closes() || self.draining || head.is_none_or(|head| !head.keep_alive);
        let mut extra = String::new();
        if reason == RejectReason::VerbNotAllowed {
            extra.push_str("Allow: POST\r\n");
        }
        if closes {
            extra.push_str("Connection: close\r\n");
        }
        let mut body = Vec::new();
        // A reply to HEAD has no body (RFC 9110, section 9.3.2).
        if head.is_none_or(|head| head.method != Method::Head) {
            write_error(&mut body, None, ErrorCode::InvalidRequest, reason.message(), None);
        }
        self.heads.write(out, reason.status(), &extra, &body);
        if closes { Handled::Refused } else { Handled::Replied }
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        response: ResponseStart,
        status: Status,
        method: CallMethod,
        head: &RequestHead,
    ) -> Handled {
        let persistence = Persistence { keep_alive: head.keep_alive, http_1_0: head.http_1_0 };
        let handled = self.finish_as(out, response, status, persistence);
        self.metrics.note(method as usize);
        handled
    }

    fn finish_as(
        &self,
        out: &mut Vec<u8>,
        response: ResponseStart,
        status: Status,
        persistence: Persistence,
    ) -> Handled {
        let keep_alive = persistence.keep_alive && !self.draining;
        if status == Status::Ok && keep_alive && !persistence.http_1_0 {
            self.heads.finish(out, response);
            return Handled::Replied;
        }
        let extra = match (keep_alive, persistence.http_1_0) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        };
        self.heads.finish_with(out, response, status, extra);
        if keep_alive { Handled::Replied } else { Handled::RepliedLast }
    }
}

/// What the body of a reply turned out to be.
enum Responded {
    Now(Status, CallMethod),
    Later(Ticket),
}

#[derive(Clone, Copy)]
struct Persistence {
    keep_alive: bool,
    http_1_0: bool,
}
