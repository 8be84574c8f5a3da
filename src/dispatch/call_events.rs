//! Events of running calls: notifications and requests to the client, responses of the client, cancellation and completion.

use std::{sync::Arc, time::Duration};

use corelane_ring::SocketId;

use super::{
    Dispatcher, ReplyStream, ReplyTo, Source, in_flight::Overdue, pending::PendingCall,
    turn_budget::EventWork,
};
use crate::{
    call::{CallMessage, ClientChannel, InputRequest, Kind, Reply, Revision, TaskTerms},
    delivery::{AfterSend, Destination, Payload},
    http1::Status,
    json::write_string,
    jsonrpc::{Id, OwnedId},
    mcp::{
        self, Affinity, ClientAnswer, ErrorKind, QuestionId, RpcMethod, SessionKey, StreamId, TaskAction,
        TaskKey, TaskStatus,
    },
    mesh::Message,
    peer::PeerKey,
    runtime::{CallEvent, Completed, Ticket, Unfinished, instant_after},
    session::Attachment,
    telemetry::observer::RequestFields,
};

/// The route of a notification or request that a running call sends.
enum NotificationRoute {
    /// The connection of the request.
    Connection(SocketId),
    /// The replay buffer of a stream.
    Stream(StreamId),
    /// None: no message can reach the client before the reply.
    None,
}

impl Dispatcher {
    /// Handles an event of a running call.
    pub(crate) fn on_call_event(&mut self, event: CallEvent) -> EventWork {
        match event {
            CallEvent::Message(ticket, message) => {
                self.on_call_message(ticket, message);
                EventWork::Usual
            }
            CallEvent::Ended(Completed { ticket, outcome, reserved }) => {
                drop(reserved);
                let call =
                    self.calls.get_mut(ticket).map(|call| (call.handling.flags, call.suspended.take()));
                let Some((flags, suspended)) = call else {
                    drop(self.calls.take(ticket));
                    return EventWork::Little;
                };
                let before = self.use_flags(flags);
                let work = if let Some(suspended) = suspended {
                    self.mark_pending_validated(ticket);
                    self.resume_or_wait(ticket, suspended);
                    EventWork::Much
                } else {
                    self.end_call(ticket, outcome.map_err(error_kind));
                    EventWork::Usual
                };
                self.use_flags(before);
                work
            }
        }
    }

    pub(super) fn on_call_message(&mut self, ticket: Ticket, message: CallMessage) {
        match message {
            CallMessage::Message(message) => {
                self.send(ticket, &message);
            }
            CallMessage::Ask { key, request } => self.send_client_request(ticket, key, &request),
            CallMessage::Disconnect { retry } => self.disconnect(ticket, retry),
            CallMessage::Task(terms) => self.become_task(ticket, terms),
            CallMessage::AnswerRefused => {
                let Some(call) = self.calls.get(ticket) else { return };
                self.observer.set_peer(call.peer);
                let request = RequestFields::of_call(&call.callable, call.id.as_id(), call.started);
                self.observer.rejected("answer_work", request, None);
            }
        }
    }

    /// The route of messages that precede the reply of a call. The first message turns a reply over HTTP into an event stream,
    /// which is resumable in a session of 2025-11-25
    /// (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#resumability-and-redelivery>).
    fn notification_route(&mut self, ticket: Ticket) -> NotificationRoute {
        let Some(call) = self.calls.get_mut(ticket) else { return NotificationRoute::None };
        match &mut call.reply_to {
            ReplyTo::JsonLines(socket) => NotificationRoute::Connection(*socket),
            ReplyTo::Stream(id) => NotificationRoute::Stream(*id),
            ReplyTo::Task(_) => NotificationRoute::None,
            ReplyTo::Http { socket, stream } => {
                if *stream == ReplyStream::Possible {
                    let session = call.session.filter(|_| call.revision == Revision::V2025_11_25);
                    let attachment = Attachment { shard: self.state.shard, socket: *socket };
                    let table = &mut self.state.table;
                    let request_id = || super::subscribe::id_as_json(call.id.as_id());
                    let id = session.and_then(|session| table.open_reply(session, attachment, request_id()));
                    *stream = id.map_or(ReplyStream::Open, ReplyStream::Resumable);
                    if let Some(id) = id {
                        let first = self.state.table.priming_event(id, None);
                        let to = Destination::Stream(*socket, id);
                        self.state.deliveries.events(to, &first, AfterSend::KeepOpen);
                    }
                }
                match *stream {
                    ReplyStream::Resumable(id) => NotificationRoute::Stream(id),
                    ReplyStream::Open => NotificationRoute::Connection(*socket),
                    ReplyStream::Possible | ReplyStream::Unsupported => NotificationRoute::None,
                }
            }
        }
    }

    /// Sends a message that precedes the reply of a call. Returns `false` if the call has no route to its client.
    fn send(&mut self, ticket: Ticket, message: &[u8]) -> bool {
        match self.notification_route(ticket) {
            NotificationRoute::Stream(stream) => self.state.push(stream, message, false),
            NotificationRoute::Connection(socket) => {
                self.state.deliveries.message(Destination::Reply(socket, ticket), message);
            }
            NotificationRoute::None => return false,
        }
        true
    }

    /// Sends a request of a call to its client.
    fn send_client_request(&mut self, ticket: Ticket, key: String, request: &InputRequest) {
        let clock = self.clock;
        let signing_key = self.sessions.signing_key().clone();
        let timeout = self.limits.question_timeout;
        let shard = self.state.shard;
        let Some(call) = self.calls.get_mut(ticket) else { return };
        if let ReplyTo::Task(task) = call.reply_to {
            self.state.tasks.ask(task, key, request.clone(), clock.both());
            self.state.publish_task(task, clock.monotonic);
            return;
        }
        let number = call.requests_made;
        call.requests_made += 1;
        call.questions.push((number, key.clone()));
        let question = QuestionId { shard, index: ticket.index, generation: ticket.generation, number };
        let id = question.sign(&signing_key, call.session, self.state.broadcast.instance());
        let mut message = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
        write_string(&mut message, &id);
        message.extend_from_slice(b",\"method\":");
        write_string(&mut message, request.method);
        message.extend_from_slice(b",\"params\":");
        let mut params = request.params.clone();
        // The handler's `elicitationId` is not unique among calls; the request id is
        // (<https://modelcontextprotocol.io/specification/2025-11-25/client/elicitation>).
        if let Some(name) = params.get_mut("elicitationId") {
            *name = id.into();
        }
        message.extend_from_slice(params.to_string().as_bytes());
        message.push(b'}');
        if self.send(ticket, &message) {
            self.calls.set_deadline(ticket, clock.monotonic, instant_after(clock.monotonic, timeout));
        } else if let Some(channel) = self.calls.channel(ticket) {
            channel.answer(&key, Err((0, "the client cannot be reached".to_owned())));
        }
    }

    /// Passes a response of the client to its call, on this shard or another.
    pub(crate) fn client_answer(&mut self, answer: ClientAnswer) {
        let question = answer.question;
        if question.shard != self.state.shard {
            if !self.state.broadcast.post(question.shard, Message::ClientAnswer(answer)) {
                self.observer.metrics().event("answer_lost");
            }
            return;
        }
        let ticket = Ticket { index: question.index, generation: question.generation };
        let now = self.clock.monotonic;
        let key = self.calls.get_mut(ticket).filter(|call| call.session == answer.session).and_then(|call| {
            let position = call.questions.iter().position(|(number, _)| *number == question.number)?;
            let key = call.questions.swap_remove(position).1;
            // The deadline of the call is suspended while it awaits another response.
            let deadline = call.questions.is_empty().then(|| instant_after(now, call.callable.deadline()));
            Some((key, deadline))
        });
        // A duplicate response, or the call has ended.
        let Some((key, deadline)) = key else {
            self.observer.metrics().event("answer_unexpected");
            return;
        };
        if let Some(deadline) = deadline {
            self.calls.set_deadline(ticket, now, deadline);
        }
        if let Some(channel) = self.calls.channel(ticket) {
            channel.answer(&key, answer.answer);
        }
    }

    /// Ends the event stream of a reply before the call has ended. The client resumes the stream.
    fn disconnect(&mut self, ticket: Ticket, retry: Duration) {
        // Starts the stream, which the client needs to resume it.
        self.notification_route(ticket);
        let Some(call) = self.calls.get_mut(ticket) else { return };
        let ReplyTo::Http { socket, stream: ReplyStream::Resumable(stream) } = call.reply_to else { return };
        call.reply_to = ReplyTo::Stream(stream);
        let last = self.state.table.priming_event(stream, Some(retry.as_millis()));
        self.state.detach(stream, socket);
        self.state.deliveries.events(Destination::Stream(socket, stream), &last, AfterSend::EndReply);
    }

    /// Turns a call into a task, and replies with the task id
    /// (<https://github.com/modelcontextprotocol/ext-tasks/blob/main/specification/2026-07-28/tasks.md>).
    fn become_task(&mut self, ticket: Ticket, terms: TaskTerms) {
        let clock = self.clock;
        let nonce = u64::from_le_bytes(self.entropy.take());
        let Some(call) = self.calls.get(ticket) else { return };
        if matches!(call.reply_to, ReplyTo::Task(_)) {
            return;
        }
        let signing_key = self.sessions.signing_key();
        let call = (ticket, PeerKey::new(call.peer));
        let (key, expires) = match self.state.tasks.insert(call, terms, signing_key, clock.both(), nonce) {
            Ok(inserted) => inserted,
            Err(reason) => {
                if let Some(call) = self.calls.cancel(ticket) {
                    self.cancelled.push_back((ticket, call, reason.into()));
                }
                return;
            }
        };
        self.calls.set_deadline(ticket, clock.monotonic, expires);
        let Some(call) = self.calls.get_mut(ticket) else { return };
        let reply_to = std::mem::replace(&mut call.reply_to, ReplyTo::Task(key));
        let id = call.id.clone();
        self.calls.waiting.ended(reply_to.socket());
        if let Some(view) = self.state.tasks.view(key, clock.monotonic) {
            let mut out = Vec::new();
            mcp::write_task_created(&mut out, &self.snapshot, id.as_id(), view);
            self.reply(ticket, reply_to, Status::Ok, &out);
        }
    }

    /// Delivers an encoded reply; `answer` is empty if the client receives none.
    pub(super) fn reply(&mut self, ticket: Ticket, to: ReplyTo, status: Status, answer: &[u8]) {
        match to {
            ReplyTo::Task(key) => self.complete_task(key, answer),
            ReplyTo::Stream(stream) | ReplyTo::Http { stream: ReplyStream::Resumable(stream), .. } => {
                self.state.push(stream, answer, true);
            }
            ReplyTo::Http { socket, .. } | ReplyTo::JsonLines(socket) => {
                let deliveries = &mut self.state.deliveries;
                let (range, ()) = deliveries.write(|bytes| bytes.extend_from_slice(answer));
                let payload = Payload::Reply(status, range);
                deliveries.push(Destination::Reply(socket, ticket), payload, AfterSend::EndReply);
            }
        }
    }

    /// Applies an action to a task of this shard.
    pub(crate) fn task_action(&mut self, key: TaskKey, action: &TaskAction) {
        let clock = self.clock;
        match action {
            TaskAction::Get => {}
            TaskAction::Update(answers) => {
                let ticket = self.state.tasks.ticket(key, clock.monotonic);
                let accepted = self.state.tasks.answer(key, answers.clone(), clock.both());
                if accepted.is_empty() {
                    return;
                }
                for (question, answer) in accepted {
                    if let Some(channel) = ticket.and_then(|ticket| self.calls.channel(ticket)) {
                        channel.answer(&question, Ok(answer));
                    }
                }
                self.state.publish_task(key, clock.monotonic);
            }
            TaskAction::Cancel => {
                if let Some(ticket) = self.state.tasks.ticket(key, clock.monotonic) {
                    self.calls.cancel(ticket);
                    let _ = self.state.tasks.end(key, TaskStatus::Cancelled, clock.both());
                    self.observer.metrics().event("cancelled");
                    self.state.publish_task(key, clock.monotonic);
                }
            }
        }
    }

    /// Cancels a request after `notifications/cancelled`: in a session a call on any shard, on a newline-delimited connection a
    /// call or a `subscriptions/listen`.
    pub(crate) fn cancel(&mut self, affinity: Affinity, id: &OwnedId, source: &mut Source<'_>) {
        match (affinity, source) {
            (Affinity::Session(session), _) => {
                self.cancel_in_session(session.key, id);
                for shard in 0..u16::try_from(self.state.broadcast.mailboxes().len()).unwrap_or(u16::MAX) {
                    if shard != self.state.shard
                        && !self.state.broadcast.post(shard, Message::Cancel(session.key, id.clone()))
                    {
                        self.observer.metrics().event("cancel_lost");
                    }
                }
            }
            (_, Source::JsonLines { client, .. }) => match self.calls.find(None, Some(client.socket), id) {
                Some(ticket) => self.cancel_call(ticket),
                None => self.close_listens(client, id),
            },
            _ => {}
        }
    }

    /// As [`Self::cancel`], for a call of a session on this shard.
    pub(crate) fn cancel_in_session(&mut self, key: SessionKey, id: &OwnedId) {
        if let Some(ticket) = self.calls.find(Some(key), None, id) {
            self.cancel_call(ticket);
        }
    }

    /// Cancels a call. An attached connection receives an empty reply.
    fn cancel_call(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.cancel(ticket) else { return };
        self.observer.metrics().event("cancelled");
        match call.reply_to {
            ReplyTo::Stream(stream) | ReplyTo::Http { stream: ReplyStream::Resumable(stream), .. } => {
                self.state.end(stream);
            }
            ReplyTo::Http { .. } | ReplyTo::JsonLines(_) => {
                self.observer.metrics().note(RpcMethod::Other as usize);
                self.reply(ticket, call.reply_to, Status::Accepted, &[]);
            }
            ReplyTo::Task(_) => {}
        }
    }

    /// Encodes and delivers the reply of a call that has ended.
    pub(crate) fn finish_call(
        &mut self,
        ticket: Ticket,
        call: &PendingCall,
        channel: Option<&Arc<ClientChannel>>,
        outcome: Result<Reply, ErrorKind>,
    ) {
        let is_sampled = self.mark_result(ticket);
        if let ReplyTo::JsonLines(socket)
        | ReplyTo::Http {
            socket,
            stream: ReplyStream::Unsupported | ReplyStream::Possible | ReplyStream::Open,
        } = call.reply_to
        {
            // The common case: encodes the reply directly into the delivery queue.
            let mut deliveries = std::mem::take(&mut self.state.deliveries);
            let (range, status) = deliveries.write(|out| self.write_answer(call, channel, outcome, out));
            debug_assert!(self.state.deliveries.is_empty(), "an answer is one delivery");
            self.state.deliveries = deliveries;
            let to = Destination::Reply(socket, ticket);
            self.state.deliveries.push(to, Payload::Reply(status, range), AfterSend::EndReply);
            if is_sampled {
                self.mark_result_encoded(Some(socket));
            }
            return;
        }
        let mut answer = Vec::new();
        let status = self.write_answer(call, channel, outcome, &mut answer);
        if is_sampled {
            self.mark_result_encoded(None);
        }
        self.reply(ticket, call.reply_to, status, &answer);
    }

    /// Encodes the reply of a call that has ended, and records its latency.
    fn write_answer(
        &mut self,
        call: &PendingCall,
        channel: Option<&Arc<ClientChannel>>,
        outcome: Result<Reply, ErrorKind>,
        out: &mut Vec<u8>,
    ) -> Status {
        // The id of a task's reply is a placeholder: `complete_task` removes the envelope.
        let id = match call.reply_to {
            ReplyTo::Task(_) => Id::Unsigned(0),
            _ => call.id.as_id(),
        };
        self.observer.set_peer(call.peer);
        let callable = &call.callable;
        let start = out.len();
        let errors = self.observer.errors();
        let before = self.use_flags(call.handling.flags);
        let status = match outcome {
            Ok(mut reply) => {
                let (status, error) =
                    self.answers.result(out, &self.snapshot, callable, id, call.revision, &mut reply);
                if error.is_some() || reply.is_failed() {
                    let request = (call.id.as_id(), call.started);
                    self.observer.call_failed(callable, &reply, error, call.revision, request);
                }
                status
            }
            Err(ErrorKind::InputRequired) => {
                let requests = channel.map(|channel| channel.take_unanswered()).unwrap_or_default();
                let answers = channel.map(|channel| channel.answers()).unwrap_or_default();
                // Rounded up to whole seconds.
                let expires =
                    self.clock.wall.saturating_add(self.limits.request_state_ttl).as_secs().saturating_add(1);
                let fingerprint = call.state.as_ref().map(|state| state.fingerprint).unwrap_or_default();
                let signing_key = self.sessions.signing_key();
                let once = callable.once().map(|states| states.issue());
                let round = (&requests, answers, once);
                mcp::write_input_required(out, &self.snapshot, signing_key, id, expires, &fingerprint, round);
                self.observer.metrics().event("input_required");
                Status::Ok
            }
            Err(error) => {
                let request = RequestFields::of_call(callable, call.id.as_id(), call.started);
                self.observer.call_rejected(error, callable, request, call.revision);
                self.answers.error(out, &self.snapshot, callable, id, call.revision, error)
            }
        };
        if let Some(first_use) = call.state.as_ref().and_then(|state| state.first_use.as_ref()) {
            let response = out.get(start..).unwrap_or_default();
            first_use.complete(status, super::once::behind_id(response, id), &self.limits);
        }
        self.use_flags(before);
        self.record_latency(call, self.observer.errors() != errors);
        status
    }

    /// Records the latency of a call that was answered, and whether with an error.
    pub(super) fn record_latency(&mut self, call: &PendingCall, is_error: bool) {
        self.record_cohorts(call.handling, is_error);
        let (callable, kind) = (&call.callable, call.callable.kind());
        let latency = call.started.elapsed();
        self.observer.metrics().record(RpcMethod::from(kind) as usize, latency);
        if kind == Kind::Tool {
            self.observer.metrics().record_tool(callable.position(), callable.name(), latency);
        }
    }

    /// Completes a task with the encoded reply of its call.
    pub(crate) fn complete_task(&mut self, key: TaskKey, answer: &[u8]) {
        const RESULT: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{";
        const ERROR: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":0,\"error\":";
        let cut =
            |start: &[u8], end: &[u8]| answer.strip_prefix(start)?.strip_suffix(end).map(<[u8]>::to_vec);
        let status = match (cut(RESULT, b"}}"), cut(ERROR, b"}")) {
            (Some(members), _) => TaskStatus::Completed(members),
            (None, error) => TaskStatus::Failed(error.unwrap_or_default()),
        };
        let clock = self.clock;
        for _ in 0..self.state.tasks.end(key, status, clock.both()) {
            self.observer.limited("task_results_bytes_max");
        }
        self.state.publish_task(key, clock.monotonic);
    }

    /// Answers the cancelled calls, and starts those that waited for them; if `overdue`, also cancels and answers the calls and
    /// requests past their deadlines.
    pub(crate) fn expire(&mut self, overdue: bool) {
        self.answer_cancelled(overdue);
        self.start_waiting();
    }

    fn answer_cancelled(&mut self, overdue: bool) {
        loop {
            if let Some((ticket, call, error)) = self.cancelled.pop_front() {
                self.finish_call(ticket, &call, None, Err(error));
                continue;
            }
            if !overdue {
                return;
            }
            match self.calls.next_overdue(self.clock.monotonic) {
                Some(Overdue::Call(ticket, call)) => {
                    self.finish_call(ticket, &call, None, Err(ErrorKind::Deadline));
                }
                Some(Overdue::Remote(ticket, remote)) => self.remote_timed_out(ticket, &remote),
                None => return,
            }
        }
    }

    /// Cancels these calls and answers them with [`ErrorKind::ShuttingDown`]: the time limit of a drain has passed. A call whose
    /// client has left, because its connection is not open, is only cancelled. Returns the names of those that were answered.
    pub(crate) fn abandon(
        &mut self,
        tickets: Vec<Ticket>,
        mut is_open: impl FnMut(SocketId) -> bool,
    ) -> Vec<String> {
        let mut names = Vec::new();
        for ticket in tickets {
            if let Some(remote) = self.calls.take_remote(ticket) {
                self.remote_timed_out(ticket, &remote);
                continue;
            }
            let Some(call) = self.calls.cancel(ticket) else { continue };
            let has_client = match call.reply_to {
                ReplyTo::Http { socket, .. } | ReplyTo::JsonLines(socket) => is_open(socket),
                // Its client has lost the connection, and cannot resume the stream at another instance.
                ReplyTo::Stream(_) => false,
                ReplyTo::Task(_) => true,
            };
            if has_client {
                names.push(call.callable.name().to_owned());
                self.finish_call(ticket, &call, None, Err(ErrorKind::ShuttingDown));
            } else {
                self.observer.metrics().event("cancelled");
            }
        }
        names
    }

    /// Whether a call is cancelled when its connection closes: in the 2026 era
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#cancellation>). A legacy client
    /// that has closed its side may still await the reply.
    pub(crate) fn ends_with_connection(&self, ticket: Ticket) -> bool {
        self.calls.get(ticket).is_some_and(|call| call.revision.is_modern())
    }

    /// Detaches a call from its connection, which has closed: cancels it in the 2026 era; in a resumable stream, the reply goes to
    /// the replay buffer.
    pub(crate) fn detach_call(&mut self, ticket: Ticket) {
        if self.ends_with_connection(ticket) {
            if self.calls.cancel(ticket).is_some() {
                self.observer.metrics().event("cancelled");
            }
            return;
        }
        if let Some(call) = self.calls.get_mut(ticket)
            && let ReplyTo::Http { socket, stream: ReplyStream::Resumable(stream) } = call.reply_to
        {
            call.reply_to = ReplyTo::Stream(stream);
            self.state.detach(stream, socket);
        }
        self.orphan_call(ticket);
    }

    /// Counts a legacy call that goes on although its client has closed the connection, or its side of it. Cancels the oldest of
    /// them if the peer has too many.
    pub(crate) fn orphan_call(&mut self, ticket: Ticket) {
        self.calls.orphan(ticket);
        while let Some(oldest) = self.calls.excess_orphan(ticket) {
            let is_resumed = match self.calls.get(oldest).map(|call| call.reply_to) {
                Some(ReplyTo::Stream(stream)) => self.state.table.attachment(stream).is_some(),
                Some(ReplyTo::Http { socket, stream: ReplyStream::Resumable(stream) }) => {
                    let closed = Attachment { shard: self.state.shard, socket };
                    self.state.table.attachment(stream).is_some_and(|attachment| attachment != closed)
                }
                _ => false,
            };
            if is_resumed {
                self.calls.adopt_orphan(oldest);
            } else if let Some(call) = self.calls.cancel(oldest) {
                self.cancelled.push_back((oldest, call, ErrorKind::OrphanLimit));
            }
        }
    }
}

/// The kind of error that is sent for a call without a reply.
pub(super) fn error_kind(unfinished: Unfinished) -> ErrorKind {
    match unfinished {
        Unfinished::Panicked => ErrorKind::ToolPanicked,
        Unfinished::Cancelled => ErrorKind::Deadline,
        Unfinished::InputRequired => ErrorKind::InputRequired,
        Unfinished::ResultMemory => ErrorKind::ResultMemory,
    }
}
