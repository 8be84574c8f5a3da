//! Closing of connections: by the peer, by a timer, or by a drain.

use std::{io, time::Duration};

use corelane_ring::SocketId;

use super::{Shard, connection_of};
use crate::{
    connection::{Connection, Phase, Wire},
    http1::{CONTINUE, KEEP_ALIVE, RejectReason, chunk},
    runtime::{Tick, Ticket, instant_after},
    session::SubscriberKey,
};

/// Minimum time between two interim responses to a client that may have left.
const PEER_CHECK_MIN: Duration = Duration::from_millis(100);

/// Number of topics whose removal takes no more time than a request.
const TOPICS_FEW: usize = 16;

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
        let phase = connection.phase;
        let dispatcher = &mut self.pipeline.dispatcher;
        match phase {
            Phase::Calling { ticket, .. } => dispatcher.orphan_call(ticket),
            Phase::Batch(_) => {
                for ticket in dispatcher.calls.of_connection(socket) {
                    dispatcher.orphan_call(ticket);
                }
            }
            _ => {}
        }
        if self.drain_until.is_some() && matches!(phase, Phase::Calling { .. } | Phase::Batch(_)) {
            self.schedule_keep_alive(socket);
        }
    }

    /// Handles the end of input of a newline-delimited connection. Its requests are answered within the time limit of a drain.
    fn on_lines_ended(&mut self, socket: SocketId) {
        let soon = self.timers.tick_after(self.now, self.limits.drain_timeout);
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.deadline = soon;
        self.timers.schedule(socket.index(), soon);
        if connection.is_reading() {
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
            self.check_send(socket);
            return;
        }
        if connection.json_lines.is_some() && self.is_kept_or_rejected(socket) {
            return;
        }
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let reason = match connection.phase {
            Phase::Head => RejectReason::HeadTimeout,
            Phase::Body { .. } => RejectReason::BodyTimeout,
            Phase::Calling { is_streaming: false, .. } if connection.peer_closed => {
                self.check_peer(socket);
                return;
            }
            Phase::Batch(_) if connection.peer_closed && connection.deferred.answers().is_some() => {
                self.check_peer(socket);
                return;
            }
            Phase::Calling { .. } | Phase::Batch(_) | Phase::Listening(_) | Phase::Attached { .. } => {
                self.send_keep_alive(socket);
                return;
            }
            _ => {
                if connection.pending_replies() == 0 || !self.await_calls(socket) {
                    self.close(socket);
                }
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

    /// Handles the timeout of a newline-delimited connection whose client may still send. A line that arrives too slowly is rejected
    /// as a body is. A connection with calls in flight or subscriptions is not idle. Returns `false` if it must be closed.
    fn is_kept_or_rejected(&mut self, socket: SocketId) -> bool {
        let is_draining = self.drain_until.is_some();
        let Some(connection) = connection_of(&mut self.connections, socket) else { return false };
        let Some(lines) = &connection.json_lines else { return false };
        match connection.phase {
            _ if connection.peer_closed => false,
            Phase::Body { .. } => {
                let peer = connection.peer;
                self.pipeline.reject_line("line_timeout", "Line timeout", peer, &mut connection.out);
                connection.phase = Phase::Closing { linger: true };
                connection.deadline = Tick::NEVER;
                self.mark(socket);
                true
            }
            Phase::Idle
                if lines.pending_replies > 0
                    || (!is_draining && lines.client.subscribers().next().is_some()) =>
            {
                connection.deadline = self.timers.tick_after(self.now, self.limits.keep_alive_timeout);
                self.timers.schedule(socket.index(), connection.deadline);
                true
            }
            _ => false,
        }
    }

    /// Schedules the next comment of a stream.
    pub(super) fn schedule_keep_alive(&mut self, socket: SocketId) {
        let is_draining = self.drain_until.is_some();
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let interval = match is_draining && connection.peer_closed {
            // The first send makes the kernel of a client that has left reset the connection; the second one fails.
            true => self
                .limits
                .drain_grace
                .clamp(PEER_CHECK_MIN, self.limits.stream_keep_alive.max(PEER_CHECK_MIN)),
            false => self.limits.stream_keep_alive,
        };
        connection.deadline = self.timers.tick_after(self.now, interval);
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

    /// Handles the time limit of a newline-delimited connection with calls in flight. During a drain it is that of the drain; after
    /// it the calls are answered with an error, which closes the connection. Returns `false` if they have been.
    fn await_calls(&mut self, socket: SocketId) -> bool {
        let now = self.now;
        let until = match self.drain_until {
            Some(until) if until > now && !self.has_abandoned => until,
            _ => {
                let tickets = self.dispatcher().calls.of_connection(socket);
                if tickets.is_empty() {
                    return false;
                }
                self.abandon(tickets);
                instant_after(now, self.limits.linger_timeout)
            }
        };
        let Some(connection) = connection_of(&mut self.connections, socket) else { return true };
        connection.deadline = self.timers.tick_after(now, until.saturating_duration_since(now));
        self.timers.schedule(socket.index(), connection.deadline);
        true
    }

    /// Answers calls with an error, and logs them.
    fn abandon(&mut self, tickets: Vec<Ticket>) {
        let Self { pipeline, connections, .. } = self;
        let dispatcher = &mut pipeline.dispatcher;
        let names = dispatcher.abandon(tickets, |socket| connection_of(connections, socket).is_some());
        dispatcher.observer.calls_abandoned(&names);
    }

    /// Answers the calls in flight with an error once the time limit of a drain has passed. The answers have `drain_grace` to
    /// be sent.
    pub(super) fn end_drain(&mut self) {
        if self.has_abandoned || self.drain_until.is_none_or(|until| until > self.now) {
            return;
        }
        self.has_abandoned = true;
        self.drain_until = Some(instant_after(self.now, self.limits.drain_grace));
        self.listen_until = self.listen_until.map(|_| self.now);
        self.abandon_calls();
    }

    /// Answers all calls in flight with an error.
    pub(super) fn abandon_calls(&mut self) {
        let tickets = self.dispatcher().calls.unanswered();
        self.abandon(tickets);
    }

    /// Sends an interim response (RFC 9110, section 15.2) to a client that has closed its sending side, during a drain. One that has
    /// left resets the connection, so that its call no longer holds the drain.
    fn check_peer(&mut self, socket: SocketId) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if self.drain_until.is_none() || connection.deferred.exchange().http_1_0 {
            connection.deadline = Tick::NEVER;
            return;
        }
        if !connection.is_sending && connection.out.is_empty() {
            connection.out.extend_from_slice(CONTINUE);
            self.mark(socket);
        }
        self.schedule_keep_alive(socket);
    }

    /// Closes a connection whose socket has failed. The kernel's timeout means that the peer answers no probe.
    pub(super) fn on_socket_failed(&mut self, socket: SocketId, error: &io::Error) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        // Unreachable: the last error of the network, which the kernel reports in place of the timeout.
        if matches!(
            error.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
        ) {
            let peer = connection.peer;
            self.pipeline.rejected("peer_lost", peer);
        }
        self.close(socket);
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
            self.spare.keep(connection.out);
            self.remove_live();
        }
        self.timers.cancel(socket.index());
        if !self.slow_sends.is_empty() {
            self.slow_sends.remove(&socket);
        }
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
            Phase::Listening(subscriber) => self.remove_subscriber(subscriber),
            _ => {}
        }
        let dispatcher = &mut self.pipeline.dispatcher;
        if let Some(stream) = connection.phase.stream() {
            dispatcher.state.detach(stream, connection.socket);
        }
        if let Some(lines) = &connection.json_lines {
            lines.client.subscribers().for_each(|subscriber| self.remove_subscriber(subscriber));
            let dispatcher = &mut self.pipeline.dispatcher;
            for ticket in dispatcher.calls.of_connection(connection.socket) {
                if dispatcher.calls.cancel(ticket).is_some() {
                    dispatcher.observer.metrics().event("cancelled");
                }
            }
        }
    }

    /// Removes a subscriber whose connection has closed: one with many topics when turns have time, because a client may close many
    /// such connections at once. Its events are dropped meanwhile.
    fn remove_subscriber(&mut self, subscriber: SubscriberKey) {
        let subscriptions = &mut self.pipeline.dispatcher.state.subscriptions;
        if subscriptions.usage(subscriber).named > TOPICS_FEW {
            self.departed.push_back(subscriber);
        } else {
            subscriptions.remove(subscriber);
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
        let write_limit = self.timers.tick_after(self.now, self.write_check());
        for connection in self.connections.iter_mut().flatten() {
            if connection.is_sending {
                connection.write_deadline = connection.write_deadline.min(write_limit);
                self.timers.schedule(connection.socket.index(), connection.write_deadline);
            }
            let soon = match connection.phase {
                Phase::Calling { .. } | Phase::Batch(_) if connection.peer_closed => idle,
                // Closes after its last reply.
                _ if connection.pending_replies() > 0 => continue,
                Phase::Idle => idle,
                Phase::Head | Phase::Body { .. } => half,
                _ => continue,
            };
            connection.deadline = connection.deadline.min(soon);
            self.timers
                .schedule(connection.socket.index(), connection.deadline.min(connection.write_deadline));
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
