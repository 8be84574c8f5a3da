//! Listening sockets. Each shard has its own TCP listener per address, on a shared port; all shards share one Unix socket.

use std::{
    fs::{self, File, Permissions},
    io,
    net::{Shutdown, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf, absolute},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, TcpKeepalive, Type};

use super::peer::PeerAddress;

/// Length of the kernel's queue of connections that have not been accepted.
const BACKLOG: i32 = 4096;

/// Mode of a Unix socket: only its user may connect.
const USER_ONLY: u32 = 0o600;

/// A listening socket that a ring can accept from.
#[derive(Debug)]
pub struct Listener {
    /// Referred to by a [`ListenerGroup`](crate::ListenerGroup).
    pub(super) descriptor: Arc<OwnedFd>,
    /// Whether other rings accept from the same socket.
    pub(super) shared: bool,
    /// The kernel starts no further connection.
    pub(super) refuses: bool,
}

/// Classic BPF program that drops a segment with SYN and without ACK, and passes all others whole. A filter of a TCP socket is
/// given segments from their TCP header on, whose byte 13 has the flags (RFC 9293, section 3.1).
const DROP_SYN: [SockFilter; 5] = [
    SockFilter::new((libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, 0, 0, 13),
    SockFilter::new((libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, 0, 0, TCP_SYN | TCP_ACK),
    SockFilter::new((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 0, 1, TCP_SYN),
    SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0),
    SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, u32::MAX),
];

const TCP_SYN: u32 = 0x02;
const TCP_ACK: u32 = 0x10;

impl Listener {
    /// Makes the kernel start no further connection, while those that it has queued stay. A TCP listener drops SYN segments, so
    /// that a client repeats its SYN, after a second, until the listener is closed and the kernel refuses it; handshakes under
    /// way complete. A Unix socket refuses at once, for all rings that share it.
    ///
    /// Closing a listener resets the connections in its queue, and shutting a TCP listener down does so too (tcp(7) has no other way).
    ///
    /// # Errors
    /// The process has no memory for the filter.
    pub(super) fn refuse_connections(&mut self) -> io::Result<()> {
        let socket = SockRef::from(&self.descriptor);
        if socket.domain()? == Domain::UNIX {
            socket.shutdown(Shutdown::Read)?;
        } else {
            // Accepted sockets inherit the filter; none of theirs is a SYN.
            socket.attach_filter(&DROP_SYN)?;
        }
        self.refuses = true;
        Ok(())
    }

    /// A queued connection, after [`Self::refuse_connections`]; `None` if there is none.
    pub(super) fn accept_queued(&self) -> Option<(OwnedFd, Option<PeerAddress>)> {
        let socket = SockRef::from(&self.descriptor);
        // A Unix socket that was shut down does not block; the flag would also hold for the rings that share it.
        if !self.shared && socket.set_nonblocking(true).is_err() {
            return None;
        }
        loop {
            match socket.accept() {
                Ok((accepted, peer)) => {
                    let peer = peer.as_socket();
                    return Some((
                        accepted.into(),
                        peer.and_then(|peer| PeerAddress::new(peer.ip(), peer.port())),
                    ));
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR | libc::ECONNABORTED) => {}
                    _ => return None,
                },
            }
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self { descriptor: Arc::new(listener.into()), shared: false, refuses: false }
    }
}

/// Binds and listens with `SO_REUSEPORT`, on the address of a listener of [`bind_first`], so that each shard has its own listener on
/// one port. Accepted sockets inherit `TCP_NODELAY`.
///
/// # Errors
/// The error of `bind` or `listen`: the port is in use, the address is not local, or permission is denied.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, true)
}

/// Binds and listens without `SO_REUSEPORT`, so that no other socket can listen on the address, nor on one that contains it or is
/// contained in it. Otherwise as [`bind`].
///
/// # Errors
/// As [`bind`].
pub fn bind_alone(address: SocketAddr) -> io::Result<TcpListener> {
    listen(address, false)
}

/// Binds and listens as the only socket of the port, and then sets `SO_REUSEPORT`, which lets [`bind`] add listeners. Of several
/// processes that start at the same moment exactly one succeeds: the kernel admits one listening socket without the option, and
/// checks it again in `listen`.
///
/// # Errors
/// As [`bind`].
pub fn bind_first(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = bind_alone(address)?;
    SockRef::from(&listener).set_reuse_port(true)?;
    Ok(listener)
}

fn listen(address: SocketAddr, shares_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(shares_port)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The times after which the kernel closes the connection of a peer that has disappeared without closing it, while nothing is
/// being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Time after which an idle connection is probed: whole seconds, at least one (`TCP_KEEPIDLE` of tcp(7)).
    pub idle: Duration,
    /// Time for which probes are repeated, in whole seconds, at least four. After it the connection fails with `ETIMEDOUT`.
    pub unanswered: Duration,
}

/// Number of probes that remain unanswered before a connection fails.
const PROBES: u32 = 4;

/// Enables keep-alive probes for the connections of a listener: accepted sockets inherit the options.
///
/// `TCP_USER_TIMEOUT` is not set. The kernel applies it to peers that read slowly, too, whose window is closed most of the time, and
/// does not restart it for the bytes that such a peer acknowledges: [`Ring::query_acknowledged`](crate::Ring::query_acknowledged).
///
/// # Errors
/// The error of `setsockopt`.
pub fn keep_alive(listener: &TcpListener, timing: KeepAlive) -> io::Result<()> {
    const SECOND: Duration = Duration::from_secs(1);
    /// The kernel's maximum of the time and of the interval.
    const TIME_MAX: Duration = Duration::from_secs(32_767);
    let options = TcpKeepalive::new()
        .with_time(timing.idle.clamp(SECOND, TIME_MAX))
        .with_interval((timing.unanswered / PROBES).clamp(SECOND, TIME_MAX))
        .with_retries(PROBES);
    SockRef::from(listener).set_tcp_keepalive(&options)
}

/// A listening Unix socket and its file.
#[derive(Debug)]
pub struct UnixSocket {
    socket: Socket,
    file: SocketFile,
}

impl UnixSocket {
    /// Binds to a path and listens on it; only this user may connect. Replaces the socket file of a server that no longer runs.
    ///
    /// # Errors
    /// `AddrInUse` if a server listens on the path, `AlreadyExists` if the path is not a socket, or the error of `bind`: the
    /// directory does not exist, permission is denied, or the path is too long.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let _lock = lock_directory(path);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // The file inherits the socket's mode, so at no time can another user connect.
        File::from(OwnedFd::from(socket.try_clone()?)).set_permissions(Permissions::from_mode(USER_ONLY))?;
        if let Err(error) = socket.bind(&address) {
            if error.kind() != io::ErrorKind::AddrInUse {
                return Err(error);
            }
            remove_stale(path, &address)?;
            socket.bind(&address)?;
        }
        let file = SocketFile::new(path)?;
        socket.listen(BACKLOG)?;
        Ok(Self { socket, file })
    }

    /// Creates a listener for one more ring.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn listener(&self) -> io::Result<Listener> {
        let descriptor = Arc::new(self.socket.as_fd().try_clone_to_owned()?);
        Ok(Listener { descriptor, shared: true, refuses: false })
    }

    /// Returns the listening socket, for a server without a ring, and the file.
    #[must_use]
    pub fn into_std(self) -> (UnixListener, SocketFile) {
        (OwnedFd::from(self.socket).into(), self.file)
    }

    /// Returns the file, after all listeners have been created.
    #[must_use]
    pub fn into_file(self) -> SocketFile {
        self.file
    }
}

/// A socket's file. Dropping it removes the file, unless the path now has another file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode, and modification time in seconds and nanoseconds: inode numbers are reused.
type Identity = (u64, u64, i64, i64);

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        // The working directory may change before the file is removed.
        let path = absolute(path)?;
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // An error cannot be reported here.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

/// Time for another start to finish with the directory.
const LOCK_MAX: Duration = Duration::from_secs(2);
/// Interval at which the lock is tried.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Locks the directory of a socket (flock(2)) until the returned file is dropped: a socket that is bound and does not listen yet looks
/// stale to another process that starts. `None` where the directory cannot be read or another program keeps the lock.
fn lock_directory(path: &Path) -> Option<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(parent).ok()?;
    let until = Instant::now() + LOCK_MAX;
    while directory.try_lock().is_err() {
        if Instant::now() >= until {
            return None;
        }
        thread::sleep(LOCK_RETRY);
    }
    Some(directory)
}

/// Removes a socket file without a listener.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Non-blocking, as the backlog of a running server may be full.
    probe.set_nonblocking(true)?;
    match probe.connect(address).map_err(|error| error.raw_os_error()) {
        Err(Some(libc::ECONNREFUSED)) => fs::remove_file(path),
        Err(Some(error @ (libc::EACCES | libc::EPERM | libc::ENOENT))) => {
            Err(io::Error::from_raw_os_error(error))
        }
        // Connected, or the backlog is full, or the socket has another type.
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "a server listens on the path")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Returns an unused path.
    fn unused_path(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("corelane-listener-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(name);
        let _ = fs::remove_file(&path);
        path
    }

    /// A listener, and how to connect to it.
    type Case = (Listener, Box<dyn Fn() -> io::Result<Socket>>);

    fn cases(path: &Path, unix: &UnixSocket) -> [Case; 2] {
        let tcp = bind_first("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = SockAddr::from(tcp.local_addr().unwrap());
        let listener = unix.listener().unwrap();
        let connect = |domain, address: SockAddr| -> Box<dyn Fn() -> io::Result<Socket>> {
            Box::new(move || {
                let socket = Socket::new(domain, Type::STREAM, None)?;
                socket.connect_timeout(&address, std::time::Duration::from_millis(200)).map(|()| socket)
            })
        };
        let unix_address = SockAddr::unix(path).unwrap();
        [(tcp.into(), connect(Domain::IPV4, address)), (listener, connect(Domain::UNIX, unix_address))]
    }

    #[test]
    fn queued_connections_stay_after_further_ones_are_refused() {
        let path = unused_path("refuse");
        let unix = UnixSocket::bind(&path).unwrap();
        for (mut listener, connect) in cases(&path, &unix) {
            let queued: Vec<Socket> = (0..3).map(|_| connect().unwrap()).collect();
            listener.refuse_connections().unwrap();
            assert!(connect().is_err(), "a further connection");
            for client in &queued {
                let (accepted, _) = listener.accept_queued().expect("queued before");
                assert_eq!(client.send(b"x").unwrap(), 1);
                let mut byte = [std::mem::MaybeUninit::uninit()];
                assert_eq!(Socket::from(accepted).recv(&mut byte).unwrap(), 1);
            }
            assert!(listener.accept_queued().is_none(), "the queue is empty");
        }
    }

    /// How many of several threads that call this at the same moment succeed.
    fn winners<T: Send>(attempt: impl Fn() -> io::Result<T> + Sync) -> usize {
        let barrier = std::sync::Barrier::new(4);
        let made: Vec<io::Result<T>> = thread::scope(|scope| {
            let start = || {
                barrier.wait();
                attempt()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        made.iter().filter(|made| made.is_ok()).count()
    }

    #[test]
    fn one_of_several_starts_at_the_same_moment_listens() {
        for _ in 0..200 {
            let free = bind_first("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
            let start = || {
                let first = bind_first(free)?;
                // A listener of the second shard.
                bind(free).map(|second| (first, second))
            };
            assert_eq!(winners(start), 1, "{free}");
        }
        let path = unused_path("moment");
        for _ in 0..200 {
            // Stale: bound and closed.
            let _ = fs::remove_file(&path);
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            assert_eq!(winners(|| UnixSocket::bind(&path)), 1);
        }
    }

    #[test]
    fn accepted_connection_inherits_the_probes_of_its_listener() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let timing = KeepAlive { idle: Duration::from_secs(15), unanswered: Duration::from_secs(10) };
        keep_alive(&listener, timing).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), timing.idle);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(2));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
    }

    #[test]
    fn socket_is_private_to_its_user_and_its_file_is_removed() {
        let path = unused_path("mode");
        let socket = UnixSocket::bind(&path).unwrap();
        let listener = socket.listener().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket.into_file());
        assert!(!path.exists());
        drop(listener);
    }

    #[test]
    fn stale_socket_is_replaced_and_a_live_one_is_not() {
        let path = unused_path("stale");
        // Bound and closed: the file remains without a listener.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = UnixSocket::bind(&path).unwrap();
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).expect("the live socket is not replaced");
        drop(live);
        assert!(!path.exists());
    }

    #[test]
    fn other_file_is_not_replaced() {
        let path = unused_path("file");
        fs::write(&path, "precious").unwrap();
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let link = unused_path("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(UnixSocket::bind(&link).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let datagram = unused_path("datagram");
        let _bound = std::os::unix::net::UnixDatagram::bind(&datagram).unwrap();
        assert_eq!(UnixSocket::bind(&datagram).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn file_of_a_later_socket_is_not_removed() {
        let path = unused_path("successor");
        let first = UnixSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = UnixSocket::bind(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).expect("the second socket's file exists");
        drop(second);
        assert!(!path.exists());
    }
}
