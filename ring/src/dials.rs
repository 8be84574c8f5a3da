//! Table of pending connects.

use std::{os::fd::OwnedFd, sync::atomic::AtomicI32};

use socket2::SockAddr;

/// Pending connects, by the key in their operations' user data. A free key has no entry.
#[derive(Default)]
pub(super) struct Dials {
    pub(super) dials: Vec<Option<Dial>>,
    pub(super) free: Vec<u32>,
}

pub(super) struct Dial {
    /// The owner's token.
    pub(super) token: u64,
    /// The file descriptor, closed once the socket is in the table of direct descriptors.
    pub(super) descriptor: Option<OwnedFd>,
    /// The file descriptor's number, which the kernel replaces by the slot's index.
    pub(super) number: Box<AtomicI32>,
    /// The peer's address, which the kernel reads until the connect completes. `None` if the socket is connected already.
    pub(super) address: Option<Box<SockAddr>>,
}

impl Dials {
    pub(super) fn insert(&mut self, dial: Dial) -> u32 {
        if let Some(key) = self.free.pop()
            && let Some(entry) = self.dials.get_mut(key as usize)
        {
            *entry = Some(dial);
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
