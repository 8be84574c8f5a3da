//! The running admin interface, as the server holds it.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, bounded};

use super::{
    control::ControlRefusals,
    event_loop::EventLoop,
    pages::PageMakers,
    sample::Sampler,
    shared::{Rejections, Shared},
    wake::Wake,
};
use crate::{config::Limits, http1::AllowedHosts};

/// The running admin interface. Dropping it closes its sockets and joins its threads.
pub(crate) struct Admin {
    address: SocketAddr,
    shared: Arc<Shared>,
    wake: Arc<Wake>,
    /// Closed once the listening socket is closed.
    listening: Receiver<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Admin {
    /// Serves the health and the metrics of the server that `sampler` reads on `listener`.
    ///
    /// # Errors
    /// A thread cannot be started, or no descriptor is left.
    pub(crate) fn start(
        listener: TcpListener,
        allowed_hosts: AllowedHosts,
        limits: Limits,
        sampler: Arc<Sampler>,
        control_refusals: Arc<ControlRefusals>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            allowed_hosts,
            limits,
            shards: sampler.shards.clone(),
            flags: sampler.flags.clone(),
            pool: sampler.pool.clone(),
            reports: Mutex::default(),
            rejections: Mutex::new(Rejections::new(limits.log_lines_per_second_max)),
            connections_evicted: AtomicU64::new(0),
            pages_refused: AtomicU64::new(0),
            control_refusals,
            pressure: sampler.pressure.clone(),
            sampler,
            draining: AtomicBool::new(false),
            released: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let wake = Arc::new(Wake::new()?);
        let pages = PageMakers::start(&shared, &wake)?;
        let (open, listening) = bounded(0);
        let event_loop = EventLoop::new(listener, Arc::clone(&shared), Arc::clone(&wake), pages, open);
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || event_loop.run())?;
        Ok(Self { address, shared, wake, listening, thread: Mutex::new(Some(thread)) })
    }

    /// The address it listens on, or listened on before it was released.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes `/readyz` answer 503 from now on.
    pub(crate) fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    /// Closes the listening socket, so that another process can have the address, and waits until it is closed. Connections that
    /// the kernel has queued are still served.
    pub(crate) fn release(&self) {
        self.shared.released.store(true, Ordering::Relaxed);
        self.wake.wake();
        // Closed without a message.
        let _ = self.listening.recv_timeout(RELEASE_MAX);
    }
}

/// Maximum time to wait until the listening socket is closed.
const RELEASE_MAX: Duration = Duration::from_secs(1);

impl Drop for Admin {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.wake.wake();
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}
