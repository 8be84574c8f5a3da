//! Outgoing requests: which are due, on which connection, in which buffer.

use std::io;

use rand::RngExt;

use super::{Generator, SENDS_PER_SUBMIT};
use crate::{
    engine::client::{ConnectionState, Handshake, InFlight, QueuedRequest},
    request::Request,
};

impl Generator {
    /// Sends the requests that are due, as long as connections have free slots. Returns whether any was sent.
    pub(super) fn send_due(&mut self) -> io::Result<bool> {
        if self.schedule.is_none() || self.start_ns == 0 {
            return Ok(false);
        }
        let mut sent = false;
        let mut now = self.clock();
        if std::mem::take(&mut self.is_ahead) {
            self.late_until_ns = now;
        }
        loop {
            let start = self.start_ns;
            let due = self.schedule.as_mut().and_then(|schedule| schedule.peek()).map(|due| due + start);
            let Some(intended) = due.filter(|due| *due <= now && *due < self.window_ns.1) else {
                self.is_ahead = !self.free.is_empty();
                return Ok(sent);
            };
            let Some(client) = self.pop_free() else { return Ok(sent) };
            if let Some(schedule) = &mut self.schedule {
                schedule.next();
            }
            self.now_ns = now;
            if self.is_measured(intended) {
                let waited = now.saturating_sub(intended.max(self.free_since_ns));
                let unseen = self.late_until_ns.saturating_sub(intended);
                self.recording.lag.saturating_record(waited.max(unseen).max(1));
            }
            self.send_request(client, intended);
            sent = true;
            if self.unsubmitted >= SENDS_PER_SUBMIT {
                self.submit()?;
            }
            now = self.clock();
        }
    }

    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.unsubmitted = 0;
        self.ring.submit()
    }

    /// Returns a client that can take a request.
    pub(super) fn pop_free(&mut self) -> Option<u32> {
        while let Some(index) = self.free.pop_front() {
            let room = self.clients.get(index as usize).is_some_and(|client| {
                client.state == ConnectionState::Ready && client.in_flight.len() < self.plan.pipeline as usize
            });
            if room {
                return Some(index);
            }
        }
        None
    }

    pub(super) fn push_free(&mut self, index: u32) {
        if self.free.is_empty() {
            self.free_since_ns = self.clock();
        }
        self.free.push_back(index);
    }

    /// Writes a request of the mix and passes it to the ring.
    pub(super) fn send_request(&mut self, index: u32, intended_ns: u64) {
        let kind = self.choose_request();
        let sent_ns = self.now_ns;
        self.in_flight += 1;
        self.recording.requests += u64::from(self.is_measured(intended_ns));
        self.write_request(index, QueuedRequest { kind, intended_ns, sent_ns, is_retry: false });
    }

    /// Writes a request that has been counted and passes it to the ring.
    pub(super) fn write_request(&mut self, index: u32, queued: QueuedRequest) {
        let QueuedRequest { kind, intended_ns, sent_ns, is_retry } = queued;
        let Some(request) = self.plan.requests.get(kind) else { return };
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let out = if client.is_sending { &mut client.queued } else { &mut client.out };
        let before = out.len();
        let sent = request.write(kind, self.sequence, client.session.as_deref(), &mut self.random, out);
        let written = out.len() - before;
        self.sequence += self.sequence_step;
        client.in_flight.push_back(InFlight::Request { sent, intended_ns, sent_ns, is_retry });
        if self.is_measured(intended_ns) {
            self.recording.sent_bytes += written as u64;
        }
        self.flush(index);
    }

    pub(super) fn choose_request(&mut self) -> usize {
        if self.plan.requests.len() == 1 {
            return 0;
        }
        let mut point = self.random.random_range(0..self.weights.max(1));
        for (kind, request) in self.plan.requests.iter().enumerate() {
            if point < request.weight() {
                return kind;
            }
            point -= request.weight();
        }
        0
    }

    pub(super) fn send_initialized(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let out = if client.is_sending { &mut client.queued } else { &mut client.out };
        Request::write_notification(&self.initialized, client.session.as_deref(), out);
        if self.plan.target.is_lines {
            // Only HTTP has a reply to a notification.
            client.handshake = Handshake::Done;
            self.flush(index);
            return self.on_ready(index);
        }
        client.in_flight.push_back(InFlight::Initialized);
        self.in_flight += 1;
        self.flush(index);
    }

    /// Passes a client's buffer to the ring, unless a send is in progress.
    pub(super) fn flush(&mut self, index: u32) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        let Some(socket) = client.socket.filter(|_| !client.is_sending && !client.out.is_empty()) else {
            return;
        };
        match self.ring.send(socket, std::mem::take(&mut client.out)) {
            Ok(()) => {
                client.is_sending = true;
                self.unsubmitted += 1;
            }
            // The connection is closing; the ring reports its end.
            Err(refused) => client.out = refused.0,
        }
    }
}
