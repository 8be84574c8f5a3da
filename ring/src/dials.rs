//! Table of pending connects and of sockets on their way to the table of direct descriptors.

use std::{os::fd::OwnedFd, sync::atomic::AtomicI32};

use socket2::SockAddr;

use super::{peer::PeerAddress, slots::ListenerId};

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
    /// The listener that has accepted the socket, and its peer. `None` if the owner connected or adopted it.
    pub(super) accepted: Option<(ListenerId, Option<PeerAddress>)>,
}

impl Dials {
    pub(super) fn insert(&mut self, dial: Dial) -> u32 {
        if let Some(key) = self.free.pop()
            && let Some(entry) = self.dials.get_mut(key as usize)
        {
            debug_assert!(entry.is_none(), "key {key} is in use");
            *entry = Some(dial);
            return key;
        }
        self.dials.push(Some(dial));
        u32::try_from(self.dials.len() - 1).unwrap_or(u32::MAX)
    }

    /// Whether an entry is pending.
    pub(super) fn are_under_way(&self) -> bool {
        self.free.len() < self.dials.len()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(token: u64) -> Dial {
        Dial { token, descriptor: None, number: Box::default(), address: None, accepted: None }
    }

    #[test]
    fn key_is_reused_after_its_dial_was_removed() {
        let mut dials = Dials::default();
        assert_eq!((dials.insert(dial(1)), dials.insert(dial(2))), (0, 1));
        assert!(dials.remove(0).is_some_and(|dial| dial.token == 1));
        assert!(dials.remove(0).is_none());
        assert_eq!(dials.insert(dial(3)), 0);
        assert!(dials.get_mut(0).is_some_and(|dial| dial.token == 3));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "key 0 is in use")]
    fn free_key_with_a_dial_panics() {
        let mut dials = Dials::default();
        let key = dials.insert(dial(1));
        dials.free.push(key);
        dials.insert(dial(2));
    }
}
