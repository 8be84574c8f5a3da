//! Accepting: listeners, multishot accepts, pausing and resuming.

use std::{os::fd::AsRawFd, ptr};

use io_uring::{opcode, types};

use super::{
    event::{Arrival, Event, os_error},
    listener::Listener,
    operation::{Kind, Tag},
    peer_queries::name_bytes_of,
    ring::Ring,
    slots::ListenerId,
    sources::{Accepting, Source},
};

impl Ring {
    /// Takes ownership of a listener and accepts from it.
    pub fn listen(&mut self, listener: impl Into<Listener>) -> ListenerId {
        let id = ListenerId(u16::try_from(self.listeners.len()).unwrap_or(u16::MAX));
        let socket = listener.into();
        self.listeners.push(Source {
            peer_name_bytes: name_bytes_of(&socket.descriptor),
            socket: Some(socket),
            stopped: false,
            accepting: Accepting::Paused,
        });
        self.resume_accept(id);
        id
    }

    /// Leaves it to the owner to arm the receive of each accepted connection, by [`Ring::resume_receive`], so that the connection
    /// can be handed over before bytes are received.
    pub fn hold_accepted(&mut self) {
        self.holds_accepted = true;
    }

    /// Stops accepting, so that new connections wait in the kernel's backlog. Some may still be accepted until the cancellation
    /// completes.
    pub fn pause_accept(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else {
            return;
        };
        match listener.accepting {
            Accepting::Armed => {
                listener.accepting = Accepting::Cancelling { resume: false };
                let accept = Tag::new(Kind::Accept, id.0.into(), 0).user_data();
                let tag = Tag::new(Kind::Cancel, u32::MAX, 0);
                self.push(opcode::AsyncCancel::new(accept).build(), tag);
            }
            Accepting::Cancelling { .. } => listener.accepting = Accepting::Cancelling { resume: false },
            Accepting::Paused => {}
        }
    }

    /// Starts accepting again.
    pub fn resume_accept(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else {
            return;
        };
        match listener.accepting {
            _ if listener.stopped => {}
            Accepting::Paused => {
                let Some(socket) = &listener.socket else { return };
                listener.accepting = Accepting::Armed;
                let descriptor = types::Fd(socket.descriptor.as_raw_fd());
                let accept = if socket.shared {
                    // The kernel wakes the first waiter of a socket, and a multishot accept stays the first one: it would get all
                    // connections. A single accept is queued after those of the other rings.
                    opcode::Accept::new(descriptor, ptr::null_mut(), ptr::null_mut())
                        .file_index(Some(types::DestinationSlot::auto_target()))
                        .build()
                } else {
                    opcode::AcceptMulti::new(descriptor).allocate_file_index(true).build()
                };
                self.push(accept, Tag::new(Kind::Accept, id.0.into(), 0));
            }
            Accepting::Cancelling { .. } => listener.accepting = Accepting::Cancelling { resume: true },
            Accepting::Armed => {}
        }
    }

    /// Accepts what is in the queue of a socket that other rings accept from, too. The kernel wakes one of them for each connection,
    /// and this connection waits until the thread of that ring runs or another connection comes.
    pub fn accept_queued(&mut self, id: ListenerId) {
        let listener = self.listeners.get(id.0 as usize);
        if listener.is_some_and(|listener| {
            listener.accepting == Accepting::Armed
                && listener.socket.as_ref().is_some_and(|socket| socket.shared)
        }) {
            // An accept begins by taking what is in the queue.
            self.pause_accept(id);
            self.resume_accept(id);
        }
    }

    /// Makes the kernel start no further connection to the listener. It is still accepted what is queued, and what arrives of
    /// handshakes under way; [`Ring::stop_listening`] follows after the time that a handshake takes.
    pub fn refuse_connections(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else { return };
        if let Some(socket) = &mut listener.socket {
            // Without the filter, connections that arrive until the listener is closed are accepted like others.
            let _ = socket.refuse_connections();
        }
    }

    /// Closes the listener, so that the kernel refuses new connections, after the queued ones have been accepted. The socket stays
    /// open until the cancellation of its accept completes. Call [`Ring::refuse_connections`] before.
    pub fn stop_listening(&mut self, id: ListenerId) {
        self.pause_accept(id);
        if let Some(listener) = self.listeners.get_mut(id.0 as usize) {
            listener.stopped = true;
            // Otherwise an accept uses the descriptor, which is closed with the final completion.
            if listener.accepting == Accepting::Paused {
                self.close_listener(id);
            }
        }
    }

    /// Accepts the queued connections and closes the socket.
    fn close_listener(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else { return };
        let Some(socket) = listener.socket.take() else { return };
        // The queue of a socket that other rings accept from is theirs too, and accepting from it would block.
        if socket.shared && !socket.refuses {
            return;
        }
        while let Some((descriptor, peer)) = socket.accept_queued() {
            self.install_accepted(descriptor, id, peer);
        }
    }

    /// Whether further [`Event::Accepted`] may come: a listener is open, or connections are on their way from the kernel.
    #[must_use]
    pub fn may_accept(&self) -> bool {
        self.listeners.iter().any(|listener| listener.socket.is_some())
            || self.peer_queries.are_under_way()
            || self.dials.are_under_way()
    }

    /// Takes the sockets of all listeners out of a ring that will be dropped, so that another ring can accept from them; `None` for
    /// a listener that has been stopped. Connections in the backlog stay there. A listener that refuses connections goes on to do
    /// so.
    pub fn take_listeners(&mut self) -> Vec<Option<Listener>> {
        let ids = (0..u16::try_from(self.listeners.len()).unwrap_or(u16::MAX)).map(ListenerId);
        ids.map(|id| {
            self.pause_accept(id);
            let listener = self.listeners.get_mut(id.0 as usize)?;
            let is_stopped = std::mem::replace(&mut listener.stopped, true);
            listener.socket.take().filter(|_| !is_stopped)
        })
        .collect()
    }

    pub(super) fn complete_accept(
        &mut self,
        id: ListenerId,
        result: i32,
        last: bool,
        events: &mut Vec<Event>,
    ) {
        if let Ok(index) = u32::try_from(result) {
            self.accept_from_peer(id, index, Arrival::Accepted, events);
        }
        if !last {
            return;
        }
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else {
            return;
        };
        let cancelled = matches!(listener.accepting, Accepting::Cancelling { .. });
        let resume = listener.accepting == Accepting::Cancelling { resume: true };
        listener.accepting = Accepting::Paused;
        if listener.stopped {
            if !self.ended {
                self.close_listener(id);
            }
            return;
        }
        let error = -result;
        match error {
            _ if resume => self.resume_accept(id),
            _ if cancelled => {}
            // The queue of a Unix socket that was shut down is empty.
            libc::EINVAL if listener.socket.as_ref().is_some_and(|socket| socket.refuses) => {}
            // The peer aborted the connection, or the multishot ended after a successful accept.
            ..=0 | libc::ECONNABORTED | libc::EINTR | libc::EAGAIN => self.resume_accept(id),
            _ => events.push(Event::AcceptFailed { listener: id, error: os_error(result) }),
        }
    }
}
