//! State of the streams, the publisher and the published updates.

use std::collections::VecDeque;

use corelane_ring::SocketId;

use crate::{http::Framer, request::SentRequest};

/// Pause before the publisher reconnects if its last connection had no reply, in nanoseconds.
pub(super) const RECONNECT_NS: u64 = 20_000_000;

/// One subscriber's stream.
#[derive(Default)]
pub(super) struct SubscriberStream {
    pub(super) socket: Option<SocketId>,
    pub(super) framer: Framer,
    pub(super) listening: bool,
    /// Index of the next update that the stream has not received.
    pub(super) delivered: usize,
    /// Number of notifications received.
    pub(super) updates: usize,
    /// The last notification that was parsed as an update.
    pub(super) last_update: Vec<u8>,
}

/// A published update.
pub(super) struct Published {
    pub(super) at_ns: u64,
    /// Number of streams that have received it.
    pub(super) delivered: u32,
}

/// The publisher's connection.
#[derive(Default)]
pub(super) struct Publisher {
    /// Calls whose reply is outstanding.
    pub(super) in_flight: VecDeque<SentRequest>,
    /// Whether the server closes connections after replies: calls are then sent one at a time.
    pub(super) closes: bool,
    /// Number of connections so far, and of replies on the current one.
    pub(super) connections: u64,
    pub(super) replies: u64,
    /// Start of the current disconnected period, and time of the next connect; in nanoseconds.
    pub(super) disconnected_ns: Option<u64>,
    pub(super) reconnect_at_ns: Option<u64>,
    pub(super) gone_after_s: Option<f64>,
}
