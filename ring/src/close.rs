//! Closing: of one socket, and of all when the ring is dropped.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use io_uring::{opcode, types};

use super::{
    event::Event,
    operation::{Kind, Tag},
    ring::Ring,
    slots::{Receive, SocketId, Tenancy},
    sources::Accepting,
};

/// How long dropping a ring waits for the kernel to let go of its buffers, per attempt and in attempts.
const DROP_WAIT: Duration = Duration::from_millis(20);
const DROP_ATTEMPTS: u32 = 100;

impl Ring {
    /// Ends the connection: cancels what is under way, waits for its final completions, then closes, which sends FIN.
    /// No event but [`Event::Sent`] (of a send in flight) and [`Event::Closed`] will name `id` again.
    pub fn close(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id) else { return };
        slot.tenancy = Tenancy::Closing;
        slot.receive_wanted = false;
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
        let Some(slot) = self.slots.tenant(id) else { return };
        debug_assert!(slot.is_quiet());
        slot.tenancy = Tenancy::CloseSubmitted;
        let entry = opcode::Close::new(types::Fixed(id.index)).build();
        self.push(entry, Tag::new(Kind::Close, id.index, id.generation));
    }

    pub(super) fn close_if_quiet(&mut self, id: SocketId) {
        let quiet =
            self.slots.tenant(id).is_some_and(|slot| slot.tenancy == Tenancy::Closing && slot.is_quiet());
        if quiet {
            self.submit_close(id);
        }
    }

    /// A cancel that found nothing although its target is still under way leaves one sure means of closing:
    /// shutting the socket down ends both directions.
    pub(super) fn complete_cancel(&mut self, id: SocketId, result: i32) {
        let Some(slot) = self.slots.tenant(id).filter(|_| result < 0) else {
            return;
        };
        if slot.tenancy == Tenancy::Closing && !slot.is_quiet() {
            if slot.shutdowns == 0 {
                self.submit_shutdown(id, Kind::ShutdownBoth, libc::SHUT_RDWR);
            }
        } else if slot.receive == Receive::Cancelling {
            slot.receive = Receive::Armed;
        }
    }

    /// Cancels all operations and reaps until none is left. `false` if the kernel did not let go in time.
    pub(super) fn cancel_all(&mut self) -> bool {
        self.close_all();
        self.ended = true;
        for _ in 0..DROP_ATTEMPTS {
            self.flush_backlog();
            if self.outstanding == 0 {
                return true;
            }
            let everything = types::CancelBuilder::any();
            // Nothing left to cancel is an error here, and fine.
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

    /// Closes every socket. Cancelling one operation by its name is a look-up, cancelling all of them is a walk through
    /// all of them for each: minutes, with tens of thousands.
    pub(super) fn close_all(&mut self) {
        for id in self.slots.open_ids() {
            self.close(id);
        }
        let mut events = Vec::new();
        let until = Instant::now() + DROP_WAIT * DROP_ATTEMPTS;
        while self.slots.tenants() > 0 && Instant::now() < until {
            if self.turn(&mut events).is_err() {
                return;
            }
            events.clear();
            if self.last_batch == 0 {
                let wait = types::Timespec::from(Duration::from_millis(1));
                let until = types::SubmitArgs::new().timespec(&wait);
                let _ = self.ring.submitter().submit_with_args(1, &until);
            }
        }
    }

    /// As `complete`, but nothing is armed again.
    pub(super) fn complete_last(&mut self, user_data: u64, result: i32, flags: u32, events: &mut Vec<Event>) {
        let tag = Tag::from_user_data(user_data);
        match tag {
            Some(Tag { kind: Kind::Accept, index, .. }) => {
                if let Some(listener) = self.listeners.get_mut(index as usize) {
                    listener.accepting = Accepting::Cancelling { resume: false };
                }
            }
            // These carry no slot's number.
            Some(Tag { kind: Kind::Install | Kind::Connect, .. }) => {}
            Some(Tag { index, generation, .. }) => {
                if let Some(slot) = self.slots.open(SocketId { index, generation }) {
                    slot.receive_wanted = false;
                    slot.tenancy = Tenancy::Closing;
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
            // The kernel may still read from or write to these: leaking them is the only sound thing to do.
            std::mem::forget(Rc::clone(&self.pool));
            self.slots.take_in_flight().for_each(std::mem::forget);
            std::mem::forget(std::mem::take(&mut self.alarm_after));
            self.forget_dials();
        }
        let _ = self.ring.submitter().unregister_files();
    }
}
