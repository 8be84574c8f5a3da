//! Drains the deliveries of a turn into the outboxes of connections.

use std::{sync::Arc, time::Instant};

use corelane_ring::SocketId;

use super::{Shard, connection_of};
use crate::{
    connection::{DeferredReply, Delivered, Phase, append_message, deliver_line},
    delivery::{AfterSend, Delivery, Destination, Payload},
    mcp::Event,
    runtime::Tick,
    session::{Subscriber, SubscriberKey},
};

impl Shard {
    /// Drains the queue, and then lets connections whose reply is complete read their next request, which may queue more. A
    /// panic drops the connection concerned, and the rest is drained.
    pub(super) fn drain_deliveries(&mut self) {
        while !self.guarded(None, Self::drain_until_empty) {}
    }

    fn drain_until_empty(&mut self) {
        loop {
            while let Some(delivery) = self.delivering.pop() {
                self.deliver(delivery);
            }
            self.delivering.clear();
            std::mem::swap(&mut self.delivering, &mut self.pipeline.dispatcher.state.deliveries);
            if !self.delivering.is_empty() {
                continue;
            }
            let Some(socket) = self.to_resume.pop_front() else { return };
            if self.can_resume(socket) {
                self.resume(socket);
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let Delivery { to, payload, then } = delivery;
        let socket = match to {
            Destination::Subscribers => {
                self.handling = None;
                match payload {
                    Payload::Event(event) => self.publish(&event),
                    _ => self.publish_all(),
                }
                return;
            }
            Destination::Reply(socket, _) | Destination::Stream(socket, _) => socket,
        };
        self.handling = Some(socket);
        let Self { pipeline, connections, delivering, spare, .. } = self;
        let bytes = match &payload {
            Payload::Message(range)
            | Payload::Events(range)
            | Payload::Reply(_, range)
            | Payload::Attached(_, range) => delivering.bytes(range),
            Payload::Event(_) | Payload::AllTopics => &[],
        };
        let connection = connection_of(connections, socket);
        let delivered = connection.map_or(Delivered::Dropped, |connection| {
            if connection.out.capacity() == 0 {
                connection.out = spare.take().unwrap_or_default();
            }
            if connection.json_lines.is_some() {
                deliver_line(connection, &payload, bytes, then)
            } else {
                pipeline.deliver_http(connection, to, &payload, bytes, then)
            }
        });
        match delivered {
            Delivered::Dropped => {
                let state = &mut pipeline.dispatcher.state;
                match (payload, to) {
                    // The connection closed before the other shard responded.
                    (Payload::Attached(stream, _), _) => state.cancel_attach(stream, socket),
                    // The message that the connection has closed did not reach the shard of the stream.
                    (_, Destination::Stream(_, stream)) if then == AfterSend::KeepOpen => {
                        state.detach(stream, socket);
                    }
                    _ => {}
                }
            }
            Delivered::Partly => self.after_part(socket, then),
            Delivered::Complete { keep_alive } => self.after_reply(socket, keep_alive),
        }
    }

    /// Handles a part of a reply or a stream that was written.
    pub(super) fn after_part(&mut self, socket: SocketId, then: AfterSend) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if then == AfterSend::KeepOpen && connection.out.len() > self.limits.outbox_bytes_max {
            // The client reads too slowly; it can resume the stream.
            let peer = connection.peer;
            self.pipeline.rejected("slow_reader", peer);
            self.close(socket);
            return;
        }
        let is_stream = match connection.phase {
            Phase::Calling { is_streaming, .. } => is_streaming,
            Phase::Batch(_) => connection.deferred.answers().is_none(),
            phase => matches!(phase, Phase::Attached { .. }),
        };
        if is_stream && connection.deadline == Tick::NEVER {
            self.schedule_keep_alive(socket);
        }
        self.mark(socket);
    }

    /// Handles the completion of a later reply.
    pub(super) fn after_reply(&mut self, socket: SocketId, keep_alive: bool) {
        self.mark(socket);
        let is_draining = self.drain_until.is_some();
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        self.pipeline.dispatcher.reply_enqueued(socket, connection.is_sending);
        if connection.json_lines.is_some() {
            self.resume_lines(socket);
            return;
        }
        connection.handled += 1;
        connection.deferred = DeferredReply::default();
        connection.deadline = Tick::NEVER;
        let has_used_its_share = connection.handled as usize >= self.limits.requests_per_turn_max
            || connection.out.len() > self.limits.outbox_bytes_max;
        if !keep_alive || is_draining {
            connection.phase = Phase::Closing { linger: connection.is_paused() || is_draining };
            return;
        }
        connection.phase = Phase::Congested;
        if !has_used_its_share {
            self.to_resume.push_back(socket);
        }
    }

    /// Whether a connection may read its next request. A newline-delimited one is listed once for every reply.
    pub(super) fn can_resume(&mut self, socket: SocketId) -> bool {
        let Self { pipeline, connections, limits, .. } = self;
        connection_of(connections, socket).is_some_and(|connection| {
            let pending = connection.pending_replies();
            connection.phase == Phase::Congested
                && (connection.json_lines.is_none() || !pipeline.is_at_call_limit(socket, pending, limits))
        })
    }

    /// Decrements the pending replies of a newline-delimited connection.
    pub(super) fn resume_lines(&mut self, socket: SocketId) {
        let is_draining = self.drain_until.is_some();
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let has_pending = connection.pending_replies() > 0;
        if connection.phase == Phase::Congested {
            self.to_resume.push_back(socket);
        } else if !has_pending && (is_draining || connection.peer_closed) {
            connection.phase = Phase::Closing { linger: false };
            self.mark(socket);
        } else if !has_pending && connection.phase == Phase::Idle && !self.adopts {
            // Idle from this reply on. The timer is scheduled for an earlier time, and then set to this one.
            connection.deadline = self.timers.tick_after(self.now, self.limits.keep_alive_timeout);
        }
    }

    /// Writes an event to its subscribers.
    fn publish(&mut self, event: &Arc<Event>) {
        self.publish_with(|subscriptions, write| {
            subscriptions.publish(event, |subscriber, id| write(event, subscriber, id));
        });
    }

    /// Writes an event for every topic after events were dropped.
    fn publish_all(&mut self) {
        self.publish_with(|subscriptions, write| subscriptions.publish_all(write));
    }

    fn publish_with(
        &mut self,
        publish: impl FnOnce(
            &mut crate::session::Subscriptions<Subscriber>,
            &mut dyn FnMut(&Arc<Event>, Subscriber, Option<&[u8]>) -> bool,
        ),
    ) {
        let began = Instant::now();
        let Self { pipeline, connections, dirty, limits, .. } = self;
        let batching = pipeline.dispatcher.batching();
        let (mut written_events, mut to_send) = (0, Vec::new());
        let state = &mut pipeline.dispatcher.state;
        let table = &mut state.table;
        publish(&mut state.subscriptions, &mut |event, subscriber, id| {
            let is_batching = batching(&subscriber);
            let again = if is_batching { None } else { Some(event.encoded_again()) };
            let event = again.as_ref().unwrap_or(event);
            let socket = match subscriber {
                Subscriber::Stream(socket) | Subscriber::JsonLines(socket) => socket,
                Subscriber::Session(key) => {
                    let mut message = Vec::new();
                    event.write(&mut message, None);
                    table.send(key, message.into());
                    written_events += 1;
                    return true;
                }
            };
            let Some(connection) = connection_of(connections, socket) else { return true };
            let has_room = match is_batching {
                true => connection.has_room_for_events(),
                false => connection.out.len() <= limits.outbox_bytes_max,
            };
            if !has_room {
                return false;
            }
            written_events += 1;
            let start = connection.out.len();
            append_message(connection, |out| event.write(out, id));
            let (before, written) = connection.out.split_at(start);
            if is_batching && before.ends_with(written) {
                // The same event is queued and unsent.
                connection.out.truncate(start);
                written_events -= 1;
            }
            if !connection.is_dirty {
                connection.is_dirty = true;
                dirty.push(socket);
            }
            if !is_batching {
                to_send.push(socket);
            }
            true
        });
        state.flush();
        pipeline.metrics().flags.notifications += written_events;
        // Otherwise sent with what else the turn writes to the connections.
        if !to_send.is_empty() {
            let dirty = std::mem::replace(&mut self.dirty, to_send);
            self.flush();
            // Those that were sent are listed still, which has no effect.
            self.dirty = dirty;
        }
        self.dispatcher().record_publish(began.elapsed());
    }

    /// Ends the streams of all connections for a drain.
    pub(super) fn end_streams(&mut self) {
        let sockets: Vec<SocketId> =
            self.connections.iter().flatten().map(|connection| connection.socket).collect();
        for socket in sockets {
            self.end_streams_of(socket);
        }
    }

    /// Ends the streams of a connection: a `subscriptions/listen` with its result.
    pub(super) fn end_streams_of(&mut self, socket: SocketId) {
        let Self { pipeline, connections, .. } = self;
        let Some(connection) = connection_of(connections, socket) else { return };
        let state = &mut pipeline.dispatcher.state;
        let listens: Vec<SubscriberKey> = match (connection.phase, &mut connection.json_lines) {
            (Phase::Listening(subscriber), _) => vec![subscriber],
            (phase @ Phase::Attached { .. }, _) => {
                phase.stream().into_iter().for_each(|stream| state.detach(stream, socket));
                Vec::new()
            }
            (_, Some(lines)) => std::mem::take(&mut lines.client.listens),
            _ => return,
        };
        for subscriber in listens {
            if let Some(id) = state.subscriptions.id(subscriber) {
                append_message(connection, |out| crate::mcp::write_listen_ended(out, id));
            }
            state.subscriptions.remove(subscriber);
        }
        if connection.json_lines.is_some() {
            self.resume_lines(socket);
        } else {
            connection.out.extend_from_slice(crate::http1::LAST_CHUNK);
            connection.phase = Phase::Closing { linger: true };
            connection.deferred = DeferredReply::default();
        }
        self.mark(socket);
    }
}
