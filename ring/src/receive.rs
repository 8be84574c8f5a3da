//! Receiving: multishot receives into provided buffers, pausing and resuming.

use std::ptr;

use io_uring::{cqueue, opcode, squeue, types};

use super::{
    buffers::BUFFER_GROUP,
    event::{Event, os_error},
    operation::{Kind, Tag},
    ring::Ring,
    slots::{Receive, SlotState, SocketId},
};

/// Number of buffers that one multishot receive may fill before the kernel turns to other sockets (`MULTISHOT_MAX_RETRY` of
/// Linux's `io_uring/net.c`).
const BUFFERS_PER_RECEIVE: usize = 32;

impl Ring {
    /// Stops receiving, so that the peer's window fills. A few buffers may still be received.
    pub fn pause_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id) else { return };
        slot.rearm_receive = false;
        self.cancel_receive(id);
    }

    /// Starts receiving again.
    pub fn resume_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id) else { return };
        slot.rearm_receive = true;
        self.arm_receive(id);
    }

    pub(super) fn rearm_starved(&mut self) {
        if self.starved.is_empty() || self.pool.held() >= self.pool_low_water() {
            return;
        }
        // With so many sockets, those that have much to receive would leave no buffer to the others, turn after turn.
        let available = usize::from(self.pool.count() - self.pool.held());
        let receives_once = self.starved.len() * BUFFERS_PER_RECEIVE > available / 2;
        for id in std::mem::take(&mut self.starved) {
            if self.slots.open(id).is_some_and(|slot| slot.rearm_receive) {
                self.arm(id, receives_once);
            }
        }
    }

    /// Number of held buffers below which receives that ended for lack of buffers are armed again.
    pub(super) fn pool_low_water(&self) -> u16 {
        (self.pool.count() / 2).max(1)
    }

    pub(super) fn arm_receive(&mut self, id: SocketId) {
        self.arm(id, false);
    }

    /// Submits a receive: of one buffer, or of one after the other until none is available.
    fn arm(&mut self, id: SocketId, once: bool) {
        let Some(slot) = self.slots.open(id).filter(|slot| slot.receive == Receive::Idle) else {
            return;
        };
        slot.receive = Receive::Armed;
        let descriptor = types::Fixed(id.index);
        let receive = if once {
            let receive = opcode::Recv::new(descriptor, ptr::null_mut(), 0).buf_group(BUFFER_GROUP).build();
            receive.flags(squeue::Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(descriptor, BUFFER_GROUP).build()
        };
        self.push(receive, Tag::new(Kind::Receive, id.index, id.generation));
    }

    pub(super) fn cancel_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.get(id).filter(|slot| slot.receive == Receive::Armed) else {
            return;
        };
        slot.receive = Receive::Cancelling;
        let receive = Tag::new(Kind::Receive, id.index, id.generation).user_data();
        self.push(opcode::AsyncCancel::new(receive).build(), Tag::new(Kind::Cancel, id.index, id.generation));
    }

    pub(super) fn complete_receive(
        &mut self,
        id: SocketId,
        result: i32,
        flags: u32,
        events: &mut Vec<Event>,
    ) {
        let length = usize::try_from(result).unwrap_or(0);
        // Taken before any return, because dropping it returns the buffer.
        let buffer = cqueue::buffer_select(flags).map(|buffer| self.pool.take(buffer, length));
        let last = !cqueue::more(flags);
        if result > 0 && !self.hand_overs.is_empty() {
            self.keep(id, events);
        }
        let Some(slot) = self.slots.get(id) else { return };
        let open = slot.state == SlotState::Open;
        if last {
            slot.receive = match -result {
                0 => Receive::Ended,
                ..0 | libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN => Receive::Idle,
                _ => Receive::Ended,
            };
        }
        let rearms = slot.rearm_receive;
        let ended = slot.receive == Receive::Ended;
        match (open, result) {
            (false, _) => self.close_if_quiet(id),
            (true, 1..) => {
                if let Some(buffer) = buffer {
                    events.push(Event::Received { socket: id, buffer });
                }
            }
            (true, 0) => events.push(Event::PeerClosed { socket: id }),
            (true, _) if ended => {
                events.push(Event::ReceiveFailed { socket: id, error: os_error(result) });
            }
            (true, _) => {}
        }
        if !self.hand_overs.is_empty() {
            self.advance_hand_over(id, events);
        }
        if open && last && rearms && !ended {
            if -result == libc::ENOBUFS {
                self.starved.push_back(id);
            } else {
                self.arm_receive(id);
            }
        }
    }
}
