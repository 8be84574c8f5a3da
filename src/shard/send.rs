//! The outboxes: one send in flight per connection, one system call per turn.

use std::{collections::hash_map::Entry, io, time::Duration};

use corelane_ring::SocketId;

use super::{
    Shard, connection_of,
    slow_send::{Failed, SlowSend, check_interval},
};
use crate::{
    connection::{Phase, Receiving, append_message},
    runtime::Tick,
};

impl Shard {
    /// Schedules the timers of the connections that the turn has changed, and sends what it has produced, with one send per
    /// connection. Returns whether there was anything.
    pub(super) fn flush(&mut self) -> bool {
        let flushed = !self.dirty.is_empty();
        let write_check = self.write_check();
        while let Some(socket) = self.dirty.pop() {
            let Some(connection) = connection_of(&mut self.connections, socket) else { continue };
            connection.is_dirty = false;
            connection.handled = 0;
            let sends = !connection.is_sending && !connection.out.is_empty();
            // A stream may have a check pending, which frequent messages must not postpone.
            if sends && connection.write_deadline == Tick::NEVER {
                connection.write_deadline = self.timers.tick_after(self.now, write_check);
            }
            self.timers.schedule(socket.index(), connection.deadline.min(connection.write_deadline));
            if connection.is_sending {
                continue;
            }
            let out = std::mem::take(&mut connection.out);
            if !sends {
                self.spare.keep(out);
                self.guarded(Some(socket), |shard| shard.on_outbox_empty(socket));
                continue;
            }
            connection.is_sending = true;
            let out = connection.wire.encode(out);
            self.pipeline.metrics().send(out.len());
            self.pipeline.dispatcher.memory.sending(socket, out.len());
            if self.ring.send(socket, out).is_err() {
                self.close(socket);
            }
        }
        flushed
    }

    /// Time without progress after which a send is given up: shorter during a drain, which a client that does not read shall not
    /// hold.
    fn write_limit(&self) -> Duration {
        match self.drain_until {
            Some(_) => self.limits.write_timeout.min(self.limits.linger_timeout),
            None => self.limits.write_timeout,
        }
    }

    /// Time between two checks of a send in flight.
    pub(super) fn write_check(&self) -> Duration {
        check_interval(self.write_limit())
    }

    /// Queries how many of the sent bytes have reached the peer, and schedules the next check.
    pub(super) fn check_send(&mut self, socket: SocketId) {
        let write_check = self.write_check();
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.write_deadline = self.timers.tick_after(self.now, write_check);
        self.timers.schedule(socket.index(), connection.write_deadline.min(connection.deadline));
        self.ring.query_acknowledged(socket);
    }

    /// Judges a send in flight, or a stream whose last message has not reached its peer.
    pub(super) fn on_acknowledged(&mut self, socket: SocketId, sent: u64, unacknowledged: u64) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if !connection.is_sending && unacknowledged == 0 {
            connection.write_deadline = Tick::NEVER;
            self.slow_sends.remove(&socket);
            return;
        }
        let (peer, is_sending) = (connection.peer, connection.is_sending);
        let write_limit = self.write_limit();
        let minimum = if is_sending { self.limits.write_bytes_per_second_min } else { 0 };
        let failed = match self.slow_sends.entry(socket) {
            Entry::Occupied(mut send) => {
                send.get_mut().check(self.now, (sent, unacknowledged), write_limit, minimum)
            }
            Entry::Vacant(entry) => {
                entry.insert(SlowSend::new(self.now, sent, unacknowledged));
                None
            }
        };
        let Some(failed) = failed else { return };
        let reason = match failed {
            Failed::TooSlow => "write_too_slow",
            Failed::NoProgress if is_sending => "write_timeout",
            Failed::NoProgress => "peer_lost",
        };
        self.pipeline.rejected(reason, peer);
        self.close(socket);
    }

    pub(super) fn on_sent(&mut self, socket: SocketId, buffer: Vec<u8>, outcome: &io::Result<()>) {
        let sent = buffer.len() as u64;
        self.spare.keep(buffer);
        self.pipeline.dispatcher.send_completed(socket);
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.is_sending = false;
        if self.pipeline.dispatcher.memory.is_counting() {
            self.pipeline.dispatcher.memory.sent(socket);
            self.count_memory(socket);
        }
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        // The next message of a stream may be far away, so its check takes place although the socket's buffer had room.
        if !connection.is_streaming() {
            connection.write_deadline = Tick::NEVER;
            if !self.slow_sends.is_empty() {
                self.slow_sends.remove(&socket);
            }
        } else if let Some(send) = self.slow_sends.get_mut(&socket) {
            send.add_completed(sent);
        }
        if let Err(error) = outcome {
            self.on_socket_failed(socket, error);
            return;
        }
        self.flush_pending_events(socket);
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if connection.out.capacity() == 0 {
            self.on_outbox_empty(socket);
        } else {
            self.mark(socket);
        }
    }

    fn on_outbox_empty(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        match connection.phase {
            Phase::Closing { linger: true } if !connection.peer_closed => {
                connection.phase = Phase::Lingering;
                connection.deadline = self.timers.tick_after(self.now, self.limits.linger_timeout);
                self.timers.schedule(socket.index(), connection.deadline);
                if connection.is_paused() {
                    self.set_receiving(socket, Receiving::Large);
                }
                self.ring.shutdown_write(socket);
            }
            Phase::Closing { .. } => self.close(socket),
            // Resumed by the next answer.
            Phase::Congested
                if self.pipeline.is_at_call_limit(socket, connection.pending_replies(), &self.limits) => {}
            Phase::Congested => self.resume(socket),
            _ if connection.peer_closed && connection.is_reading() && connection.json_lines.is_none() => {
                self.close(socket);
            }
            _ => {}
        }
    }

    /// Writes the events that a subscriber had no room for.
    fn flush_pending_events(&mut self, socket: SocketId) {
        let Self { pipeline, connections, .. } = self;
        let Some(connection) = connection_of(connections, socket) else { return };
        let subscribers: Vec<_> = match (connection.phase, &connection.json_lines) {
            (Phase::Listening(subscriber), _) => vec![subscriber],
            (_, Some(lines)) => lines.client.subscribers().collect(),
            _ => return,
        };
        let mut written = 0;
        let subscriptions = &mut pipeline.dispatcher.state.subscriptions;
        for subscriber in subscribers {
            subscriptions.flush(subscriber, |event, id| {
                let has_room = connection.has_room_for_events();
                if has_room {
                    append_message(connection, |out| event.write(out, id));
                    written += 1;
                }
                has_room
            });
        }
        pipeline.dispatcher.observer.metrics().flags.notifications += written;
        if !connection.out.is_empty() {
            self.mark(socket);
        }
    }
}
