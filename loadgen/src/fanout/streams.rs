//! The state of the streams, of the publisher and of what was published.

use std::collections::VecDeque;

use corelane_ring::SocketId;

use crate::{http::Framer, request::SentRequest};

/// How long the publisher waits before it connects again where its last connection brought nothing, in nanoseconds.
pub(super) const RECONNECT_NS: u64 = 20_000_000;

/// One subscriber's stream.
#[derive(Default)]
pub(super) struct SubscriberStream {
    pub(super) socket: Option<SocketId>,
    pub(super) framer: Framer,
    pub(super) listening: bool,
    /// Updates it was told of, or covers: the number of the next one it has not been told of.
    pub(super) delivered: usize,
    /// Updates that came.
    pub(super) updates: usize,
    /// The last update, which was found right.
    pub(super) last_update: Vec<u8>,
}

/// An update that was published.
pub(super) struct Published {
    pub(super) at_ns: u64,
    /// Streams that were told.
    pub(super) delivered: u32,
}

/// The publisher's connection.
#[derive(Default)]
pub(super) struct Publisher {
    /// Touches whose reply is still to come.
    pub(super) in_flight: VecDeque<SentRequest>,
    /// Whether the server closes connections behind replies: then one touch is sent at a time.
    pub(super) closes: bool,
    /// Connections so far, and replies that the current one has brought.
    pub(super) connections: u64,
    pub(super) replies: u64,
    /// Since when it has had none, and when to connect again; in nanoseconds.
    pub(super) disconnected_ns: Option<u64>,
    pub(super) reconnect_at_ns: Option<u64>,
    pub(super) gone_after_s: Option<f64>,
}
