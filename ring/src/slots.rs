//! The slot table: what this side knows of each direct descriptor, and of each listener.

use super::operation::GENERATION_MASK;

/// Names one tenant of one slot. A stale id is refused everywhere, so it can be kept without care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl SocketId {
    /// The slot's position: dense, reused after [`super::Event::Closed`], fit for indexing a slab.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Names one listener of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerId(pub(super) u32);

impl ListenerId {
    /// The listener's position in the order of [`super::Ring::listen`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The ring did not take the buffer: the socket is gone or closing, or a send is already in flight.
#[derive(Debug)]
pub struct Refused(pub Vec<u8>);

/// Where a slot's tenant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenancy {
    Vacant,
    Open,
    /// `close` was called; waiting for the receive's and the send's final completions.
    Closing,
    /// The close itself is with the kernel.
    CloseSubmitted,
}

/// Where a slot's multishot receive stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    /// Not with the kernel; may be armed.
    Idle,
    Armed,
    /// A cancel is under way; the final completion is still to come.
    Cancelling,
    /// End of stream or an error: nothing will ever come again.
    Ended,
}

/// A send the kernel has not finished with.
pub(super) struct InFlight {
    pub(super) buffer: Vec<u8>,
    pub(super) sent: usize,
}

pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) tenancy: Tenancy,
    pub(super) receive: Receive,
    /// Whether the owner wants to receive: decides if an ended multishot is armed again.
    pub(super) receive_wanted: bool,
    pub(super) send: Option<InFlight>,
    /// Shutdowns with the kernel. They run on a worker thread, so a close must wait for them.
    pub(super) shutdowns: u8,
}

const _: () = assert!(size_of::<Slot>() <= 48);

impl Slot {
    fn vacant() -> Self {
        Self {
            generation: 0,
            tenancy: Tenancy::Vacant,
            receive: Receive::Idle,
            receive_wanted: false,
            send: None,
            shutdowns: 0,
        }
    }

    /// No operation of this tenant is with the kernel, so the descriptor may be closed.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.receive, Receive::Idle | Receive::Ended) && self.send.is_none() && self.shutdowns == 0
    }
}

/// All slots of a ring, by direct descriptor.
pub(super) struct SlotTable {
    slots: Vec<Slot>,
    tenants: usize,
}

impl SlotTable {
    /// Room for `sockets_max` slots, set aside at once: growing would copy the table and leave its old places
    /// behind. Pages are only taken as slots are used.
    pub(super) fn new(sockets_max: u32) -> Self {
        Self { slots: Vec::with_capacity(sockets_max as usize), tenants: 0 }
    }

    pub(super) fn tenants(&self) -> usize {
        self.tenants
    }

    /// The slot, if `id` still is its tenant.
    pub(super) fn tenant(&mut self, id: SocketId) -> Option<&mut Slot> {
        self.slots
            .get_mut(id.index())
            .filter(|slot| slot.generation == id.generation && slot.tenancy != Tenancy::Vacant)
    }

    /// The slot, if `id` is its tenant and has not been closed.
    pub(super) fn open(&mut self, id: SocketId) -> Option<&mut Slot> {
        self.tenant(id).filter(|slot| slot.tenancy == Tenancy::Open)
    }

    /// Everybody who has not been closed.
    pub(super) fn open_ids(&self) -> Vec<SocketId> {
        let slots = (0..).zip(&self.slots);
        let open = slots.filter(|(_, slot)| slot.tenancy == Tenancy::Open);
        open.map(|(index, slot)| SocketId { index, generation: slot.generation }).collect()
    }

    /// Gives the slot a new tenant. If a close was with the kernel, the kernel's reuse of the slot tells that it
    /// has happened although its completion is still to come: the evicted tenant is returned.
    ///
    /// # Panics
    /// When the slot has a tenant that was not being closed: two connections would share one descriptor.
    pub(super) fn occupy(&mut self, index: u32) -> (SocketId, Option<SocketId>) {
        let position = index as usize;
        if position >= self.slots.len() {
            self.slots.resize_with(position + 1, Slot::vacant);
        }
        let evicted = match self.slots.get(position) {
            Some(slot) if slot.tenancy == Tenancy::CloseSubmitted => {
                let id = SocketId { index, generation: slot.generation };
                self.vacate(id);
                Some(id)
            }
            _ => None,
        };
        self.tenants += 1;
        let mut generation = 0;
        if let Some(slot) = self.slots.get_mut(position) {
            assert_eq!(slot.tenancy, Tenancy::Vacant, "the kernel gave out a slot in use");
            assert!(slot.is_quiet(), "operations of the last tenant are under way");
            slot.tenancy = Tenancy::Open;
            slot.receive = Receive::Idle;
            slot.receive_wanted = true;
            generation = slot.generation;
        }
        (SocketId { index, generation }, evicted)
    }

    /// Ends a tenancy; `false` if `id` was not the tenant.
    pub(super) fn vacate(&mut self, id: SocketId) -> bool {
        let Some(slot) = self.tenant(id) else { return false };
        slot.tenancy = Tenancy::Vacant;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.tenants -= 1;
        true
    }

    /// Buffers the kernel may still read from.
    pub(super) fn take_in_flight(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.slots.iter_mut().filter_map(|slot| slot.send.take()).map(|send| send.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_never_reaches_the_next_tenant() {
        let mut table = SlotTable::new(8);
        let (first, _) = table.occupy(3);
        assert!(table.open(first).is_some());
        assert!(table.vacate(first));
        assert!(table.tenant(first).is_none());
        let (second, evicted) = table.occupy(3);
        assert_eq!(evicted, None);
        assert_ne!(first, second);
        assert!(table.open(first).is_none());
        assert!(table.open(second).is_some());
        assert!(!table.vacate(first), "a second close completion changes nothing");
        assert_eq!(table.tenants(), 1);
    }

    #[test]
    #[should_panic(expected = "the kernel gave out a slot in use")]
    fn second_tenant_of_an_open_slot_panics() {
        let mut table = SlotTable::new(8);
        table.occupy(3);
        table.occupy(3);
    }

    #[test]
    fn a_slot_reused_before_its_close_completes_evicts_the_old_tenant() {
        let mut table = SlotTable::new(8);
        let (first, _) = table.occupy(0);
        table.tenant(first).unwrap().tenancy = Tenancy::CloseSubmitted;
        let (second, evicted) = table.occupy(0);
        assert_eq!(evicted, Some(first));
        assert!(table.open(second).is_some());
        assert_eq!(table.tenants(), 1);
    }
}
