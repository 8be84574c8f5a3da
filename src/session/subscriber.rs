//! The subscriber of a subscription: where its events are sent.

use corelane_ring::SocketId;

use crate::mcp::SessionKey;

/// The destination of the events of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscriber {
    /// A stream of `subscriptions/listen`.
    Stream(SocketId),
    /// A connection of newline-delimited JSON.
    JsonLines(SocketId),
    /// The newest open stream of a legacy session.
    Session(SessionKey),
}
