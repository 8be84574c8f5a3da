//! Accepting: listeners, multishot accepts, and their pauses.

use std::{os::fd::AsRawFd, ptr};

use io_uring::{opcode, types};

use super::{
    event::{Event, os_error},
    listener::Listener,
    operation::{Kind, Tag},
    ring::Ring,
    slots::ListenerId,
    sources::{Accepting, Source},
};

impl Ring {
    /// Takes over a listener and accepts from it.
    pub fn listen(&mut self, listener: impl Into<Listener>) -> ListenerId {
        let id = ListenerId(u32::try_from(self.listeners.len()).unwrap_or(u32::MAX));
        let socket = Some(listener.into());
        self.listeners.push(Source { socket, stopped: false, accepting: Accepting::Paused });
        self.resume_accept(id);
        id
    }

    /// Leaves new connections in the kernel's backlog. Some may still be accepted until the cancel is through.
    pub fn pause_accept(&mut self, id: ListenerId) {
        let Some(listener) = self.listeners.get_mut(id.0 as usize) else {
            return;
        };
        match listener.accepting {
            Accepting::Armed => {
                listener.accepting = Accepting::Cancelling { resume: false };
                let accept = Tag::new(Kind::Accept, id.0, 0).user_data();
                let tag = Tag::new(Kind::Cancel, u32::MAX, 0);
                self.push(opcode::AsyncCancel::new(accept).build(), tag);
            }
            Accepting::Cancelling { .. } => listener.accepting = Accepting::Cancelling { resume: false },
            Accepting::Paused => {}
        }
    }

    /// Accepts (again).
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
                    // Of those who wait at one socket the kernel wakes the first, and a multishot never leaves its place:
                    // it would get all connections. One that comes again lines up behind the others.
                    opcode::Accept::new(descriptor, ptr::null_mut(), ptr::null_mut())
                        .file_index(Some(types::DestinationSlot::auto_target()))
                        .build()
                } else {
                    opcode::AcceptMulti::new(descriptor).allocate_file_index(true).build()
                };
                self.push(accept, Tag::new(Kind::Accept, id.0, 0));
            }
            Accepting::Cancelling { .. } => listener.accepting = Accepting::Cancelling { resume: true },
            Accepting::Armed => {}
        }
    }

    /// Gives the listener up: new connections are refused by the kernel. The accept under way keeps the socket open
    /// until its cancel is through.
    pub fn stop_listening(&mut self, id: ListenerId) {
        self.pause_accept(id);
        if let Some(listener) = self.listeners.get_mut(id.0 as usize) {
            listener.stopped = true;
            // Otherwise an accept that names its descriptor is under way: it goes with the final completion.
            if listener.accepting == Accepting::Paused {
                listener.socket = None;
            }
        }
    }

    pub(super) fn complete_accept(
        &mut self,
        id: ListenerId,
        result: i32,
        last: bool,
        events: &mut Vec<Event>,
    ) {
        if let Ok(index) = u32::try_from(result) {
            let socket = self.admit(index, events);
            events.push(Event::Accepted { listener: id, socket });
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
            listener.socket = None;
            return;
        }
        let error = -result;
        match error {
            _ if resume => self.resume_accept(id),
            _ if cancelled => {}
            // The peer gave up while it waited, or the multishot ended after a good accept.
            ..=0 | libc::ECONNABORTED | libc::EINTR | libc::EAGAIN => self.resume_accept(id),
            _ => events.push(Event::AcceptFailed { listener: id, error: os_error(result) }),
        }
    }
}
