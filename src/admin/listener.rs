//! The running admin interface, as the server holds it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{
    event_loop::EventLoop,
    pages::PageMakers,
    shared::{Rejections, Shared},
    wake::Wake,
};
use crate::{
    config::Limits, http1::AllowedHosts, memory::MemoryPressure, runtime::PoolObserver, shard::ShardHandle,
};

/// The running admin interface. Dropping it closes its sockets and joins its threads.
pub(crate) struct Admin {
    address: SocketAddr,
    shared: Arc<Shared>,
    wake: Arc<Wake>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Admin {
    /// Serves the health and the metrics of `shards` and of the blocking `pool` on `listener`.
    ///
    /// # Errors
    /// A thread cannot be started, or no descriptor is left.
    pub(crate) fn start(
        listener: TcpListener,
        allowed_hosts: AllowedHosts,
        (limits, pressure): (Limits, MemoryPressure),
        shards: Vec<ShardHandle>,
        pool: PoolObserver,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            allowed_hosts,
            limits,
            shards,
            pool,
            reports: Mutex::default(),
            rejections: Mutex::new(Rejections::new(limits.log_lines_per_second_max)),
            connections_evicted: AtomicU64::new(0),
            pages_refused: AtomicU64::new(0),
            pressure,
            draining: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let wake = Arc::new(Wake::new()?);
        let pages = PageMakers::start(&shared, &wake)?;
        let event_loop = EventLoop::new(listener, Arc::clone(&shared), Arc::clone(&wake), pages);
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || event_loop.run())?;
        Ok(Self { address, shared, wake, thread: Mutex::new(Some(thread)) })
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
        self.wake.wake();
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}
