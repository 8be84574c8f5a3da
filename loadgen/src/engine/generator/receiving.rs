//! Events of the ring, and replies held against the requests they answer.

use corelane_ring::{Event, SocketId};

use super::{Generator, connecting::RESET_NS};
use crate::{
    engine::{
        Pacing,
        client::{Awaited, Handshake, Stage},
    },
    http::Part,
    request::{Wrong, id_of, is_reply},
};

impl Generator {
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected { token, socket } => self.on_connected(token as u32, socket),
            Event::ConnectFailed { token, error } => self.on_connect_failed(token as u32, &error),
            Event::Received { socket, buffer } => {
                if let Some(index) = self.client_of(socket) {
                    self.on_received(index, socket, buffer.bytes());
                }
            }
            Event::Sent { socket, mut buffer, outcome } => {
                let Some(index) = self.client_of(socket) else { return };
                let Some(client) = self.clients.get_mut(index as usize) else { return };
                client.is_sending = false;
                buffer.clear();
                // What was queued meanwhile goes next; the buffers change places.
                client.out = std::mem::replace(&mut client.queued, buffer);
                match (outcome, client.stage) {
                    (Err(_), _) => self.on_reset(index, socket, "the server reset the connection"),
                    (Ok(()), Stage::Ended { asked: true }) => self.on_read_and_closed(index, socket),
                    // Its system may need a moment to refuse what was sent last.
                    (Ok(()), Stage::Ended { asked: false }) => {
                        self.doubtful.push_back((index, socket, self.now_ns + RESET_NS));
                    }
                    (Ok(()), _) => self.flush(index),
                }
            }
            Event::PeerClosed { socket } => {
                if let Some(index) = self.client_of(socket) {
                    self.on_peer_closed(index, socket);
                }
            }
            Event::ReceiveFailed { socket, error } => {
                if let Some(index) = self.client_of(socket) {
                    self.on_reset(index, socket, &error.to_string());
                }
            }
            Event::Closed { socket } => {
                if let Some(index) = self.client_of(socket) {
                    self.on_closed(index);
                }
            }
            Event::SendProgressed { .. } | Event::Accepted { .. } | Event::AcceptFailed { .. } => {}
        }
    }

    pub(super) fn on_received(&mut self, index: u32, socket: SocketId, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        if self.now_ns >= self.window_ns.0 && self.now_ns < self.window_ns.1 {
            self.recording.received_bytes += bytes.len() as u64;
        }
        let mut framer = std::mem::take(&mut client.framer);
        let received = framer.receive(bytes, &mut |part| self.on_part(index, &part));
        match self.clients.get_mut(index as usize).filter(|client| client.socket == Some(socket)) {
            Some(client) if client.stage != Stage::Closing => client.framer = framer,
            _ => return,
        }
        if let Err(broken) = received {
            self.fail(index, socket, "reply_broken", &broken.to_string());
        }
    }

    pub(super) fn on_part(&mut self, index: u32, part: &Part<'_>) {
        let is_process = self.processes.is_some();
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        match part {
            Part::Message(head, body) => {
                if is_process && client.awaited.len() > 1 {
                    client.expect(id_of(body));
                }
                let judged = match client.awaited.front() {
                    Some(Awaited::Initialize(sent)) => {
                        if head.is_stream && !is_reply(body) {
                            return;
                        }
                        client.session.clone_from(&head.session);
                        self.initialize.check(sent, head.status, body)
                    }
                    Some(Awaited::Initialized) if (200..300).contains(&head.status) => Ok(()),
                    Some(Awaited::Initialized) => Err(Wrong::Status(head.status)),
                    Some(Awaited::Request { sent, .. } | Awaited::First(sent)) => {
                        if head.is_stream && !is_reply(body) {
                            return;
                        }
                        let Some(request) = self.plan.requests.get(sent.kind) else { return };
                        let judged = request.check(sent, head.status, body);
                        if let Err(wrong) = judged
                            && self.recording.first_error.is_none()
                        {
                            let said = String::from_utf8_lossy(body.get(..300).unwrap_or(body)).into_owned();
                            self.recording.first_error = Some(format!("{wrong}: {said}"));
                        }
                        judged
                    }
                    None => Err(Wrong::Id),
                };
                client.judged = Some(judged);
            }
            Part::End(head) => {
                let judged = client.judged.take().unwrap_or(Err(Wrong::NoResult));
                let Some(awaited) = client.awaited.pop_front() else { return };
                let closes = head.closes;
                self.awaited -= 1;
                self.on_reply(index, awaited, judged, closes);
            }
        }
    }

    pub(super) fn on_reply(&mut self, index: u32, awaited: Awaited, judged: Result<(), Wrong>, closes: bool) {
        let closes = closes || self.plan.closes_unannounced;
        if let Some(client) = self.clients.get_mut(index as usize) {
            client.replies += 1;
            client.failures = 0;
        }
        match awaited {
            Awaited::Initialize(_) | Awaited::Initialized | Awaited::First(_) if judged.is_err() => {
                let wrong = judged.err().unwrap_or(Wrong::NoResult);
                let said = self.recording.first_error.take().unwrap_or_else(|| wrong.to_string());
                let reason = format!("the first reply is wrong: {said}");
                if let Some(socket) = self.socket_of(index) {
                    self.fail(index, socket, "handshake_failed", &reason);
                }
            }
            Awaited::Initialize(_) => {
                if let Some(client) = self.clients.get_mut(index as usize) {
                    client.handshake = Handshake::Answered;
                }
                match self.socket_of(index).filter(|_| closes) {
                    Some(socket) => self.end_client(index, socket),
                    None => self.send_initialized(index),
                }
            }
            Awaited::Initialized | Awaited::First(_) => {
                if let Some(client) = self.clients.get_mut(index as usize) {
                    client.handshake = Handshake::Done;
                }
                match self.socket_of(index).filter(|_| closes) {
                    // It has shown that it answers; the next connection is ready at once.
                    Some(socket) => {
                        self.greet(index);
                        self.end_client(index, socket);
                    }
                    None => self.on_ready(index),
                }
            }
            Awaited::Request { sent, intended_ns, sent_ns, .. } => {
                self.record(sent.kind, intended_ns, sent_ns, judged);
                let Some(client) = self.clients.get_mut(index as usize) else { return };
                // A server that does not know the session wants a new one.
                let is_session_over = client.session.is_some() && judged == Err(Wrong::Status(404));
                if is_session_over {
                    client.end_session();
                }
                // Replies of a process are told apart by their ids alone.
                let is_astray = self.processes.is_some() && judged == Err(Wrong::Id);
                let ends = closes || is_session_over || is_astray;
                match client.socket.filter(|_| ends && self.plan.pacing != Pacing::Storm) {
                    Some(socket) => {
                        self.end_client(index, socket);
                        self.fire_volley();
                    }
                    None => self.on_room(index),
                }
            }
        }
    }
}
