//! Files below a directory, by paths that clients send: variables of resource templates, arguments of tools.

use std::{
    fs::File,
    io,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use crate::call::ProtocolError;

/// How often a path is resolved again that was renamed meanwhile (EAGAIN of openat2(2)).
const ATTEMPTS_MAX: usize = 8;

/// The canonical path of the existing file or directory `path` below the directory `root`. `path` comes from a client: for example
/// the variable `path` of the template `file:///data/{path}`, whose value is `../etc/passwd` for the URI
/// `file:///data/..%2Fetc%2Fpasswd`.
///
/// Rejected are an empty or absolute path, a component `..`, NUL, and a symbolic link that leads out of `root`. A value of a
/// template has been percent-decoded once, so `%252e%252e%252f` in a URI is `%2e%2e%2f` here. That would be a valid name on Linux, but
/// becomes `../` in code that decodes it again, so an encoded `.`, `/`, `\` or NUL is rejected too. A backslash is an ordinary
/// character on Linux.
///
/// The result is true for the moment of the check only. If others can change links below `root` meanwhile, use [`open_within`], which
/// resolves and opens in one system call. Both functions block: call them in a handler of `run_blocking` or `run_tokio`, or where the
/// file system is fast enough.
///
/// ```no_run
/// use corelane::{Contents, ProtocolError, ResourceTemplate, path_within};
///
/// let template = ResourceTemplate::new("file:///data/{path}", "data").run_blocking(|read, _cx| {
///     let path = path_within("/srv/data", &read.variables["path"])?;
///     std::fs::read_to_string(path).map_err(|error| ProtocolError::internal(error.to_string()))
/// });
/// ```
///
/// # Errors
/// As the error of a handler: -32602 for a path that is rejected as it is written; the error for a missing resource where there is
/// no such file, it is not accessible, or a link leads out of `root`, so that a client learns nothing about files outside; -32603
/// where `root` is no directory, or the system fails.
pub fn path_within(root: impl AsRef<Path>, path: impl AsRef<str>) -> Result<PathBuf, ProtocolError> {
    let path = relative(path.as_ref())?;
    let root = root.as_ref().canonicalize().map_err(|error| failed(&error))?;
    let found = root.join(path).canonicalize().map_err(|error| refused(&error))?;
    if found.starts_with(&root) { Ok(found) } else { Err(not_found()) }
}

/// Opens the regular file `path` below the directory `root` for reading, as [`path_within`] would find it, in one system call
/// (`RESOLVE_BENEATH` of openat2(2)). Also rejected are absolute symbolic links, even to files below `root`.
///
/// ```no_run
/// use corelane::{Contents, ProtocolError, ResourceTemplate, open_within};
///
/// let template = ResourceTemplate::new("file:///data/{path}", "data").run_blocking(|read, _cx| {
///     let file = open_within("/srv/data", &read.variables["path"])?;
///     std::io::read_to_string(file).map_err(|error| ProtocolError::internal(error.to_string()))
/// });
/// ```
///
/// # Errors
/// As [`path_within`].
pub fn open_within(root: impl AsRef<Path>, path: impl AsRef<str>) -> Result<File, ProtocolError> {
    let path = relative(path.as_ref())?;
    let flags = OFlags::CLOEXEC;
    let root = openat(CWD, root.as_ref(), flags | OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| failed(&error.into()))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // Not blocked by a named pipe without a writer.
    let open = || openat2(&root, path, flags | OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty(), resolve);
    let mut opened = open();
    for _ in 1..ATTEMPTS_MAX {
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
        opened = open();
    }
    match opened.map(File::from) {
        Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => Ok(file),
        Ok(_) => Err(not_found()),
        // A link leads out of the root.
        Err(Errno::XDEV) => Err(not_found()),
        Err(error) => Err(refused(&error.into())),
    }
}

/// Checks a path as it is written.
fn relative(path: &str) -> Result<&Path, ProtocolError> {
    const ENCODED: [&str; 4] = ["%2e", "%2f", "%5c", "%00"];
    let invalid = |why: &str| Err(ProtocolError::invalid_params(format!("Invalid path: {why}")));
    let lowercase = path.to_ascii_lowercase();
    if path.contains('\0') {
        return invalid("it contains NUL");
    }
    if ENCODED.iter().any(|encoded| lowercase.contains(encoded)) {
        return invalid("it is percent-encoded twice");
    }
    let mut is_empty = true;
    for component in Path::new(path).components() {
        match component {
            Component::Normal(_) => is_empty = false,
            Component::CurDir => {}
            Component::ParentDir => return invalid("it contains \"..\""),
            Component::RootDir | Component::Prefix(_) => return invalid("it is absolute"),
        }
    }
    if is_empty { invalid("it is empty") } else { Ok(Path::new(path)) }
}

/// The error for a file that cannot be opened.
fn refused(error: &io::Error) -> ProtocolError {
    let errors = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NAMETOOLONG, Errno::ACCESS];
    if Errno::from_io_error(error).is_some_and(|error| errors.contains(&error)) {
        not_found()
    } else {
        failed(error)
    }
}

fn not_found() -> ProtocolError {
    ProtocolError { message: "No such file".to_owned(), data: None, ..ProtocolError::resource_not_found("") }
}

/// The text of an [`io::Error`] does not contain the path.
fn failed(error: &io::Error) -> ProtocolError {
    ProtocolError::internal(format!("The file cannot be opened: {error}"))
}
