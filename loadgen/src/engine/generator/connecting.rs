//! The life of a thread's connections: dialled, greeted, ready, lost, dialled again.

use std::{io, time::Duration};

use corelane::ring::{Event, SocketId};

use super::{DIALS_AT_ONCE, FAILURES_MAX_AT_START, Generator, REDIAL_NS, REDIAL_NS_MAX};

use crate::engine::{
    Pacing,
    client::{Awaited, Stage},
    dial_socket, nanoseconds,
};

impl Generator {
    pub(super) fn connect_all(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        if self.plan.pacing == Pacing::Storm {
            // Connections are what is measured; one shows that somebody listens.
            self.to_dial.truncate(1);
        }
        let wanted = self.to_dial.len();
        while self.ready < wanted && self.failure.is_none() && !self.is_stopped() {
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
        client.failures = 0;
        let handshake = self.plan.handshake;
        let first = match self.plan.requests.first() {
            _ if handshake => &self.initialize,
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
        let dialled_ns = client.dialled_ns;
        self.ready += 1;
        let loading = self.start_ns > 0 && self.now_ns < self.window_ns.1;
        match &self.plan.pacing {
            Pacing::Open(..) => (0..self.plan.pipeline).for_each(|_| self.give_free(index)),
            Pacing::Closed if loading => {
                for _ in 0..self.plan.pipeline {
                    self.send_request(index, self.now_ns);
                }
            }
            Pacing::Storm if loading => self.send_request(index, dialled_ns),
            Pacing::Closed | Pacing::Storm | Pacing::Volley => {}
        }
    }

    pub(super) fn on_peer_closed(&mut self, index: u32, socket: SocketId) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let mut framer = std::mem::take(&mut client.framer);
        let proper = framer.end(&mut |part| self.on_part(index, &part));
        let waits = self.clients.get(index as usize).is_some_and(|client| !client.awaited.is_empty());
        if !proper || waits {
            self.fail(
                index,
                socket,
                "connection_closed",
                "the server closed the connection before it replied",
            );
        } else {
            self.end_client(index, socket);
        }
    }

    /// A connection has ended badly: what it waited for will not come.
    pub(super) fn fail(&mut self, index: u32, socket: SocketId, kind: &'static str, words: &str) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        if client.stage == Stage::Closing {
            return;
        }
        client.failures += 1;
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
        let lost = std::mem::take(&mut client.awaited);
        self.awaited -= lost.len();
        for awaited in lost {
            if let Awaited::Request { sent, intended_ns, .. } = awaited {
                self.lose(sent.kind, intended_ns, "connection_closed", "the server closed the connection");
            }
        }
        self.ring.close(socket);
    }

    pub(super) fn on_closed(&mut self, index: u32) {
        let now = self.now_ns;
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.reset();
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
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        client.failures += 1;
        let dialled_ns = client.dialled_ns;
        let wait = pause_ns(client.failures);
        client.stage = Stage::Waiting { until_ns: now + wait };
        if self.start_ns == 0 && client.failures >= FAILURES_MAX_AT_START {
            self.failure = Some(error.to_string());
        }
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection_refused",
            io::ErrorKind::AddrNotAvailable => "no_port_left",
            _ => "connect_failed",
        };
        if storm && self.start_ns > 0 {
            self.lose(0, dialled_ns, kind, &error.to_string());
        }
    }

    /// Dials what is to be dialled, not too much at once.
    pub(super) fn dial_due(&mut self) {
        if self.window_ns.1 <= self.now_ns {
            return;
        }
        while self.dialling < DIALS_AT_ONCE {
            let Some(index) = self.to_dial.pop_front() else { return };
            let number = self.dials;
            self.dials = self.dials.wrapping_add(1);
            match dial_socket(&self.plan, number) {
                Ok(socket) => {
                    let now = self.clock();
                    if let Some(client) = self.clients.get_mut(index as usize) {
                        client.stage = Stage::Dialling;
                        client.dialled_ns = now;
                    }
                    self.dialling += 1;
                    self.ring.connect(socket, self.plan.target.address.into(), u64::from(index));
                }
                Err(error) => {
                    self.dialling += 1;
                    self.on_connect_failed(index, &error);
                }
            }
        }
    }

    /// Ends connections whose reply is too late, and dials those whose pause is over.
    pub(super) fn end_late(&mut self) {
        let (now, timeout) = (self.now_ns, nanoseconds(self.plan.timeout));
        let mut late = Vec::new();
        for (index, client) in self.clients.iter_mut().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            match client.stage {
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
        for (index, socket) in late {
            self.fail(index, socket, "timeout", "no reply in time");
        }
    }

    pub(super) fn socket_of(&self, index: u32) -> Option<SocketId> {
        self.clients.get(index as usize)?.socket
    }
}

/// How long to wait after so many failures in a row, in nanoseconds.
fn pause_ns(failures: u32) -> u64 {
    REDIAL_NS.saturating_mul(1 << failures.min(6)).min(REDIAL_NS_MAX)
}
