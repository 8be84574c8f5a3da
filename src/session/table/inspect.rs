//! Reads the session table for the control socket.

use std::ops::Bound;

use super::{SessionTable, StreamKind};
use crate::{mcp::SessionKey, session::subscriptions::SubscriberKey};

/// The state that one session keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionUsage {
    pub(crate) key: SessionKey,
    pub(crate) subscriber: SubscriberKey,
    /// Number of streams opened by GET.
    pub(crate) streams: usize,
    /// Number of those with a connection.
    pub(crate) attached: usize,
    /// Size and number of the messages in their replay buffers.
    pub(crate) replay_bytes: usize,
    pub(crate) replay_messages: usize,
    /// Time of expiry, in seconds since 1970.
    pub(crate) expires: u64,
}

/// The replay buffer of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplayUsage {
    pub(crate) session: SessionKey,
    pub(crate) is_reply: bool,
    pub(crate) is_attached: bool,
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
}

/// A place in the order of expiry, in which the sessions are read.
pub(crate) type ReadPosition = Option<(u64, SessionKey)>;

impl SessionTable {
    /// Reads the next sessions after `position`, at most `max`, which changes in between do not disturb. Returns the position for
    /// the next call; `None` after the last session.
    pub(crate) fn read(
        &self,
        position: ReadPosition,
        max: usize,
        mut visit: impl FnMut(SessionUsage),
    ) -> ReadPosition {
        let after = position.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let mut count = 0;
        for place in self.expiries.range((after, Bound::Unbounded)).take(max) {
            (last, count) = (Some(*place), count + 1);
            let Some(entry) = self.entries.get(&place.1) else { continue };
            let buffers =
                entry.streams.iter().filter_map(|id| self.streams.get(*id)).map(|stream| &stream.buffer);
            let (bytes, messages) = buffers
                .fold((0, 0), |(bytes, messages), buffer| (bytes + buffer.bytes(), messages + buffer.len()));
            visit(SessionUsage {
                key: entry.session.key,
                subscriber: entry.subscriber,
                streams: entry.streams.len(),
                attached: entry.attached,
                replay_bytes: bytes,
                replay_messages: messages,
                expires: entry.session.expires,
            });
        }
        last.filter(|_| count == max)
    }

    /// The `max` largest replay buffers, largest first.
    pub(crate) fn largest_replay_buffers(&self, max: usize) -> impl Iterator<Item = ReplayUsage> {
        self.streams.largest().take(max).map(|stream| ReplayUsage {
            session: stream.session,
            is_reply: stream.kind == StreamKind::Reply,
            is_attached: stream.attachment.is_some(),
            bytes: stream.buffer.bytes(),
            messages: stream.buffer.len(),
        })
    }
}
