//! Requests for state that another shard owns: sessions, streams, tasks.

use super::{
    Dispatcher, Disposition, ReplyTo,
    pending::RemoteRequest,
    subscribe::{TOO_MANY_BYTES, TOO_MANY_SUBSCRIPTIONS},
};
use crate::{
    call::Revision,
    delivery::{AfterSend, Destination, Payload},
    http1::Status,
    jsonrpc::{OwnedId, write_result},
    mcp::{self, ErrorKind, RpcMethod, TaskRequest},
    mesh::{Answer, Broadcast, Message, Request},
    runtime::Ticket,
};

impl Dispatcher {
    /// Whether a shard of this number exists. Tokens signed when the server had more shards may name others.
    pub(crate) fn has_shard(&self, shard: u16) -> bool {
        shard == self.state.shard || usize::from(shard) < self.state.broadcast.mailboxes().len()
    }

    /// Sends a request to the shard `owner`, or serves it immediately if that is this shard. `about`: the id of the JSON-RPC request
    /// and its method.
    pub(crate) fn request_shard(
        &mut self,
        owner: u16,
        request: Request,
        about: (Option<OwnedId>, RpcMethod),
        reply_to: ReplyTo,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let (id, method) = about;
        let started = self.observer.turn_began();
        let peer = self.observer.peer();
        let remote = RemoteRequest { reply_to, peer, id, method, started, left: 1 };
        let is_gone = matches!(request, Request::Task(_)) && !self.has_shard(owner);
        if is_gone || owner == self.state.shard {
            let answer = if is_gone { Answer::Unknown } else { self.serve(&request, owner) };
            return self.reply_now(&remote, answer, out);
        }
        let from = self.state.shard;
        self.post_remote(remote, out, |broadcast, ticket| {
            broadcast.post(owner, Message::Request { from, ticket, request })
        })
    }

    /// Sends a request to every shard; the reply is sent when all have responded.
    pub(crate) fn request_all_shards(
        &mut self,
        request: Request,
        about: (Option<OwnedId>, RpcMethod),
        reply_to: ReplyTo,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let (id, method) = about;
        let started = self.observer.turn_began();
        let from = self.state.shard;
        let answer = self.serve(&request, from);
        let others = self.state.broadcast.mailboxes().len().saturating_sub(1);
        let peer = self.observer.peer();
        // The end of a session is stored before it is answered.
        let ended = match &request {
            Request::End(session) if self.state.broadcast.has_end_store() => Some(*session),
            _ => None,
        };
        let left = others + usize::from(ended.is_some());
        let remote = RemoteRequest { reply_to, peer, id, method, started, left };
        if left == 0 {
            return self.reply_now(&remote, answer, out);
        }
        self.post_remote(remote, out, |broadcast, ticket| {
            // If one mailbox is full, other shards may have served the request, which is idempotent.
            let is_posted =
                (0..=u16::try_from(others).unwrap_or(u16::MAX)).filter(|shard| *shard != from).all(|shard| {
                    broadcast.post(shard, Message::Request { from, ticket, request: request.clone() })
                });
            is_posted && ended.is_none_or(|session| broadcast.store_end(&session, from, ticket))
        })
    }

    fn reply_now(&mut self, remote: &RemoteRequest, answer: Answer, out: &mut Vec<u8>) -> Disposition {
        let disposition = self.write_remote_answer(remote, answer, out);
        if matches!(disposition, Disposition::Replied(_)) {
            self.observer.metrics().note(remote.method as usize);
        }
        disposition
    }

    /// Allocates a slot for a request and posts it. `post` returns `false` if a mailbox is full.
    fn post_remote(
        &mut self,
        remote: RemoteRequest,
        out: &mut Vec<u8>,
        post: impl FnOnce(&Broadcast, Ticket) -> bool,
    ) -> Disposition {
        let (id, method) = (remote.id.clone(), remote.method);
        let reason = match self.calls.insert_remote(remote, self.clock.monotonic) {
            Ok(ticket) if post(&self.state.broadcast, ticket) => return Disposition::Pending(ticket),
            Ok(ticket) => {
                self.calls.free_remote(ticket);
                ErrorKind::Busy
            }
            Err(reason) => reason.into(),
        };
        let id = id.as_ref().map(OwnedId::as_id);
        self.reject(mcp::write_rejection(out, id, Revision::ASSUMED, method, reason, SERVER_BUSY))
    }

    /// Serves a request, of this shard or another, from the state of this shard.
    pub(crate) fn serve(&mut self, request: &Request, from: u16) -> Answer {
        let answer = self.state.serve(request, from, &mut self.sessions, self.clock);
        for event in self.state.take_events() {
            self.observer.metrics().event(event);
        }
        if let (Request::Task(TaskRequest { key, action }), Answer::Task(_)) = (request, &answer) {
            self.task_action(*key, action);
        }
        answer
    }

    /// Records the response of another shard. Delivers the reply when all have responded.
    pub(crate) fn on_remote_answer(&mut self, ticket: Ticket, answer: Answer) {
        let Some(remote) = self.calls.take_complete(ticket) else { return };
        // Only requests of connections are sent to other shards.
        let Some(socket) = remote.reply_to.socket() else { return };
        let mut out = Vec::new();
        let disposition = self.write_remote_answer(&remote, answer, &mut out);
        self.observer.metrics().record(remote.method as usize, remote.started.elapsed());
        let deliveries = &mut self.state.deliveries;
        let (range, ()) = deliveries.write(|bytes| bytes.extend_from_slice(&out));
        let (payload, then) = match disposition {
            Disposition::Replied(status) => (Payload::Reply(status, range), AfterSend::EndReply),
            Disposition::Attached(stream, true) => (Payload::Attached(stream, range), AfterSend::EndReply),
            Disposition::Attached(stream, false) => (Payload::Attached(stream, range), AfterSend::KeepOpen),
            _ => return,
        };
        deliveries.push(Destination::Reply(socket, ticket), payload, then);
    }

    /// Encodes and delivers the error for a request without a response in time.
    pub(super) fn remote_timed_out(&mut self, ticket: Ticket, remote: &RemoteRequest) {
        let Some(socket) = remote.reply_to.socket() else { return };
        self.observer.set_peer(remote.peer);
        let id = remote.id.as_ref().map(OwnedId::as_id);
        let (range, outcome) = self.state.deliveries.write(|out| {
            mcp::write_rejection(out, id, Revision::ASSUMED, remote.method, ErrorKind::Busy, SERVER_BUSY)
        });
        self.record_error(outcome, Some(remote.started));
        self.observer.metrics().record(remote.method as usize, remote.started.elapsed());
        let payload = Payload::Reply(Status::ServiceUnavailable, range);
        self.state.deliveries.push(Destination::Reply(socket, ticket), payload, AfterSend::EndReply);
    }

    /// Encodes the reply for the response of the shard that owns the state.
    fn write_remote_answer(
        &mut self,
        remote: &RemoteRequest,
        answer: Answer,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let id = remote.id.as_ref().map(OwnedId::as_id);
        let method = remote.method;
        let (reason, text) = match (answer, id) {
            (Answer::Done, Some(id)) => {
                write_result(out, id, |_| {});
                return Disposition::Replied(Status::Ok);
            }
            // A session has ended.
            (Answer::Done, None) => return Disposition::Replied(Status::NoContent),
            (Answer::Task(view), Some(id)) => {
                if method == RpcMethod::TasksGet {
                    mcp::write_task(out, &self.snapshot, id, &view);
                } else {
                    mcp::write_task_acknowledged(out, &self.snapshot, id);
                }
                return Disposition::Replied(Status::Ok);
            }
            (Answer::Attached(stream, events, ended), _) => {
                out.extend_from_slice(&events);
                return Disposition::Attached(stream, ended);
            }
            (Answer::Unknown, Some(id)) => {
                return self.record_error(mcp::write_unknown_task(out, id, method), None);
            }
            (Answer::Unknown | Answer::Task(_), None) => (ErrorKind::UnknownStream, "Unknown Last-Event-ID"),
            (Answer::Full, _) => (ErrorKind::Busy, SERVER_BUSY),
            (Answer::PeerShare, _) => (ErrorKind::PeerShare, TOO_MANY_SUBSCRIPTIONS),
            (Answer::TooMany, _) => (ErrorKind::TooManySubscriptions, TOO_MANY_SUBSCRIPTIONS),
            (Answer::TooManyBytes, _) => (ErrorKind::SubscriptionBytes, TOO_MANY_BYTES),
        };
        self.record_error(mcp::write_rejection(out, id, Revision::ASSUMED, method, reason, text), None)
    }
}

const SERVER_BUSY: &str = "Server busy";
