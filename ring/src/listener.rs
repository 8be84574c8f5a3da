//! Listening sockets. Over TCP one per shard and address, sharing the port; a Unix socket is one for all shards.

use std::{
    fs::{self, File, Permissions},
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf, absolute},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections the kernel holds for us before it drops new ones.
const BACKLOG: i32 = 4096;

/// Who may connect to a Unix socket: its user.
const USER_ONLY: u32 = 0o600;

/// A listening socket that a ring can accept from.
#[derive(Debug)]
pub struct Listener {
    pub(super) descriptor: OwnedFd,
    /// Other rings accept from the same socket.
    pub(super) shared: bool,
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self { descriptor: listener.into(), shared: false }
    }
}

/// Binds and listens with `SO_REUSEPORT`, so that each shard has a listener of its own on one port. Accepted sockets
/// inherit `TCP_NODELAY`.
///
/// # Errors
/// What `bind` and `listen` say: a taken port, an address that is not ours, no permission.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listening Unix socket, and the file that leads to it.
#[derive(Debug)]
pub struct UnixSocket {
    socket: Socket,
    file: SocketFile,
}

impl UnixSocket {
    /// Binds to a path and listens there; only this user may connect. What a server that is gone left behind is replaced.
    ///
    /// # Errors
    /// `AddrInUse` when somebody listens there, `AlreadyExists` when something else than a socket is there, and what
    /// `bind` says: no such directory, no permission, a path too long.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // The file takes its mode from the socket, so at no moment may anybody else connect.
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

    /// One more way to accept from it, for one more ring.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn listener(&self) -> io::Result<Listener> {
        Ok(Listener { descriptor: self.socket.as_fd().try_clone_to_owned()?, shared: true })
    }

    /// The file, once there are listeners enough.
    #[must_use]
    pub fn into_file(self) -> SocketFile {
        self.file
    }
}

/// A socket's file. Dropping this removes it, unless another one has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device, inode and time of making, in seconds and nanoseconds: an inode's number is soon given out again.
type Identity = (u64, u64, i64, i64);

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        // The working directory may be another one when the server ends.
        let path = absolute(path)?;
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Nobody is left to be told.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

/// Removes a socket nobody listens on.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Not to wait for a server whose backlog is full.
    probe.set_nonblocking(true)?;
    match probe.connect(address).map_err(|error| error.raw_os_error()) {
        Err(Some(libc::ECONNREFUSED)) => fs::remove_file(path),
        Err(Some(error @ (libc::EACCES | libc::EPERM | libc::ENOENT))) => {
            Err(io::Error::from_raw_os_error(error))
        }
        // It answered, or would if it were not busy, or it is a socket of another type.
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "a server listens there")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A path of its own for each test.
    fn place(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("corelane-listener-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(name);
        let _ = fs::remove_file(&path);
        path
    }

    #[test]
    fn a_socket_is_its_users_alone_and_its_file_goes_with_it() {
        let path = place("mode");
        let socket = UnixSocket::bind(&path).unwrap();
        let listener = socket.listener().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket.into_file());
        assert!(!path.exists());
        drop(listener);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let path = place("stale");
        // Bound and closed: the file stays and nobody listens.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = UnixSocket::bind(&path).unwrap();
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).expect("the live one was left alone");
        drop(live);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let path = place("file");
        fs::write(&path, "precious").unwrap();
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let link = place("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(UnixSocket::bind(&link).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let datagram = place("datagram");
        let _bound = std::os::unix::net::UnixDatagram::bind(&datagram).unwrap();
        assert_eq!(UnixSocket::bind(&datagram).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_file_of_a_successor_is_not_removed() {
        let path = place("successor");
        let first = UnixSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = UnixSocket::bind(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).expect("the second one's file is there");
        drop(second);
        assert!(!path.exists());
    }
}
