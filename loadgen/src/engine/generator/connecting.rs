//! The life of a thread's connections: dialled, greeted, ready, lost, dialled again.

use std::{io, time::Duration};

use corelane_ring::{Event, SocketId};

use super::Generator;
use crate::{
    engine::{
        Pacing,
        client::{Again, Awaited, Client, Handshake, Stage},
        dial_socket, nanoseconds,
    },
    http::Framer,
    request::Request,
};

/// Connections one thread dials at once.
const DIALS_AT_ONCE: usize = 128;
/// A failed connection is dialled again after this, doubled with each failure up to a limit. Nanoseconds.
const REDIAL_NS: u64 = 20_000_000;
const REDIAL_NS_MAX: u64 = 500_000_000;
/// How long a server's system may take to reset a connection that gets bytes after its close, in nanoseconds.
pub(super) const RESET_NS: u64 = 5_000_000;
/// Before load begins a connection may fail this often in a row.
const FAILURES_MAX_AT_START: u32 = 5;
const CLOSED: &str = "the server closed the connection before it replied";
/// How the ring reports a connect that was cancelled.
const ECANCELED: i32 = 125;

impl Generator {
    pub(super) fn connect_all(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        if self.plan.pacing == Pacing::Storm {
            // Connections are what is measured; one shows that somebody listens.
            self.to_dial.truncate(1);
        }
        let wanted = self.to_dial.len();
        // A server may close behind its first reply: each connection has to be ready once, not all at one moment.
        while self.greeted < wanted && self.failure.is_none() && !self.is_stopped() {
            self.turn(events)?;
            self.ring.doze(Duration::from_millis(1))?;
        }
        Ok(())
    }

    pub(super) fn client_of(&self, socket: SocketId) -> Option<u32> {
        let index = *self.by_slot.get(socket.index())?;
        self.clients.get(index as usize).filter(|client| client.socket == Some(socket))?;
        Some(index)
    }

    pub(super) fn on_connected(&mut self, index: u32, socket: SocketId) {
        self.dialling -= 1;
        if socket.index() >= self.by_slot.len() {
            self.by_slot.resize(socket.index() + 1, u32::MAX);
        }
        if let Some(place) = self.by_slot.get_mut(socket.index()) {
            *place = index;
        }
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.socket = Some(socket);
        client.framer = if self.processes.is_some() { Framer::lines() } else { Framer::default() };
        client.connections += 1;
        let is_reconnect = client.connections > 1 && self.plan.pacing != Pacing::Storm;
        if is_reconnect && self.start_ns > 0 && (self.window_ns.0..self.window_ns.1).contains(&self.now_ns) {
            self.recording.reconnects += 1;
        }
        let handshake = self.plan.handshake;
        let first = match self.plan.requests.first() {
            _ if handshake && client.handshake == Handshake::New => &self.initialize,
            _ if handshake && client.handshake == Handshake::Answered => {
                client.stage = Stage::Greeting;
                return self.send_initialized(index);
            }
            // A process is ready when it has answered once.
            Some(request) if self.processes.is_some() => request,
            _ if client.was_ready => return self.on_ready(index),
            // A connection may have to wait long for its first request, and a server need not wait for it that long.
            Some(request) if matches!(self.plan.pacing, Pacing::Open(..)) => request,
            _ => return self.on_ready(index),
        };
        client.stage = Stage::Greeting;
        let sent = first.write(0, self.number, None, &mut self.random, &mut client.out);
        self.number += self.number_step;
        client.awaited.push_back(if handshake { Awaited::Initialize(sent) } else { Awaited::First(sent) });
        self.awaited += 1;
        self.flush(index);
    }

    /// A connection can take requests.
    pub(super) fn on_ready(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.stage = Stage::Ready;
        let begun_ns = client.begun_ns;
        let again = std::mem::take(&mut client.again);
        self.ready += 1;
        self.greet(index);
        let room = (self.plan.pipeline as usize).saturating_sub(again.len());
        for request in again {
            self.write_request(index, request);
        }
        let loading = self.start_ns > 0 && self.now_ns < self.window_ns.1 && !self.is_stopped();
        match &self.plan.pacing {
            Pacing::Open(..) => (0..room).for_each(|_| self.give_free(index)),
            Pacing::Closed if loading => self.ask(index),
            Pacing::Storm if loading => self.send_request(index, begun_ns),
            Pacing::Volley => self.fire_volley(),
            Pacing::Closed | Pacing::Storm => {}
        }
    }

    /// Notes that a connection has been, or could have been, ready for load.
    pub(super) fn greet(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        self.greeted += usize::from(!client.was_ready);
        client.was_ready = true;
    }

    pub(super) fn on_peer_closed(&mut self, index: u32, socket: SocketId) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let may_resend = client.may_resend() && self.processes.is_none();
        let mut framer = std::mem::take(&mut client.framer);
        let proper = framer.end(&mut |part| self.on_part(index, &part));
        // A reply that ends with the connection has ended the client already.
        let Some(client) =
            self.clients.get_mut(index as usize).filter(|client| client.stage != Stage::Closing)
        else {
            return;
        };
        if proper && client.awaited.is_empty() {
            client.failures += u32::from(client.replies == 0);
            self.end_client(index, socket);
        } else if may_resend {
            client.stage = Stage::Ended { asked: false };
            self.ready -= 1;
            self.doubtful.push_back((index, socket, self.now_ns + RESET_NS));
        } else {
            let words = self.words_of_end(index, CLOSED);
            self.fail(index, socket, "connection_closed", &words);
        }
    }

    /// Why a connection has ended: of a process, its status and last words where they will be shown.
    fn words_of_end(&mut self, index: u32, words: &str) -> String {
        let is_shown = self.start_ns == 0 || self.recording.first_error.is_none();
        let processes = self.processes.as_mut().filter(|_| is_shown);
        processes.and_then(|processes| processes.last_words(index)).unwrap_or_else(|| words.to_owned())
    }

    /// Finds out whether a server that has closed had read what was sent. An empty line between requests means nothing (RFC
    /// 9112, section 2.2); sending it fails if the server's system has reset the connection, which it does when it gets
    /// bytes for a closed socket. Then the server has not seen the requests, and they are sent again. Else it has, and
    /// closed instead of replying.
    pub(super) fn ask_after_end(&mut self, index: u32, socket: SocketId) {
        let client = self.clients.get_mut(index as usize).filter(|client| client.socket == Some(socket));
        let Some(client) = client else { return };
        let Stage::Ended { asked } = &mut client.stage else { return };
        // A request that is still under way tells when it has been sent: it is asked then.
        if !client.is_sending && self.ring.send(socket, b"\r\n".to_vec()).is_ok() {
            *asked = true;
            client.is_sending = true;
            self.unsubmitted += 1;
        }
    }

    /// The server has read what was sent and closed instead of replying. What may be repeated is sent once more, on another
    /// connection; the rest has failed.
    pub(super) fn on_read_and_closed(&mut self, index: u32, socket: SocketId) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let requests = &self.plan.requests;
        let may_retry = client.awaited.iter_mut().all(|awaited| match awaited {
            Awaited::Request { sent, is_retry, .. } => {
                !std::mem::replace(is_retry, true)
                    && requests.get(sent.kind).is_some_and(Request::is_idempotent)
            }
            _ => false,
        });
        if may_retry {
            self.keep_requests(index);
            self.end_client(index, socket);
        } else {
            self.fail(index, socket, "connection_closed", CLOSED);
        }
    }

    /// The connection was reset. A server that had replied before and then closed does that to requests it has not read.
    pub(super) fn on_reset(&mut self, index: u32, socket: SocketId, words: &str) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let is_process = self.processes.is_some();
        if !is_process && (client.may_resend() || matches!(client.stage, Stage::Ended { .. })) {
            self.keep_requests(index);
            self.end_client(index, socket);
        } else {
            let words = self.words_of_end(index, words);
            self.fail(index, socket, "connection_reset", &words);
        }
    }

    /// Keeps the requests of a connection for the next one.
    fn keep_requests(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        for awaited in std::mem::take(&mut client.awaited) {
            match awaited {
                Awaited::Request { sent, intended_ns, sent_ns, is_retry } => {
                    client.again.push_back(Again { kind: sent.kind, intended_ns, sent_ns, is_retry });
                    let measured = (self.window_ns.0..self.window_ns.1).contains(&intended_ns);
                    self.recording.resent += u64::from(measured);
                }
                _ => self.awaited -= 1,
            }
        }
    }

    /// A connection has ended badly: what it waited for will not come.
    pub(super) fn fail(&mut self, index: u32, socket: SocketId, kind: &'static str, words: &str) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        if client.stage == Stage::Closing {
            return;
        }
        client.failures += 1;
        client.end_session();
        let failures = client.failures;
        let greeting = client.stage == Stage::Greeting;
        for awaited in std::mem::take(&mut client.awaited) {
            self.awaited -= 1;
            if let Awaited::Request { sent, intended_ns, .. } = awaited {
                self.lose(sent.kind, intended_ns, kind, words);
            }
        }
        if self.start_ns == 0 && (greeting || failures >= FAILURES_MAX_AT_START) {
            self.failure = Some(words.to_owned());
        }
        self.end_client(index, socket);
    }

    pub(super) fn end_client(&mut self, index: u32, socket: SocketId) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        if client.stage == Stage::Closing {
            return;
        }
        if client.stage == Stage::Ready {
            self.ready -= 1;
        }
        client.stage = Stage::Closing;
        // Requests behind the reply that announced the end are not answered on this connection.
        self.keep_requests(index);
        self.ring.close(socket);
    }

    pub(super) fn on_closed(&mut self, index: u32) {
        let now = self.now_ns;
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.reset();
        if self.processes.is_some() {
            client.end_session();
        }
        let failures = client.failures;
        if failures == 0 {
            client.stage = Stage::Down;
            self.to_dial.push_back(index);
        } else {
            let wait = pause_ns(failures);
            client.stage = Stage::Waiting { until_ns: now + wait };
        }
    }

    pub(super) fn on_connect_failed(&mut self, index: u32, error: &io::Error) {
        self.dialling -= 1;
        let now = self.now_ns;
        let storm = self.plan.pacing == Pacing::Storm;
        let is_late = error.raw_os_error() == Some(ECANCELED);
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.failures += 1;
        let begun_ns = client.begun_ns;
        let wait = pause_ns(client.failures);
        client.stage = Stage::Waiting { until_ns: now + wait };
        let words =
            if is_late { format!("no connection within {:?}", self.plan.timeout) } else { error.to_string() };
        if self.start_ns == 0 && (is_late || client.failures >= FAILURES_MAX_AT_START) {
            self.failure = Some(words.clone());
        }
        let kind = match error.kind() {
            _ if is_late => "timeout",
            io::ErrorKind::ConnectionRefused => "connection_refused",
            io::ErrorKind::AddrNotAvailable => "no_port_left",
            _ => "connect_failed",
        };
        if storm && self.start_ns > 0 {
            // A new connection has to be counted as a request: nothing was sent.
            self.recording.requests += u64::from(self.is_measured(begun_ns));
            self.lose(0, begun_ns, kind, &words);
        }
        self.fire_volley();
    }

    /// Dials what is to be dialled, not too much at once.
    pub(super) fn dial_due(&mut self) {
        if !self.may_dial() {
            return;
        }
        while self.dialling < DIALS_AT_ONCE {
            let Some(index) = self.to_dial.pop_front() else { return };
            match self.dial(index) {
                Ok(()) => {
                    let now = self.clock();
                    if let Some(client) = self.clients.get_mut(index as usize) {
                        client.stage = Stage::Dialling;
                        client.dialled_ns = now;
                        if client.handshake == Handshake::New {
                            client.begun_ns = now;
                        }
                    }
                    self.dialling += 1;
                }
                Err(error) => {
                    self.dialling += 1;
                    self.on_connect_failed(index, &error);
                }
            }
        }
    }

    /// Begins a connection: dials, or starts the process that is its peer.
    fn dial(&mut self, index: u32) -> io::Result<()> {
        if let Some(processes) = &mut self.processes {
            let socket = processes.start(index)?;
            self.ring.adopt(socket.into(), u64::from(index));
            return Ok(());
        }
        let number = self.dials;
        self.dials = self.dials.wrapping_add(1);
        let socket = dial_socket(&self.plan, number)?;
        self.ring.connect(socket, self.plan.target.sock_addr()?, u64::from(index));
        Ok(())
    }

    /// Ends connections whose reply is too late, and dials those whose pause is over.
    pub(super) fn end_late(&mut self) {
        let (now, timeout) = (self.now_ns, nanoseconds(self.plan.timeout));
        if let Some(processes) = &self.processes {
            processes.trim();
        }
        let mut late = Vec::new();
        let mut lost = Vec::new();
        for (index, client) in self.clients.iter_mut().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            while client.again.front().is_some_and(|again| again.sent_ns + timeout < now) {
                lost.extend(client.again.pop_front());
            }
            match client.stage {
                Stage::Dialling if client.dialled_ns + timeout < now => {
                    self.ring.cancel_connect(u64::from(index));
                }
                Stage::Waiting { until_ns } if until_ns <= now => {
                    client.stage = Stage::Down;
                    self.to_dial.push_back(index);
                }
                Stage::Greeting if client.dialled_ns + timeout < now => {
                    late.extend(client.socket.map(|socket| (index, socket)))
                }
                Stage::Ready => {
                    if let Some(Awaited::Request { sent_ns, .. }) = client.awaited.front()
                        && sent_ns + timeout < now
                    {
                        late.extend(client.socket.map(|socket| (index, socket)));
                    }
                }
                _ => {}
            }
        }
        self.awaited -= lost.len();
        for again in lost {
            self.lose(again.kind, again.intended_ns, "timeout", "no reply in time");
        }
        for (index, socket) in late {
            self.fail(index, socket, "timeout", "no reply in time");
        }
    }

    /// After the end of the measured time connections are made only for requests that were due before.
    fn may_dial(&mut self) -> bool {
        let (start, end) = (self.start_ns, self.window_ns.1);
        let is_owed = |this: &mut Self| {
            let due = this.schedule.as_mut().and_then(|schedule| schedule.peek().copied());
            due.is_some_and(|due| due + start < end)
                || this.clients.iter().any(|client| !client.again.is_empty())
        };
        self.now_ns < end || (!self.to_dial.is_empty() && is_owed(self))
    }

    pub(super) fn socket_of(&self, index: u32) -> Option<SocketId> {
        self.clients.get(index as usize)?.socket
    }
}

impl Client {
    /// Whether requests of this connection may be sent again if the server has not read them: it has replied before, so
    /// that it may have closed behind that reply, and nothing of another reply has come.
    fn may_resend(&self) -> bool {
        self.stage == Stage::Ready && self.replies > 0 && self.framer.is_idle() && !self.awaited.is_empty()
    }
}

/// How long to wait after so many failures in a row, in nanoseconds.
fn pause_ns(failures: u32) -> u64 {
    REDIAL_NS.saturating_mul(1 << failures.min(6)).min(REDIAL_NS_MAX)
}
