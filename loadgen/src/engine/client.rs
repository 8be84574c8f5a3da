//! The client's side of one connection.

use std::collections::VecDeque;

use corelane_ring::SocketId;

use crate::{
    http::Framer,
    request::{ReplyError, SentRequest},
};

/// A connection and its requests in flight.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) state: ConnectionState,
    pub(super) socket: Option<SocketId>,
    pub(super) framer: Framer,
    /// Requests in flight, in the order of their replies.
    pub(super) in_flight: VecDeque<InFlight>,
    /// The check of the current reply, once its message has arrived.
    pub(super) checked: Option<Result<(), ReplyError>>,
    /// Bytes of the next send; empty while the ring owns the buffer.
    pub(super) out: Vec<u8>,
    /// Requests written while a send is in progress.
    pub(super) queued: Vec<u8>,
    pub(super) is_sending: bool,
    /// Requests to send after reconnecting: their connection ended before the server read them.
    pub(super) to_resend: VecDeque<QueuedRequest>,
    /// Replies received on the current connection.
    pub(super) replies: u64,
    /// State of the 2025-11-25 handshake. It outlives a connection, as the session does.
    pub(super) handshake: Handshake,
    pub(super) session: Option<Box<str>>,
    /// Whether a connection of this client has been ready for load before.
    pub(super) was_ready: bool,
    /// Number of connections so far.
    pub(super) connections: u64,
    /// Start of the current connection, in nanoseconds of the run.
    pub(super) connect_started_ns: u64,
    /// Start of the first connection of the current handshake, in nanoseconds of the run.
    pub(super) handshake_started_ns: u64,
    /// Consecutive connections that failed or ended without a reply.
    pub(super) failures: u32,
}

/// State of a client's connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// Not connected, and queued for connecting.
    #[default]
    Disconnected,
    Backoff {
        until_ns: u64,
    },
    Connecting,
    /// In the 2025-11-25 handshake, or waiting for the first reply.
    Handshaking,
    Ready,
    /// The server has closed while requests were in flight. A further send shows whether it had read them: if not, its
    /// kernel has reset the connection.
    PeerClosed {
        /// Whether the probing send has been passed to the ring.
        is_probed: bool,
    },
    /// Waiting for the ring to free the slot.
    Closing,
}

/// A message whose reply is outstanding.
#[derive(Debug)]
pub(super) enum InFlight {
    /// `initialize`.
    Initialize(SentRequest),
    /// `notifications/initialized`.
    Initialized,
    /// The request that verifies a connection before the load begins.
    FirstRequest(SentRequest),
    /// A request of the mix.
    Request {
        sent: SentRequest,
        /// Due time and send time, in nanoseconds of the run.
        intended_ns: u64,
        sent_ns: u64,
        /// Whether the request was sent again although the server may have read it.
        is_retry: bool,
    },
}

impl InFlight {
    /// The JSON-RPC id of the reply; `None` for a notification.
    fn id(&self) -> Option<u64> {
        match self {
            Self::Initialize(sent) | Self::FirstRequest(sent) | Self::Request { sent, .. } => Some(sent.id),
            Self::Initialized => None,
        }
    }
}

/// A request that is sent again on a new connection. Its times are those of the first attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedRequest {
    pub(super) kind: usize,
    pub(super) intended_ns: u64,
    pub(super) sent_ns: u64,
    /// See [`InFlight::Request`].
    pub(super) is_retry: bool,
}

/// State of the 2025-11-25 handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Handshake {
    /// `initialize` has not been sent.
    #[default]
    New,
    /// `initialize` was answered; `notifications/initialized` has not been sent.
    Answered,
    Done,
}

impl Client {
    /// Discards the session, so that the next connection repeats the handshake.
    pub(super) fn reset_session(&mut self) {
        self.handshake = Handshake::New;
        self.session = None;
    }

    /// Moves the request with this id to the front, because a process may reply in any order. An unknown id has no
    /// effect.
    pub(super) fn move_to_front(&mut self, id: Option<u64>) {
        let position = self.in_flight.iter().position(|in_flight| id.is_some() && in_flight.id() == id);
        if let Some(in_flight) =
            position.filter(|position| *position > 0).and_then(|position| self.in_flight.remove(position))
        {
            self.in_flight.push_front(in_flight);
        }
    }

    /// Whether the client is connected, or reconnects after a reply that was the last on its connection.
    pub(super) fn is_live(&self) -> bool {
        let is_reconnecting = matches!(
            self.state,
            ConnectionState::Disconnected
                | ConnectionState::Connecting
                | ConnectionState::Handshaking
                | ConnectionState::Closing
        );
        self.state == ConnectionState::Ready || (is_reconnecting && self.was_ready && self.failures == 0)
    }

    /// Clears the state of a connection that has ended, but keeps the session.
    pub(super) fn reset(&mut self) {
        self.socket = None;
        self.framer = Framer::default();
        self.in_flight.clear();
        self.checked = None;
        self.out.clear();
        self.queued.clear();
        self.is_sending = false;
        self.replies = 0;
    }
}
