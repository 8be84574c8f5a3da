//! Table of slots: the state of each direct descriptor.

use super::{buffers::BufferSize, operation::GENERATION_MASK};

/// Id of a socket: a slot and its generation. Every function rejects a stale id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl SocketId {
    /// Index of the slot: small, reused after [`super::Event::Closed`], suitable for indexing a slab.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Id of a listener of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerId(pub(super) u16);

impl ListenerId {
    /// Index of the listener, in the order of [`super::Ring::listen`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A buffer that was not sent, because the socket is closed or closing, or has a send in flight.
#[derive(Debug)]
pub struct Refused(pub Vec<u8>);

/// State of a slot's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    Vacant,
    Open,
    /// Being handed over to another ring; no other operation is submitted.
    Leaving,
    /// `close` was called; waiting for the final completions of the receive and the send.
    Closing,
    /// The close has been submitted.
    CloseSubmitted,
}

/// State of a slot's receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    /// Not submitted; may be armed.
    Idle,
    /// Submitted, into buffers of this size.
    Armed(BufferSize),
    /// Being cancelled, without its final completion.
    Cancelling,
    /// Ended by the end of the stream or an error.
    Ended,
}

/// A send that has not completed.
pub(super) struct InFlight {
    pub(super) buffer: Vec<u8>,
    /// Bytes of the buffer that the kernel has taken over.
    pub(super) sent: usize,
}

pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) state: SlotState,
    pub(super) receive: Receive,
    /// The least size of the buffers of the receive that follows one that has ended; `None` while the socket is paused, leaving or
    /// closing.
    pub(super) next_receive: Option<BufferSize>,
    pub(super) send: Option<InFlight>,
    /// The sockets with which this one shares its part of the buffers.
    pub(super) group: u64,
    /// Number of submitted shutdowns. The kernel runs them on a worker thread, so a close must wait for them.
    pub(super) shutdowns: u8,
}

const _: () = assert!(size_of::<Slot>() <= 48);

impl Slot {
    fn vacant() -> Self {
        Self {
            generation: 0,
            state: SlotState::Vacant,
            receive: Receive::Idle,
            next_receive: None,
            send: None,
            group: 0,
            shutdowns: 0,
        }
    }

    /// Whether no operation of the socket is submitted, so that its descriptor may be closed.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.receive, Receive::Idle | Receive::Ended) && self.send.is_none() && self.shutdowns == 0
    }
}

/// Slots of a ring, by direct descriptor. Only a quiet slot becomes vacant: operations never outlive their socket.
pub(super) struct SlotTable {
    slots: Vec<Slot>,
    occupied: usize,
}

impl SlotTable {
    /// Creates a table with capacity for `sockets_max` slots, because growing it would copy the slots and fragment the memory. Pages are
    /// allocated as slots are used.
    pub(super) fn new(sockets_max: u32) -> Self {
        Self { slots: Vec::with_capacity(sockets_max as usize), occupied: 0 }
    }

    pub(super) fn occupied(&self) -> usize {
        self.occupied
    }

    /// The slot of `id`, unless `id` is stale.
    pub(super) fn get(&mut self, id: SocketId) -> Option<&mut Slot> {
        self.slots
            .get_mut(id.index())
            .filter(|slot| slot.generation == id.generation && slot.state != SlotState::Vacant)
    }

    /// The slot of `id`, if its socket is open.
    pub(super) fn open(&mut self, id: SocketId) -> Option<&mut Slot> {
        self.get(id).filter(|slot| slot.state == SlotState::Open)
    }

    /// Ids of all open sockets.
    pub(super) fn open_ids(&self) -> Vec<SocketId> {
        let slots = (0..).zip(&self.slots);
        let open = slots.filter(|(_, slot)| slot.state == SlotState::Open);
        open.map(|(index, slot)| SocketId { index, generation: slot.generation }).collect()
    }

    /// Creates the socket of a slot. If a close was submitted, the kernel's reuse of the slot implies that it has been executed, although
    /// its completion has not been reaped; then the id of the closed socket is returned too.
    ///
    /// # Panics
    /// The slot has a socket that was not being closed, so two connections would share one descriptor; or operations of the closed
    /// socket are submitted.
    pub(super) fn occupy(&mut self, index: u32) -> (SocketId, Option<SocketId>) {
        let position = index as usize;
        if position >= self.slots.len() {
            self.slots.resize_with(position + 1, Slot::vacant);
        }
        let evicted = match self.slots.get(position) {
            Some(slot) if slot.state == SlotState::CloseSubmitted => {
                let id = SocketId { index, generation: slot.generation };
                self.vacate(id);
                Some(id)
            }
            _ => None,
        };
        self.occupied += 1;
        let mut generation = 0;
        if let Some(slot) = self.slots.get_mut(position) {
            assert_eq!(slot.state, SlotState::Vacant, "the kernel reused a slot in use");
            assert!(slot.is_quiet(), "operations of the last socket are submitted");
            slot.state = SlotState::Open;
            slot.receive = Receive::Idle;
            slot.next_receive = Some(BufferSize::Usual);
            slot.group = 0;
            generation = slot.generation;
        }
        (SocketId { index, generation }, evicted)
    }

    /// Makes the slot of `id` vacant. Returns `false` if `id` is stale.
    pub(super) fn vacate(&mut self, id: SocketId) -> bool {
        let Some(slot) = self.get(id) else { return false };
        debug_assert!(slot.is_quiet(), "operations of the socket are submitted");
        slot.state = SlotState::Vacant;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.occupied -= 1;
        true
    }

    /// Removes the buffers of sends that have not completed.
    pub(super) fn take_in_flight(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.slots.iter_mut().filter_map(|slot| slot.send.take()).map(|send| send.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_id_is_rejected() {
        let mut table = SlotTable::new(8);
        let (first, _) = table.occupy(3);
        assert!(table.open(first).is_some());
        assert!(table.vacate(first));
        assert!(table.get(first).is_none());
        let (second, evicted) = table.occupy(3);
        assert_eq!(evicted, None);
        assert_ne!(first, second);
        assert!(table.open(first).is_none());
        assert!(table.open(second).is_some());
        assert!(!table.vacate(first), "a second close completion has no effect");
        assert_eq!(table.occupied(), 1);
    }

    #[test]
    #[should_panic(expected = "the kernel reused a slot in use")]
    fn open_slot_reused_panics() {
        let mut table = SlotTable::new(8);
        table.occupy(3);
        table.occupy(3);
    }

    #[test]
    #[should_panic(expected = "operations of the last socket are submitted")]
    fn slot_reused_during_an_operation_panics() {
        let mut table = SlotTable::new(8);
        let (socket, _) = table.occupy(3);
        table.vacate(socket);
        table.slots[3].receive = Receive::Armed(BufferSize::Usual);
        table.occupy(3);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "operations of the socket are submitted")]
    fn slot_vacated_during_a_send_panics() {
        let mut table = SlotTable::new(8);
        let (socket, _) = table.occupy(3);
        table.get(socket).unwrap().send = Some(InFlight { buffer: Vec::new(), sent: 0 });
        table.vacate(socket);
    }

    #[test]
    fn slot_reused_before_its_close_completes_returns_the_closed_socket() {
        let mut table = SlotTable::new(8);
        let (first, _) = table.occupy(0);
        table.get(first).unwrap().state = SlotState::CloseSubmitted;
        let (second, evicted) = table.occupy(0);
        assert_eq!(evicted, Some(first));
        assert!(table.open(second).is_some());
        assert_eq!(table.occupied(), 1);
    }
}
