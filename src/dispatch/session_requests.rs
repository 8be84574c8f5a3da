//! HTTP requests of a legacy session without a message: GET opens a stream, DELETE ends the session
//! (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports>).

use corelane_ring::SocketId;

use super::{Dispatcher, Disposition, ReplyStream, ReplyTo};
use crate::{
    call::Revision,
    http1::Field,
    mcp::{self, ErrorKind, Headers, RpcMethod, Session, SessionKey, StreamId},
    mesh::{Request, StreamRequest},
    session::{is_reply_event, read_event_id},
    telemetry::observer::RequestFields,
};

impl Dispatcher {
    /// Encodes the error for an HTTP request that calls no method.
    pub(crate) fn reject_request(
        &mut self,
        out: &mut Vec<u8>,
        reason: ErrorKind,
        message: &'static str,
    ) -> Disposition {
        self.reject(mcp::write_rejection(out, None, Revision::ASSUMED, RpcMethod::Other, reason, message))
    }

    /// Verifies the session of an HTTP request without a message.
    pub(crate) fn session(
        &mut self,
        headers: Headers<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Session, Disposition> {
        let now = self.clock.wall.as_secs();
        let found = mcp::require_session(&mut self.sessions, now, headers, out);
        found.map_err(|(status, reason)| {
            let request = RequestFields { status: Some(status), ..RequestFields::default() };
            self.observer.rejected(reason.name(), request, None);
            self.observer.metrics().note(RpcMethod::Other as usize);
            Disposition::Replied(status)
        })
    }

    /// Opens a stream of a session, or resumes one by `Last-Event-ID`.
    pub(crate) fn open_stream(
        &mut self,
        headers: Headers<'_>,
        socket: SocketId,
        out: &mut Vec<u8>,
    ) -> Disposition {
        let session = match self.session(headers, out) {
            Ok(session) => session,
            Err(disposition) => return disposition,
        };
        let stream = match headers.head.last_event_id(headers.bytes) {
            Field::Absent => StreamRequest::New,
            Field::Value(id) => match read_event_id(self.state.broadcast.instance(), id) {
                Some((stream, after)) if self.can_resume(stream, session.key, after) => {
                    let is_reply = is_reply_event(id);
                    let resume = if is_reply { StreamRequest::ResumeReply } else { StreamRequest::Resume };
                    resume(stream, after)
                }
                // The response is lost. Another stream would be kept open in vain for each request whose stream was freed.
                _ if is_reply_event(id) => {
                    return self.reject_request(out, ErrorKind::UnknownStream, "Unknown Last-Event-ID");
                }
                // Clients repeat a rejected request with the same id, and then go on without a stream.
                _ => StreamRequest::Replace,
            },
            Field::Repeated => {
                let text = "Last-Event-ID is given more than once";
                return self.reject_request(out, ErrorKind::UnknownStream, text);
            }
        };
        if headers.head.http_1_0 {
            return self.reject_request(out, ErrorKind::InvalidRequest, "A stream needs HTTP/1.1");
        }
        if session.is_foreign && matches!(stream, StreamRequest::New) {
            // Another instance owns the state of the session. The client opens a new session and subscribes again.
            return self.reject_request(out, ErrorKind::UnknownSession, "Session not found");
        }
        let owner = match stream {
            StreamRequest::Resume(stream, _) | StreamRequest::ResumeReply(stream, _) => stream.shard,
            StreamRequest::New | StreamRequest::Replace => session.home,
        };
        let request = Request::Attach { session, socket, stream };
        self.request_shard(owner, request, (None, RpcMethod::Other), pending_reply(socket), out)
    }

    /// Whether the stream of an event may be resumed. The streams of other shards are checked there.
    fn can_resume(&self, stream: StreamId, session: SessionKey, after: u64) -> bool {
        if stream.shard == self.state.shard {
            self.state.table.can_resume(stream, session, after)
        } else {
            self.has_shard(stream.shard)
        }
    }

    /// Ends a session on every shard.
    pub(crate) fn end_session(
        &mut self,
        headers: Headers<'_>,
        socket: SocketId,
        out: &mut Vec<u8>,
    ) -> Disposition {
        match self.session(headers, out) {
            Ok(session) => {
                let request = Request::End(session);
                self.request_all_shards(request, (None, RpcMethod::Other), pending_reply(socket), out)
            }
            Err(disposition) => disposition,
        }
    }
}

fn pending_reply(socket: SocketId) -> ReplyTo {
    ReplyTo::Http { socket, stream: ReplyStream::Unsupported }
}
