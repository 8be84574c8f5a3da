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
    shared::{Rejections, Shared},
};
use crate::{config::Limits, http1::AllowedHosts, runtime::PoolObserver, shard::ShardHandle};

/// The running admin interface. Dropping it closes the listening socket and joins the listening thread.
pub(crate) struct Admin {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: socket2::Socket,
    accept_thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Serves the health and the metrics of `shards` and of the blocking `pool` on `listener`.
    ///
    /// # Errors
    /// The listening thread cannot be started, or the socket cannot be duplicated.
    pub(crate) fn start(
        listener: TcpListener,
        allowed_hosts: AllowedHosts,
        limits: Limits,
        shards: Vec<ShardHandle>,
        pool: PoolObserver,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            allowed_hosts,
            limits,
            shards,
            pool,
            reports: Mutex::default(),
            rejections: Mutex::new(Rejections::new(limits.log_lines_per_second_max)),
            connections: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let shutdown = socket2::Socket::from(listener.try_clone()?);
        let accept_thread = thread::Builder::new().name("admin".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Self { address, shared, listener: shutdown, accept_thread: Some(accept_thread) })
    }

    /// The address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes `/readyz` answer 503 from now on.
    pub(crate) fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // On Linux this interrupts a blocked accept.
        let _ = self.listener.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.accept_thread.take() {
            let _ = thread.join();
        }
    }
}

/// Accepts connections, each on a thread of its own, until `ended` is set. Connections beyond `admin_connections_max` are
/// closed.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.ended.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, or shut down: pause, so that the loop does not spin.
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
                // An I/O error closes the connection; there is nobody to report it to.
                let _ = serve(stream, &shared);
                shared.connections.fetch_sub(1, Ordering::Relaxed);
            }
        });
        if served.is_err() {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
