//! One connection, seen from the client.

use std::collections::VecDeque;

use corelane_ring::SocketId;

use crate::{
    http::Framer,
    request::{Sent, Wrong},
};

/// One connection and what it waits for.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) stage: Stage,
    pub(super) socket: Option<SocketId>,
    pub(super) framer: Framer,
    /// In the order of their replies.
    pub(super) awaited: VecDeque<Awaited>,
    /// What the answer at hand is worth, once it has been seen.
    pub(super) judged: Option<Result<(), Wrong>>,
    /// The buffer of the next send; empty while the ring has it.
    pub(super) out: Vec<u8>,
    /// Requests written while a send is under way.
    pub(super) queued: Vec<u8>,
    pub(super) is_sending: bool,
    /// Requests to be sent once it is connected again: their connection ended before the server read them.
    pub(super) again: VecDeque<Again>,
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
    pub(super) dialled_ns: u64,
    /// When the first connection of this handshake was begun.
    pub(super) begun_ns: u64,
    /// Connections that failed, or brought no reply, in a row.
    pub(super) failures: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not connected; to be dialled at this time.
    #[default]
    Down,
    Waiting {
        until_ns: u64,
    },
    Dialling,
    /// In the handshake of the older revisions, or waiting for its first reply.
    Greeting,
    Ready,
    /// The server has closed while requests were on their way. Sending shows whether it had read them: if not, its system
    /// has reset the connection.
    Ended {
        /// Whether the send that shows it has been handed to the ring.
        asked: bool,
    },
    /// Waiting for the ring to give the slot back.
    Closing,
}

/// Something sent whose reply is still to come.
#[derive(Debug)]
pub(super) enum Awaited {
    /// `initialize`.
    Initialize(Sent),
    /// `notifications/initialized`.
    Initialized,
    /// The request by which a connection shows that it is live, before load begins.
    First(Sent),
    /// A request of the mix.
    Request {
        sent: Sent,
        /// When it was meant to be sent, and when it was, in nanoseconds of the run.
        intended_ns: u64,
        sent_ns: u64,
        /// Whether it was sent again although the server may have read it.
        is_retry: bool,
    },
}

impl Awaited {
    /// The JSON-RPC id of its reply; none of a notification.
    fn id(&self) -> Option<u64> {
        match self {
            Self::Initialize(sent) | Self::First(sent) | Self::Request { sent, .. } => Some(sent.id),
            Self::Initialized => None,
        }
    }
}

/// A request that is sent once more, on a new connection. Its times stay those of the first sending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) kind: usize,
    pub(super) intended_ns: u64,
    pub(super) sent_ns: u64,
    /// See [`Awaited::Request`].
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
    pub(super) fn end_session(&mut self) {
        self.handshake = Handshake::New;
        self.session = None;
    }

    /// Replies of one process come in any order: what has this id is awaited next. An unknown id changes nothing.
    pub(super) fn expect(&mut self, id: Option<u64>) {
        let place = self.awaited.iter().position(|awaited| id.is_some() && awaited.id() == id);
        if let Some(awaited) = place.filter(|place| *place > 0).and_then(|place| self.awaited.remove(place)) {
            self.awaited.push_front(awaited);
        }
    }

    /// Whether it is connected, or is being connected again behind a reply that was its connection's last.
    pub(super) fn is_live(&self) -> bool {
        let is_between =
            matches!(self.stage, Stage::Down | Stage::Dialling | Stage::Greeting | Stage::Closing);
        self.stage == Stage::Ready || (is_between && self.was_ready && self.failures == 0)
    }

    /// Clears what belongs to a connection that has ended; the session stays.
    pub(super) fn reset(&mut self) {
        self.socket = None;
        self.framer = Framer::default();
        self.awaited.clear();
        self.judged = None;
        self.out.clear();
        self.queued.clear();
        self.is_sending = false;
        self.replies = 0;
    }
}
