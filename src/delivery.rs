//! Deliveries: everything that must reach a client other than as the answer to the message at hand. One queue per shard.
//!
//! A finished call, a notification of a running one, an event, a replayed event, the answer of another shard and a timeout
//! are all a [`Delivery`]. The shard drains the queue at one point of its turn; the connection adds the framing (head, SSE
//! event, chunk, line feed). Draining never re-enters dispatch: a connection whose reply is complete reads its next request
//! after the queue is empty.
//!
//! The queue is empty at the end of every turn. A turn puts a bounded number of deliveries into it: at most one for each call
//! event and each message of another shard that it takes, one for each call that is overdue, and, since an event is drained before
//! the next one is taken, one for each session that subscribed to one topic.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use corelane_ring::SocketId;

use crate::{
    http1::Status,
    mcp::{Event, StreamId},
    runtime::Ticket,
};

/// The largest buffer that is kept from one turn to the next, in bytes.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// One thing for one connection, or an event for all subscribers.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) to: Destination,
    pub(crate) payload: Payload,
    pub(crate) then: AfterSend,
}

/// The destination of a delivery. It is dropped if the connection has closed or no longer awaits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The connection that waits for the answer to this call or request.
    Reply(SocketId, Ticket),
    /// The connection that a stream of a session is attached to.
    Stream(SocketId, StreamId),
    /// Every subscriber on this shard.
    Subscribers,
}

/// The bytes of a delivery, as ranges of its queue's buffer, and the framing they need.
#[derive(Debug)]
pub(crate) enum Payload {
    /// A JSON-RPC message that precedes the answer.
    Message(Range<usize>),
    /// Whole server-sent events, ids included, as stored in a replay buffer.
    Events(Range<usize>),
    /// A reply: its status and its body, which is empty if the client receives none.
    Reply(Status, Range<usize>),
    /// A session's stream that this connection carries from now on, and the events it begins with.
    Attached(StreamId, Range<usize>),
    /// A change of what clients subscribe to.
    Event(Arc<Event>),
    /// Any topic may have changed.
    AllTopics,
}

/// The action on the connection after a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterSend {
    /// Further deliveries follow.
    KeepOpen,
    /// One of its pending replies is complete.
    EndReply,
}

/// Deliveries in order, with their bytes in one buffer.
#[derive(Debug, Default)]
pub(crate) struct DeliveryQueue {
    deliveries: VecDeque<Delivery>,
    bytes: Vec<u8>,
}

impl DeliveryQueue {
    /// Appends a delivery.
    pub(crate) fn push(&mut self, to: Destination, payload: Payload, then: AfterSend) {
        self.deliveries.push_back(Delivery { to, payload, then });
    }

    /// Appends what `write` appends to the queue's buffer. The range is for the [`Payload`] of the next [`Self::push`].
    pub(crate) fn write<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> (Range<usize>, T) {
        let start = self.bytes.len();
        let written = write(&mut self.bytes);
        debug_assert!(start <= self.bytes.len(), "a payload only appends to the buffer");
        (start..self.bytes.len(), written)
    }

    /// Appends a JSON-RPC message that precedes an answer.
    pub(crate) fn message(&mut self, to: Destination, message: &[u8]) {
        let (range, ()) = self.write(|bytes| bytes.extend_from_slice(message));
        self.push(to, Payload::Message(range), AfterSend::KeepOpen);
    }

    /// Appends events of a stream.
    pub(crate) fn events(&mut self, to: Destination, events: &[u8], then: AfterSend) {
        let (range, ()) = self.write(|bytes| bytes.extend_from_slice(events));
        self.push(to, Payload::Events(range), then);
    }

    /// Takes the oldest delivery.
    pub(crate) fn pop(&mut self) -> Option<Delivery> {
        self.deliveries.pop_front()
    }

    /// The bytes of a payload's range.
    pub(crate) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// Bytes of the deliveries.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Drops the bytes of deliveries that were popped.
    pub(crate) fn clear(&mut self) {
        debug_assert!(self.deliveries.is_empty(), "the bytes of a queued delivery are dropped");
        self.bytes.clear();
        self.bytes.shrink_to(SPARE_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_the_bytes_that_were_written_for_them() {
        let mut queue = DeliveryQueue::default();
        let to = Destination::Stream(SocketId::default(), StreamId { shard: 0, index: 0, generation: 0 });
        queue.message(to, b"one");
        queue.events(to, b"", AfterSend::EndReply);
        queue.message(to, b"three");
        let mut taken = Vec::new();
        while let Some(delivery) = queue.pop() {
            let (Payload::Message(range) | Payload::Events(range)) = delivery.payload else { panic!() };
            taken.push((queue.bytes(&range).to_vec(), delivery.then));
        }
        let expected = [
            (b"one".to_vec(), AfterSend::KeepOpen),
            (Vec::new(), AfterSend::EndReply),
            (b"three".to_vec(), AfterSend::KeepOpen),
        ];
        assert_eq!(taken, expected);
        queue.clear();
        assert!(queue.is_empty() && queue.bytes.is_empty());
    }

    #[test]
    #[should_panic(expected = "the bytes of a queued delivery are dropped")]
    fn clearing_a_queue_that_is_not_drained_panics() {
        let mut queue = DeliveryQueue::default();
        queue.message(
            Destination::Stream(SocketId::default(), StreamId { shard: 0, index: 0, generation: 0 }),
            b"one",
        );
        queue.clear();
    }
}
