//! What calls say while they run, what is answered to them, and how they end.

use std::{sync::Arc, time::Duration};

use corelane_ring::SocketId;

use super::{
    Engine, Performed, Via,
    in_flight::{Elsewhere, Overdue, PendingCall, Recipient},
};
use crate::{
    http1::{LAST_CHUNK, Status, chunk, write_event},
    json::write_string,
    jsonrpc::{Id, OwnedId},
    mcp::{
        self, CallMethod, ClientAnswer, QuestionId, Refused, SessionKey, TaskAction, TaskKey, TaskStatus, Tie,
    },
    mesh::{Answer, Message, StreamId},
    registry::{Conversation, InputRequest, Kind, Note, Reply, Revision, TaskTerms},
    runtime::{Ticket, Unfinished, instant_after},
    session::{Carrier, Effect, Then},
};

/// Where a message of a running call goes.
pub(crate) enum Way {
    /// The reply must become a stream first.
    Begin,
    /// As an event, to this connection.
    Event(SocketId),
    /// As a line of this connection.
    Line(SocketId),
    /// It is kept, and sent from there.
    Stream(StreamId),
    /// Nowhere.
    None,
}

impl Engine {
    /// Where what a call says goes.
    pub(crate) fn way(&self, ticket: Ticket) -> Way {
        match self.calls.get(ticket).map(|call| &call.recipient) {
            Some(Recipient::Http { streams: false, accepts_events: true, .. }) => Way::Begin,
            Some(Recipient::Http { stream: Some(stream), .. } | Recipient::Stream(stream)) => {
                Way::Stream(*stream)
            }
            Some(Recipient::Http { streams: true, socket, .. }) => Way::Event(*socket),
            Some(Recipient::Line(socket)) => Way::Line(*socket),
            Some(Recipient::Http { .. } | Recipient::Task(_)) | None => Way::None,
        }
    }

    /// A reply becomes a stream of events, after whose head the bytes returned are to be sent. In a session it can be resumed
    /// (checklist L-23).
    pub(crate) fn begin_stream(&mut self, ticket: Ticket) -> Option<(SocketId, Vec<u8>)> {
        let call = self.calls.get_mut(ticket)?;
        let session = call.session.filter(|_| call.revision == Revision::V2025_11_25);
        let Recipient::Http { socket, streams, stream, .. } = &mut call.recipient else { return None };
        *streams = true;
        let carrier = Carrier { shard: self.plane.shard, socket: *socket };
        *stream = session.and_then(|session| self.plane.replay.open(session, false, Some(carrier)));
        let primed = stream.map(|stream| self.plane.replay.prime(stream, None));
        Some((*socket, primed.unwrap_or_default()))
    }

    /// Sends a message of a running call, once [`Engine::way`] is not [`Way::Begin`]. Whether it went anywhere.
    pub(crate) fn send(&mut self, ticket: Ticket, message: &[u8]) -> bool {
        let mut bytes = Vec::new();
        let socket = match self.way(ticket) {
            Way::Stream(stream) => {
                self.plane.push(stream, message, false);
                return true;
            }
            Way::Event(socket) => {
                write_event(&mut bytes, None, message);
                socket
            }
            Way::Line(socket) => {
                bytes.extend_from_slice(message);
                bytes.push(b'\n');
                socket
            }
            Way::Begin | Way::None => return false,
        };
        self.plane.effects.push_back(Effect { socket, bytes, then: Then::Stays });
        true
    }

    /// Does what a running call says, but for beginning a stream, which must have been done before.
    pub(crate) fn on_note(&mut self, ticket: Ticket, note: Note) {
        match note {
            Note::Message(message) => {
                self.send(ticket, &message);
            }
            Note::Ask { key, request } => self.put_question(ticket, key, &request),
            Note::Disconnect { retry } => self.disconnect(ticket, retry),
            Note::Task(terms) => self.become_task(ticket, terms),
        }
    }

    /// Asks the client a call's question.
    fn put_question(&mut self, ticket: Ticket, key: String, request: &InputRequest) {
        let moment = self.moment;
        let secret = self.sessions.secret().clone();
        let timeout = self.limits.question_timeout;
        let shard = self.plane.shard;
        let Some(call) = self.calls.get_mut(ticket) else { return };
        if let Recipient::Task(task) = call.recipient {
            self.plane.tasks.ask(task, key, request.clone(), moment.both());
            self.plane.publish_task(task, moment.monotonic);
            return;
        }
        let number = call.asked;
        call.asked += 1;
        call.questions.push((number, key.clone()));
        let question = QuestionId { shard, index: ticket.index, generation: ticket.generation, number };
        let id = question.seal(&secret, call.session, self.plane.broadcast.instance());
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
            self.calls.set_deadline(ticket, moment.monotonic, instant_after(moment.monotonic, timeout));
        } else if let Some(talk) = self.calls.talk(ticket) {
            talk.answer(&key, Err((0, "the client cannot be reached".to_owned())));
        }
    }

    /// Brings a client's answer to the call that asked, here or elsewhere.
    pub(crate) fn client_answer(&mut self, answer: ClientAnswer) {
        let question = answer.question;
        if question.shard != self.plane.shard {
            if !self.plane.broadcast.post(question.shard, Message::ClientAnswer(answer)) {
                self.observer.metrics().event("answer_lost");
            }
            return;
        }
        let ticket = Ticket { index: question.index, generation: question.generation };
        let now = self.moment.monotonic;
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
        if let Some(talk) = self.calls.talk(ticket) {
            talk.answer(&key, answer.answer);
        }
    }

    /// Ends a reply's stream before the call has ended.
    fn disconnect(&mut self, ticket: Ticket, retry: Duration) {
        let Some(call) = self.calls.get_mut(ticket) else { return };
        let Recipient::Http { socket, stream: Some(stream), .. } = call.recipient else { return };
        call.recipient = Recipient::Stream(stream);
        let bytes = self.plane.replay.prime(stream, Some(retry.as_millis()));
        self.plane.detach(stream, socket);
        self.plane.effects.push_back(Effect { socket, bytes, then: Then::Resumes });
    }

    /// The call goes on as a task: whoever waits is told where to ask for it (checklist X-03).
    fn become_task(&mut self, ticket: Ticket, terms: TaskTerms) {
        let moment = self.moment;
        let nonce = u64::from_le_bytes(self.entropy.take());
        let Some(call) = self.calls.get(ticket) else { return };
        if matches!(call.recipient, Recipient::Task(_)) {
            return;
        }
        let secret = self.sessions.secret();
        let kept = self.plane.tasks.insert(ticket, terms, secret, moment.both(), nonce);
        let Some((key, expires)) = kept else {
            if let Some(call) = self.calls.abandon(ticket) {
                self.overdue.push_back((ticket, call, Refused::Busy));
            }
            return;
        };
        self.calls.set_deadline(ticket, moment.monotonic, expires);
        let Some(call) = self.calls.get_mut(ticket) else { return };
        let recipient = std::mem::replace(&mut call.recipient, Recipient::Task(key));
        let (id, method) = (call.id.clone(), CallMethod::ToolsCall);
        if let Some(view) = self.plane.tasks.view(key, moment.monotonic) {
            let mut out = Vec::new();
            mcp::write_task_created(&mut out, &self.snapshot, id.as_id(), view);
            self.told.push_back((ticket, recipient, Status::Ok, out, method));
        }
    }

    /// Does to a task what a client asks for.
    pub(crate) fn task_action(&mut self, key: TaskKey, action: &TaskAction) {
        let moment = self.moment;
        match action {
            TaskAction::Get => {}
            TaskAction::Update(answers) => {
                let ticket = self.plane.tasks.ticket(key, moment.monotonic);
                let wanted = self.plane.tasks.answer(key, answers.clone(), moment.both());
                if wanted.is_empty() {
                    return;
                }
                for (question, answer) in wanted {
                    if let Some(talk) = ticket.and_then(|ticket| self.calls.talk(ticket)) {
                        talk.answer(&question, Ok(answer));
                    }
                }
                self.plane.publish_task(key, moment.monotonic);
            }
            TaskAction::Cancel => {
                if let Some(ticket) = self.plane.tasks.ticket(key, moment.monotonic) {
                    self.calls.abandon(ticket);
                    self.plane.tasks.end(key, TaskStatus::Cancelled, moment.both());
                    self.observer.metrics().event("cancelled");
                    self.plane.publish_task(key, moment.monotonic);
                }
            }
        }
    }

    /// A client does not want the answer to a request any more (checklist L-66, M-81): here, and, in a session, wherever it
    /// runs. `false`: it is no call of this connection's.
    pub(crate) fn cancel(&mut self, tie: Tie, id: &OwnedId, via: Via<'_>) -> bool {
        match (tie, via) {
            (Tie::Session(session), _) => {
                self.cancel_in_session(session.key, id);
                for shard in 0..u16::try_from(self.plane.broadcast.mailboxes().len()).unwrap_or(u16::MAX) {
                    if shard != self.plane.shard
                        && !self.plane.broadcast.post(shard, Message::Cancel(session.key, id.clone()))
                    {
                        self.observer.metrics().event("cancel_lost");
                    }
                }
            }
            (_, Via::Line { socket, .. }) => {
                let Some(ticket) = self.calls.find(None, Some(socket), id) else { return false };
                self.give_up(ticket);
            }
            _ => {}
        }
        true
    }

    /// As [`Engine::cancel`], for the calls of a session that run here.
    pub(crate) fn cancel_in_session(&mut self, key: SessionKey, id: &OwnedId) {
        if let Some(ticket) = self.calls.find(Some(key), None, id) {
            self.give_up(ticket);
        }
    }

    /// Ends a call nobody wants the answer of. Its connection, if one waits, goes on.
    fn give_up(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.abandon(ticket) else { return };
        self.observer.metrics().event("cancelled");
        match call.recipient {
            Recipient::Stream(stream) | Recipient::Http { stream: Some(stream), .. } => {
                self.plane.end(stream);
            }
            // A line owes one answer less.
            Recipient::Http { in_batch: false, .. } | Recipient::Line(_) => {
                self.told.push_back((
                    ticket,
                    call.recipient,
                    Status::Accepted,
                    Vec::new(),
                    CallMethod::Other,
                ));
            }
            Recipient::Http { socket, .. } => {
                self.plane.effects.push_back(Effect { socket, bytes: Vec::new(), then: Then::Resumes });
            }
            Recipient::Task(_) => {}
        }
    }

    /// What was asked of this shard has been answered by another.
    pub(crate) fn on_answer(
        &mut self,
        ticket: Ticket,
        answer: Answer,
    ) -> Option<(Elsewhere, Performed, Vec<u8>)> {
        let elsewhere = self.calls.take_answered(ticket)?;
        let mut out = Vec::new();
        let performed = self.conclude(&elsewhere, answer, &mut out);
        let took = elsewhere.started.elapsed();
        self.observer.metrics().record(elsewhere.method as usize, took);
        Some((elsewhere, performed, out))
    }

    /// Writes the answer to a call that has ended: JSON. Counts it.
    pub(crate) fn write_answer(
        &mut self,
        call: &PendingCall,
        talk: Option<&Arc<Conversation>>,
        outcome: Result<Reply, Refused>,
        out: &mut Vec<u8>,
    ) -> Status {
        // A task's result has no envelope of its own.
        let id = match call.recipient {
            Recipient::Task(_) => Id::Unsigned(0),
            _ => call.id.as_id(),
        };
        let (callable, kind) = (&call.callable, call.callable.kind());
        let status = match outcome {
            Ok(reply) => {
                let (status, told) =
                    self.answers.result(out, &self.snapshot, callable, id, call.revision, &reply);
                self.observer.answered(callable, &reply, told);
                status
            }
            Err(Refused::InputRequired) => {
                let asked = talk.map(|talk| talk.take_unanswered()).unwrap_or_default();
                let answers = talk.map(|talk| talk.answers()).unwrap_or_default();
                // Rather a moment too late than too early.
                let expires = self
                    .moment
                    .wall
                    .saturating_add(self.limits.request_state_ttl)
                    .as_secs()
                    .saturating_add(1);
                let binding = call.binding.as_deref().copied().unwrap_or_default();
                let secret = self.sessions.secret();
                let round = (&asked, answers);
                mcp::write_input_required(out, &self.snapshot, secret, id, expires, &binding, round);
                self.observer.metrics().event("input_required");
                Status::Ok
            }
            Err(refused) => {
                self.observer.call_refused(refused, callable);
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
    pub(crate) fn end_task(&mut self, key: TaskKey, answer: &[u8]) {
        const RESULT: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{";
        const ERROR: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":0,\"error\":";
        let cut =
            |start: &[u8], end: &[u8]| answer.strip_prefix(start)?.strip_suffix(end).map(<[u8]>::to_vec);
        let status = match (cut(RESULT, b"}}"), cut(ERROR, b"}")) {
            (Some(members), _) => TaskStatus::Completed(members),
            (None, error) => TaskStatus::Failed(error.unwrap_or_default()),
        };
        let moment = self.moment;
        self.plane.tasks.end(key, status, moment.both());
        self.plane.publish_task(key, moment.monotonic);
    }

    /// The next call whose deadline has passed, or whose task found no room: cancelled, and what it is to be told.
    pub(crate) fn next_overdue(&mut self) -> Option<(Ticket, PendingCall, Refused)> {
        if let Some(overdue) = self.overdue.pop_front() {
            return Some(overdue);
        }
        loop {
            match self.calls.next_overdue(self.moment.monotonic)? {
                Overdue::Call(ticket, call) => return Some((ticket, call, Refused::Deadline)),
                Overdue::Elsewhere(elsewhere) => {
                    let mut out = Vec::new();
                    self.observer.refused(Refused::Busy.name(), None);
                    let id = elsewhere.id.as_ref().map(OwnedId::as_id);
                    let method = elsewhere.method;
                    mcp::write_refused(&mut out, id, Revision::ASSUMED, method, Refused::Busy, "Server busy");
                    let ticket = Ticket::default();
                    let status = Status::ServiceUnavailable;
                    self.told.push_back((ticket, elsewhere.recipient, status, out, method));
                }
            }
        }
    }

    /// Whether the end of its connection is the end of a call: in the 2026 era it is (checklist M-80); before, a client
    /// that has closed its side may still wait for the answer.
    pub(crate) fn ends_with_connection(&self, ticket: Ticket) -> bool {
        self.calls.get(ticket).is_some_and(|call| call.revision.is_modern())
    }

    /// The client of a call has gone. In a session that can resume, the answer is kept for it.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        if self.ends_with_connection(ticket) {
            if self.calls.abandon(ticket).is_some() {
                self.observer.metrics().event("cancelled");
            }
            return;
        }
        if let Some(call) = self.calls.get_mut(ticket)
            && let Recipient::Http { socket, stream: Some(stream), .. } = call.recipient
        {
            call.recipient = Recipient::Stream(stream);
            self.plane.detach(stream, socket);
        }
    }

    /// What a call's end is told as.
    pub(crate) fn refusal(unfinished: Unfinished) -> Refused {
        match unfinished {
            Unfinished::Panicked => Refused::ToolPanicked,
            Unfinished::Cancelled => Refused::Deadline,
            Unfinished::InputRequired => Refused::InputRequired,
        }
    }
}

/// Frames events for a connection.
pub(crate) fn frame_events(events: &[u8], ended: bool) -> Vec<u8> {
    let mut framed = Vec::with_capacity(events.len() + 32);
    chunk(&mut framed, true, |out| out.extend_from_slice(events));
    if ended {
        framed.extend_from_slice(LAST_CHUNK);
    }
    framed
}
