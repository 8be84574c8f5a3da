//! Handing sockets over to other rings: `IORING_OP_MSG_RING` with `IORING_MSG_SEND_FD` installs a direct descriptor in another
//! ring's table, and posts a completion there.
//!
//! A socket leaves between two receives: the armed receive is cancelled, a send in flight completes, and bytes that arrive before
//! that keep the socket here. Bytes that arrive later stay in the kernel's buffer until the other ring receives them. On success the
//! descriptor of this ring is closed; the connection remains open, because the other ring has one.

use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{opcode, types};

use super::{
    buffers::BufferSize,
    event::{Arrival, Event},
    hand_overs::{HandOver, RingHandle},
    operation::{Kind, Tag},
    ring::Ring,
    slots::{ListenerId, Receive, Slot, SlotState, SocketId},
};

impl Ring {
    /// A handle with which other rings hand sockets over to this one. `None` if the kernel cannot, or no file descriptor is left.
    #[must_use]
    pub fn handle(&self) -> Option<RingHandle> {
        if !self.can_hand_over {
            return None;
        }
        // SAFETY: the descriptor is open as long as `self.ring`, which is borrowed during the call.
        let ring = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        Some(RingHandle::new(ring.try_clone_to_owned().ok()?))
    }

    /// Hands a socket over to another ring, where [`Event::Accepted`] with this listener and arrival follows. Here
    /// [`Event::HandedOver`] follows, or [`Event::HandOverFailed`] if bytes have arrived before the socket could leave, or the other
    /// ring has no slot or has ended. Returns `false` if the socket is not open, its peer has closed, or it is leaving already.
    pub fn hand_over(
        &mut self,
        id: SocketId,
        to: &RingHandle,
        listener: ListenerId,
        arrival: Arrival,
    ) -> bool {
        let is_leaving = self.hand_overs.contains_key(&id);
        let can_leave = |slot: &&mut Slot| !is_leaving && slot.receive != Receive::Ended;
        let Some(slot) = self.slots.open(id).filter(can_leave) else { return false };
        slot.next_receive = None;
        let user_data = Tag::new(Kind::Arrived, listener.0.into(), arrival as u32).user_data();
        self.hand_overs.insert(id, HandOver { to: to.clone(), user_data, closes: false });
        self.cancel_receive(id);
        self.advance_hand_over(id, &mut Vec::new());
        true
    }

    /// Keeps a socket that waits for its last operations before it leaves; no event follows. Returns `false` if the socket is not leaving,
    /// or is on its way.
    pub fn cancel_hand_over(&mut self, id: SocketId) -> bool {
        let Some(slot) = self.slots.open(id).filter(|_| self.hand_overs.remove(&id).is_some()) else {
            return false;
        };
        slot.next_receive = Some(BufferSize::Usual);
        self.arm_receive(id);
        true
    }

    /// Submits the operation of a leaving socket once no other one is under way.
    pub(super) fn advance_hand_over(&mut self, id: SocketId, events: &mut Vec<Event>) {
        let Some(HandOver { to, user_data, .. }) = self.hand_overs.get(&id) else { return };
        let Some(slot) = self.slots.open(id) else { return };
        match slot.receive {
            Receive::Armed(_) | Receive::Cancelling => {}
            Receive::Ended => self.keep(id, events),
            Receive::Idle if slot.is_quiet() => {
                slot.state = SlotState::Leaving;
                let (ring, slot) = (types::Fd(to.descriptor()), types::Fixed(id.index));
                let any = types::DestinationSlot::auto_target();
                let entry = opcode::MsgRingSendFd::new(ring, slot, any, *user_data).build();
                self.push(entry, Tag::new(Kind::HandOver, id.index, id.generation));
            }
            Receive::Idle => {}
        }
    }

    /// Keeps a leaving socket whose operation has not been submitted.
    pub(super) fn keep(&mut self, id: SocketId, events: &mut Vec<Event>) {
        if self.cancel_hand_over(id) {
            events.push(Event::HandOverFailed { socket: id });
        }
    }

    pub(super) fn complete_hand_over(&mut self, id: SocketId, result: i32, events: &mut Vec<Event>) {
        let Some(HandOver { closes, .. }) = self.hand_overs.remove(&id) else { return };
        let Some(slot) = self.slots.get(id) else { return };
        debug_assert_eq!(slot.state, SlotState::Leaving);
        let has_left = result >= 0;
        events.push(if has_left {
            Event::HandedOver { socket: id }
        } else {
            Event::HandOverFailed { socket: id }
        });
        if has_left || closes {
            slot.state = SlotState::Closing;
            self.submit_close(id);
        } else {
            slot.state = SlotState::Open;
            slot.next_receive = Some(BufferSize::Usual);
            self.arm_receive(id);
        }
    }

    /// Reports a socket that another ring has handed over; `result` is its slot.
    pub(super) fn complete_arrival(&mut self, tag: Tag, result: i32, events: &mut Vec<Event>) {
        if let (Ok(slot), Ok(listener)) = (u32::try_from(result), u16::try_from(tag.index)) {
            let arrival =
                if tag.generation == Arrival::Moved as u32 { Arrival::Moved } else { Arrival::HandedOver };
            self.accept_from_peer(ListenerId(listener), slot, arrival, events);
        }
    }
}
