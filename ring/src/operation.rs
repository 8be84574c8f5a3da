//! Encoding of an operation's identity in the 64 bits of `user_data`: kind, slot and generation.

/// Kind of an operation. The value is the top byte of `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Receive = 2,
    Send = 3,
    ShutdownWrite = 4,
    ShutdownBoth = 5,
    Cancel = 6,
    Close = 7,
    Timer = 8,
    /// Poll of the eventfd that other threads write to.
    Woken = 10,
    /// Installation of a file descriptor in the table of direct descriptors.
    Install = 11,
    Connect = 12,
    /// Close of a slot that was never reported to the owner.
    Discard = 13,
    /// The query for the address of an accepted connection's peer.
    PeerName = 14,
    /// The query for the bytes that a socket's peer has not acknowledged.
    Unacknowledged = 15,
    /// Sending of a direct descriptor to another ring.
    HandOver = 16,
    /// Completion that another ring has posted: a direct descriptor has arrived. The index is a listener, the generation an arrival.
    Arrived = 17,
}

impl Kind {
    fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            1 => Self::Accept,
            2 => Self::Receive,
            3 => Self::Send,
            4 => Self::ShutdownWrite,
            5 => Self::ShutdownBoth,
            6 => Self::Cancel,
            7 => Self::Close,
            8 => Self::Timer,
            10 => Self::Woken,
            11 => Self::Install,
            12 => Self::Connect,
            13 => Self::Discard,
            14 => Self::PeerName,
            15 => Self::Unacknowledged,
            16 => Self::HandOver,
            17 => Self::Arrived,
            _ => return None,
        })
    }
}

/// Mask of a generation: bits 32 to 55 of `user_data`. Generations wrap.
pub(super) const GENERATION_MASK: u32 = 0x00ff_ffff;

/// Identity of an operation: `kind` (8 bits), `generation` (24 bits), `index` (32 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: Kind,
    pub(super) generation: u32,
    pub(super) index: u32,
}

impl Tag {
    pub(super) fn new(kind: Kind, index: u32, generation: u32) -> Self {
        Self { kind, generation: generation & GENERATION_MASK, index }
    }

    pub(super) fn user_data(self) -> u64 {
        (u64::from(self.kind as u8) << 56) | (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    /// Decodes `user_data`; `None` if no operation of the ring has it.
    pub(super) fn from_user_data(bits: u64) -> Option<Self> {
        let generation = u32::try_from((bits >> 32) & u64::from(GENERATION_MASK)).ok()?;
        let index = u32::try_from(bits & u64::from(u32::MAX)).ok()?;
        Some(Self { kind: Kind::from_bits(bits >> 56)?, generation, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_round_trips_through_user_data() {
        for kind in (1..=17).filter(|kind| *kind != 9) {
            let kind = Kind::from_bits(kind).unwrap();
            let tag = Tag::new(kind, u32::MAX, 0x1234_5678);
            assert_eq!(tag.generation, 0x34_5678);
            assert_eq!(Tag::from_user_data(tag.user_data()), Some(tag));
        }
        assert_eq!(Tag::from_user_data(u64::MAX), None);
        assert_eq!(Tag::from_user_data(0), None);
    }
}
