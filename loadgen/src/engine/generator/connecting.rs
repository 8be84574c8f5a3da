//! Life cycle of a thread's connections: connecting, handshake, ready, closed, connecting again.

use std::{io, time::Duration};

use corelane_ring::{Event, SocketId};

use super::Generator;
use crate::{
    engine::{
        Pacing,
        client::{Client, ConnectionState, Handshake, InFlight, QueuedRequest},
        client_socket, nanoseconds,
    },
    http::Framer,
    request::Request,
};

/// Maximum number of concurrent connects of one thread.
const CONNECTS_MAX: usize = 128;
/// Pause before a failed connection is retried, in nanoseconds; it doubles with each failure up to the maximum.
const RECONNECT_NS: u64 = 20_000_000;
const RECONNECT_NS_MAX: u64 = 500_000_000;
/// Time in which the server's kernel resets a connection that receives bytes after its close, in nanoseconds.
pub(super) const RESET_NS: u64 = 5_000_000;
/// Maximum number of consecutive failures of a connection before the load begins.
const FAILURES_MAX_AT_START: u32 = 5;
const CLOSED: &str = "the server closed the connection before it replied";
/// The error number of a cancelled connect.
const ECANCELED: i32 = 125;

impl Generator {
    pub(super) fn connect_all(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        if self.plan.pacing == Pacing::Storm {
            // This load measures connecting; a single connection verifies that the server accepts.
            self.to_connect.truncate(1);
        }
        let clients = self.to_connect.len();
        // A server may close after its first reply: each connection must have been ready once, not all at the same
        // time.
        while self.ready_once < clients && self.failure.is_none() && !self.is_stopped() {
            self.turn(events)?;
            self.ring.wait_briefly(Duration::from_millis(1))?;
        }
        Ok(())
    }

    pub(super) fn client_of(&self, socket: SocketId) -> Option<u32> {
        let index = *self.by_slot.get(socket.index())?;
        self.clients.get(index as usize).filter(|client| client.socket == Some(socket))?;
        Some(index)
    }

    pub(super) fn on_connected(&mut self, index: u32, socket: SocketId) {
        self.connecting -= 1;
        if socket.index() >= self.by_slot.len() {
            self.by_slot.resize(socket.index() + 1, u32::MAX);
        }
        if let Some(slot) = self.by_slot.get_mut(socket.index()) {
            *slot = index;
        }
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.socket = Some(socket);
        client.framer = if self.plan.target.is_lines { Framer::lines() } else { Framer::default() };
        client.connections += 1;
        let is_reconnect = client.connections > 1 && self.plan.pacing != Pacing::Storm;
        if is_reconnect && self.start_ns > 0 && (self.window_ns.0..self.window_ns.1).contains(&self.now_ns) {
            self.recording.reconnects += 1;
        }
        let handshake = self.plan.handshake;
        let first = match self.plan.requests.first() {
            _ if handshake && client.handshake == Handshake::New => &self.initialize,
            _ if handshake && client.handshake == Handshake::Answered => {
                client.state = ConnectionState::Handshaking;
                return self.send_initialized(index);
            }
            // A process is ready after its first reply.
            Some(request) if self.processes.is_some() => request,
            _ if client.was_ready => return self.on_ready(index),
            // A connection may idle until its first request is due, and the server may close it before that.
            Some(request) if matches!(self.plan.pacing, Pacing::Open(..)) => request,
            _ => return self.on_ready(index),
        };
        client.state = ConnectionState::Handshaking;
        let sent = first.write(0, self.sequence, None, &mut self.random, &mut client.out);
        self.sequence += self.sequence_step;
        client.in_flight.push_back(if handshake {
            InFlight::Initialize(sent)
        } else {
            InFlight::FirstRequest(sent)
        });
        self.in_flight += 1;
        self.flush(index);
    }

    /// Handles a connection that can take requests.
    pub(super) fn on_ready(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.state = ConnectionState::Ready;
        let handshake_started_ns = client.handshake_started_ns;
        let to_resend = std::mem::take(&mut client.to_resend);
        self.ready += 1;
        self.mark_ready_once(index);
        let room = (self.plan.pipeline as usize).saturating_sub(to_resend.len());
        for request in to_resend {
            self.write_request(index, request);
        }
        let loading = self.start_ns > 0 && self.now_ns < self.window_ns.1 && !self.is_stopped();
        match &self.plan.pacing {
            Pacing::Open(..) => (0..room).for_each(|_| self.push_free(index)),
            Pacing::Closed if loading => self.fill_pipeline(index),
            Pacing::Storm if loading => self.send_request(index, handshake_started_ns),
            Pacing::Volley => self.start_volley(),
            Pacing::Closed | Pacing::Storm => {}
        }
    }

    /// Records that a connection is ready for load, or was ready when the server closed it after its reply.
    pub(super) fn mark_ready_once(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        self.ready_once += usize::from(!client.was_ready);
        client.was_ready = true;
    }

    pub(super) fn on_peer_closed(&mut self, index: u32, socket: SocketId) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let may_resend = client.may_resend() && !self.plan.target.is_lines;
        let mut framer = std::mem::take(&mut client.framer);
        let is_valid_end = framer.end(&mut |part| self.on_part(index, &part));
        // A reply that ends with the connection has already closed the client.
        let Some(client) =
            self.clients.get_mut(index as usize).filter(|client| client.state != ConnectionState::Closing)
        else {
            return;
        };
        if is_valid_end && client.in_flight.is_empty() {
            client.failures += u32::from(client.replies == 0);
            self.close_connection(index, socket);
        } else if may_resend {
            client.state = ConnectionState::PeerClosed { is_probed: false };
            self.ready -= 1;
            self.peer_closed.push_back((index, socket, self.now_ns + RESET_NS));
        } else {
            let message = self.close_reason(index, CLOSED);
            self.fail(index, socket, "connection_closed", &message);
        }
    }

    /// The reason why a connection has ended: for a process its exit status and last output, if the reason will be
    /// shown.
    fn close_reason(&mut self, index: u32, message: &str) -> String {
        let is_shown = self.start_ns == 0 || self.recording.first_error.is_none();
        let processes = self.processes.as_mut().filter(|_| is_shown);
        processes.and_then(|processes| processes.exit_reason(index)).unwrap_or_else(|| message.to_owned())
    }

    /// Determines whether a server that has closed had read the requests. An empty line between requests has no meaning
    /// (RFC 9112, section 2.2), but sending it fails if the server's kernel has reset the connection, as it does when
    /// bytes arrive for a closed socket. In that case the server has not read the requests, and they are sent again.
    /// Otherwise it has read them and closed instead of replying.
    pub(super) fn probe_peer_closed(&mut self, index: u32, socket: SocketId) {
        let client = self.clients.get_mut(index as usize).filter(|client| client.socket == Some(socket));
        let Some(client) = client else { return };
        let ConnectionState::PeerClosed { is_probed } = &mut client.state else { return };
        // If a send is still in progress, its completion schedules the next probe.
        if !client.is_sending && self.ring.send(socket, b"\r\n".to_vec()).is_ok() {
            *is_probed = true;
            client.is_sending = true;
            self.unsubmitted += 1;
        }
    }

    /// Handles a server that read the requests and closed instead of replying. Idempotent requests are sent again on
    /// another connection; others have failed.
    pub(super) fn on_read_and_closed(&mut self, index: u32, socket: SocketId) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let requests = &self.plan.requests;
        let may_retry = client.in_flight.iter_mut().all(|in_flight| match in_flight {
            InFlight::Request { sent, is_retry, .. } => {
                !std::mem::replace(is_retry, true)
                    && requests.get(sent.kind).is_some_and(Request::is_idempotent)
            }
            _ => false,
        });
        if may_retry {
            self.requeue_requests(index);
            self.close_connection(index, socket);
        } else {
            self.fail(index, socket, "connection_closed", CLOSED);
        }
    }

    /// Handles a reset connection. A server that closed after a reply resets requests that it has not read.
    pub(super) fn on_reset(&mut self, index: u32, socket: SocketId, message: &str) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let is_lines = self.plan.target.is_lines;
        if !is_lines && (client.may_resend() || matches!(client.state, ConnectionState::PeerClosed { .. })) {
            self.requeue_requests(index);
            self.close_connection(index, socket);
        } else {
            let message = self.close_reason(index, message);
            self.fail(index, socket, "connection_reset", &message);
        }
    }

    /// Moves the requests of a connection to the queue for the next connection.
    fn requeue_requests(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        for in_flight in std::mem::take(&mut client.in_flight) {
            match in_flight {
                InFlight::Request { sent, intended_ns, sent_ns, is_retry } => {
                    client.to_resend.push_back(QueuedRequest {
                        kind: sent.kind,
                        intended_ns,
                        sent_ns,
                        is_retry,
                    });
                    let measured = (self.window_ns.0..self.window_ns.1).contains(&intended_ns);
                    self.recording.resent += u64::from(measured);
                }
                _ => self.in_flight -= 1,
            }
        }
    }

    /// Handles the failure of a connection: its outstanding requests are lost.
    pub(super) fn fail(&mut self, index: u32, socket: SocketId, kind: &'static str, message: &str) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        if client.state == ConnectionState::Closing {
            return;
        }
        client.failures += 1;
        client.reset_session();
        let failures = client.failures;
        let is_handshaking = client.state == ConnectionState::Handshaking;
        for in_flight in std::mem::take(&mut client.in_flight) {
            self.in_flight -= 1;
            if let InFlight::Request { sent, intended_ns, .. } = in_flight {
                self.record_lost(sent.kind, intended_ns, kind, message);
            }
        }
        if self.start_ns == 0 && (is_handshaking || failures >= FAILURES_MAX_AT_START) {
            self.failure = Some(message.to_owned());
        }
        self.close_connection(index, socket);
    }

    pub(super) fn close_connection(&mut self, index: u32, socket: SocketId) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        if client.state == ConnectionState::Closing {
            return;
        }
        if client.state == ConnectionState::Ready {
            self.ready -= 1;
        }
        client.state = ConnectionState::Closing;
        // Requests behind a reply that announced the close are not answered on this connection.
        self.requeue_requests(index);
        self.ring.close(socket);
    }

    pub(super) fn on_closed(&mut self, index: u32) {
        let now = self.now_ns;
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.reset();
        // Only a session of HTTP outlives its connection.
        if self.plan.target.is_lines {
            client.reset_session();
        }
        let failures = client.failures;
        if failures == 0 {
            client.state = ConnectionState::Disconnected;
            self.to_connect.push_back(index);
        } else {
            let wait = backoff_ns(failures);
            client.state = ConnectionState::Backoff { until_ns: now + wait };
        }
    }

    pub(super) fn on_connect_failed(&mut self, index: u32, error: &io::Error) {
        self.connecting -= 1;
        let now = self.now_ns;
        let storm = self.plan.pacing == Pacing::Storm;
        let is_timeout = error.raw_os_error() == Some(ECANCELED);
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.failures += 1;
        let handshake_started_ns = client.handshake_started_ns;
        let wait = backoff_ns(client.failures);
        client.state = ConnectionState::Backoff { until_ns: now + wait };
        let message = if is_timeout {
            format!("no connection within {:?}", self.plan.timeout)
        } else {
            error.to_string()
        };
        if self.start_ns == 0 && (is_timeout || client.failures >= FAILURES_MAX_AT_START) {
            self.failure = Some(message.clone());
        }
        let kind = match error.kind() {
            _ if is_timeout => "timeout",
            io::ErrorKind::ConnectionRefused => "connection_refused",
            io::ErrorKind::AddrNotAvailable => "no_port_left",
            _ => "connect_failed",
        };
        if storm && self.start_ns > 0 {
            // No request was sent, so it is counted here.
            self.recording.requests += u64::from(self.is_measured(handshake_started_ns));
            self.record_lost(0, handshake_started_ns, kind, &message);
        }
        self.start_volley();
    }

    /// Starts the queued connections, up to [`CONNECTS_MAX`] at a time.
    pub(super) fn connect_due(&mut self) {
        if !self.may_connect() {
            return;
        }
        while self.connecting < CONNECTS_MAX {
            let Some(index) = self.to_connect.pop_front() else { return };
            match self.connect(index) {
                Ok(()) => {
                    let now = self.clock();
                    if let Some(client) = self.clients.get_mut(index as usize) {
                        client.state = ConnectionState::Connecting;
                        client.connect_started_ns = now;
                        if client.handshake == Handshake::New {
                            client.handshake_started_ns = now;
                        }
                    }
                    self.connecting += 1;
                }
                Err(error) => {
                    self.connecting += 1;
                    self.on_connect_failed(index, &error);
                }
            }
        }
    }

    /// Starts a connection: connects a socket, or starts a process.
    fn connect(&mut self, index: u32) -> io::Result<()> {
        if let Some(processes) = &mut self.processes {
            let socket = processes.start(index)?;
            self.ring.adopt(socket.into(), u64::from(index));
            return Ok(());
        }
        let sequence = self.connects;
        self.connects = self.connects.wrapping_add(1);
        let socket = client_socket(&self.plan, sequence)?;
        self.ring.connect(socket, self.plan.target.sock_addr()?, u64::from(index));
        Ok(())
    }

    /// Closes connections whose reply has timed out, and queues those whose pause is over.
    pub(super) fn close_timed_out(&mut self) {
        let (now, timeout) = (self.now_ns, nanoseconds(self.plan.timeout));
        if let Some(processes) = &self.processes {
            processes.truncate_stderr();
        }
        let mut timed_out = Vec::new();
        let mut lost = Vec::new();
        for (index, client) in self.clients.iter_mut().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            while client.to_resend.front().is_some_and(|queued| queued.sent_ns + timeout < now) {
                lost.extend(client.to_resend.pop_front());
            }
            match client.state {
                ConnectionState::Connecting if client.connect_started_ns + timeout < now => {
                    self.ring.cancel_connect(u64::from(index));
                }
                ConnectionState::Backoff { until_ns } if until_ns <= now => {
                    client.state = ConnectionState::Disconnected;
                    self.to_connect.push_back(index);
                }
                ConnectionState::Handshaking if client.connect_started_ns + timeout < now => {
                    timed_out.extend(client.socket.map(|socket| (index, socket)))
                }
                ConnectionState::Ready => {
                    if let Some(InFlight::Request { sent_ns, .. }) = client.in_flight.front()
                        && sent_ns + timeout < now
                    {
                        timed_out.extend(client.socket.map(|socket| (index, socket)));
                    }
                }
                _ => {}
            }
        }
        self.in_flight -= lost.len();
        for queued in lost {
            self.record_lost(queued.kind, queued.intended_ns, "timeout", "no reply in time");
        }
        for (index, socket) in timed_out {
            self.fail(index, socket, "timeout", "no reply in time");
        }
    }

    /// Whether new connections may be started: after the measured time only for requests that were due before its end.
    fn may_connect(&mut self) -> bool {
        let (start, end) = (self.start_ns, self.window_ns.1);
        let has_pending = |this: &mut Self| {
            let due = this.schedule.as_mut().and_then(|schedule| schedule.peek().copied());
            due.is_some_and(|due| due + start < end)
                || this.clients.iter().any(|client| !client.to_resend.is_empty())
        };
        self.now_ns < end || (!self.to_connect.is_empty() && has_pending(self))
    }

    pub(super) fn socket_of(&self, index: u32) -> Option<SocketId> {
        self.clients.get(index as usize)?.socket
    }
}

impl Client {
    /// Whether requests of this connection may be sent again if the server has not read them: the server has replied on
    /// it, so that it may have closed after that reply, and no byte of another reply has arrived.
    fn may_resend(&self) -> bool {
        self.state == ConnectionState::Ready
            && self.replies > 0
            && self.framer.is_idle()
            && !self.in_flight.is_empty()
    }
}

/// Pause after `failures` consecutive failures, in nanoseconds.
fn backoff_ns(failures: u32) -> u64 {
    RECONNECT_NS.saturating_mul(1 << failures.min(6)).min(RECONNECT_NS_MAX)
}
