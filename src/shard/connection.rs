//! One connection's state between two events. Small: most connections are idle most of the time.

use super::timers::Tick;
use crate::{config::Transport, exec::Ticket, http::Framer, ring::SocketId};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The next request's first byte.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// A call to end; then the next request is looked at.
    Calling(Ticket),
    /// The outbox to empty; then the next request is looked at. Also for a connection that has had its share of a turn.
    Congested,
    /// The outbox to empty; then the connection ends.
    Closing {
        /// Whether the peer may still be sending: then what it sends is read and thrown away for a while, for closing
        /// with unread data would reset the connection and take the reply with it (RFC 9112, section 9.6).
        linger: bool,
    },
    /// The peer to close, after everything has been sent.
    Lingering,
}

pub(super) struct Connection {
    pub(super) socket: SocketId,
    /// What is spoken on it.
    #[expect(dead_code, reason = "connections that speak lines are refused for now")]
    pub(super) transport: Transport,
    pub(super) framer: Framer,
    /// Replies that wait to be sent. Owns memory only while there are some.
    pub(super) out: Vec<u8>,
    pub(super) phase: Phase,
    /// When the phase has lasted too long.
    pub(super) deadline: Tick,
    /// When the first part of the body at hand came.
    pub(super) body_started: Tick,
    /// When the send in flight has lasted too long.
    pub(super) write_deadline: Tick,
    /// Requests handled in this turn.
    pub(super) handled: usize,
    /// A buffer is with the ring.
    pub(super) sending: bool,
    /// Noted for flushing at the end of the turn.
    pub(super) dirty: bool,
    /// Receiving is paused.
    pub(super) paused: bool,
    /// The peer has sent everything it will.
    pub(super) peer_closed: bool,
}

impl Connection {
    pub(super) fn new(socket: SocketId, transport: Transport, deadline: Tick) -> Self {
        Self {
            socket,
            transport,
            framer: Framer::default(),
            out: Vec::new(),
            phase: Phase::Idle,
            deadline,
            body_started: Tick::NEVER,
            write_deadline: Tick::NEVER,
            handled: 0,
            sending: false,
            dirty: false,
            paused: false,
            peer_closed: false,
        }
    }

    /// Whether requests are handled as they arrive.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Head | Phase::Body)
    }
}

/// Fifteen thousand idle ones should cost no more than their entries.
const _: () = assert!(size_of::<Option<Connection>>() <= 96);
