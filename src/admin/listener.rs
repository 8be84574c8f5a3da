//! The admin interface's listening socket and its threads.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    connection::serve,
    shared::{Refusals, Shared},
};
use crate::{config::Limits, http1::Names, runtime::PoolObserver, shard::ShardHandle};

/// The admin interface, until it is dropped.
pub(crate) struct Admin {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: socket2::Socket,
    accepting: Option<JoinHandle<()>>,
}

impl Admin {
    /// Serves what `shards` and the blocking `pool` measure on `listener`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(
        listener: TcpListener,
        names: Names,
        limits: Limits,
        shards: Vec<ShardHandle>,
        pool: PoolObserver,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            names,
            limits,
            shards,
            pool,
            reports: Mutex::default(),
            refusals: Mutex::new(Refusals::new(limits.log_lines_per_second_max)),
            connections: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let ending = socket2::Socket::from(listener.try_clone()?);
        let accepting = thread::Builder::new().name("admin".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Self { address, shared, listener: ending, accepting: Some(accepting) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `/readyz` says that the server is ending.
    pub(crate) fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // On Linux this ends an accept that waits.
        let _ = self.listener.shutdown(std::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.ended.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, or ended: not in a circle.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= shared.limits.admin_connections_max {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let served = thread::Builder::new().name("admin-connection".to_owned()).spawn({
            let shared = Arc::clone(shared);
            move || {
                // Whoever asks sees that the connection ended.
                let _ = serve(stream, &shared);
                shared.connections.fetch_sub(1, Ordering::Relaxed);
            }
        });
        if served.is_err() {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
