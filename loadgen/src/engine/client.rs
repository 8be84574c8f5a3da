//! One connection, seen from the client.

use std::collections::VecDeque;

use corelane_ring::SocketId;

use crate::{
    http::Framer,
    request::{ReplyError, SentRequest},
};

/// One connection and what it waits for.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) state: ConnectionState,
    pub(super) socket: Option<SocketId>,
    pub(super) framer: Framer,
    /// In the order of their replies.
    pub(super) in_flight: VecDeque<InFlight>,
    /// What the answer at hand is worth, once it has been seen.
    pub(super) checked: Option<Result<(), ReplyError>>,
    /// The buffer of the next send; empty while the ring has it.
    pub(super) out: Vec<u8>,
    /// Requests written while a send is under way.
    pub(super) queued: Vec<u8>,
    pub(super) is_sending: bool,
    /// Requests to be sent once it is connected again: their connection ended before the server read them.
    pub(super) to_resend: VecDeque<QueuedRequest>,
    /// Replies that this connection has brought.
    pub(super) replies: u64,
    /// The handshake of the older revisions, which outlives a connection as the session does.
    pub(super) handshake: Handshake,
    pub(super) session: Option<Box<str>>,
    /// Whether it has been ready for load before.
    pub(super) was_ready: bool,
    /// Connections so far.
    pub(super) connections: u64,
    /// When this connection was begun, in nanoseconds of the run.
    pub(super) connect_started_ns: u64,
    /// When the first connection of this handshake was begun.
    pub(super) handshake_started_ns: u64,
    /// Connections that failed, or brought no reply, in a row.
    pub(super) failures: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// Not connected; to be dialled at this time.
    #[default]
    Disconnected,
    Backoff {
        until_ns: u64,
    },
    Connecting,
    /// In the handshake of the older revisions, or waiting for its first reply.
    Handshaking,
    Ready,
    /// The server has closed while requests were on their way. Sending shows whether it had read them: if not, its system
    /// has reset the connection.
    PeerClosed {
        /// Whether the send that shows it has been handed to the ring.
        is_probed: bool,
    },
    /// Waiting for the ring to give the slot back.
    Closing,
}

/// Something sent whose reply is still to come.
#[derive(Debug)]
pub(super) enum InFlight {
    /// `initialize`.
    Initialize(SentRequest),
    /// `notifications/initialized`.
    Initialized,
    /// The request by which a connection shows that it is live, before load begins.
    FirstRequest(SentRequest),
    /// A request of the mix.
    Request {
        sent: SentRequest,
        /// When it was meant to be sent, and when it was, in nanoseconds of the run.
        intended_ns: u64,
        sent_ns: u64,
        /// Whether it was sent again although the server may have read it.
        is_retry: bool,
    },
}

impl InFlight {
    /// The JSON-RPC id of its reply; none of a notification.
    fn id(&self) -> Option<u64> {
        match self {
            Self::Initialize(sent) | Self::FirstRequest(sent) | Self::Request { sent, .. } => Some(sent.id),
            Self::Initialized => None,
        }
    }
}

/// A request that is sent once more, on a new connection. Its times stay those of the first sending.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedRequest {
    pub(super) kind: usize,
    pub(super) intended_ns: u64,
    pub(super) sent_ns: u64,
    /// See [`InFlight::Request`].
    pub(super) is_retry: bool,
}

/// How far the handshake of the older revisions is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Handshake {
    /// `initialize` is to be sent.
    #[default]
    New,
    /// `notifications/initialized` is to be sent.
    Answered,
    Done,
}

impl Client {
    /// Begins the handshake anew with the next connection.
    pub(super) fn reset_session(&mut self) {
        self.handshake = Handshake::New;
        self.session = None;
    }

    /// Replies of one process come in any order: what has this id is awaited next. An unknown id changes nothing.
    pub(super) fn move_to_front(&mut self, id: Option<u64>) {
        let place = self.in_flight.iter().position(|in_flight| id.is_some() && in_flight.id() == id);
        if let Some(in_flight) =
            place.filter(|place| *place > 0).and_then(|place| self.in_flight.remove(place))
        {
            self.in_flight.push_front(in_flight);
        }
    }

    /// Whether it is connected, or is being connected again behind a reply that was its connection's last.
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

    /// Clears what belongs to a connection that has ended; the session stays.
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
