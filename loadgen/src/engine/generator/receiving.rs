//! Ring events, and replies checked against their requests.

use corelane_ring::{Event, SocketId};

use super::{Generator, connecting::RESET_NS};
use crate::{
    engine::{
        Pacing,
        client::{ConnectionState, Handshake, InFlight},
    },
    http::Part,
    request::{ReplyError, id_of, is_reply},
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
                // Bytes queued meanwhile are sent next; the buffers are swapped.
                client.out = std::mem::replace(&mut client.queued, buffer);
                match (outcome, client.state) {
                    (Err(_), _) => self.on_reset(index, socket, "the server reset the connection"),
                    (Ok(()), ConnectionState::PeerClosed { is_probed: true }) => {
                        self.on_read_and_closed(index, socket)
                    }
                    // The server's kernel may need a moment to reset the connection.
                    (Ok(()), ConnectionState::PeerClosed { is_probed: false }) => {
                        self.peer_closed.push_back((index, socket, self.now_ns + RESET_NS));
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
            Event::Acknowledged { .. }
            | Event::Accepted { .. }
            | Event::AcceptFailed { .. }
            | Event::HandedOver { .. }
            | Event::HandOverFailed { .. } => {}
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
            Some(client) if client.state != ConnectionState::Closing => client.framer = framer,
            _ => return,
        }
        if let Err(error) = received {
            self.fail(index, socket, "reply_broken", &error.to_string());
        }
    }

    pub(super) fn on_part(&mut self, index: u32, part: &Part<'_>) {
        let is_lines = self.plan.target.is_lines;
        let Some(client) = self.clients.get_mut(index as usize) else { return };
        match part {
            Part::Message(head, body) => {
                if is_lines && client.in_flight.len() > 1 {
                    client.move_to_front(id_of(body));
                }
                let checked = match client.in_flight.front() {
                    Some(InFlight::Initialize(sent)) => {
                        if head.is_stream && !is_reply(body) {
                            return;
                        }
                        client.session.clone_from(&head.session);
                        self.initialize.check(sent, head.status, body)
                    }
                    Some(InFlight::Initialized) if (200..300).contains(&head.status) => Ok(()),
                    Some(InFlight::Initialized) => Err(ReplyError::Status(head.status)),
                    Some(InFlight::Request { sent, .. } | InFlight::FirstRequest(sent)) => {
                        if head.is_stream && !is_reply(body) {
                            return;
                        }
                        let Some(request) = self.plan.requests.get(sent.kind) else { return };
                        let checked = request.check(sent, head.status, body);
                        if let Err(error) = checked
                            && self.recording.first_error.is_none()
                        {
                            let excerpt =
                                String::from_utf8_lossy(body.get(..300).unwrap_or(body)).into_owned();
                            self.recording.first_error = Some(format!("{error}: {excerpt}"));
                        }
                        checked
                    }
                    None => Err(ReplyError::Id),
                };
                client.checked = Some(checked);
            }
            Part::End(head) => {
                let checked = client.checked.take().unwrap_or(Err(ReplyError::NoResult));
                let Some(in_flight) = client.in_flight.pop_front() else { return };
                let closes = head.closes;
                self.in_flight -= 1;
                self.on_reply(index, in_flight, checked, closes);
            }
        }
    }

    pub(super) fn on_reply(
        &mut self,
        index: u32,
        in_flight: InFlight,
        checked: Result<(), ReplyError>,
        closes: bool,
    ) {
        let closes = closes || self.plan.closes_unannounced;
        if let Some(client) = self.clients.get_mut(index as usize) {
            client.replies += 1;
            client.failures = 0;
        }
        match in_flight {
            InFlight::Initialize(_) | InFlight::Initialized | InFlight::FirstRequest(_)
                if checked.is_err() =>
            {
                let error = checked.err().unwrap_or(ReplyError::NoResult);
                let excerpt = self.recording.first_error.take().unwrap_or_else(|| error.to_string());
                let reason = format!("the first reply was wrong: {excerpt}");
                if let Some(socket) = self.socket_of(index) {
                    self.fail(index, socket, "handshake_failed", &reason);
                }
            }
            InFlight::Initialize(_) => {
                if let Some(client) = self.clients.get_mut(index as usize) {
                    client.handshake = Handshake::Answered;
                }
                match self.socket_of(index).filter(|_| closes) {
                    Some(socket) => self.close_connection(index, socket),
                    None => self.send_initialized(index),
                }
            }
            InFlight::Initialized | InFlight::FirstRequest(_) => {
                if let Some(client) = self.clients.get_mut(index as usize) {
                    client.handshake = Handshake::Done;
                }
                match self.socket_of(index).filter(|_| closes) {
                    // The reply verified the server, so the next connection is ready at once.
                    Some(socket) => {
                        self.mark_ready_once(index);
                        self.close_connection(index, socket);
                    }
                    None => self.on_ready(index),
                }
            }
            InFlight::Request { sent, intended_ns, sent_ns, .. } => {
                self.record(sent.kind, intended_ns, sent_ns, checked);
                let Some(client) = self.clients.get_mut(index as usize) else { return };
                // The server has dropped the session: a new one is needed.
                let is_session_lost = client.session.is_some() && checked == Err(ReplyError::Status(404));
                if is_session_lost {
                    client.reset_session();
                }
                // Lines are matched by their ids only, so an unknown id cannot be attributed.
                let is_unknown_id = self.plan.target.is_lines && checked == Err(ReplyError::Id);
                let must_close = closes || is_session_lost || is_unknown_id;
                match client.socket.filter(|_| must_close && self.plan.pacing != Pacing::Storm) {
                    Some(socket) => {
                        self.close_connection(index, socket);
                        self.start_volley();
                    }
                    None => self.on_slot_free(index),
                }
            }
        }
    }
}
