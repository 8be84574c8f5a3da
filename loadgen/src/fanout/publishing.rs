//! The publisher: calls the tool that updates the resource, and reconnects when its connection has ended.

use super::{
    measuring::FanOut,
    streams::{Published, RECONNECT_NS},
};
use crate::http::Framer;

/// The server is gone if the publisher has had no connection for this long, in nanoseconds.
const GONE_NS: u64 = 2_000_000_000;

impl FanOut {
    /// Whether the publisher can send a call. Calls that are due wait, and their latency counts from the due time.
    pub(super) fn can_publish(&self) -> bool {
        let is_connected = self.streams.last().is_some_and(|stream| stream.socket.is_some());
        is_connected && (!self.publisher.closes || self.publisher.in_flight.is_empty())
    }

    /// Whether the publisher has been disconnected for too long.
    pub(super) fn is_gone(&self) -> bool {
        self.publisher
            .disconnected_ns
            .is_some_and(|disconnected_ns| self.now_ns.saturating_sub(disconnected_ns) > GONE_NS)
    }

    /// Handles the end of the publisher's connection and schedules the next one. Calls without a reply are errors;
    /// their updates are expected only if a stream has received them.
    pub(super) fn on_publisher_disconnected(&mut self) {
        let publisher = &mut self.publisher;
        let unanswered = publisher.in_flight.len();
        publisher.in_flight.clear();
        if unanswered > 0 {
            *self.recording.errors.entry("connection_closed").or_default() += unanswered as u64;
            let message = "the server closed the publisher's connection before it replied";
            self.recording.first_error.get_or_insert_with(|| message.to_owned());
            let answered = self.published.len() - unanswered.min(self.published.len());
            while self.published.len() > answered
                && self.published.last().is_some_and(|last_update| last_update.delivered == 0)
            {
                self.published.pop();
            }
        }
        publisher.disconnected_ns.get_or_insert(self.now_ns);
        let pause_ns = if publisher.replies > 0 { 0 } else { RECONNECT_NS };
        publisher.reconnect_at_ns = Some(self.now_ns + pause_ns);
        if let Some(stream) = self.streams.last_mut() {
            stream.socket = None;
            stream.framer = Framer::default();
        }
    }

    /// Sends one call; its update counts from the due time.
    pub(super) fn publish(&mut self, due_ns: u64) {
        let Some(socket) = self.streams.last().and_then(|stream| stream.socket) else { return };
        let Some(request) = self.plan.requests.first() else { return };
        let mut out = Vec::new();
        let sent = request.write(0, self.number, None, &mut self.random, &mut out);
        let bytes = out.len() as u64;
        // The previous send is still in progress: this call is late and not sent.
        if self.ring.send(socket, out).is_err() {
            *self.recording.errors.entry("publish_late").or_default() += 1;
            return;
        }
        self.number += 1;
        self.recording.sent_bytes += if self.is_measured(due_ns) { bytes } else { 0 };
        self.publisher.in_flight.push_back(sent);
        self.published.push(Published { at_ns: due_ns, delivered: 0 });
        self.recording.requests += u64::from(self.is_measured(due_ns));
    }
}
