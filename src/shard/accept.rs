//! Accepting connections, and pausing at the limit.

use std::{io, time::Duration};

use corelane_ring::{Arrival, PeerAddress, SocketId};

use super::{Shard, balance::Accepted};
use crate::{
    config::Transport,
    connection::{Connection, JsonLines, Wire},
    peer::PeerKey,
    runtime::{Tick, instant_after},
};

/// Delay after which a failed accept is retried.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The group of a connection among which the ring divides its receive buffers: that of its peer, or its own where peers have no
/// address (Unix sockets).
pub(super) fn receive_group(socket: SocketId, peer: Option<PeerAddress>) -> u64 {
    let index = u32::try_from(socket.index()).unwrap_or(u32::MAX);
    let key = if peer.is_some() { PeerKey::new(peer) } else { PeerKey::of_connection(index) };
    u64::from_be_bytes(key.bytes())
}

impl Shard {
    pub(super) fn on_accepted(&mut self, socket: SocketId, accepted: Accepted, arrival: Arrival) {
        let Accepted { peer, transport, listener } = accepted;
        let is_new = arrival != Arrival::Moved;
        if is_new {
            self.pipeline.metrics().accept();
        }
        self.ring.set_group(socket, receive_group(socket, peer));
        self.ring.resume_receive(socket);
        let index = socket.index();
        if index >= self.connections.len() {
            self.connections.resize_with(index + 1, || None);
        }
        let is_json_lines = transport == Transport::JsonLines;
        let deadline = match transport {
            // Its request may be in transit.
            _ if self.drain_until.is_some() => self.timers.tick_after(self.now, self.limits.drain_grace),
            // On standard input and output.
            Transport::JsonLines if self.adopts => Tick::NEVER,
            Transport::Http if is_new => self.timers.tick_after(self.now, self.limits.head_timeout),
            _ => self.timers.tick_after(self.now, self.limits.keep_alive_timeout),
        };
        if let Some(slot) = self.connections.get_mut(index) {
            debug_assert!(slot.is_none(), "the ring closes a socket before its slot is reused");
            let json_lines = is_json_lines.then(|| Box::new(JsonLines::new(socket, peer)));
            // A header can only be at the start, which a moved connection has passed.
            let is_proxied = is_new && self.pipeline.trusts(peer);
            let wire = if is_proxied { Wire::AfterProxyHeader } else { Wire::Plain };
            let listener = u8::try_from(listener.index()).unwrap_or(u8::MAX);
            let new = Connection::new(socket, peer, deadline);
            *slot = Some(Connection { json_lines, wire, listener, ..new });
            self.live += 1;
        }
        self.timers.schedule(index, deadline);
        // Connections that were accepted before the pause took effect.
        let flood = self.connections_max + self.limits.connections_reserve as usize;
        if self.live > flood {
            self.close(socket);
            return;
        }
        if self.is_accepting && self.live >= self.connections_max {
            self.is_accepting = false;
            self.dispatcher().observer.limited("connections_max");
            for listener in &self.listeners {
                self.ring.pause_accept(*listener);
            }
        }
    }

    pub(super) fn on_accept_failed(&mut self, error: &io::Error) {
        // Only one listener has failed. Pausing all is simpler, and the pause is short.
        let reason = match error.raw_os_error() {
            Some(libc::ENFILE | libc::EMFILE) => "accept_no_descriptor",
            _ => "accept_failed",
        };
        self.dispatcher().observer.limited(reason);
        self.accept_retry_at = Some(self.now + ACCEPT_RETRY);
    }

    /// Resumes accepting when a tenth of the connections has closed.
    pub(super) fn resume_accept(&mut self) {
        if !self.is_accepting && !self.is_closed_to_new() && self.live * 10 <= self.connections_max * 9 {
            self.is_accepting = true;
            for listener in &self.listeners {
                self.ring.resume_accept(*listener);
            }
        }
    }

    /// Whether a drain has closed the listeners.
    fn is_closed_to_new(&self) -> bool {
        self.drain_until.is_some() && self.listen_until.is_none()
    }

    /// Starts to close the listeners for a drain. Connections that the kernel has accepted are served; handshakes under way have
    /// `drain_grace` to complete.
    pub(super) fn refuse_connections(&mut self) {
        for listener in &self.listeners {
            self.ring.refuse_connections(*listener);
        }
        self.listen_until = Some(instant_after(self.now, self.limits.drain_grace));
    }

    /// Closes the listeners once the handshakes under way have had their time.
    pub(super) fn close_listeners(&mut self) {
        if self.listen_until.is_some_and(|until| until <= self.now) {
            self.listen_until = None;
            for listener in &self.listeners {
                self.ring.stop_listening(*listener);
            }
        }
    }

    pub(super) fn retry_accept(&mut self) {
        if self.accept_retry_at.is_some_and(|at| at <= self.now) {
            self.accept_retry_at = None;
            if self.is_accepting && !self.is_closed_to_new() {
                for listener in &self.listeners {
                    self.ring.resume_accept(*listener);
                }
            }
        }
    }
}
