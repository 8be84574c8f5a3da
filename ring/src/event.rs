//! Events of sockets.

use std::io;

use super::{
    buffers::ReceivedBuffer,
    peer::PeerAddress,
    slots::{ListenerId, SocketId},
};

/// How a connection has reached a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Arrival {
    /// A listener of this ring has accepted it.
    Accepted = 0,
    /// A listener of another ring has accepted it, and the ring has handed it over at once.
    HandedOver = 1,
    /// Another ring has served it before.
    Moved = 2,
}

/// Event of a ring. The events of one socket are in the order in which they occurred.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted, or handed over by another ring. Its receive is armed, unless
    /// [`Ring::hold_accepted`](crate::Ring::hold_accepted) defers that.
    Accepted {
        /// The listener that accepted it. The rings that hand sockets over to each other have the same listeners in the same order.
        listener: ListenerId,
        /// How it has reached the ring.
        arrival: Arrival,
        /// The new socket.
        socket: SocketId,
        /// The peer's address. `None` for a Unix socket, and where the kernel cannot be queried (before Linux 6.7).
        peer: Option<PeerAddress>,
    },
    /// A socket was connected or adopted; its receive is armed.
    Connected {
        /// The token passed to [`Ring::connect`](crate::Ring::connect) or [`Ring::adopt`](crate::Ring::adopt).
        token: u64,
        /// The new socket.
        socket: SocketId,
    },
    /// Connecting or adopting a socket failed.
    ConnectFailed {
        /// The token passed to [`Ring::connect`](crate::Ring::connect) or [`Ring::adopt`](crate::Ring::adopt).
        token: u64,
        /// The kernel's error.
        error: io::Error,
    },
    /// Accepting has stopped because of an error, such as a lack of slots or memory;
    /// [`Ring::resume_accept`](crate::Ring::resume_accept) starts it again.
    AcceptFailed {
        /// The listener.
        listener: ListenerId,
        /// The kernel's error.
        error: io::Error,
    },
    /// Bytes were received.
    Received {
        /// The socket.
        socket: SocketId,
        /// The received bytes, in the kernel's buffer.
        buffer: ReceivedBuffer,
    },
    /// The peer has shut down its sending side.
    PeerClosed {
        /// The socket.
        socket: SocketId,
    },
    /// Receiving failed, for example because of a reset; no more bytes follow.
    ReceiveFailed {
        /// The socket.
        socket: SocketId,
        /// The kernel's error.
        error: io::Error,
    },
    /// A send has completed.
    Sent {
        /// The socket.
        socket: SocketId,
        /// The buffer given to [`Ring::send`](crate::Ring::send).
        buffer: Vec<u8>,
        /// `Ok` if all bytes were sent.
        outcome: io::Result<()>,
    },
    /// The answer to [`Ring::query_acknowledged`](crate::Ring::query_acknowledged).
    Acknowledged {
        /// The socket.
        socket: SocketId,
        /// Bytes of the send in flight that the kernel has taken over; 0 without one.
        sent: u64,
        /// Bytes of all sends that the kernel has taken over and that are not acknowledged. 0 where the kernel does not count them
        /// (Unix sockets, and before Linux 6.7).
        unacknowledged: u64,
    },
    /// The socket has been handed over to another ring. [`Event::Closed`] follows.
    HandedOver {
        /// The socket.
        socket: SocketId,
    },
    /// The socket has not been handed over. Unless it was closed meanwhile, it is open and its receive is armed.
    HandOverFailed {
        /// The socket.
        socket: SocketId,
    },
    /// The socket is closed and its slot is free.
    Closed {
        /// The socket.
        socket: SocketId,
    },
}

impl Event {
    /// The event's socket, if it has one.
    #[must_use]
    pub fn socket(&self) -> Option<SocketId> {
        match self {
            Self::Accepted { socket, .. }
            | Self::Connected { socket, .. }
            | Self::Received { socket, .. }
            | Self::PeerClosed { socket }
            | Self::ReceiveFailed { socket, .. }
            | Self::Sent { socket, .. }
            | Self::HandedOver { socket }
            | Self::HandOverFailed { socket }
            | Self::Acknowledged { socket, .. }
            | Self::Closed { socket } => Some(*socket),
            Self::ConnectFailed { .. } | Self::AcceptFailed { .. } => None,
        }
    }
}

/// The error of a completion with a negative result.
pub(super) fn os_error(result: i32) -> io::Error {
    io::Error::from_raw_os_error(-result)
}
