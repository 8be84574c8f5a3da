//! Connecting sockets, and adopting connected ones: a file descriptor becomes a direct descriptor. The server adopts the socket that
//! bridges stdio; the load generator connects.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::{AtomicI32, Ordering},
};

use io_uring::{opcode, types};
use socket2::{SockAddr, Socket};

use super::{
    dials::Dial,
    event::{Arrival, Event, os_error},
    operation::{Kind, Tag},
    peer::PeerAddress,
    ring::Ring,
    slots::ListenerId,
};

/// Makes the kernel choose the slot: `IORING_FILE_INDEX_ALLOC`.
const ANY_SLOT: i32 = -1;

impl Ring {
    /// Connects a socket, whose options and local address the caller has set. The socket then uses no file descriptor.
    /// [`Event::Connected`] or [`Event::ConnectFailed`] with `token` follows.
    pub fn connect(&mut self, socket: Socket, address: SockAddr, token: u64) {
        self.install(OwnedFd::from(socket), Some(address), token, None);
    }

    /// Cancels the pending connects with this token. [`Event::ConnectFailed`] with `ECANCELED` follows, unless the connect completes
    /// first.
    pub fn cancel_connect(&mut self, token: u64) {
        let dials = self.dials.dials.iter().zip(0..);
        let has_token = |dial: &Option<Dial>| dial.as_ref().is_some_and(|dial| dial.token == token);
        let keys: Vec<u32> = dials.filter(|(dial, _)| has_token(dial)).map(|(_, key)| key).collect();
        for key in keys {
            let connect = Tag::new(Kind::Connect, key, 0).user_data();
            self.push(opcode::AsyncCancel::new(connect).build(), Tag::new(Kind::Cancel, u32::MAX, 0));
        }
    }

    /// Takes ownership of a connected socket, which then uses no file descriptor. [`Event::Connected`] or
    /// [`Event::ConnectFailed`] with `token` follows.
    pub fn adopt(&mut self, socket: OwnedFd, token: u64) {
        self.install(socket, None, token, None);
    }

    /// Takes ownership of a connection that was accepted without the ring. [`Event::Accepted`] or [`Event::AcceptFailed`] follows.
    pub(super) fn install_accepted(
        &mut self,
        socket: OwnedFd,
        listener: ListenerId,
        peer: Option<PeerAddress>,
    ) {
        self.install(socket, None, 0, Some((listener, peer)));
    }

    fn install(
        &mut self,
        descriptor: OwnedFd,
        address: Option<SockAddr>,
        token: u64,
        accepted: Option<(ListenerId, Option<PeerAddress>)>,
    ) {
        let number = Box::new(AtomicI32::new(descriptor.as_raw_fd()));
        let pointer = number.as_ptr().cast_const();
        let address = address.map(Box::new);
        let dial = Dial { token, descriptor: Some(descriptor), number, address, accepted };
        let key = self.dials.insert(dial);
        let install = opcode::FilesUpdate::new(pointer, 1).offset(ANY_SLOT).build();
        self.push(install, Tag::new(Kind::Install, key, 0));
    }

    pub(super) fn complete_install(&mut self, key: u32, result: i32, events: &mut Vec<Event>) {
        let Some(dial) = self.dials.get_mut(key) else { return };
        dial.descriptor = None;
        let slot = u32::try_from(dial.number.load(Ordering::Acquire)).ok().filter(|_| result == 1);
        let Some(slot) = slot else {
            self.fail_dial(key, result.min(-1), events);
            return;
        };
        let Some(address) = &dial.address else {
            self.complete_connect(key, 0, events);
            return;
        };
        let (address, length) = (address.as_ptr(), address.len());
        let connect = opcode::Connect::new(types::Fixed(slot), address.cast(), length).build();
        self.push(connect, Tag::new(Kind::Connect, key, 0));
    }

    pub(super) fn complete_connect(&mut self, key: u32, result: i32, events: &mut Vec<Event>) {
        let Some(dial) = self.dials.get_mut(key) else { return };
        let Ok(slot) = u32::try_from(dial.number.load(Ordering::Acquire)) else { return };
        if result < 0 {
            // The owner has not received an event for the slot, so its close produces none either.
            let discard = opcode::Close::new(types::Fixed(slot)).build();
            self.push(discard, Tag::new(Kind::Discard, slot, 0));
            self.fail_dial(key, result, events);
            return;
        }
        let Some(Dial { token, accepted, .. }) = self.dials.remove(key) else { return };
        match accepted {
            Some((listener, peer)) => self.report_accepted(listener, slot, Arrival::Accepted, peer, events),
            None => {
                let socket = self.admit(slot, events);
                self.arm_receive(socket);
                events.push(Event::Connected { token, socket });
            }
        }
    }

    fn fail_dial(&mut self, key: u32, result: i32, events: &mut Vec<Event>) {
        if let Some(Dial { token, accepted, .. }) = self.dials.remove(key) {
            let error = os_error(result);
            events.push(match accepted {
                Some((listener, _)) => Event::AcceptFailed { listener, error },
                None => Event::ConnectFailed { token, error },
            });
        }
    }

    /// Leaks the memory of pending connects, which the kernel may still access.
    pub(super) fn forget_dials(&mut self) {
        std::mem::forget(std::mem::take(&mut self.dials));
    }
}
