//! One connection, seen from the client.

use std::collections::VecDeque;

use corelane::ring::SocketId;

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
    pub(super) session: Option<Box<str>>,
    /// When this connection was begun, in nanoseconds of the run.
    pub(super) dialled_ns: u64,
    /// Dials that failed in a row.
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
    },
}

impl Client {
    /// Forgets a connection that has ended.
    pub(super) fn reset(&mut self) {
        self.socket = None;
        self.framer = Framer::default();
        self.awaited.clear();
        self.judged = None;
        self.out.clear();
        self.queued.clear();
        self.is_sending = false;
        self.session = None;
    }
}
