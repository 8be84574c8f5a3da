//! Queries for the addresses of peers: those that are under way, and their entries.

use std::{
    cell::UnsafeCell,
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::AtomicI32,
};

use io_uring::{IoUring, opcode, squeue, types};
use socket2::{Domain, SockRef, Socket, Type};

use super::{
    enter::ignore_transient,
    event::Arrival,
    peer::{PeerAddress, V4_BYTES, V6_BYTES},
    slots::ListenerId,
};

/// `SOCKET_URING_OP_SIOCOUTQ`, `SOCKET_URING_OP_GETSOCKOPT` and `SOCKET_URING_OP_SETSOCKOPT` of Linux's `io_uring.h`.
const GET_OUTPUT_QUEUE: u32 = 1;
const GET_SOCKET_OPTION: u32 = 2;
const SET_SOCKET_OPTION: u32 = 3;

/// The offset of `cmd_op` in `struct io_uring_sqe`, in bytes.
const COMMAND_OFFSET: usize = 8;

const _: () = assert!(size_of::<squeue::Entry>() == 64 && align_of::<squeue::Entry>() >= align_of::<u32>());

const SOL_SOCKET: u32 = libc::SOL_SOCKET.unsigned_abs();
const SO_PEERNAME: u32 = libc::SO_PEERNAME.unsigned_abs();
const SO_TYPE: u32 = libc::SO_TYPE.unsigned_abs();

/// Length of the addresses of a listener's peers in bytes, as the kernel returns them; 0 for peers that have none (Unix sockets).
pub(super) fn name_bytes_of(listener: &OwnedFd) -> usize {
    match SockRef::from(listener).domain() {
        Ok(Domain::IPV4) => V4_BYTES,
        Ok(Domain::IPV6) => V6_BYTES,
        _ => 0,
    }
}

/// A query under way. The kernel writes to the name until the query's completion.
struct Query {
    name: Box<UnsafeCell<[u8; V6_BYTES]>>,
    name_bytes: usize,
    connection: Connection,
}

/// An accepted connection: its listener, its direct descriptor, and how it has arrived.
pub(super) type Connection = (ListenerId, u32, Arrival);

/// Queries by the number that their operations carry. As many as have been under way at one time are kept for reuse.
#[derive(Default)]
pub(super) struct PeerQueries {
    /// The kernel can be queried.
    pub(super) supported: bool,
    queries: Vec<Query>,
    free: Vec<u32>,
}

impl PeerQueries {
    pub(super) fn new(supported: bool) -> Self {
        Self { supported, ..Self::default() }
    }

    /// Whether a query has not completed.
    pub(super) fn are_under_way(&self) -> bool {
        self.free.len() < self.queries.len()
    }

    /// Returns the query's number, and where the kernel may write `name_bytes` until [`Self::finish`].
    pub(super) fn begin(&mut self, connection: Connection, name_bytes: usize) -> (u32, *mut [u8; V6_BYTES]) {
        let reused = self.free.pop().and_then(|key| Some((key, self.queries.get_mut(key as usize)?)));
        if let Some((key, query)) = reused {
            (query.connection, query.name_bytes) = (connection, name_bytes);
            return (key, query.name.get());
        }
        let name = Box::new(UnsafeCell::new([0; V6_BYTES]));
        let place = name.get();
        self.queries.push(Query { name, name_bytes, connection });
        (u32::try_from(self.queries.len() - 1).unwrap_or(u32::MAX), place)
    }

    /// The connection and the peer of a query whose completion has this result.
    pub(super) fn finish(&mut self, key: u32, result: i32) -> Option<(Connection, Option<PeerAddress>)> {
        let query = self.queries.get_mut(key as usize)?;
        self.free.push(key);
        let name = query.name.get_mut();
        let name = name.get(..query.name_bytes).filter(|name| usize::try_from(result) == Ok(name.len()));
        Some((query.connection, name.and_then(PeerAddress::from_socket_name)))
    }
}

/// The entry that has the kernel write the address of the peer of a direct descriptor to `name`.
pub(super) fn name_query(slot: u32, name: *mut [u8; V6_BYTES], name_bytes: usize) -> squeue::Entry {
    let length = u32::try_from(name_bytes).unwrap_or(0);
    let name = name.cast_const().cast();
    into_query(opcode::SetSockOpt::new(types::Fixed(slot), SOL_SOCKET, SO_PEERNAME, name, length).build())
}

/// The entry whose result is the number of bytes that were sent on a direct descriptor and not acknowledged (`SIOCOUTQ` of tcp(7)).
/// The kernel accesses no memory for it.
pub(super) fn queue_query(slot: u32) -> squeue::Entry {
    let set = opcode::SetSockOpt::new(types::Fixed(slot), 0, 0, std::ptr::null(), 0).build();
    with_command(set, GET_OUTPUT_QUEUE)
}

/// Turns an entry that sets a socket option into the one that gets it: the crate has no opcode for this, and the two differ in
/// their command only. The value's memory must be writable, and must live until the completion.
fn into_query(set: squeue::Entry) -> squeue::Entry {
    with_command(set, GET_SOCKET_OPTION)
}

/// Replaces the command of an entry that sets a socket option.
fn with_command(mut set: squeue::Entry, with: u32) -> squeue::Entry {
    let command = (&raw mut set).cast::<u8>().wrapping_add(COMMAND_OFFSET).cast::<u32>();
    // SAFETY: an entry is the kernel's `struct io_uring_sqe`, 64 initialised bytes that are aligned for a u32 (asserted above), and
    // the offset is a multiple of 4 inside it.
    let replaced = unsafe { command.replace(with) };
    debug_assert_eq!(replaced, SET_SOCKET_OPTION);
    set
}

/// Whether sockets answer queries for their options by io_uring: Linux 6.7 and newer, unless a security module forbids it. No
/// other operation may be under way in the ring.
///
/// # Errors
/// When the kernel takes no entry; the ring is of no use then.
pub(super) fn is_supported(ring: &mut IoUring) -> io::Result<bool> {
    // Never freed, so the kernel may write to it whenever the query runs.
    static KIND: AtomicI32 = AtomicI32::new(0);
    // A sandbox may forbid either family.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
    let Ok(socket) = socket.or_else(|_| Socket::new(Domain::UNIX, Type::STREAM, None)) else {
        return Ok(false);
    };
    let length = size_of::<libc::c_int>();
    let query = opcode::SetSockOpt::new(
        types::Fd(socket.as_raw_fd()),
        SOL_SOCKET,
        SO_TYPE,
        KIND.as_ptr().cast_const().cast(),
        u32::try_from(length).unwrap_or(0),
    );
    // SAFETY: the descriptor stays open until the completion has been reaped, and the value is a static.
    unsafe { ring.submission().push(&into_query(query.build())) }.map_err(io::Error::other)?;
    loop {
        let submitted = ring.submit_and_wait(1);
        if let Some(completion) = ring.completion().next() {
            return Ok(usize::try_from(completion.result()) == Ok(length));
        }
        ignore_transient(submitted.map(drop))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_query_has_no_address_and_its_place_is_reused() {
        let mut queries = PeerQueries::new(true);
        let (first, place) = queries.begin((ListenerId(1), 2, Arrival::Accepted), V4_BYTES);
        let (second, other) = queries.begin((ListenerId(3), 4, Arrival::Accepted), V6_BYTES);
        assert!(first != second && place != other);
        assert_eq!(
            queries.finish(first, -libc::ENOTCONN),
            Some(((ListenerId(1), 2, Arrival::Accepted), None))
        );
        assert_eq!(queries.begin((ListenerId(5), 6, Arrival::Accepted), V6_BYTES), (first, place));
        assert_eq!(
            queries.finish(first, V4_BYTES as i32),
            Some(((ListenerId(5), 6, Arrival::Accepted), None)),
            "half a name"
        );
    }

    #[test]
    fn entry_that_sets_an_option_becomes_one_that_gets_it() {
        let set = || opcode::SetSockOpt::new(types::Fd(1), 2, 3, std::ptr::dangling(), 5).build();
        let bytes = |entry: squeue::Entry| -> [u8; 64] {
            // SAFETY: an entry is 64 initialised bytes.
            unsafe { std::mem::transmute(entry) }
        };
        let (before, after) = (bytes(set()), bytes(into_query(set())));
        assert_eq!(before[8..12], SET_SOCKET_OPTION.to_ne_bytes());
        assert_eq!(after[8..12], GET_SOCKET_OPTION.to_ne_bytes());
        assert_eq!((&before[..8], &before[12..]), (&after[..8], &after[12..]));
    }
}
