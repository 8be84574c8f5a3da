//! The listening socket of the control socket.

use std::{
    io::{self, ErrorKind},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process,
};

use corelane_ring::{SocketFile, UnixSocket};

use crate::control::{connect, own_directories, sockets_in};

/// Names that are tried where another process has the same pid, as in containers that share a directory.
const NAMES_MAX: u32 = 16;

/// A listening control socket. Dropping it removes its file.
pub(crate) struct ControlListener {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
    pub(super) path: PathBuf,
}

impl ControlListener {
    /// Listens on a path, with mode 0600. Replaces the socket of a server that no longer runs.
    ///
    /// # Errors
    /// `AddrInUse` if a server listens on the path, `AlreadyExists` if the path is not a socket, or the error of bind(2).
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let (listener, file) = UnixSocket::bind(path)?.into_std();
        Ok(Self { listener, file, path: std::path::absolute(path)? })
    }

    /// Listens on `PID.sock` in the first directory that can be used, and removes the sockets of servers that no longer run from it.
    pub(crate) fn in_own_directory() -> Option<Self> {
        own_directories().find_map(|directory| {
            let listener = (0..NAMES_MAX).find_map(|attempt| {
                let name = match attempt {
                    0 => format!("{}.sock", process::id()),
                    _ => format!("{}-{attempt}.sock", process::id()),
                };
                Self::at(&directory.join(name)).ok()
            })?;
            remove_stale(&directory, &listener.path);
            Some(listener)
        })
    }
}

/// Removes the sockets of a directory that have no listener, except `own`.
fn remove_stale(directory: &Path, own: &Path) {
    for path in sockets_in(directory).iter().filter(|path| *path != own) {
        if connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            // Replaces it, unless a server has begun to listen on it meanwhile, and then removes its own file.
            drop(ControlListener::at(path));
        }
    }
}
