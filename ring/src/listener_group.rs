//! The choice among the TCP listeners of one address, by a classic BPF program that the kernel runs for each new connection.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Weak},
};

use super::listener::Listener;

/// The TCP listeners of one address, which share its port (`SO_REUSEPORT` of socket(7)).
///
/// By itself the kernel chooses by a hash of the addresses, among all sockets that listen on the address with `SO_REUSEPORT`: those
/// of other processes of the same user too. [`Self::skip`] replaces that by an even choice at random, among the listeners of this
/// group alone.
///
/// The kernel numbers the listeners of an address by the order of `listen`, which must be their order here, and moves the last one to
/// the number of one that is closed. So from then on the numbers do not hold: [`Self::reset`]. A number without a listener is
/// answered by the hash, so a connection always reaches some listener.
///
/// A connection that the kernel has queued for a listener stays there. The program is one for the address: a process of the same user
/// whose socket listens there, too, may replace it.
///
/// A group does not keep its listeners open.
#[derive(Debug)]
pub struct ListenerGroup {
    members: Vec<Weak<OwnedFd>>,
}

impl ListenerGroup {
    /// The group of these listeners, the first of [`bind_first`](crate::bind_first) and the others of [`bind`](crate::bind), in the
    /// order in which they began to listen.
    #[must_use]
    pub fn new<'a>(listeners: impl IntoIterator<Item = &'a Listener>) -> Self {
        let members = listeners.into_iter().map(|listener| Arc::downgrade(&listener.descriptor));
        Self { members: members.collect() }
    }

    /// Makes the kernel give further connections to the members that are not skipped, evenly and at random; to all if all are skipped.
    ///
    /// # Errors
    /// The kernel rejects the program: the listeners share no port, a sandbox forbids it, or memory is short.
    pub fn skip(&self, is_skipped: impl Fn(usize) -> bool) -> io::Result<()> {
        let mut program = choose_member(self.members.len(), is_skipped)?;
        let filter = libc::sock_fprog {
            len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            filter: program.as_mut_ptr(),
        };
        // The kernel copies the program.
        self.set_option(libc::SO_ATTACH_REUSEPORT_CBPF, &filter)
    }

    /// Makes the kernel choose by its hash again, among all sockets that listen on the address.
    ///
    /// # Errors
    /// The kernel rejects it. It is no error that there is no program.
    pub fn reset(&self) -> io::Result<()> {
        match self.set_option(libc::SO_DETACH_REUSEPORT_BPF, &0_i32) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        }
    }

    /// Sets an option of the group, on any member that is open; on none if all are closed.
    fn set_option<T>(&self, name: libc::c_int, value: &T) -> io::Result<()> {
        // While it is used here, a listener stays open although its owner closes it.
        let Some(member) = self.members.iter().find_map(Weak::upgrade) else { return Ok(()) };
        let length = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: `member` is an open descriptor, and the kernel reads `length` bytes of `value` during the call. For the one option
        // whose value contains a pointer, `skip` borrows what it points to until this returns.
        let result = unsafe {
            libc::setsockopt(
                member.as_raw_fd(),
                libc::SOL_SOCKET,
                name,
                std::ptr::from_ref(value).cast(),
                length,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The program that returns the number of a member that is not skipped: a random number below the count of these, plus one for each
/// skipped member up to it, in ascending order.
fn choose_member(
    members: usize,
    is_skipped: impl Fn(usize) -> bool,
) -> Result<Vec<libc::sock_filter>, io::ErrorKind> {
    let number = |index: usize| u32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput);
    let mut skipped: Vec<usize> = (0..members).filter(|index| is_skipped(*index)).collect();
    if skipped.len() == members {
        skipped.clear();
    }
    let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM).cast_unsigned();
    let mut program = vec![
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, random),
        instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, number(members - skipped.len())?),
    ];
    for index in skipped {
        // Jumps over the next instruction if the number is less.
        program.push(instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, number(index)?));
        program.push(instruction(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 0, 1));
    }
    program.push(instruction(libc::BPF_RET | BPF_A, 0, 0));
    Ok(program)
}

/// The accumulator as the result of `BPF_RET` (linux/bpf_common.h's `BPF_RVAL`).
const BPF_A: u32 = 0x10;

/// An instruction that skips `jump_if_false` further ones, where it compares and the comparison is false.
fn instruction(code: u32, jump_if_false: u8, operand: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: jump_if_false, k: operand }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use socket2::SockRef;

    use super::*;
    use crate::{bind, bind_first};

    const CONNECTIONS: usize = 400;

    struct Listeners {
        listeners: Vec<Option<Listener>>,
        group: ListenerGroup,
        address: SocketAddr,
    }

    impl Listeners {
        fn open(address: &str, count: usize) -> Self {
            let first = bind_first(address.parse().unwrap()).unwrap();
            let address = first.local_addr().unwrap();
            let others = (1..count).map(|_| bind(address).unwrap());
            let listeners: Vec<Listener> = [first].into_iter().chain(others).map(Listener::from).collect();
            let group = ListenerGroup::new(&listeners);
            Self { listeners: listeners.into_iter().map(Some).collect(), group, address }
        }

        /// How many of some connections each listener gets; 0 for one that is closed.
        fn distribute(&self) -> Vec<usize> {
            let mut counts = vec![0; self.listeners.len()];
            for _ in 0..CONNECTIONS {
                let _client = TcpStream::connect(self.address).unwrap();
                for (count, listener) in counts.iter_mut().zip(&self.listeners) {
                    *count += listener.iter().filter_map(Listener::accept_queued).count();
                }
            }
            counts
        }
    }

    /// Checks that exactly these listeners got connections, each at least half of its part.
    fn check(counts: &[usize], expected: &[usize]) {
        assert_eq!(counts.iter().sum::<usize>(), CONNECTIONS, "{counts:?}");
        for (index, count) in counts.iter().enumerate() {
            let least = if expected.contains(&index) { CONNECTIONS / expected.len() / 2 } else { 0 };
            assert!(*count >= least && (least > 0) == (*count > 0), "{counts:?}, expected: {expected:?}");
        }
    }

    #[test]
    fn connections_are_distributed_over_the_members_that_are_not_skipped() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listeners = Listeners::open(address, 4);
            let cases: [(&[usize], &[usize]); 7] = [
                (&[], &[0, 1, 2, 3]),
                (&[0], &[1, 2, 3]),
                (&[3], &[0, 1, 2]),
                (&[0, 2], &[1, 3]),
                (&[1, 2], &[0, 3]),
                (&[0, 1, 3], &[2]),
                (&[0, 1, 2, 3], &[0, 1, 2, 3]),
            ];
            for (skipped, expected) in cases {
                listeners.group.skip(|index| skipped.contains(&index)).unwrap();
                check(&listeners.distribute(), expected);
            }
        }
    }

    #[test]
    fn socket_that_joins_a_group_gets_no_connection() {
        let listeners = Listeners::open("127.0.0.1:0", 2);
        listeners.group.skip(|_| false).unwrap();
        let foreign = bind(listeners.address).unwrap();
        foreign.set_nonblocking(true).unwrap();
        check(&listeners.distribute(), &[0, 1]);
        assert!(foreign.accept().is_err());
        listeners.group.skip(|index| index == 0).unwrap();
        check(&listeners.distribute(), &[1]);
        assert!(foreign.accept().is_err());
    }

    #[test]
    fn group_does_not_keep_its_listeners_open_and_loses_no_connection_when_they_close() {
        let mut listeners = Listeners::open("127.0.0.1:0", 3);
        listeners.group.skip(|index| index == 0).unwrap();
        check(&listeners.distribute(), &[1, 2]);
        // The third one becomes number 1, and number 2 is answered by the hash.
        listeners.listeners[1] = None;
        assert_eq!(listeners.distribute().iter().sum::<usize>(), CONNECTIONS);
        listeners.group.reset().unwrap();
        listeners.group.reset().unwrap();
        check(&listeners.distribute(), &[0, 2]);
        listeners.listeners.clear();
        assert!(TcpStream::connect(listeners.address).is_err());
        listeners.group.skip(|_| false).unwrap();
        listeners.group.reset().unwrap();
    }

    #[test]
    fn program_is_rejected_for_a_listener_that_shares_no_port() {
        let alone = Listener::from(TcpListener::bind("127.0.0.1:0").unwrap());
        assert!(!SockRef::from(&alone.descriptor).reuse_port().unwrap());
        assert!(ListenerGroup::new([&alone]).skip(|_| false).is_err());
    }
}
