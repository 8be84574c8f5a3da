//! One connection's state between two events, and the two protocols it may speak: HTTP/1.1 and newline-delimited JSON.
//!
//! A connection is a state machine ([`Phase`]); the shard drives it with the events of the ring, and does its I/O. A
//! [`Disposition`](crate::dispatch::Disposition) or a [`Delivery`](crate::delivery::Delivery) comes in, framed bytes are appended to
//! the outbox, and the next phase comes out.

mod census;
mod deferred;
mod http1;
mod jsonl;
mod pipeline;
mod receiving;
mod wire;

use corelane_ring::{PeerAddress, SocketId};

pub(crate) use census::Census;
pub use deferred::DeferredReply;
pub(crate) use http1::Delivered;
pub use http1::Requests;
pub(crate) use jsonl::{JsonLines, JsonLinesHandler, append_message, deliver_line};
pub use pipeline::{Pipeline, PipelineConfig};
pub(crate) use receiving::Receiving;
pub(crate) use wire::Wire;

use crate::{
    http1::Framer,
    mcp::StreamId,
    runtime::{Tick, Ticket},
    session::SubscriberKey,
    telemetry::metrics::ConnectionState,
};

/// The phase of a connection: the event that it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first byte of the next request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body or of a line, of which the first part arrived at `started`.
    Body { started: Tick },
    /// The answer to a call or a request; then the next request is read.
    Calling {
        ticket: Ticket,
        /// The reply has become a stream of events.
        is_streaming: bool,
    },
    /// This many answers of a batch; then the next request is read.
    Batch(u32),
    /// The client to close a `subscriptions/listen` stream.
    Listening(SubscriberKey),
    /// The client to close the stream of a legacy session: [`Phase::stream`]. Its id is not one field, which would be larger.
    Attached { shard: u16, index: u32, generation: u32 },
    /// The outbox to empty; then the next request is read. Also a connection that has used up its share of a turn.
    Congested,
    /// The outbox to empty; then the connection closes.
    Closing {
        /// The peer may still be sending. Its bytes are read and dropped for a while, since closing with unread data would
        /// reset the connection and lose the reply (RFC 9112, section 9.6).
        linger: bool,
    },
    /// The peer to close, after everything was sent.
    Lingering,
}

impl Phase {
    /// The phase of a connection that a stream is attached to.
    pub(crate) fn attached(stream: StreamId) -> Self {
        let StreamId { shard, index, generation } = stream;
        Self::Attached { shard, index, generation }
    }

    /// Whether requests are handled as they arrive.
    pub(crate) fn is_reading(self) -> bool {
        matches!(self, Self::Idle | Self::Head | Self::Body { .. })
    }

    /// The stream that is attached to the connection.
    pub(crate) fn stream(self) -> Option<StreamId> {
        match self {
            Self::Attached { shard, index, generation } => Some(StreamId { shard, index, generation }),
            _ => None,
        }
    }
}

/// The state of one connection. An idle connection owns no buffer.
pub(crate) struct Connection {
    pub(crate) socket: SocketId,
    /// The peer's address. `None` for a Unix socket or an adopted one, and before Linux 6.7.
    pub(crate) peer: Option<PeerAddress>,
    /// Index of the listener that accepted the connection, on this shard or another one; 255 for all from that index on.
    pub(crate) listener: u8,
    /// The layer between the protocol and the socket.
    pub(crate) wire: Wire,
    pub(crate) framer: Framer,
    /// The state of a newline-delimited connection; `None` for HTTP.
    pub(crate) json_lines: Option<Box<JsonLines>>,
    /// The outbox: bytes that wait to be sent.
    pub(crate) out: Vec<u8>,
    pub(crate) phase: Phase,
    /// When the phase has lasted too long.
    pub(crate) deadline: Tick,
    /// When the send in flight has lasted too long.
    pub(crate) write_deadline: Tick,
    /// Requests handled in this turn.
    pub(crate) handled: u32,
    /// The ring owns a buffer to send.
    pub(crate) is_sending: bool,
    /// Listed for flushing at the end of the turn.
    pub(crate) is_dirty: bool,
    pub(crate) receiving: Receiving,
    /// The peer has closed its sending side.
    pub(crate) peer_closed: bool,
    /// The reply that comes later.
    pub(crate) deferred: DeferredReply,
}

impl Connection {
    pub(crate) fn new(socket: SocketId, peer: Option<PeerAddress>, deadline: Tick) -> Self {
        Self {
            socket,
            peer,
            listener: 0,
            wire: Wire::Plain,
            framer: Framer::default(),
            json_lines: None,
            out: Vec::new(),
            phase: Phase::Idle,
            deadline,
            write_deadline: Tick::NEVER,
            handled: 0,
            is_sending: false,
            is_dirty: false,
            receiving: Receiving::Usual,
            peer_closed: false,
            deferred: DeferredReply::default(),
        }
    }

    /// Answers that a newline-delimited connection waits for.
    pub(crate) fn pending_replies(&self) -> usize {
        self.json_lines.as_ref().map_or(0, |lines| lines.pending_replies)
    }

    /// The state that the metrics count the connection under.
    pub(crate) fn state(&self) -> ConnectionState {
        match self.phase {
            Phase::Closing { .. } | Phase::Lingering => ConnectionState::Closing,
            Phase::Listening(_) | Phase::Attached { .. } => ConnectionState::Streaming,
            Phase::Calling { .. } | Phase::Batch(_) => ConnectionState::Handling,
            Phase::Congested if !self.is_sending && self.pending_replies() > 0 => ConnectionState::Handling,
            Phase::Congested => ConnectionState::Writing,
            Phase::Idle | Phase::Head | Phase::Body { .. } if self.is_sending => ConnectionState::Writing,
            Phase::Idle if self.pending_replies() > 0 => ConnectionState::Handling,
            Phase::Idle => ConnectionState::Idle,
            Phase::Head | Phase::Body { .. } => ConnectionState::Reading,
        }
    }

    /// Bytes that were received and not handled.
    pub(crate) fn input_bytes(&self) -> usize {
        match &self.json_lines {
            Some(lines) => lines.framer.buffered_bytes(),
            None => self.framer.buffered_bytes(),
        }
    }

    /// Bytes in the buffers of the connection, without those that the ring sends.
    #[inline]
    pub(crate) fn buffered_bytes(&self) -> usize {
        let lines = self.json_lines.as_ref().map_or(0, |lines| lines.buffered_bytes());
        self.out.len() + self.framer.buffered_bytes() + lines + self.deferred.buffered_bytes()
    }

    /// Memory of the buffers of the connection in bytes, without those that the ring sends.
    pub(crate) fn kept_bytes(&self) -> usize {
        let lines = self.json_lines.as_ref().map_or(0, |lines| lines.framer.kept_bytes());
        self.out.capacity() + self.framer.kept_bytes() + lines + self.deferred.buffered_bytes()
    }

    /// Frees the memory that the buffers do not need.
    pub(crate) fn shrink(&mut self) {
        self.framer.shrink();
        if let Some(lines) = &mut self.json_lines {
            lines.framer.shrink();
        }
        // An empty outbox with memory is in use until the end of the turn.
        if !self.out.is_empty() {
            self.out.shrink_to_fit();
        }
    }

    /// Whether bytes are left in the socket.
    pub(crate) fn is_paused(&self) -> bool {
        self.receiving == Receiving::Paused
    }

    /// Whether requests are handled as they arrive.
    pub(crate) fn is_reading(&self) -> bool {
        self.phase.is_reading()
    }

    /// Whether an event can be written now. Otherwise the subscriber gets the newest one later.
    pub(crate) fn has_room_for_events(&self) -> bool {
        !self.is_sending && self.out.len() < EVENTS_BYTES_MAX
    }

    /// Asserts the invariants of the phases.
    pub(crate) fn check_invariants(&self) {
        debug_assert!(
            !(self.json_lines.is_some() && matches!(self.phase, Phase::Calling { .. } | Phase::Batch(_))),
            "a newline-delimited connection waits for a single answer"
        );
        debug_assert!(
            self.deferred.is_empty()
                || matches!(self.phase, Phase::Calling { .. } | Phase::Batch(_))
                || self.has_stream(),
            "a connection without a pending reply keeps the head of one"
        );
    }

    fn has_stream(&self) -> bool {
        matches!(self.phase, Phase::Listening(_) | Phase::Attached { .. })
    }

    /// Whether messages and keep-alive comments are sent now and then, and no request is awaited meanwhile.
    pub(crate) fn is_streaming(&self) -> bool {
        self.has_stream() || matches!(self.phase, Phase::Calling { is_streaming: true, .. })
    }
}

/// Events that are collected in an outbox before they are sent, in bytes.
const EVENTS_BYTES_MAX: usize = 16 * 1024;

/// Bounds the memory of an idle connection.
const _: () = assert!(size_of::<Option<Connection>>() <= 104);

#[cfg(test)]
mod tests {
    use super::*;
    use deferred::Exchange;

    fn connection(phase: Phase) -> Connection {
        Connection { phase, ..Connection::new(SocketId::default(), None, Tick::NEVER) }
    }

    const CALLING: Phase = Phase::Calling { ticket: Ticket { index: 0, generation: 0 }, is_streaming: false };

    #[test]
    #[should_panic(expected = "waits for a single answer")]
    fn newline_delimited_connection_in_a_phase_of_http_panics() {
        let json_lines = Some(Box::new(JsonLines::new(SocketId::default(), None)));
        Connection { json_lines, ..connection(CALLING) }.check_invariants();
    }

    #[test]
    #[should_panic(expected = "keeps the head of one")]
    fn deferred_reply_of_an_idle_connection_panics() {
        let exchange = Exchange { keep_alive: false, http_1_0: false, origin: None };
        let deferred = DeferredReply::new(exchange, None);
        Connection { deferred, ..connection(Phase::Idle) }.check_invariants();
    }

    #[test]
    fn stream_of_a_phase_is_the_one_that_was_attached() {
        let stream = StreamId { shard: u16::MAX, index: 7, generation: u32::MAX };
        assert_eq!(Phase::attached(stream).stream(), Some(stream));
        assert_eq!(CALLING.stream(), None);
        connection(Phase::attached(stream)).check_invariants();
    }
}
