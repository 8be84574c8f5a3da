//! Receiving: multishot receives into provided buffers, pausing and resuming.

use std::ptr;

use io_uring::{cqueue, opcode, squeue, types};

use super::{
    buffers::BUFFER_GROUP,
    event::{Event, os_error},
    operation::{Kind, Tag},
    ring::Ring,
    slots::{Receive, SlotState, SocketId},
    starved::Pass,
};

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

    /// Assigns a socket to a group. The groups share the buffers: where there are too few, each gets the same number. A new socket
    /// belongs to group 0.
    pub fn set_group(&mut self, id: SocketId, group: u64) {
        if let Some(slot) = self.slots.open(id) {
            slot.group = group;
        }
    }

    /// Arms receives that ended for lack of buffers, as far as there are buffers now.
    pub(super) fn rearm_starved(&mut self) {
        if self.starved.is_empty() {
            return;
        }
        let has_grown = std::mem::take(&mut self.lacks_buffers) && self.pool.grow();
        if !has_grown && self.pool.held() >= self.pool_low_water() {
            return;
        }
        let Pass { multishot, once } =
            self.starved.take(usize::from(self.pool.provided() - self.pool.held()));
        // In this order, because receives of one buffer may use up what there is.
        for (ids, is_once) in [(multishot, false), (once, true)] {
            for id in ids {
                if self.slots.open(id).is_some_and(|slot| slot.rearm_receive) {
                    self.arm(id, is_once);
                }
            }
        }
    }

    /// As [`Ring::rearm_starved`], for all of them: before the thread sleeps, because those that are armed may receive nothing.
    pub(super) fn rearm_all_starved(&mut self) {
        while !self.starved.is_empty() && self.pool.held() < self.pool_low_water() {
            self.rearm_starved();
        }
    }

    /// Number of held buffers below which receives that ended for lack of buffers are armed again.
    pub(super) fn pool_low_water(&self) -> u16 {
        (self.pool.provided() / 2).max(1)
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
        let (rearms, group) = (slot.rearm_receive, slot.group);
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
            // After a receive of one buffer, others may wait for the next one.
            self.lacks_buffers |= -result == libc::ENOBUFS && self.pool.is_short();
            if result > 0 || -result == libc::ENOBUFS {
                self.starved.push(id, group);
            } else {
                self.arm_receive(id);
            }
        }
    }
}
