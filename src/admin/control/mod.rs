//! The control socket: a Unix socket for the user of the server and root, served from threads of its own. `corelane ctl` is its client;
//! the protocol is in `control/mod.rs`.
//!
//! One thread accepts, and each connection has a thread, at most `control_connections_max`. A shard that does not answer delays a
//! reply by [`ANSWER_TIMEOUT`](super::collect::ANSWER_TIMEOUT) and is listed in it.

mod bottlenecks;
mod collect;
mod connection;
mod flag_handlers;
mod handlers;
mod listener;
mod refusals;
mod shared;

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use corelane_ring::SocketFile;
use rustix::event::{PollFd, PollFlags, poll};

pub(crate) use listener::ControlListener;
pub(crate) use refusals::ControlRefusals;
pub(crate) use shared::{Drain, Identity};

use self::shared::{Place, Shared};
use super::{sample::Sampler, wake::Wake};
use crate::config::Limits;

/// Delay after which a failed accept is retried.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// The running control socket. Dropping it closes the socket and removes its file; requests under way are answered.
pub(crate) struct ControlServer {
    path: PathBuf,
    shared: Arc<Shared>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Serves a control socket of the server that `sampler` reads.
    ///
    /// # Errors
    /// The thread cannot be started, or no descriptor is left.
    pub(crate) fn start(
        listener: ControlListener,
        identity: Identity,
        limits: Limits,
        sampler: Arc<Sampler>,
        drain: Arc<dyn Drain>,
        refusals: Arc<ControlRefusals>,
    ) -> io::Result<Self> {
        let ControlListener { listener, file, path } = listener;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::new(identity, limits, sampler, drain, refusals));
        let wake = Arc::new(Wake::new()?);
        let (accepting, woken) = (Arc::clone(&shared), Arc::clone(&wake));
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || accept(&listener, &file, &accepting, &woken))?;
        Ok(Self { path, shared, wake, thread: Some(thread) })
    }

    /// The path of the socket.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts connections until the server ends. The file is removed when this returns.
fn accept(listener: &UnixListener, _file: &SocketFile, shared: &Arc<Shared>, wake: &Wake) {
    while !shared.ended.load(Ordering::Relaxed) {
        let mut polled = [
            PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        ];
        if poll(&mut polled, None).is_err() {
            // EINTR, or no memory.
            thread::sleep(ACCEPT_RETRY);
            continue;
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => {
                thread::sleep(ACCEPT_RETRY);
                continue;
            }
        };
        match Place::take(shared) {
            Some(place) => {
                let shared = Arc::clone(shared);
                // Without a thread the connection is closed.
                let _ = thread::Builder::new().name("control-client".to_owned()).spawn(move || {
                    let _place = place;
                    connection::serve(stream, &shared);
                });
            }
            None => connection::refuse_for_room(stream, shared),
        }
    }
}
