//! Connections of this side that are under way.

use std::{os::fd::OwnedFd, sync::atomic::AtomicI32};

use socket2::SockAddr;

/// Connections on their way, by the number their operations carry.
#[derive(Default)]
pub(super) struct Dials {
    pub(super) dials: Vec<Option<Dial>>,
    pub(super) free: Vec<u32>,
}

pub(super) struct Dial {
    /// The owner's name for it.
    pub(super) token: u64,
    /// Kept until the table has it; closed then, for the table keeps the socket open.
    pub(super) descriptor: Option<OwnedFd>,
    /// The descriptor's number going in, the slot's coming out: the kernel reads and writes it.
    pub(super) place: Box<AtomicI32>,
    /// The kernel reads it while the connect is under way. `None`: the socket is connected already.
    pub(super) address: Option<Box<SockAddr>>,
}

impl Dials {
    pub(super) fn insert(&mut self, dial: Dial) -> u32 {
        if let Some(key) = self.free.pop()
            && let Some(place) = self.dials.get_mut(key as usize)
        {
            *place = Some(dial);
            return key;
        }
        self.dials.push(Some(dial));
        u32::try_from(self.dials.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn get_mut(&mut self, key: u32) -> Option<&mut Dial> {
        self.dials.get_mut(key as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, key: u32) -> Option<Dial> {
        let dial = self.dials.get_mut(key as usize)?.take()?;
        self.free.push(key);
        Some(dial)
    }
}
