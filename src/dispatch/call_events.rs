//! What calls say while they run, what is answered to them, and how they end.

use std::{sync::Arc, time::Duration};

use corelane_ring::SocketId;

use super::{
    Dispatcher, ReplyStream, ReplyTo, Source,
    in_flight::{Overdue, PendingCall},
};
use crate::{
    call::{CallMessage, ClientChannel, InputRequest, Kind, Reply, Revision, TaskTerms},
    delivery::{AfterSend, Destination, Payload},
    http1::Status,
    json::write_string,
    jsonrpc::{Id, OwnedId},
    mcp::{
        self, CallMethod, ClientAnswer, QuestionId, Refused, SessionKey, TaskAction, TaskKey, TaskStatus, Tie,
    },
    mesh::{Message, StreamId},
    runtime::{CallEvent, Completed, Ticket, Unfinished, instant_after},
    session::Attachment,
    telemetry::observer::RequestFields,
};

/// Where a message of a running call goes.
enum NotificationRoute {
    /// The connection that waits for the answer.
    Connection(SocketId),
    /// A replay buffer.
    Stream(StreamId),
    /// Nowhere: the client cannot be reached before the answer.
    None,
}

impl Dispatcher {
    /// Takes up an event of a running call.
    pub(crate) fn on_call_event(&mut self, event: CallEvent) {
        match event {
            CallEvent::Message(ticket, message) => self.on_call_message(ticket, message),
            CallEvent::Ended(Completed { ticket, outcome }) => {
                let suspended = self.calls.get_mut(ticket).and_then(|call| call.suspended.take());
                if let Some(suspended) = suspended {
                    self.resume_suspended(ticket, *suspended);
                } else if let Some((call, channel)) = self.calls.take(ticket) {
                    self.finish_call(ticket, &call, channel.as_ref(), outcome.map_err(error_kind));
                }
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
        }
    }

    /// Where messages of a call go that precede its answer. The first makes a reply over HTTP a stream of events, which can be
    /// resumed in a session of 2025-11-25
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
                    let id = session.and_then(|session| table.open_reply(session, attachment));
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

    /// Sends a message that precedes the answer of a call. Returns `false` if the client cannot be reached.
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

    /// Asks the client a call's question.
    fn send_client_request(&mut self, ticket: Ticket, key: String, request: &InputRequest) {
        let clock = self.clock;
        let secret = self.sessions.secret().clone();
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
        let id = question.seal(&secret, call.session, self.state.broadcast.instance());
        let mut message = b"{\"jsonrpc\":\"2.0\",\"id\":".to_vec();
        write_string(&mut message, &id);
        message.extend_from_slice(b",\"method\":");
        write_string(&mut message, request.method);
        message.extend_from_slice(b",\"params\":");
        let mut params = request.params.clone();
        // The call's own name for it is another call's too (checklist E-02).
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

    /// Brings a client's answer to the call that requests, here or elsewhere.
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
            // While another one is open, the call's time does not run.
            let deadline = call.questions.is_empty().then(|| instant_after(now, call.callable.deadline()));
            Some((key, deadline))
        });
        // A second answer, or one to a call that has ended.
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

    /// Ends a reply's stream before the call has ended. Its client resumes the stream.
    fn disconnect(&mut self, ticket: Ticket, retry: Duration) {
        // The stream begins, so that there is something to resume.
        self.notification_route(ticket);
        let Some(call) = self.calls.get_mut(ticket) else { return };
        let ReplyTo::Http { socket, stream: ReplyStream::Resumable(stream) } = call.reply_to else { return };
        call.reply_to = ReplyTo::Stream(stream);
        let last = self.state.table.priming_event(stream, Some(retry.as_millis()));
        self.state.detach(stream, socket);
        self.state.deliveries.events(Destination::Stream(socket, stream), &last, AfterSend::EndReply);
    }

    /// The call goes on as a task: whoever waits is told where to ask for it (checklist X-03).
    fn become_task(&mut self, ticket: Ticket, terms: TaskTerms) {
        let clock = self.clock;
        let nonce = u64::from_le_bytes(self.entropy.take());
        let Some(call) = self.calls.get(ticket) else { return };
        if matches!(call.reply_to, ReplyTo::Task(_)) {
            return;
        }
        let secret = self.sessions.secret();
        let kept = self.state.tasks.insert(ticket, terms, secret, clock.both(), nonce);
        let Some((key, expires)) = kept else {
            if let Some(call) = self.calls.cancel(ticket) {
                self.cancelled.push_back((ticket, call, Refused::Busy));
            }
            return;
        };
        self.calls.set_deadline(ticket, clock.monotonic, expires);
        let Some(call) = self.calls.get_mut(ticket) else { return };
        let reply_to = std::mem::replace(&mut call.reply_to, ReplyTo::Task(key));
        let id = call.id.clone();
        if let Some(view) = self.state.tasks.view(key, clock.monotonic) {
            let mut out = Vec::new();
            mcp::write_task_created(&mut out, &self.snapshot, id.as_id(), view);
            self.reply(ticket, reply_to, Status::Ok, &out);
        }
    }

    /// Delivers an answer, which is empty where the client gets none.
    fn reply(&mut self, ticket: Ticket, to: ReplyTo, status: Status, answer: &[u8]) {
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

    /// Does to a task what a client asks for.
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
                    self.state.tasks.end(key, TaskStatus::Cancelled, clock.both());
                    self.observer.metrics().event("cancelled");
                    self.state.publish_task(key, clock.monotonic);
                }
            }
        }
    }

    /// Cancels a request whose answer a client does not want any more: of a session wherever it runs, of a newline-delimited
    /// connection a call or a `subscriptions/listen`.
    pub(crate) fn cancel(&mut self, tie: Tie, id: &OwnedId, source: &mut Source<'_>) {
        match (tie, source) {
            (Tie::Session(session), _) => {
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

    /// As [`Self::cancel`], for the calls of a session that run on this shard.
    pub(crate) fn cancel_in_session(&mut self, key: SessionKey, id: &OwnedId) {
        if let Some(ticket) = self.calls.find(Some(key), None, id) {
            self.cancel_call(ticket);
        }
    }

    /// Cancels a call. Its connection, if one waits for the answer, gets an empty one.
    fn cancel_call(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.cancel(ticket) else { return };
        self.observer.metrics().event("cancelled");
        match call.reply_to {
            ReplyTo::Stream(stream) | ReplyTo::Http { stream: ReplyStream::Resumable(stream), .. } => {
                self.state.end(stream);
            }
            ReplyTo::Http { .. } | ReplyTo::JsonLines(_) => {
                self.observer.metrics().note(CallMethod::Other as usize);
                self.reply(ticket, call.reply_to, Status::Accepted, &[]);
            }
            ReplyTo::Task(_) => {}
        }
    }

    /// Answers a call that has ended.
    pub(crate) fn finish_call(
        &mut self,
        ticket: Ticket,
        call: &PendingCall,
        channel: Option<&Arc<ClientChannel>>,
        outcome: Result<Reply, Refused>,
    ) {
        if let ReplyTo::JsonLines(socket)
        | ReplyTo::Http {
            socket,
            stream: ReplyStream::Unsupported | ReplyStream::Possible | ReplyStream::Open,
        } = call.reply_to
        {
            // The usual case: straight into the bytes of the queue.
            let mut deliveries = std::mem::take(&mut self.state.deliveries);
            let (range, status) = deliveries.write(|out| self.write_answer(call, channel, outcome, out));
            debug_assert!(self.state.deliveries.is_empty(), "an answer is one delivery");
            self.state.deliveries = deliveries;
            let to = Destination::Reply(socket, ticket);
            self.state.deliveries.push(to, Payload::Reply(status, range), AfterSend::EndReply);
            return;
        }
        let mut answer = Vec::new();
        let status = self.write_answer(call, channel, outcome, &mut answer);
        self.reply(ticket, call.reply_to, status, &answer);
    }

    /// Writes the answer of a call that has ended, and records its latency.
    fn write_answer(
        &mut self,
        call: &PendingCall,
        channel: Option<&Arc<ClientChannel>>,
        outcome: Result<Reply, Refused>,
        out: &mut Vec<u8>,
    ) -> Status {
        // A task's result has no envelope of its own.
        let id = match call.reply_to {
            ReplyTo::Task(_) => Id::Unsigned(0),
            _ => call.id.as_id(),
        };
        self.observer.set_peer(call.peer);
        let (callable, kind) = (&call.callable, call.callable.kind());
        let status = match outcome {
            Ok(reply) => {
                let (status, error) =
                    self.answers.result(out, &self.snapshot, callable, id, call.revision, &reply);
                self.observer.answered(
                    callable,
                    &reply,
                    error,
                    call.revision,
                    (call.id.as_id(), call.started),
                );
                status
            }
            Err(Refused::InputRequired) => {
                let requests = channel.map(|channel| channel.take_unanswered()).unwrap_or_default();
                let answers = channel.map(|channel| channel.answers()).unwrap_or_default();
                // Rather a moment too late than too early.
                let expires =
                    self.clock.wall.saturating_add(self.limits.request_state_ttl).as_secs().saturating_add(1);
                let binding = call.binding.as_deref().copied().unwrap_or_default();
                let secret = self.sessions.secret();
                let round = (&requests, answers);
                mcp::write_input_required(out, &self.snapshot, secret, id, expires, &binding, round);
                self.observer.metrics().event("input_required");
                Status::Ok
            }
            Err(refused) => {
                let request = RequestFields::of_call(callable, call.id.as_id(), call.started);
                self.observer.call_refused(refused, callable, request, call.revision);
                mcp::write_call_refused(out, &self.snapshot, kind, id, call.revision, refused)
            }
        };
        let latency = call.started.elapsed();
        self.observer.metrics().record(CallMethod::from(kind) as usize, latency);
        if kind == Kind::Tool {
            self.observer.metrics().record_tool(callable.position(), callable.name(), latency);
        }
        status
    }

    /// Ends a task with what its call came to.
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
        self.state.tasks.end(key, status, clock.both());
        self.state.publish_task(key, clock.monotonic);
    }

    /// Answers the calls and requests whose deadline has passed, and cancels them.
    pub(crate) fn expire(&mut self) {
        loop {
            if let Some((ticket, call, refused)) = self.cancelled.pop_front() {
                self.finish_call(ticket, &call, None, Err(refused));
                continue;
            }
            match self.calls.next_overdue(self.clock.monotonic) {
                Some(Overdue::Call(ticket, call)) => {
                    self.finish_call(ticket, &call, None, Err(Refused::Deadline));
                }
                Some(Overdue::Remote(ticket, remote)) => self.remote_timed_out(ticket, &remote),
                None => return,
            }
        }
    }

    /// Whether the end of its connection is the end of a call: in the 2026 era it is (checklist M-80); before, a client
    /// that has closed its side may still wait for the answer.
    pub(crate) fn ends_with_connection(&self, ticket: Ticket) -> bool {
        self.calls.get(ticket).is_some_and(|call| call.revision.is_modern())
    }

    /// The connection that waits for a call has closed. In a session that can resume, the answer is kept for its client.
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
    }
}

/// The error that answers a call without a reply.
fn error_kind(unfinished: Unfinished) -> Refused {
    match unfinished {
        Unfinished::Panicked => Refused::ToolPanicked,
        Unfinished::Cancelled => Refused::Deadline,
        Unfinished::InputRequired => Refused::InputRequired,
    }
}
