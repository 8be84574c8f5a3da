//! Receiving into provided buffers: multishot, or into one large buffer in each turn; pausing and resuming.

use std::ptr;

use io_uring::{cqueue, opcode, squeue, types};

use super::{
    buffer_source::BufferSource,
    buffers::{BufferSize, ReceivedBuffer},
    event::{Event, os_error},
    operation::{Kind, Tag},
    ring::Ring,
    slots::{Receive, Slot, SlotState, SocketId},
    starved::{BUFFERS_PER_RECEIVE, Pass},
};

impl Ring {
    /// Stops receiving, so that the peer's window fills. A few buffers may still be received.
    pub fn pause_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id) else { return };
        slot.next_receive = None;
        self.cancel_receive(id);
    }

    /// Receives again after a pause, or again into buffers of the usual size.
    pub fn resume_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id) else { return };
        slot.next_receive = Some(BufferSize::Usual);
        self.arm_receive(id);
    }

    /// Receives into one large buffer in each turn, also after a pause: for a socket with many bytes, whose receive takes less time and
    /// leaves the buffers of the usual size to others. Before that, a few of these may still be received.
    pub fn receive_large(&mut self, id: SocketId) {
        let Some(slot) = self.slots.open(id) else { return };
        if slot.next_receive.replace(BufferSize::Large) != Some(BufferSize::Large) {
            self.cancel_receive(id);
            self.arm_receive(id);
        }
    }

    /// Assigns a socket to a group. The groups share the buffers: where there are too few, each gets the same number. A new socket
    /// belongs to group 0.
    pub fn set_group(&mut self, id: SocketId, group: u64) {
        if let Some(slot) = self.slots.open(id) {
            slot.group = group;
        }
    }

    /// Arms receives that wait for buffers, as far as there are buffers now.
    pub(super) fn rearm_starved(&mut self) {
        if !self.has_starved() {
            return;
        }
        for size in [BufferSize::Usual, BufferSize::Large] {
            let Pass { multishot, once } = self.buffers_of(size).next_pass();
            // In this order, because receives of one buffer may use up what there is.
            for (ids, is_once) in [(multishot, false), (once, true)] {
                ids.into_iter().for_each(|id| self.arm(id, size, is_once));
            }
        }
    }

    /// As [`Ring::rearm_starved`], for all of them: before the thread sleeps, because those that are armed may receive nothing.
    pub(super) fn rearm_all_starved(&mut self) {
        while self.usual.can_serve() || self.large.can_serve() {
            self.rearm_starved();
        }
    }

    /// Whether sockets wait for receive buffers.
    pub(super) fn has_starved(&self) -> bool {
        !(self.usual.starved.is_empty() && self.large.starved.is_empty())
    }

    fn buffers_of(&mut self, size: BufferSize) -> &mut BufferSource {
        match size {
            BufferSize::Usual => &mut self.usual,
            BufferSize::Large => &mut self.large,
        }
    }

    pub(super) fn arm_receive(&mut self, id: SocketId) {
        if let Some(size) = self.slots.open(id).and_then(|slot| slot.next_receive) {
            self.arm(id, size, false);
        }
    }

    /// Submits the next receive of a socket that is not paused: of one buffer, or of one after the other until none is available.
    fn arm(&mut self, id: SocketId, size: BufferSize, once: bool) {
        let may_arm = |slot: &&mut Slot| slot.receive == Receive::Idle && slot.next_receive.is_some();
        let Some(slot) = self.slots.open(id).filter(may_arm) else { return };
        slot.receive = Receive::Armed(size);
        let descriptor = types::Fixed(id.index);
        let receive = if once || size == BufferSize::Large {
            let receive = opcode::Recv::new(descriptor, ptr::null_mut(), 0).buf_group(size.group()).build();
            receive.flags(squeue::Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(descriptor, size.group()).build()
        };
        self.push(receive, Tag::new(Kind::Receive, id.index, id.generation));
    }

    pub(super) fn cancel_receive(&mut self, id: SocketId) {
        let Some(slot) = self.slots.get(id).filter(|slot| matches!(slot.receive, Receive::Armed(_))) else {
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
        let buffer = cqueue::buffer_select(flags)
            .map(|buffer| self.buffers_of(BufferSize::of(buffer)).pool.take(buffer, length));
        let is_full = buffer.as_ref().is_some_and(ReceivedBuffer::is_full);
        let in_a_row = self.count_received(id);
        let last = !cqueue::more(flags);
        if result > 0 && !self.hand_overs.is_empty() {
            self.keep(id, events);
        }
        let Some(slot) = self.slots.get(id) else { return };
        let open = slot.state == SlotState::Open;
        let armed = match slot.receive {
            Receive::Armed(size) => size,
            Receive::Idle | Receive::Cancelling | Receive::Ended => BufferSize::Usual,
        };
        if last {
            slot.receive = match -result {
                0 => Receive::Ended,
                ..0 | libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN => Receive::Idle,
                _ => Receive::Ended,
            };
        }
        let (next, group) = (slot.next_receive, slot.group);
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
        let Some(least) = next.filter(|_| open && !ended) else { return };
        if !last {
            if in_a_row >= BUFFERS_PER_RECEIVE && self.has_starved() {
                // The rest of its bytes waits like those of the others.
                self.cancel_receive(id);
            }
            return;
        }
        let size = match -result {
            libc::ENOBUFS => {
                self.buffers_of(armed).report_lack();
                armed
            }
            // There are more bytes, which take fewer turns in large buffers.
            libc::ECANCELED => BufferSize::Large,
            ..0 if is_full => BufferSize::Large,
            // After a receive of one buffer, others may wait for the next one.
            ..0 => BufferSize::Usual,
            _ => return self.arm_receive(id),
        };
        self.buffers_of(size.max(least)).starved.push(id, group);
    }

    /// Counts a completion of a socket's receive. Returns how many there were in this turn one after the other.
    fn count_received(&mut self, id: SocketId) -> usize {
        let (socket, completions) = &mut self.last_received;
        *completions = if *socket == id { *completions + 1 } else { 1 };
        *socket = id;
        *completions
    }
}
