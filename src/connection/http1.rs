//! HTTP/1.1: a request's body is a message; its disposition, or the deliveries that follow, become a reply or a stream of events.

use corelane_ring::{PeerAddress, SocketId};

use super::{Connection, DeferredReply, Phase, Pipeline, deferred::Exchange};
use crate::{
    call::CallMessage,
    config::Limits,
    delivery::{AfterSend, Destination, Payload},
    dispatch::{BatchReplies, Disposition, Source},
    http1::{
        Assembly, Field, Flow, Handler, LAST_CHUNK, METHODS, Method, RejectReason, Request, RequestHead,
        ReservedHead, Route, Status, chunk, cors_headers, excerpt, preflight_headers, write_event,
    },
    jsonrpc::{ErrorCode, write_error},
    mcp::{Headers, RpcMethod},
    telemetry::{metrics::Stage, observer::RequestFields},
};

/// The requests of one connection, on their way from its framer through the pipeline.
pub struct Requests<'a> {
    pipeline: &'a mut Pipeline,
    limits: &'a Limits,
    socket: SocketId,
    peer: Option<PeerAddress>,
    deferred: &'a mut DeferredReply,
    out: &'a mut Vec<u8>,
    /// Requests handled in this turn.
    handled: u32,
    /// Whether a request was handled or rejected.
    has_replied: bool,
    /// The phase that the last one put the connection into, if it does not go on.
    phase: Option<Phase>,
}

impl<'a> Requests<'a> {
    /// The requests of `socket`, of which `handled` were handled in this turn. Replies are appended to `out`.
    #[must_use]
    pub fn new(
        pipeline: &'a mut Pipeline,
        limits: &'a Limits,
        (socket, peer): (SocketId, Option<PeerAddress>),
        deferred: &'a mut DeferredReply,
        out: &'a mut Vec<u8>,
        handled: u32,
    ) -> Self {
        Self { pipeline, limits, socket, peer, deferred, out, handled, has_replied: false, phase: None }
    }

    /// How many were handled in this turn, whether any was handled or rejected now, and the connection's next phase.
    pub(crate) fn finish(self) -> (u32, bool, Option<Phase>) {
        (self.handled, self.has_replied, self.phase)
    }
}

impl Handler for Requests<'_> {
    fn take_assembly(&mut self) -> Box<Assembly> {
        self.pipeline.take_assembly()
    }

    fn keep_assembly(&mut self, assembly: Box<Assembly>) {
        self.pipeline.keep_assembly(assembly);
    }

    fn wants_body(&mut self, head: &RequestHead, head_bytes: &[u8]) -> bool {
        let Err(reason) = self.pipeline.guard.check(head, head_bytes) else { return true };
        self.phase = self.pipeline.reject(reason, Some((head, head_bytes)), self.out);
        self.has_replied = true;
        false
    }

    fn handle(&mut self, request: Result<Request<'_>, RejectReason>) -> Flow {
        let Self { pipeline, socket, peer, deferred, out, .. } = self;
        pipeline.dispatcher.stages.mark(Stage::Frame);
        self.phase = match request {
            Err(reason) => pipeline.reject(reason, None, out),
            Ok(Request { ref head, head_bytes, body, body_length }) => {
                let headers = Headers { head, bytes: head_bytes };
                let peer = if pipeline.has_proxies() { pipeline.client_of(*peer, head_bytes) } else { *peer };
                match pipeline.guard.check(head, head_bytes) {
                    Err(reason) => pipeline.reject(reason, Some((head, head_bytes)), out),
                    Ok(Route::Options) => pipeline.preflight(headers, out),
                    Ok(route) => {
                        pipeline.dispatcher.stages.mark(Stage::Guard);
                        let response = pipeline.heads.reserve(out);
                        let Pipeline { dispatcher, decoder, .. } = &mut **pipeline;
                        let disposition = match route {
                            Route::Stream => dispatcher.open_stream(headers, *socket, out),
                            Route::End => dispatcher.end_session(headers, *socket, out),
                            Route::Mcp | Route::Options => {
                                let mut source =
                                    Source::Http { socket: *socket, peer, headers, in_batch: false };
                                dispatcher.dispatch(decoder, &mut source, body, body_length, out)
                            }
                        };
                        let exchange = Exchange::of(headers);
                        let Exchange { keep_alive, http_1_0, origin } = exchange;
                        let is_usual = keep_alive && !pipeline.is_draining && !http_1_0 && origin.is_none();
                        match disposition {
                            Disposition::Replied(Status::Ok) if is_usual => {
                                pipeline.heads.finish(out, response);
                                None
                            }
                            disposition => pipeline.reply(disposition, response, exchange, deferred, out),
                        }
                    }
                }
            }
        };
        pipeline.dispatcher.end_request();
        self.handled += 1;
        self.has_replied = true;
        let has_used_its_share = self.pipeline.dispatcher.budget.charge()
            || self.handled as usize >= self.limits.requests_per_turn_max
            || self.out.len() > self.limits.outbox_bytes_max;
        match self.phase {
            None if has_used_its_share => Flow::Pause,
            None => Flow::Continue,
            Some(Phase::Closing { .. }) => Flow::Stop,
            Some(_) => Flow::Pause,
        }
    }
}

/// The effect of a delivery on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// Nothing: the connection waits for something else.
    Dropped,
    /// More will come.
    Partly,
    /// The reply is complete. `keep_alive`: whether the connection reads its next request.
    Complete { keep_alive: bool },
}

impl Pipeline {
    /// Turns a disposition into a reply, or into a phase in which the connection waits for one.
    fn reply(
        &mut self,
        disposition: Disposition,
        response: ReservedHead,
        exchange: Exchange<'_>,
        deferred: &mut DeferredReply,
        out: &mut Vec<u8>,
    ) -> Option<Phase> {
        match disposition {
            Disposition::Replied(status) => self.finish(out, response, status, exchange, ""),
            Disposition::RepliedAfter(notes) => self.finish_with_notes(out, response, &notes, exchange),
            Disposition::SessionOpened(id) => {
                self.finish(out, response, Status::Ok, exchange, &format!("Mcp-Session-Id: {id}\r\n"))
            }
            Disposition::NoReply => self.finish(out, response, Status::Accepted, exchange, ""),
            Disposition::Pending(ticket) => {
                response.cancel(out);
                *deferred = DeferredReply::new(exchange, None);
                Some(Phase::Calling { ticket, is_streaming: false })
            }
            Disposition::Batch(replies) => self.reply_to_batch(replies, response, exchange, deferred, out),
            Disposition::Listening(subscriber) if exchange.http_1_0 => {
                self.dispatcher.state.subscriptions.remove(subscriber);
                response.cancel(out);
                self.reject(RejectReason::VersionNotSupported, None, out)
            }
            Disposition::Listening(subscriber) => {
                let acknowledged = response.take_body(out);
                response.cancel(out);
                self.begin_events(out, exchange);
                chunk(out, true, |out| write_event(out, None, &acknowledged));
                *deferred = DeferredReply::new(exchange, None);
                Some(Phase::Listening(subscriber))
            }
            Disposition::Attached(stream, is_over) => {
                let events = response.take_body(out);
                response.cancel(out);
                self.begin_events(out, exchange);
                write_events(out, &events, is_over);
                *deferred = DeferredReply::new(exchange, None);
                if is_over { self.after(exchange) } else { Some(Phase::attached(stream)) }
            }
            Disposition::NotAcceptable => {
                response.cancel(out);
                self.reject(RejectReason::NotAcceptable, None, out)
            }
        }
    }

    /// Finishes a reply whose messages precede the answer: a stream of events that has ended already.
    fn finish_with_notes(
        &mut self,
        out: &mut Vec<u8>,
        response: ReservedHead,
        notes: &[CallMessage],
        exchange: Exchange<'_>,
    ) -> Option<Phase> {
        let answer = response.take_body(out);
        for note in notes {
            if let CallMessage::Message(message) = note {
                write_event(out, None, message);
            }
        }
        write_event(out, None, &answer);
        self.heads.finish_events(out, response, &self.header_lines(exchange));
        self.after(exchange)
    }

    /// Replies to a batch: with an array if all answers are there, else with a stream of events; with an array later where the
    /// client accepts no stream, or while no call of the batch is pending.
    fn reply_to_batch(
        &mut self,
        replies: BatchReplies,
        response: ReservedHead,
        exchange: Exchange<'_>,
        deferred: &mut DeferredReply,
        out: &mut Vec<u8>,
    ) -> Option<Phase> {
        let BatchReplies { answers, pending, accepts_streaming, rest } = replies;
        // The messages that are not dispatched yet count as one reply.
        let waiting = pending + u32::from(rest.is_some());
        if waiting == 0 {
            return self.finish_batch(out, response, &answers, exchange);
        }
        response.cancel(out);
        *deferred = DeferredReply::new(exchange, Some(answers));
        deferred.set_rest(rest);
        if accepts_streaming && pending > 0 {
            self.begin_batch_events(out, deferred);
        }
        Some(Phase::Batch(waiting))
    }

    /// Turns the reply to a batch, whose answers were to be sent together, into a stream of events.
    fn begin_batch_events(&self, out: &mut Vec<u8>, deferred: &mut DeferredReply) {
        let Some(answers) = deferred.take_answers() else { return };
        self.begin_events(out, deferred.exchange());
        for answer in answers {
            chunk(out, true, |out| write_event(out, None, &answer));
        }
    }

    /// Dispatches further messages of the batch that a connection waits for.
    pub(crate) fn continue_batch(&mut self, connection: &mut Connection) -> Delivered {
        let Phase::Batch(waiting) = connection.phase else { return Delivered::Dropped };
        let Some(rest) = connection.deferred.take_rest() else { return Delivered::Dropped };
        let Self { dispatcher, decoder, .. } = self;
        let BatchReplies { answers, pending, accepts_streaming, rest } =
            dispatcher.continue_http_batch(decoder, connection.socket, rest);
        let Connection { out, deferred, .. } = connection;
        if accepts_streaming && pending > 0 {
            self.begin_batch_events(out, deferred);
        }
        for answer in answers {
            match deferred.answers() {
                Some(answers) => answers.push(answer),
                None => chunk(out, true, |out| write_event(out, None, &answer)),
            }
        }
        let waiting = (waiting + pending).saturating_sub(u32::from(rest.is_none()));
        deferred.set_rest(rest);
        connection.phase = Phase::Batch(waiting);
        if waiting == 0 { self.end_batch(connection) } else { Delivered::Partly }
    }

    /// Ends the reply to a batch.
    fn end_batch(&mut self, Connection { out, deferred, .. }: &mut Connection) -> Delivered {
        let answers = deferred.take_answers();
        let exchange = deferred.exchange();
        let next = match answers {
            Some(answers) => {
                let response = self.heads.reserve(out);
                self.finish_batch(out, response, &answers, exchange)
            }
            None => {
                out.extend_from_slice(LAST_CHUNK);
                self.after(exchange)
            }
        };
        Delivered::Complete { keep_alive: next.is_none() }
    }

    /// Finishes a reply to a batch all of whose answers are there.
    fn finish_batch(
        &mut self,
        out: &mut Vec<u8>,
        response: ReservedHead,
        answers: &[Vec<u8>],
        exchange: Exchange<'_>,
    ) -> Option<Phase> {
        if answers.is_empty() {
            return self.finish(out, response, Status::Accepted, exchange, "");
        }
        out.push(b'[');
        out.extend_from_slice(&answers.join(b",".as_slice()));
        out.push(b']');
        self.finish(out, response, Status::Ok, exchange, "")
    }

    /// Appends a delivery to the outbox of an HTTP connection.
    pub(crate) fn deliver_http(
        &mut self,
        connection: &mut Connection,
        to: Destination,
        payload: &Payload,
        bytes: &[u8],
        then: AfterSend,
    ) -> Delivered {
        match (connection.phase, to) {
            (Phase::Calling { ticket, .. }, Destination::Reply(_, answered)) if ticket == answered => {}
            (Phase::Batch(_), Destination::Reply(..)) => {}
            (Phase::Calling { .. }, Destination::Stream(..)) => {}
            (phase, Destination::Stream(_, stream)) if phase.stream() == Some(stream) => {}
            _ => return Delivered::Dropped,
        }
        if let Phase::Batch(left) = connection.phase {
            return self.deliver_to_batch(connection, left, payload, bytes, then);
        }
        match payload {
            Payload::Reply(status, _) if connection.phase.waits_for_head() => {
                let response = self.heads.reserve(&mut connection.out);
                connection.out.extend_from_slice(bytes);
                let exchange = connection.deferred.exchange();
                let phase = self.finish(&mut connection.out, response, *status, exchange, "");
                return Delivered::Complete { keep_alive: phase.is_none() };
            }
            Payload::Reply(..) | Payload::Message(_) => {
                self.begin_stream(connection);
                if !bytes.is_empty() {
                    chunk(&mut connection.out, true, |out| write_event(out, None, bytes));
                }
            }
            Payload::Events(_) => {
                self.begin_stream(connection);
                chunk(&mut connection.out, true, |out| out.extend_from_slice(bytes));
            }
            Payload::Attached(stream, _) => {
                self.begin_stream(connection);
                connection.phase = Phase::attached(*stream);
                chunk(&mut connection.out, true, |out| out.extend_from_slice(bytes));
            }
            Payload::Event(_) | Payload::AllTopics => {}
        }
        if then == AfterSend::KeepOpen {
            return Delivered::Partly;
        }
        connection.out.extend_from_slice(LAST_CHUNK);
        Delivered::Complete { keep_alive: self.after(connection.deferred.exchange()).is_none() }
    }

    /// Appends one of the answers to a batch, or a message that precedes one.
    fn deliver_to_batch(
        &mut self,
        connection: &mut Connection,
        left: u32,
        payload: &Payload,
        bytes: &[u8],
        then: AfterSend,
    ) -> Delivered {
        let Connection { out, deferred, phase, .. } = connection;
        let is_answer = matches!(payload, Payload::Reply(..));
        // Messages are only sent to a client that accepts a stream.
        if !is_answer {
            self.begin_batch_events(out, deferred);
        }
        if !bytes.is_empty() {
            match deferred.answers() {
                Some(answers) => answers.push(bytes.to_vec()),
                None => chunk(out, true, |out| write_event(out, None, bytes)),
            }
        }
        if then == AfterSend::KeepOpen {
            return Delivered::Partly;
        }
        if left > 1 {
            *phase = Phase::Batch(left - 1);
            return Delivered::Partly;
        }
        self.end_batch(connection)
    }

    /// Writes the head of a stream of events, unless the reply is one already.
    fn begin_stream(&self, connection: &mut Connection) {
        if let Phase::Calling { is_streaming: is_streaming @ false, .. } = &mut connection.phase {
            *is_streaming = true;
            self.begin_events(&mut connection.out, connection.deferred.exchange());
        }
    }

    fn begin_events(&self, out: &mut Vec<u8>, exchange: Exchange<'_>) {
        self.heads.write_events_head(out, true, &self.header_lines(exchange));
    }

    /// Rejects a request that did not arrive, did not end, or is not allowed.
    pub(crate) fn reject(
        &mut self,
        reason: RejectReason,
        head: Option<(&RequestHead, &[u8])>,
        out: &mut Vec<u8>,
    ) -> Option<Phase> {
        let forbidden = match (reason, head) {
            (RejectReason::HostForbidden, Some((head, bytes))) => head.host(bytes),
            (RejectReason::OriginForbidden, Some((head, bytes))) => head.origin(bytes),
            _ => Field::Absent,
        };
        let request = RequestFields { status: Some(reason.status()), ..RequestFields::default() };
        match excerpt(forbidden) {
            Some(name) => self.dispatcher.observer.forbidden(reason.name(), request, &name),
            None => self.dispatcher.observer.rejected(reason.name(), request, None),
        }
        // The end of a rejected request's body is not looked for.
        let can_go_on = head.is_some_and(|(head, _)| head.keep_alive && !head.http_1_0 && !head.has_body());
        let closes = reason.closes() || self.is_draining || !can_go_on;
        let mut lines = String::new();
        if reason.status() == Status::ServiceUnavailable {
            lines.push_str("Retry-After: 1\r\n");
        }
        if reason == RejectReason::VerbNotAllowed {
            lines.push_str(&format!("Allow: {METHODS}\r\n"));
        }
        if reason == RejectReason::ContentEncodingUnsupported {
            // RFC 9110, section 15.5.16.
            lines.push_str("Accept-Encoding: identity\r\n");
        }
        if let Some((head, bytes)) = head
            && !matches!(reason, RejectReason::HostForbidden | RejectReason::OriginForbidden)
            && let Field::Value(origin) = head.origin(bytes)
        {
            lines.push_str(&cors_headers(origin));
        }
        if closes {
            lines.push_str("Connection: close\r\n");
        }
        let mut body = Vec::new();
        // A reply to HEAD has no body (RFC 9110, section 9.3.2).
        if head.is_none_or(|(head, _)| head.method != Method::Head) {
            write_error(&mut body, None, ErrorCode::InvalidRequest, reason.message(), None);
        }
        self.heads.write(out, reason.status(), &lines, &body);
        closes.then_some(Phase::Closing { linger: true })
    }

    /// Answers OPTIONS.
    fn preflight(&mut self, headers: Headers<'_>, out: &mut Vec<u8>) -> Option<Phase> {
        let exchange = Exchange::of(headers);
        let mut lines = preflight_headers(headers.head, headers.bytes);
        self.metrics().note(RpcMethod::Other as usize);
        lines.push_str(&self.header_lines(exchange));
        self.heads.write(out, Status::NoContent, &lines, &[]);
        self.after(exchange)
    }

    /// Writes the head of a reply whose body is complete. `more`: whole header lines.
    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        response: ReservedHead,
        status: Status,
        exchange: Exchange<'_>,
        more: &str,
    ) -> Option<Phase> {
        let mut lines = more.to_owned();
        if status == Status::ServiceUnavailable {
            lines.push_str("Retry-After: 1\r\n");
        }
        lines.push_str(&self.header_lines(exchange));
        self.heads.finish_with(out, response, status, &lines);
        self.after(exchange)
    }

    /// The phase behind a complete reply, if the connection does not go on.
    fn after(&self, exchange: Exchange<'_>) -> Option<Phase> {
        let goes_on = exchange.keep_alive && !self.is_draining;
        (!goes_on).then_some(Phase::Closing { linger: false })
    }

    /// The header lines that depend on the request.
    fn header_lines(&self, exchange: Exchange<'_>) -> String {
        let mut lines = exchange.origin.map(cors_headers).unwrap_or_default();
        match (exchange.keep_alive && !self.is_draining, exchange.http_1_0) {
            (false, _) => lines.push_str("Connection: close\r\n"),
            (true, true) => lines.push_str("Connection: keep-alive\r\n"),
            (true, false) => {}
        }
        lines
    }
}

impl Phase {
    /// Whether the head of the reply is yet to be written.
    fn waits_for_head(self) -> bool {
        matches!(self, Self::Calling { is_streaming: false, .. })
    }
}

/// Appends events to a stream, and ends it if they are the last.
fn write_events(out: &mut Vec<u8>, events: &[u8], is_over: bool) {
    chunk(out, true, |out| out.extend_from_slice(events));
    if is_over {
        out.extend_from_slice(LAST_CHUNK);
    }
}
