//! Who hears events.

use corelane_ring::SocketId;

use crate::mesh::StreamId;

/// Who hears of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// A stream of `subscriptions/listen`.
    Stream(SocketId),
    /// A line of this connection.
    Line(SocketId),
    /// A legacy session's stream.
    Session(StreamId),
}
