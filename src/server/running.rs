//! A running server: its shards, how to stop it, and its end.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use glommio::Placement;

use super::{
    error::{StartError, resource},
    executor::message,
    machine::executor_error,
    placement::Placements,
    shard_thread::{ShardGroup, ShardPlan, ThreadError, Unstarted, spawn},
};
use crate::{
    admin::{Admin, ControlRefusals, ControlServer, Drain, Sampler},
    config::{Limits, Listen, Percent},
    http1::AllowedHosts,
    policy::{Flag, FlagError, Flags},
    registry::Registry,
    shard::{FlagControl, ShardHandle},
    telemetry::metrics::ShardMetrics,
};

/// How long creating an executor is retried when the kernel has no memory for it.
const EXECUTOR_RETRY_MAX: Duration = Duration::from_secs(1);

/// Time between two attempts.
const EXECUTOR_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A running server. Dropping this does not stop it: [`Stopper::drain`] does, and [`Running::join`] waits until it has stopped.
pub struct Running {
    pub(super) listeners: Vec<Listen>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) placement: String,
    pub(super) handles: Vec<ShardHandle>,
    /// The threads of the shards, by shard number.
    pub(super) shards: Vec<(usize, JoinHandle<Result<ShardMetrics, ThreadError>>)>,
    pub(super) admin: Option<Arc<Admin>>,
    /// The drain, which is started once; set when the server has started.
    pub(super) drain: Option<Arc<dyn Drain>>,
    pub(super) control: Option<ControlServer>,
    pub(super) flags: FlagControl,
    /// Connections of one shard that the descriptor limit allows.
    pub(super) connections_allowed: Option<u32>,
}

/// Stops a running server, from any thread.
#[derive(Clone)]
pub struct Stopper {
    pub(super) handles: Vec<ShardHandle>,
    pub(super) admin: Weak<Admin>,
}

impl Stopper {
    /// Makes `/readyz` answer 503 from now on, and nothing else: requests are still served.
    pub fn unready(&self) {
        if let Some(admin) = self.admin.upgrade() {
            admin.drain();
        }
    }

    /// Starts the drain: closes the listeners, finishes calls in flight, then stops. The admin address is free when this returns.
    pub fn drain(&self) {
        self.unready();
        self.handles.iter().for_each(ShardHandle::drain);
        if let Some(admin) = self.admin.upgrade() {
            admin.release();
        }
    }
}

impl Running {
    /// The addresses it listens on, with the real port where port 0 was configured.
    #[must_use]
    pub fn listeners(&self) -> &[Listen] {
        &self.listeners
    }

    /// The TCP addresses that serve HTTP.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the admin interface, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address())
    }

    /// The flags of `[performance]` that are on for all sessions and connections.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.flags.get()
    }

    /// Turns a flag on or off for all sessions and connections, within one turn of each shard. Connections and calls in flight go on.
    ///
    /// # Errors
    /// The flag takes effect at a start only, or it was rolled back and is to be on.
    pub fn set_flag(&self, flag: Flag, is_on: bool) -> Result<(), FlagError> {
        self.flags.set(flag, is_on)
    }

    /// Changes the share of a flag: it is on for its cohort, that part of the sessions and connections, and off for all others. A
    /// cohort that is slower or fails more often than the others is rolled back: the share becomes 0 until [`Running::rearm_flag`].
    /// Returns the share before.
    ///
    /// # Errors
    /// As [`Running::set_flag`], or the share is above 100 %.
    pub fn set_flag_share(&self, flag: Flag, share: Percent) -> Result<Percent, FlagError> {
        self.flags.set_share(flag, share)
    }

    /// Allows a flag that was rolled back to be on again. Returns whether it was rolled back.
    ///
    /// # Errors
    /// The flag takes effect at a start only.
    pub fn rearm_flag(&self, flag: Flag) -> Result<bool, FlagError> {
        self.flags.rearm(flag)
    }

    /// Starts all shards, each on a thread with a stack of `stack_bytes`, and returns their handles by number.
    ///
    /// # Errors
    /// The first failure; shards that did start are then among `self.handles`.
    pub(super) fn start_shards(
        &mut self,
        placement: &Placements,
        stack_bytes: usize,
        mut plan: impl FnMut(&Arc<Registry>, usize) -> ShardPlan,
        registry: &Arc<Registry>,
    ) -> Result<Vec<ShardHandle>, StartError> {
        let group = ShardGroup::default();
        let shards = placement.shards.len();
        let mut unstarted: Vec<Unstarted> = Vec::new();
        for (number, &core) in placement.shards.iter().enumerate() {
            let core = if placement.pinned { Placement::Fixed(core) } else { Placement::Unbound };
            unstarted.push(Unstarted {
                number,
                core,
                stack_bytes,
                plan: Arc::new(Mutex::new(Some(plan(registry, number)))),
            });
        }
        // The kernel frees the locked memory of closed rings late.
        let deadline = Instant::now() + EXECUTOR_RETRY_MAX;
        let failed = loop {
            let (ready, failed) = self.start_some(&mut unstarted, shards, &group);
            // Also after a failure: the caller must stop the shards that did start.
            self.handles.extend(ready);
            match failed {
                Some(StartError::Memlock { .. }) if Instant::now() < deadline && !unstarted.is_empty() => {
                    thread::sleep(EXECUTOR_RETRY_INTERVAL);
                }
                failed => break failed,
            }
        };
        // Shards report in any order.
        self.handles.sort_by_key(ShardHandle::number);
        match failed {
            Some(error) => Err(error),
            None => {
                if cfg!(debug_assertions) {
                    check_numbers(self.handles.iter().map(ShardHandle::number));
                }
                group.set(self.handles.clone());
                Ok(self.handles.clone())
            }
        }
    }

    /// Starts the shards in `unstarted`. Returns the handles of those that run, and the first failure. A shard whose
    /// executor could not be created stays in `unstarted`.
    pub(super) fn start_some(
        &mut self,
        unstarted: &mut Vec<Unstarted>,
        shards: usize,
        group: &ShardGroup,
    ) -> (Vec<ShardHandle>, Option<StartError>) {
        let (started, results) = unbounded();
        let (mut handles, mut failed) = (Vec::new(), None);
        let mut joins = Vec::new();
        for shard in unstarted.iter() {
            match spawn(shard, shards, started.clone(), group.clone()) {
                Ok(join) => joins.push(join),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(started);
        // Each thread sends one result, or exits without one.
        for result in results {
            match result {
                Ok(handle) => handles.push(handle),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for (shard, join) in std::mem::take(unstarted).into_iter().zip(joins) {
            if shard.plan.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                self.shards.push((shard.number, join));
                continue;
            }
            let reason = match join.join() {
                Ok(Err(ThreadError::NoExecutor(error))) => error,
                _ => executor_error(None, shards),
            };
            failed = failed.or(Some(reason));
            unstarted.push(shard);
        }
        (handles, failed)
    }

    pub(super) fn start_admin(
        &mut self,
        listener: Option<TcpListener>,
        allowed_hosts: AllowedHosts,
        limits: Limits,
        sampler: Arc<Sampler>,
        control_refusals: Arc<ControlRefusals>,
    ) -> Result<(), StartError> {
        if let Some(listener) = listener {
            let admin = Admin::start(listener, allowed_hosts, limits, sampler, control_refusals);
            self.admin = Some(Arc::new(admin.map_err(|error| resource("the admin interface", &error))?));
        }
        Ok(())
    }

    /// The path of the control socket, if there is one.
    #[must_use]
    pub fn control_path(&self) -> Option<&Path> {
        self.control.as_ref().map(ControlServer::path)
    }

    /// A handle that stops the server.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper {
            handles: self.handles.clone(),
            admin: self.admin.as_ref().map(Arc::downgrade).unwrap_or_default(),
        }
    }

    /// Waits until the server has stopped. Returns the merged metrics of all shards.
    ///
    /// # Errors
    /// A shard failed: its thread panicked, or the kernel rejected an operation of its ring.
    pub fn join(self) -> Result<ShardMetrics, StartError> {
        let mut all: Option<ShardMetrics> = None;
        for (shard, thread) in self.shards {
            let failed = |reason| StartError::ShardFailed { shard, reason };
            let metrics = match thread.join() {
                Ok(Ok(metrics)) => metrics,
                Ok(Err(ThreadError::Failed(reason))) => return Err(failed(reason)),
                Ok(Err(ThreadError::NoExecutor(error))) => return Err(error),
                Err(panic) => return Err(failed(format!("panicked: {}", message(&*panic)))),
            };
            match &mut all {
                Some(all) => all.merge(&metrics),
                None => all = Some(metrics),
            }
        }
        Ok(all.unwrap_or_else(|| ShardMetrics::new([])))
    }
}

/// Checks that the shards' numbers are their positions: mesh messages are addressed by shard number.
///
/// # Panics
/// A number is not its position.
fn check_numbers(numbers: impl Iterator<Item = usize>) {
    for (position, number) in numbers.enumerate() {
        assert_eq!(number, position, "the handles of the shards are not in order");
    }
}

#[cfg(test)]
mod tests {
    use super::check_numbers;

    #[test]
    fn shards_out_of_order_are_found() {
        check_numbers(0..3);
        for numbers in [[1, 0, 2], [0, 2, 2], [1, 2, 3]] {
            assert!(std::panic::catch_unwind(|| check_numbers(numbers.into_iter())).is_err(), "{numbers:?}");
        }
    }
}
