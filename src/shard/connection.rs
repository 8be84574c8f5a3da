//! One connection's state between two events. Small: most connections are idle most of the time.

use corelane_ring::SocketId;

use crate::{
    dispatch::{Line, in_flight::Exchange},
    http1::Framer,
    jsonl::LineFramer,
    mesh::StreamId,
    runtime::{Tick, Ticket},
    session::ListenerKey,
    telemetry::metrics::{ConnectionState, ConnectionStates},
};

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The next request's first byte.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// A call to end; then the next request is looked at.
    Calling(Ticket),
    /// That many answers of a batch; then the next request is looked at.
    Batch(u32),
    /// The client to leave: it is told what it subscribed to.
    Listening(ListenerKey),
    /// The client to leave: it is told what a legacy session hears of, which is kept by some shard.
    Carrying(StreamId),
    /// The outbox to empty; then the next request is looked at. Also for a connection that has had its share of a turn.
    Congested,
    /// The outbox to empty; then the connection ends.
    Closing {
        /// Whether the peer may still be sending: then what it sends is read and thrown away for a while, for closing
        /// with unread data would reset the connection and take the reply with it (RFC 9112, section 9.6).
        linger: bool,
    },
    /// The peer to close, after everything has been sent.
    Lingering,
}

/// A connection of lines: many requests are in flight on it.
pub(super) struct Lines {
    pub(super) framer: LineFramer,
    pub(super) line: Line,
    /// Answers that are owed.
    pub(super) pending: usize,
    /// No line has come yet: the first may begin with a byte order mark.
    pub(super) is_new: bool,
}

pub(super) struct Connection {
    pub(super) socket: SocketId,
    pub(super) framer: Framer,
    /// What there is besides, if it speaks lines.
    pub(super) lines: Option<Box<Lines>>,
    /// Replies that wait to be sent. Owns memory only while there are some.
    pub(super) out: Vec<u8>,
    pub(super) phase: Phase,
    /// When the phase has lasted too long.
    pub(super) deadline: Tick,
    /// When the first part of the body at hand came.
    pub(super) body_started: Tick,
    /// When the send in flight has lasted too long.
    pub(super) write_deadline: Tick,
    /// Requests handled in this turn.
    pub(super) handled: usize,
    /// A buffer is with the ring.
    pub(super) sending: bool,
    /// Noted for flushing at the end of the turn.
    pub(super) dirty: bool,
    /// Receiving is paused.
    pub(super) paused: bool,
    /// The peer has sent everything it will.
    pub(super) peer_closed: bool,
    /// The stream at hand is the last reply, as its request wished.
    pub(super) last: bool,
    /// In [`Phase::Batch`]: the answers so far, where the reply is to be one JSON array.
    pub(super) collected: Option<Box<Collected>>,
}

/// The answers to a batch whose client reads no stream of events: they are sent together once all are there.
pub(super) struct Collected {
    pub(super) answers: Vec<Vec<u8>>,
    pub(super) exchange: Exchange<Box<[u8]>>,
}

impl Connection {
    pub(super) fn new(socket: SocketId, deadline: Tick) -> Self {
        Self {
            socket,
            framer: Framer::default(),
            lines: None,
            out: Vec::new(),
            phase: Phase::Idle,
            deadline,
            body_started: Tick::NEVER,
            write_deadline: Tick::NEVER,
            handled: 0,
            sending: false,
            dirty: false,
            paused: false,
            peer_closed: false,
            last: false,
            collected: None,
        }
    }

    /// Answers that are owed, where lines are spoken.
    pub(super) fn owes(&self) -> usize {
        self.lines.as_ref().map_or(0, |lines| lines.pending)
    }

    /// What it does, for who watches the shard.
    pub(super) fn state(&self) -> ConnectionState {
        match self.phase {
            Phase::Closing { .. } | Phase::Lingering => ConnectionState::Closing,
            Phase::Listening(_) | Phase::Carrying(_) => ConnectionState::Streaming,
            Phase::Calling(_) | Phase::Batch(_) => ConnectionState::Handling,
            Phase::Congested if !self.sending && self.owes() > 0 => ConnectionState::Handling,
            Phase::Congested => ConnectionState::Writing,
            Phase::Idle | Phase::Head | Phase::Body if self.sending => ConnectionState::Writing,
            Phase::Idle if self.owes() > 0 => ConnectionState::Handling,
            Phase::Idle => ConnectionState::Idle,
            Phase::Head | Phase::Body => ConnectionState::Reading,
        }
    }

    /// Whether requests are handled as they arrive.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::Head | Phase::Body)
    }
}

/// Fifteen thousand idle ones should cost no more than their entries.
const _: () = assert!(size_of::<Option<Connection>>() <= 128);

/// Counts a shard's connections by state, some at a time: the table may be long.
#[derive(Default)]
pub(super) struct Census {
    next: usize,
    counts: ConnectionStates,
}

impl Census {
    /// Looks at that many more places of the table. The counts, once it has come to the table's end; the next call begins
    /// anew.
    pub(super) fn go_on(&mut self, table: &[Option<Connection>], places: usize) -> Option<ConnectionStates> {
        let end = table.len().min(self.next.saturating_add(places));
        for connection in table.get(self.next..end).into_iter().flatten().flatten() {
            if let Some(count) = self.counts.get_mut(connection.state() as usize) {
                *count += 1;
            }
        }
        self.next = end;
        (end == table.len()).then(|| std::mem::take(self).counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn census_counts_every_place_once_however_many_at_a_time() {
        let connection = |phase| Connection { phase, ..Connection::new(SocketId::default(), Tick::NEVER) };
        let mut table: Vec<_> = [Phase::Idle, Phase::Head, Phase::Lingering, Phase::Idle, Phase::Body]
            .map(|phase| Some(connection(phase)))
            .into();
        table.insert(2, None);
        let mut census = Census::default();
        for places in 1..8 {
            let mut calls = 1;
            let counts = loop {
                if let Some(counts) = census.go_on(&table, places) {
                    break counts;
                }
                calls += 1;
            };
            assert_eq!((counts, calls), ([2, 2, 0, 0, 0, 1], 6_usize.div_ceil(places)), "{places}");
        }
        assert_eq!(census.go_on(&[], 1), Some([0; 6]));
    }
}
