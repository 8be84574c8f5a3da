//! Finds the control socket of a running server.

use std::{io::ErrorKind, os::unix::net::UnixStream, path::PathBuf};

use super::client::explain;
use crate::control::{connect, sockets};

/// Connects to the only server that runs.
///
/// # Errors
/// One line: no server runs, or several do, or one that does not accept connections.
pub(super) fn only_server() -> Result<UnixStream, String> {
    let (mut servers, mut forbidden) = (Vec::new(), Vec::new());
    for path in sockets() {
        match connect(&path) {
            Ok(stream) => servers.push((path, stream)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => forbidden.push(path),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(format!("cannot connect to {}: {}", path.display(), explain(&path, &error)));
            }
            // A socket that a server has left behind.
            Err(_) => {}
        }
    }
    match servers.pop() {
        Some((_, stream)) if servers.is_empty() => Ok(stream),
        Some((last, _)) => {
            let paths: Vec<PathBuf> = servers.into_iter().map(|(path, _)| path).chain([last]).collect();
            Err(format!("{} servers run: {}; remedy: name one with --socket", paths.len(), list(&paths)))
        }
        None if forbidden.is_empty() => {
            Err("no running server was found; remedy: start one, or name its socket with --socket".to_owned())
        }
        None => Err(format!(
            "no running server of this user was found, but {}; remedy: run ctl as its user or as root, or name a socket with \
             --socket",
            list(&forbidden)
        )),
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}
