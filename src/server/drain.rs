//! The start of the drain, by a signal or through the control socket.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use sd_notify::NotifyState;
use tracing::{info, warn};

use super::running::Stopper;
use crate::{admin::Drain, config::Limits};

/// Starts the drain of a server, once.
pub(super) struct DrainOnce {
    stop: Stopper,
    delay: Duration,
    timeout: Duration,
    has_started: AtomicBool,
}

impl DrainOnce {
    /// The drain of a server, which begins `drain_delay` after its start.
    pub(super) fn new(stop: Stopper, limits: &Limits) -> Self {
        let (delay, timeout) = (limits.drain_delay, limits.drain_timeout);
        Self { stop, delay, timeout, has_started: AtomicBool::new(false) }
    }
}

impl Drain for DrainOnce {
    /// Makes the server unready at once and starts the drain after the delay, on a thread of its own.
    fn start(&self, signal: Option<i32>) -> bool {
        if self.has_started.swap(true, Ordering::Relaxed) {
            return false;
        }
        notify_service_manager(&[NotifyState::Stopping]);
        let (delay, drain_timeout) = (self.delay, self.timeout);
        if delay.is_zero() {
            info!(signal, ?drain_timeout, "drain began");
            self.stop.drain();
            return true;
        }
        self.stop.unready();
        info!(signal, ?delay, ?drain_timeout, "not ready: drain begins after drain_delay");
        let later = self.stop.clone();
        let waiting = thread::Builder::new().name("drain-delay".to_owned()).spawn(move || {
            thread::sleep(delay);
            info!(?drain_timeout, "drain began");
            later.drain();
        });
        if waiting.is_err() {
            warn!("drain begins without drain_delay: no thread could be started for it");
            self.stop.drain();
        }
        true
    }

    fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Relaxed)
    }
}

/// Reports a state to systemd, where `NOTIFY_SOCKET` is set.
pub(super) fn notify_service_manager(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(false, state) {
        warn!(%error, "cannot report the server's state to NOTIFY_SOCKET");
    }
}
