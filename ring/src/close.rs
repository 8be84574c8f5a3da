//! Closing of one socket, and of all sockets when the ring is dropped.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use io_uring::{opcode, types};

use super::{
    buffers::BufferSize,
    event::Event,
    operation::{Kind, Tag},
    ring::Ring,
    slots::{Receive, SlotState, SocketId},
    sources::Accepting,
};

/// Time per attempt that dropping a ring waits for its operations to complete.
const DROP_WAIT: Duration = Duration::from_millis(20);
/// Maximum number of these attempts.
const DROP_ATTEMPTS: u32 = 100;

impl Ring {
    /// Closes the connection: cancels its operations, waits for their final completions, and closes the socket, which sends FIN.
    /// Only [`Event::Sent`] (of a send in flight) and [`Event::Closed`] follow for `id`.
    pub fn close(&mut self, id: SocketId) {
        if let Some(leaving) = self.hand_overs.get_mut(&id)
            && self.slots.get(id).is_some_and(|slot| slot.state == SlotState::Leaving)
        {
            leaving.closes = true;
            return;
        }
        let Some(slot) = self.slots.open(id) else { return };
        self.hand_overs.remove(&id);
        slot.state = SlotState::Closing;
        slot.next_receive = None;
        if slot.is_quiet() {
            self.submit_close(id);
            return;
        }
        let sending = slot.send.is_some();
        self.cancel_receive(id);
        if sending {
            let send = Tag::new(Kind::Send, id.index, id.generation).user_data();
            self.push(
                opcode::AsyncCancel::new(send).build(),
                Tag::new(Kind::Cancel, id.index, id.generation),
            );
        }
    }

    pub(super) fn submit_close(&mut self, id: SocketId) {
        let Some(slot) = self.slots.get(id) else { return };
        debug_assert!(slot.is_quiet());
        slot.state = SlotState::CloseSubmitted;
        let entry = opcode::Close::new(types::Fixed(id.index)).build();
        self.push(entry, Tag::new(Kind::Close, id.index, id.generation));
    }

    pub(super) fn close_if_quiet(&mut self, id: SocketId) {
        let quiet =
            self.slots.get(id).is_some_and(|slot| slot.state == SlotState::Closing && slot.is_quiet());
        if quiet {
            self.submit_close(id);
        }
    }

    /// Handles a cancellation that found no operation although its target has not completed: shutting down both directions of the
    /// socket ends the operation in any case.
    pub(super) fn complete_cancel(&mut self, id: SocketId, result: i32) {
        let Some(slot) = self.slots.get(id).filter(|_| result < 0) else {
            return;
        };
        if slot.state == SlotState::Closing && !slot.is_quiet() {
            if slot.shutdowns == 0 {
                self.submit_shutdown(id, Kind::ShutdownBoth, libc::SHUT_RDWR);
            }
        } else if slot.receive == Receive::Cancelling {
            // The size decides only for which buffers the socket waits if there are none.
            slot.receive = Receive::Armed(slot.next_receive.unwrap_or(BufferSize::Usual));
        }
    }

    /// Cancels all operations and reaps until none is left. Returns `false` if some did not complete in time.
    pub(super) fn cancel_all(&mut self) -> bool {
        self.close_all();
        self.ended = true;
        for _ in 0..DROP_ATTEMPTS {
            self.flush_backlog();
            if self.outstanding == 0 {
                return true;
            }
            let everything = types::CancelBuilder::any();
            // Fails if there is nothing to cancel.
            let _ = self
                .ring
                .submitter()
                .register_sync_cancel(Some(types::Timespec::from(DROP_WAIT)), everything);
            let wait = types::Timespec::from(DROP_WAIT);
            let _ = self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&wait));
            let mut events = Vec::new();
            let entries: Vec<_> = self
                .ring
                .completion()
                .map(|entry| (entry.user_data(), entry.result(), entry.flags()))
                .collect();
            for (user_data, result, flags) in entries {
                self.complete_last(user_data, result, flags, &mut events);
            }
        }
        false
    }

    /// Closes every socket. Cancelling one operation by its user data is a lookup in the kernel; cancelling all operations at once is
    /// quadratic and takes minutes with tens of thousands of sockets.
    pub(super) fn close_all(&mut self) {
        self.hand_overs.values_mut().for_each(|leaving| leaving.closes = true);
        for id in self.slots.open_ids() {
            self.close(id);
        }
        let mut events = Vec::new();
        let until = Instant::now() + DROP_WAIT * DROP_ATTEMPTS;
        while self.slots.occupied() > 0 && Instant::now() < until {
            if self.turn(&mut events).is_err() {
                return;
            }
            for event in events.drain(..) {
                // What was on its way before its socket had a tenant.
                if let Event::Accepted { socket, .. } | Event::Connected { socket, .. } = event {
                    self.close(socket);
                }
            }
            if self.last_batch == 0 {
                let wait = types::Timespec::from(Duration::from_millis(1));
                let until = types::SubmitArgs::new().timespec(&wait);
                let _ = self.ring.submitter().submit_with_args(1, &until);
            }
        }
    }

    /// As [`Ring::complete`], without arming operations again.
    pub(super) fn complete_last(&mut self, user_data: u64, result: i32, flags: u32, events: &mut Vec<Event>) {
        let tag = Tag::from_user_data(user_data);
        match tag {
            Some(Tag { kind: Kind::Accept, index, .. }) => {
                if let Some(listener) = self.listeners.get_mut(index as usize) {
                    listener.accepting = Accepting::Cancelling { resume: false };
                }
            }
            // The index of these is not a slot.
            Some(Tag { kind: Kind::Install | Kind::Connect | Kind::PeerName | Kind::Arrived, .. }) => {}
            Some(Tag { index, generation, .. }) => {
                if let Some(slot) = self.slots.open(SocketId { index, generation }) {
                    slot.next_receive = None;
                    slot.state = SlotState::Closing;
                }
            }
            None => {}
        }
        self.complete(user_data, result, flags, events);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.cancel_all() {
            // The kernel may still access this memory, so it is leaked.
            std::mem::forget(Rc::clone(&self.usual.pool));
            std::mem::forget(Rc::clone(&self.large.pool));
            self.slots.take_in_flight().for_each(std::mem::forget);
            std::mem::forget(std::mem::take(&mut self.alarm_after));
            self.forget_dials();
            self.forget_peer_queries();
        }
        let _ = self.ring.submitter().unregister_files();
    }
}
