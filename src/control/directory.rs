//! The directories of control sockets.

use std::{
    env, fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use rustix::{
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket, socket_with},
    process::geteuid,
};

/// Names the only directory of control sockets, in place of the default ones.
const DIRECTORY_VARIABLE: &str = "CORELANE_RUNTIME_DIR";

/// Bits of a mode that let others than the owner write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The directories in which `ctl` looks for sockets and a server makes its own, in order of preference: `$XDG_RUNTIME_DIR/corelane`,
/// `/run/corelane`, and a directory of this user below the one for temporary files. `$CORELANE_RUNTIME_DIR` replaces all of them.
fn directories() -> Vec<PathBuf> {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(only) = variable(DIRECTORY_VARIABLE) {
        return vec![only];
    }
    let of_user = variable("XDG_RUNTIME_DIR").map(|path| path.join("corelane"));
    let temporary = env::temp_dir().join(format!("corelane-{}", geteuid().as_raw()));
    of_user.into_iter().chain([PathBuf::from("/run/corelane"), temporary]).collect()
}

/// The directories that this user may put a socket into, created where they are missing.
pub(crate) fn own_directories() -> impl Iterator<Item = PathBuf> {
    directories().into_iter().filter(|path| make_private(path).is_ok())
}

/// Creates a directory with mode 0700 unless it exists, and checks that no other user can replace files in it: another user could
/// otherwise put a socket of their own there. Existing parents are left as they are.
fn make_private(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if is_private(path) { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Whether a path is a directory, not a link to one, that belongs to this user and that only they may change. A symbolic link at the
/// end would let another user choose the directory.
fn is_private(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| {
        found.is_dir()
            && found.uid() == geteuid().as_raw()
            && found.permissions().mode() & WRITABLE_BY_OTHERS == 0
    })
}

/// The sockets in all directories, sorted by path. `/run/corelane` may belong to the user of a service, to which root connects.
#[cfg(feature = "cli")]
pub(crate) fn sockets() -> Vec<PathBuf> {
    let temporary = env::temp_dir();
    // Anybody may make a directory below the one for temporary files.
    let is_trusted = |path: &PathBuf| !path.starts_with(&temporary) || is_private(path);
    let mut found: Vec<PathBuf> =
        directories().into_iter().filter(is_trusted).flat_map(|path| sockets_in(&path)).collect();
    found.sort();
    found.dedup();
    found
}

/// Connects to a socket without waiting for a place in its queue, which is full if a server is stopped and others wait.
///
/// # Errors
/// `WouldBlock` if the queue is full, or the error of connect(2).
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect_socket(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The sockets in one directory.
pub(crate) fn sockets_in(directory: &Path) -> Vec<PathBuf> {
    // A directory that is missing, or that this user may not read, has no socket for them.
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_socket = |entry: &fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_socket())
            && entry.path().extension().is_some_and(|extension| extension == "sock")
    };
    entries.filter(is_socket).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn fresh(name: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("corelane-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn directory_is_private_to_its_user() {
        let path = fresh("private");
        make_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        make_private(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(make_private(&path).is_err(), "others may change it");
        let link = fresh("link");
        let _ = fs::remove_file(&link);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(make_private(&link).is_err(), "a link");
        assert!(make_private(&path.join("missing").join("deeper")).is_err());
        fs::remove_file(&link).unwrap();
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn full_queue_of_a_stopped_server_is_an_error_at_once() {
        let path = fresh("full");
        make_private(&path).unwrap();
        let socket = path.join("1.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        // It has room for one connection more than its length.
        rustix::net::listen(&listener, 1).unwrap();
        let mut queued = Vec::new();
        let error = loop {
            match connect(&socket) {
                Ok(stream) => queued.push(stream),
                Err(error) => break error,
            }
            assert!(queued.len() < 10, "the queue is never full");
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(listener);
        assert_eq!(connect(&socket).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn only_sockets_are_listed() {
        let path = fresh("list");
        make_private(&path).unwrap();
        fs::write(path.join("1.sock"), "a file").unwrap();
        let _listener = UnixListener::bind(path.join("2.sock")).unwrap();
        let _other = UnixListener::bind(path.join("3.other")).unwrap();
        assert_eq!(sockets_in(&path), [path.join("2.sock")]);
        assert_eq!(sockets_in(&path.join("missing")), [] as [PathBuf; 0]);
        fs::remove_dir_all(&path).unwrap();
    }
}
