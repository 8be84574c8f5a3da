//! HTTP requests of a legacy session without a message: GET opens a stream, DELETE ends the session
//! (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports>).

use corelane_ring::SocketId;

use super::{Dispatcher, Disposition, ReplyStream, ReplyTo};
use crate::{
    http1::Field,
    mcp::{ErrorKind, Headers, RpcMethod},
    mesh::Request,
    session::read_event_id,
};

impl Dispatcher {
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
        let resume = match headers.head.last_event_id(headers.bytes) {
            Field::Absent => None,
            Field::Value(id) => {
                let resume = read_event_id(self.state.broadcast.instance(), id);
                match resume.filter(|(stream, _)| self.has_shard(stream.shard)) {
                    Some(resume) => Some(resume),
                    None => {
                        return self.reject_request(out, ErrorKind::UnknownStream, "Unknown Last-Event-ID");
                    }
                }
            }
            Field::Repeated => {
                let text = "Last-Event-ID is given more than once";
                return self.reject_request(out, ErrorKind::UnknownStream, text);
            }
        };
        if headers.head.http_1_0 {
            return self.reject_request(out, ErrorKind::InvalidRequest, "A stream needs HTTP/1.1");
        }
        if session.is_foreign {
            // Another instance owns the state of the session. The client opens a new session and subscribes again.
            return self.reject_request(out, ErrorKind::UnknownSession, "Session not found");
        }
        let owner = resume.map_or(session.home, |(stream, _)| stream.shard);
        let request = Request::Attach { session, socket, resume };
        self.request_shard(owner, request, (None, RpcMethod::Other), pending_reply(socket), out)
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
                let request = Request::End(session.key);
                self.request_all_shards(request, (None, RpcMethod::Other), pending_reply(socket), out)
            }
            Err(disposition) => disposition,
        }
    }
}

fn pending_reply(socket: SocketId) -> ReplyTo {
    ReplyTo::Http { socket, stream: ReplyStream::Unsupported }
}
