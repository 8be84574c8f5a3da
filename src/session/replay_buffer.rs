//! The replay buffer of one stream: its newest messages with their numbers, bounded in bytes, and the ids of its events
//! ([Resumability and Redelivery][spec]).
//!
//! [spec]: https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#resumability-and-redelivery

use std::collections::VecDeque;

use crate::{
    http1::write_event,
    mcp::{Instance, StreamId},
};

/// Bytes that an event counts beyond its message: its id and the framing.
pub(super) const EVENT_OVERHEAD_BYTES: usize = 64;

/// The newest messages of one stream. Numbers start at 1 and have no gaps; the oldest messages are dropped first.
#[derive(Default)]
pub(super) struct ReplayBuffer {
    messages: VecDeque<Box<[u8]>>,
    /// Size of `messages`, each with [`EVENT_OVERHEAD_BYTES`].
    bytes: usize,
    /// Number of the newest message.
    last: u64,
    /// Number of the newest message that was sent to a connection.
    sent: u64,
    /// A message was dropped before it was sent, here or on the stream it was moved from.
    is_missed: bool,
}

impl ReplayBuffer {
    /// Appends a message. The oldest ones are dropped until at most `bytes_max` remain. A message larger than that empties the
    /// buffer and is not kept.
    pub(super) fn push(&mut self, message: Box<[u8]>, bytes_max: usize) {
        self.last += 1;
        if message.len() + EVENT_OVERHEAD_BYTES > bytes_max {
            return self.clear();
        }
        self.bytes += message.len() + EVENT_OVERHEAD_BYTES;
        self.messages.push_back(message);
        while self.bytes > bytes_max
            && let Some(oldest) = self.messages.pop_front()
        {
            self.bytes -= oldest.len() + EVENT_OVERHEAD_BYTES;
        }
    }

    /// Drops every message.
    pub(super) fn clear(&mut self) {
        self.messages = VecDeque::new();
        self.bytes = 0;
    }

    /// Number of messages.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Size of the messages, with [`EVENT_OVERHEAD_BYTES`] for each.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether every message after number `after` is in the buffer.
    pub(super) fn is_complete_after(&self, after: u64) -> bool {
        self.last - after.min(self.last) <= self.messages.len() as u64
    }

    /// Whether the newest message is in the buffer.
    pub(super) fn holds_last(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Sets that a message was dropped before it was sent.
    pub(super) fn set_missed(&mut self) {
        self.is_missed = true;
    }

    /// Whether a message was dropped before it was sent, since the last call.
    pub(super) fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.is_missed) || !self.is_complete_after(self.sent)
    }

    /// Number of the newest message; 0 before the first.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Number of the newest message that was sent; 0 before the first.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether every message was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.last
    }

    /// Marks every message as sent.
    pub(super) fn mark_sent(&mut self) {
        self.sent = self.last;
    }

    /// Marks the messages after number `after` as not sent: no connection received them.
    pub(super) fn mark_unsent(&mut self, after: u64) {
        self.sent = self.sent.min(after);
    }

    /// Removes the messages that were not sent. Their numbers are given to the next ones. Call [`ReplayBuffer::take_missed`] before.
    pub(super) fn take_unsent(&mut self) -> VecDeque<Box<[u8]>> {
        let unsent = usize::try_from(self.last - self.sent).unwrap_or(usize::MAX);
        let taken = self.messages.split_off(self.messages.len().saturating_sub(unsent));
        self.bytes -= taken.iter().map(|message| message.len() + EVENT_OVERHEAD_BYTES).sum::<usize>();
        self.last = self.sent;
        taken
    }

    /// The events of stream `id` after number `after`, if the buffer still holds them.
    pub(super) fn events_after(
        &self,
        after: u64,
        instance: Instance,
        id: StreamId,
        is_reply: bool,
    ) -> Vec<u8> {
        let first = self.last + 1 - self.messages.len() as u64;
        let skipped = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let mut events = Vec::new();
        for (number, message) in (first..).zip(&self.messages).skip(skipped) {
            events.reserve(message.len() + EVENT_OVERHEAD_BYTES);
            write_event(&mut events, Some(&event_id(instance, id, is_reply, number)), message);
        }
        events
    }
}

/// The id of an event: the instance that owns the stream, the stream, and the event's number in it. The generation of a reply
/// stream has a mark.
pub(super) fn event_id(instance: Instance, id: StreamId, is_reply: bool, number: u64) -> String {
    let mark = if is_reply { REPLY_MARK } else { "" };
    format!("{instance}-{}-{}-{mark}{}-{number}", id.shard, id.index, id.generation)
}

/// Mark of a reply stream in the ids of its events.
const REPLY_MARK: &str = "r";

/// Decodes an event id of this instance: the stream and the event's number in it.
pub(crate) fn read_event_id(instance: Instance, text: &[u8]) -> Option<(StreamId, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (of, rest) = text.split_once('-')?;
    if of != instance.to_string() {
        return None;
    }
    let mut parts = rest.split('-');
    let id = StreamId {
        shard: parts.next()?.parse().ok()?,
        index: parts.next()?.parse().ok()?,
        generation: parts.next().map(|part| part.strip_prefix(REPLY_MARK).unwrap_or(part))?.parse().ok()?,
    };
    let number = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((id, number))
}

/// Whether an event id of any instance names a reply stream.
pub(crate) fn is_reply_event(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'-').nth(3).is_some_and(|part| part.starts_with(REPLY_MARK.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: Instance = Instance { epoch: 7, node: [1, 2, 3, 4, 5] };
    const ID: StreamId = StreamId { shard: 3, index: 1, generation: 2 };

    fn data(events: &[u8]) -> Vec<String> {
        let text = String::from_utf8(events.to_vec()).unwrap();
        text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    #[test]
    fn event_ids_of_other_instances_and_malformed_ones_are_rejected() {
        let reply = event_id(INSTANCE, ID, true, 1);
        let text = event_id(INSTANCE, ID, false, 1);
        for text in [&reply, &text] {
            assert_eq!(read_event_id(INSTANCE, text.as_bytes()), Some((ID, 1)));
        }
        assert!(is_reply_event(reply.as_bytes()) && !is_reply_event(text.as_bytes()));
        for text in ["", "1", "1-2-3", "1-2-3-4-5", "a-2-3-4", "1--3-4", "99999-0-0-0"] {
            assert_eq!(read_event_id(INSTANCE, format!("{INSTANCE}-{text}").as_bytes()), None, "{text}");
        }
        let later = Instance { epoch: 8, ..INSTANCE };
        let other = Instance { node: [8; 5], ..INSTANCE };
        for instance in [later, other] {
            assert_eq!(read_event_id(instance, text.as_bytes()), None, "another run's");
        }
        assert_eq!(read_event_id(INSTANCE, b"3-0-0-1"), None);
    }

    #[test]
    fn oldest_messages_are_dropped_beyond_the_bound() {
        let mut buffer = ReplayBuffer::default();
        for number in 1..=100 {
            buffer.push(format!("{number:050}").into_bytes().into(), 300);
        }
        let numbers: Vec<u32> = data(&buffer.events_after(0, INSTANCE, ID, false))
            .iter()
            .map(|data| data.parse().unwrap())
            .collect();
        assert_eq!(numbers, [99, 100]);
        assert!(buffer.events_after(100, INSTANCE, ID, false).is_empty());
        assert!(buffer.is_complete_after(98) && !buffer.is_complete_after(97));
    }

    #[test]
    fn message_larger_than_the_bound_is_not_kept_and_noted_as_missed() {
        let mut buffer = ReplayBuffer::default();
        for message in [vec![b'x'; 10], vec![b'x'; 300 - EVENT_OVERHEAD_BYTES + 1]] {
            buffer.push(message.into(), 300);
        }
        assert_eq!((buffer.bytes(), buffer.last()), (0, 2));
        assert!(buffer.take_missed() && buffer.take_unsent().is_empty() && !buffer.take_missed());
        buffer.push(vec![b'x'; 300 - EVENT_OVERHEAD_BYTES].into(), 300);
        assert_eq!((buffer.bytes(), buffer.take_missed()), (300, false));
        buffer.mark_sent();
        buffer.push(vec![b'x'; 300].into(), 300);
        buffer.mark_sent();
        assert!(!buffer.take_missed(), "it was sent");
        assert!(buffer.is_complete_after(2) && !buffer.is_complete_after(1));
    }

    #[test]
    fn unsent_messages_are_taken_and_their_numbers_reused() {
        let mut buffer = ReplayBuffer::default();
        for message in [b"1", b"2"] {
            buffer.push((*message).into(), 10_000);
        }
        buffer.mark_sent();
        for message in [b"3", b"4"] {
            buffer.push((*message).into(), 10_000);
        }
        assert_eq!(buffer.take_unsent(), [(*b"3").into(), (*b"4").into()]);
        assert!(buffer.is_sent() && buffer.take_unsent().is_empty());
        buffer.push((*b"5").into(), 10_000);
        assert_eq!(
            (buffer.last(), data(&buffer.events_after(1, INSTANCE, ID, false))),
            (3, vec!["2".into(), "5".into()])
        );
        buffer.mark_unsent(1);
        assert_eq!(buffer.take_unsent().len(), 2);
    }
}
