//! Received bytes, on their way through a connection's framer.

use std::time::{Duration, Instant};

use corelane_ring::SocketId;

use super::{Shard, connection_of};
use crate::{
    config::Limits,
    connection::{Connection, JsonLines, JsonLinesHandler, Phase, Receiving, Requests, Wire},
    http1::{CONTINUE, Progress},
    jsonl,
    memory::COUNTED_MIN,
    runtime::{Tick, Timers},
};

const SEND_BUFFER_BYTES: usize = 1024;

impl Shard {
    /// Handles the first `length` bytes of `padded`, which were received.
    pub(super) fn on_received(&mut self, socket: SocketId, padded: &mut [u8], length: usize) {
        let has_no_time = self.pipeline.has_used_up_turn();
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if connection.wire == Wire::AfterProxyHeader {
            self.on_proxy_header(socket, padded.get(..length).unwrap_or_default());
            return;
        }
        let (padded, length) = connection.wire.decode(padded, length);
        match connection.phase {
            Phase::Closing { .. } | Phase::Lingering => {}
            Phase::Calling { .. }
            | Phase::Congested
            | Phase::Batch(_)
            | Phase::Listening(_)
            | Phase::Attached { .. } => self.hold(socket, padded.get(..length).unwrap_or_default()),
            Phase::Idle | Phase::Head | Phase::Body { .. } if has_no_time => {
                self.leave_input(socket, padded.get(..length).unwrap_or_default());
            }
            Phase::Idle | Phase::Head | Phase::Body { .. } if connection.json_lines.is_some() => {
                self.advance_lines(socket, Some((padded, length)));
            }
            Phase::Idle | Phase::Head | Phase::Body { .. } => self.advance(socket, Some((padded, length))),
        }
    }

    /// Keeps bytes that a connection cannot handle yet. Beyond the limit the rest stays in the socket.
    pub(super) fn hold(&mut self, socket: SocketId, received: &[u8]) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        match &mut connection.json_lines {
            Some(lines) => lines.framer.hold(received),
            None => connection.framer.hold(received, || self.pipeline.take_assembly()),
        }
        if connection.input_bytes() > self.limits.pipelined_bytes_max {
            self.set_receiving(socket, Receiving::Paused);
        }
        self.count_memory(socket);
    }

    /// Goes on with a connection that waited for an answer or for its outbox: in a later turn if this one has no time left.
    pub(super) fn resume(&mut self, socket: SocketId) {
        if self.pipeline.has_used_up_turn() {
            self.leave(socket);
            return;
        }
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        connection.phase = Phase::Idle;
        if connection.json_lines.is_some() {
            self.advance_lines(socket, None);
        } else {
            self.advance(socket, None);
        }
    }

    // Long: one arm for each result of the framer, and one for each phase.
    /// Handles the received bytes of an HTTP connection, new bytes last, and sets its next phase and the deadline of it.
    fn advance(&mut self, socket: SocketId, received: Option<(&mut [u8], usize)>) {
        self.handling = Some(socket);
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if connection.out.capacity() == 0 {
            connection.out = self.spare.take().unwrap_or_else(|| Vec::with_capacity(SEND_BUFFER_BYTES));
        }
        self.pipeline.dispatcher.observer.set_peer(connection.peer);
        self.pipeline.dispatcher.enter_input(socket);
        let Connection { peer, framer, out, handled, deferred, .. } = connection;
        let received_bytes = received.as_ref().map_or(0, |(_, length)| *length);
        let limits = &self.limits;
        let began = self.balancer.is_timed().then(Instant::now);
        let mut requests =
            Requests::new(&mut self.pipeline, limits, (socket, *peer), deferred, out, *handled);
        let progress = match received {
            Some((padded, length)) => framer.receive(padded, length, limits, &mut requests),
            None => framer.resume(limits, &mut requests),
        };
        let (handled_now, has_replied, next) = requests.finish();
        if let Some(began) = began.filter(|_| handled_now != *handled) {
            self.balancer.record(socket, began.elapsed());
        }
        *handled = handled_now;
        let is_draining = self.drain_until.is_some();
        let before = connection.phase;
        connection.phase = match progress {
            Progress::Paused => next.unwrap_or(Phase::Congested),
            // A client that is drained may be sending its next request already.
            Progress::Stopped => Phase::Closing {
                linger: next == Some(Phase::Closing { linger: true })
                    || connection.is_paused()
                    || is_draining,
            },
            Progress::Idle => Phase::Idle,
            Progress::Head => Phase::Head,
            Progress::Body { send_continue } => {
                if send_continue {
                    connection.out.extend_from_slice(CONTINUE);
                }
                match before {
                    Phase::Body { .. } if !has_replied => before,
                    _ => Phase::Body { started: self.timers.tick_after(self.now, Duration::ZERO) },
                }
            }
        };
        let timeout = match connection.phase {
            Phase::Idle if is_draining => Some(limits.drain_grace),
            Phase::Idle => Some(limits.keep_alive_timeout),
            Phase::Head => Some(limits.head_timeout),
            Phase::Batch(_) if connection.deferred.answers().is_some() => None,
            Phase::Batch(_) | Phase::Listening(_) | Phase::Attached { .. } => Some(limits.stream_keep_alive),
            _ => None,
        };
        // A head's time runs from its first byte: the bytes that follow do not prolong it, another request does.
        if let Phase::Body { started } = connection.phase {
            connection.deadline = body_deadline(&self.timers, self.now, started, connection, limits);
        } else if has_replied || before != Phase::Head || connection.phase != Phase::Head {
            connection.deadline =
                timeout.map_or(Tick::NEVER, |timeout| self.timers.tick_after(self.now, timeout));
        }
        connection.check_invariants();
        let stages = &mut self.pipeline.dispatcher.stages;
        if stages.is_entered() {
            let is_partial = matches!(connection.phase, Phase::Head | Phase::Body { .. });
            stages.leave(socket, is_partial, connection.is_sending);
        }
        // The timer is scheduled when the connection is flushed.
        if !std::mem::replace(&mut connection.is_dirty, true) {
            self.dirty.push(socket);
        }
        let (phase, bytes, receiving) = (connection.phase, connection.buffered_bytes(), connection.receiving);
        if matches!(phase, Phase::Batch(_)) && connection.deferred.has_rest() {
            self.leave(socket);
        }
        if is_draining && matches!(phase, Phase::Listening(_) | Phase::Attached { .. }) {
            self.end_streams_of(socket);
        }
        if bytes >= COUNTED_MIN || receiving != Receiving::Usual {
            self.choose_buffers(socket, received_bytes);
        }
        if bytes >= COUNTED_MIN || self.pipeline.dispatcher.memory.is_counting() {
            self.count_memory(socket);
        }
    }

    /// Handles the received bytes of a newline-delimited connection, new bytes last.
    pub(super) fn advance_lines(&mut self, socket: SocketId, received: Option<(&mut [u8], usize)>) {
        self.handling = Some(socket);
        let Self { pipeline, connections, limits, spare, .. } = self;
        let Some(connection) = connection_of(connections, socket) else { return };
        if connection.out.capacity() == 0 {
            connection.out = spare.take().unwrap_or_default();
        }
        let received_bytes = received.as_ref().map_or(0, |(_, length)| *length);
        let peer_closed = connection.peer_closed;
        pipeline.dispatcher.observer.set_peer(connection.peer);
        pipeline.dispatcher.enter_input(socket);
        let Connection { json_lines: Some(json_lines), out, handled, .. } = connection else { return };
        let JsonLines { framer, client, pending_replies, is_new, batch } = &mut **json_lines;
        let handled_before = *handled;
        let handled_now = *handled;
        let mut lines = JsonLinesHandler {
            pipeline,
            limits,
            client,
            pending_replies,
            is_new,
            batch,
            out,
            handled: handled_now,
        };
        let has_ended = lines.continue_batch();
        let progress = match received {
            _ if !has_ended => jsonl::Progress::Paused,
            Some((padded, length)) => framer.receive(padded, length, limits, &mut lines),
            None if peer_closed => framer.finish(limits, &mut lines),
            None => framer.resume(limits, &mut lines),
        };
        *handled = lines.handled;
        let has_handled = *handled != handled_before;
        self.settle_lines(socket, progress, has_handled);
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if connection.receiving != Receiving::Usual || connection.buffered_bytes() >= COUNTED_MIN {
            self.choose_buffers(socket, received_bytes);
        }
    }

    /// Receives further bytes as is best after the last ones were handled.
    #[cold]
    fn choose_buffers(&mut self, socket: SocketId, received_bytes: usize) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let next = connection.receiving.next(connection.phase, connection.input_bytes(), received_bytes);
        self.set_receiving(socket, next);
    }

    /// Sets how the ring receives a connection's bytes.
    pub(super) fn set_receiving(&mut self, socket: SocketId, receiving: Receiving) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        if receiving == std::mem::replace(&mut connection.receiving, receiving) {
            return;
        }
        match receiving {
            Receiving::Usual => self.ring.resume_receive(socket),
            Receiving::Large => self.ring.receive_large(socket),
            Receiving::Paused => self.ring.pause_receive(socket),
        }
    }

    /// Puts a newline-delimited connection into the phase that its input asks for.
    fn settle_lines(&mut self, socket: SocketId, progress: jsonl::Progress, has_handled: bool) {
        let Some(connection) = connection_of(&mut self.connections, socket) else { return };
        let is_over = connection.peer_closed
            && progress != jsonl::Progress::Paused
            && connection.pending_replies() == 0;
        let phase = match progress {
            _ if is_over => Phase::Closing { linger: false },
            jsonl::Progress::Paused => Phase::Congested,
            // The client may still be sending the rest of its HTTP request.
            jsonl::Progress::Stopped => Phase::Closing { linger: !connection.peer_closed },
            jsonl::Progress::Idle => Phase::Idle,
            jsonl::Progress::Line => match connection.phase {
                Phase::Body { started } if !has_handled => Phase::Body { started },
                _ => Phase::Body { started: self.timers.tick_after(self.now, Duration::ZERO) },
            },
        };
        connection.phase = phase;
        let stages = &mut self.pipeline.dispatcher.stages;
        if stages.is_entered() {
            stages.leave(socket, matches!(phase, Phase::Body { .. }), connection.is_sending);
        }
        // The client of an adopted connection is the parent process, which may take its time. Once the peer has closed its sending
        // side, the deadline is that of `on_lines_ended`.
        if !self.adopts && !connection.peer_closed {
            connection.deadline = match phase {
                Phase::Body { started } => {
                    body_deadline(&self.timers, self.now, started, connection, &self.limits)
                }
                Phase::Idle if self.drain_until.is_none() => {
                    self.timers.tick_after(self.now, self.limits.keep_alive_timeout)
                }
                Phase::Idle if connection.pending_replies() == 0 => {
                    self.timers.tick_after(self.now, self.limits.drain_grace)
                }
                _ => Tick::NEVER,
            };
        }
        self.mark(socket);
    }
}

/// When a body, or a line, has taken too long: no part of it for a while, or too little of it, or simply too long.
fn body_deadline(
    timers: &Timers,
    now: Instant,
    started: Tick,
    connection: &Connection,
    limits: &Limits,
) -> Tick {
    let received = connection.input_bytes() / limits.body_bytes_per_second_min.max(1);
    let earned = Duration::from_secs(u64::try_from(received).unwrap_or(u64::MAX));
    let started = timers.instant(started);
    timers
        .tick_after(now, limits.body_timeout)
        .min(timers.tick_after(started, limits.body_timeout.saturating_add(earned)))
        .min(timers.tick_after(started, limits.body_total_timeout))
}
