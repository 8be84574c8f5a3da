//! Closing of connections: by the peer, by a timer, or by a drain.

use corelane_ring::SocketId;

use super::{Shard, connection_of, send::keep_spare};
use crate::{
    connection::{Connection, Phase, Wire},
    http1::{KEEP_ALIVE, RejectReason, chunk},
    runtime::{Tick, instant_after},
};

impl Shard {
    pub(super) fn on_peer_closed(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.peer_closed = true;
        if connection.json_lines.is_some() {
            self.on_lines_ended(socket);
            return;
        }
        // A peer may close its sending side and still await the reply, except of a call that is cancelled with its
        // connection.
        let cancels = match connection.phase {
            Phase::Calling { ticket, .. } => self.pipeline.dispatcher.ends_with_connection(ticket),
            Phase::Listening(_) | Phase::Attached { .. } => true,
            _ => false,
        };
        let waits = connection.is_sending
            || !connection.out.is_empty()
            || matches!(connection.phase, Phase::Calling { .. } | Phase::Batch(_) | Phase::Congested);
        if !waits || cancels || connection.phase == Phase::Lingering {
            self.close(socket);
            return;
        }
        let dispatcher = &mut self.pipeline.dispatcher;
        match connection.phase {
            Phase::Calling { ticket, .. } => dispatcher.orphan_call(ticket),
            Phase::Batch(_) => {
                for ticket in dispatcher.calls.of_connection(socket) {
                    dispatcher.orphan_call(ticket);
                }
            }
            _ => {}
        }
    }

    /// Handles the end of input of a newline-delimited connection. Its requests are answered within the time limit of a drain.
    fn on_lines_ended(&mut self, socket: SocketId) {
        let soon = self.timers.tick_after(self.now, self.limits.drain_timeout);
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.deadline = soon;
        self.timers.schedule(socket.index(), soon);
        if connection.phase == Phase::Idle {
            self.advance_lines(socket, None);
        }
    }

    pub(super) fn on_timer(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let socket = connection.socket;
        let earliest = connection.deadline.min(connection.write_deadline);
        if earliest > self.timers.tick_before(self.now) {
            self.timers.schedule(index, earliest);
            return;
        }
        if connection.write_deadline <= connection.deadline {
            let peer = connection.peer;
            self.pipeline.rejected("write_timeout", peer);
            self.close(socket);
            return;
        }
        let reason = match connection.phase {
            Phase::Head => RejectReason::HeadTimeout,
            Phase::Body { .. } => RejectReason::BodyTimeout,
            Phase::Calling { .. } | Phase::Batch(_) | Phase::Listening(_) | Phase::Attached { .. } => {
                self.send_keep_alive(socket);
                return;
            }
            _ => {
                if connection.pending_replies() > 0 {
                    self.log_unfinished_calls(socket);
                }
                self.close(socket);
                return;
            }
        };
        self.pipeline.dispatcher.observer.set_peer(connection.peer);
        let phase = self.pipeline.reject(reason, None, &mut connection.out);
        debug_assert_eq!(phase, Some(Phase::Closing { linger: true }));
        connection.phase = Phase::Closing { linger: true };
        connection.deadline = Tick::NEVER;
        self.mark(socket);
    }

    /// Schedules the next comment of a stream.
    pub(super) fn schedule_keep_alive(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.deadline = self.timers.tick_after(self.now, self.limits.stream_keep_alive);
        self.timers.schedule(socket.index(), connection.deadline.min(connection.write_deadline));
    }

    /// Sends a comment on an idle stream.
    fn send_keep_alive(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let phase = connection.phase;
        if !connection.is_sending && connection.out.is_empty() {
            chunk(&mut connection.out, true, |out| out.extend_from_slice(KEEP_ALIVE));
            self.mark(socket);
        }
        if let Some(stream) = phase.stream() {
            self.pipeline.dispatcher.state.check_attached(stream, socket);
        }
        self.schedule_keep_alive(socket);
    }

    /// Logs the calls in flight of a newline-delimited connection that is closed after the time limit of a drain.
    fn log_unfinished_calls(&mut self, socket: SocketId) {
        let dispatcher = self.dispatcher();
        let tickets = dispatcher.calls.of_connection(socket);
        let names = tickets.iter().filter_map(|ticket| Some(dispatcher.calls.get(*ticket)?.callable.name()));
        let names: Vec<String> = names.map(ToOwned::to_owned).collect();
        dispatcher.observer.calls_unfinished(&names);
    }

    /// Closes a connection with its calls, subscriptions and streams.
    pub(super) fn close(&mut self, socket: SocketId) {
        if connection_of(&mut self.connections, socket).is_none() {
            return;
        }
        self.cancel_leaving(socket);
        if let Some(connection) = self.connections.get_mut(socket.index()).and_then(Option::take) {
            self.detach(&connection);
            self.pipeline.dispatcher.memory.release(socket);
            if connection.wire == Wire::AfterProxyHeader {
                self.proxy_headers.remove(&socket);
            }
            keep_spare(&mut self.spare, connection.out);
            self.remove_live();
        }
        self.timers.cancel(socket.index());
        self.ring.close(socket);
        if self.adopts && self.live == 0 {
            self.begin_drain();
        }
    }

    /// Cancels or detaches the calls, subscriptions and streams of a connection that closes.
    fn detach(&mut self, connection: &Connection) {
        let dispatcher = &mut self.pipeline.dispatcher;
        match connection.phase {
            Phase::Calling { ticket, .. } => dispatcher.detach_call(ticket),
            Phase::Batch(_) => {
                for ticket in dispatcher.calls.of_connection(connection.socket) {
                    dispatcher.detach_call(ticket);
                }
            }
            Phase::Listening(subscriber) => dispatcher.state.subscriptions.remove(subscriber),
            _ => {}
        }
        if let Some(stream) = connection.phase.stream() {
            dispatcher.state.detach(stream, connection.socket);
        }
        if let Some(lines) = &connection.json_lines {
            for subscriber in lines.client.subscribers() {
                dispatcher.state.subscriptions.remove(subscriber);
            }
            for ticket in dispatcher.calls.of_connection(connection.socket) {
                if dispatcher.calls.cancel(ticket).is_some() {
                    dispatcher.observer.metrics().event("cancelled");
                }
            }
        }
    }

    pub(super) fn begin_drain(&mut self) {
        if self.drain_until.is_some() {
            return;
        }
        self.drain_until = Some(instant_after(self.now, self.limits.drain_timeout));
        self.balancer.leave();
        self.pipeline.drain();
        self.refuse_connections();
        // A client that has just received a reply may have sent its next request: it is answered with `Connection: close`. A
        // partial request has a shorter time limit than usual.
        let idle = self.timers.tick_after(self.now, self.limits.drain_grace);
        let half = self.timers.tick_after(self.now, self.limits.linger_timeout);
        self.end_streams();
        for connection in self.connections.iter_mut().flatten() {
            let soon = match connection.phase {
                // Closes after its last reply.
                Phase::Idle if connection.pending_replies() > 0 => continue,
                Phase::Idle => idle,
                Phase::Head | Phase::Body { .. } => half,
                _ => continue,
            };
            connection.deadline = connection.deadline.min(soon);
            self.timers.schedule(connection.socket.index(), connection.deadline);
        }
    }

    /// Whether a drain has ended: no connection is open or may come, or its time limit has passed.
    pub(super) fn is_drained(&self) -> bool {
        self.drain_until.is_some_and(|until| {
            let may_arrive = self.ring.may_accept() || self.balancer.is_awaiting_arrival();
            self.now >= until || (self.live == 0 && self.ring.sockets() == 0 && !may_arrive)
        })
    }
}
