//! What happens to sockets.

use std::io;

use super::{
    buffers::ReceivedBuffer,
    slots::{ListenerId, SocketId},
};

/// What happened, in the order it happened for each socket.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted; its receive is armed.
    Accepted {
        /// The listener it came through.
        listener: ListenerId,
        /// The new tenant.
        socket: SocketId,
    },
    /// A connection this side asked for, or brought along, is there; its receive is armed.
    Connected {
        /// The name given to [`Ring::connect`](crate::Ring::connect) or [`Ring::adopt`](crate::Ring::adopt).
        token: u64,
        /// The new tenant.
        socket: SocketId,
    },
    /// A connection this side asked for has failed.
    ConnectFailed {
        /// The name given to [`Ring::connect`](crate::Ring::connect) or [`Ring::adopt`](crate::Ring::adopt).
        token: u64,
        /// What the kernel said.
        error: io::Error,
    },
    /// Accepting has stopped by itself, for want of slots or memory; [`Ring::resume_accept`](crate::Ring::resume_accept) starts it again.
    AcceptFailed {
        /// The listener that no longer accepts.
        listener: ListenerId,
        /// What the kernel said.
        error: io::Error,
    },
    /// Bytes arrived.
    Received {
        /// Whose bytes.
        socket: SocketId,
        /// The bytes, in place.
        buffer: ReceivedBuffer,
    },
    /// The peer will send no more.
    PeerClosed {
        /// Who.
        socket: SocketId,
    },
    /// Receiving failed, as on a reset: nothing more will arrive.
    ReceiveFailed {
        /// Who.
        socket: SocketId,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel is done with a buffer.
    Sent {
        /// To whom.
        socket: SocketId,
        /// The buffer given to [`Ring::send`](crate::Ring::send).
        buffer: Vec<u8>,
        /// `Ok` when every byte of it was taken.
        outcome: io::Result<()>,
    },
    /// A part of a large buffer has been taken; the rest is on its way.
    SendProgressed {
        /// To whom.
        socket: SocketId,
    },
    /// The descriptor is closed and its slot free.
    Closed {
        /// Who is gone.
        socket: SocketId,
    },
}

impl Event {
    /// The socket it is about, if it is about one.
    #[must_use]
    pub fn socket(&self) -> Option<SocketId> {
        match self {
            Self::Accepted { socket, .. }
            | Self::Connected { socket, .. }
            | Self::Received { socket, .. }
            | Self::PeerClosed { socket }
            | Self::ReceiveFailed { socket, .. }
            | Self::Sent { socket, .. }
            | Self::SendProgressed { socket }
            | Self::Closed { socket } => Some(*socket),
            Self::ConnectFailed { .. } | Self::AcceptFailed { .. } => None,
        }
    }
}

/// The error behind a completion's negative result.
pub(super) fn os_error(result: i32) -> io::Error {
    io::Error::from_raw_os_error(-result)
}
