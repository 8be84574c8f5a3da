//! A server that runs, and its end.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use glommio::{ExecutorJoinHandle, Placement};

use super::{
    error::{StartError, resource},
    machine::no_executor,
    placement::Placements,
    shard_thread::{Fellows, ShardPlan, Unstarted, spawn},
};
use crate::{
    admin::Admin,
    config::{Limits, Listen},
    http1::Names,
    registry::Registry,
    runtime::PoolObserver,
    shard::ShardHandle,
    telemetry::metrics::ShardMetrics,
};

/// How long, and how often, an executor is tried again that the kernel has no memory for.
const EXECUTOR_RETRY_MAX: Duration = Duration::from_secs(1);

const EXECUTOR_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A server that runs. Dropping this does not end it: [`Stopper::drain`] does, and [`Running::join`] waits for the end.
pub struct Running {
    pub(super) listeners: Vec<Listen>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) placement: String,
    pub(super) handles: Vec<ShardHandle>,
    pub(super) shards: Vec<ExecutorJoinHandle<io::Result<ShardMetrics>>>,
    pub(super) admin: Option<Arc<Admin>>,
    /// Connections of one shard that the descriptor limit leaves room for.
    pub(super) connections_allowed: Option<u32>,
}

/// Ends a running server from any thread.
#[derive(Clone)]
pub struct Stopper {
    pub(super) handles: Vec<ShardHandle>,
    pub(super) admin: Weak<Admin>,
}

impl Stopper {
    /// From now on `/readyz` answers 503; everything else goes on.
    pub fn unready(&self) {
        if let Some(admin) = self.admin.upgrade() {
            admin.drain();
        }
    }

    /// Takes no more connections, finishes what is in flight, ends.
    pub fn drain(&self) {
        self.unready();
        self.handles.iter().for_each(ShardHandle::drain);
    }
}

impl Running {
    /// Where it listens; real ports where port 0 was asked for.
    #[must_use]
    pub fn listeners(&self) -> &[Listen] {
        &self.listeners
    }

    /// The TCP addresses among them that speak HTTP.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where its admin interface listens, if it has one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address())
    }

    pub(super) fn start_shards(
        &mut self,
        placement: &Placements,
        mut plan: impl FnMut(&Arc<Registry>, usize) -> ShardPlan,
        registry: &Arc<Registry>,
    ) -> Result<Vec<ShardHandle>, StartError> {
        let fellows = Fellows::default();
        let shards = placement.shards.len();
        let mut unstarted: Vec<Unstarted> = Vec::new();
        for (number, &core) in placement.shards.iter().enumerate() {
            let core = if placement.pinned { Placement::Fixed(core) } else { Placement::Unbound };
            unstarted.push(Unstarted {
                number,
                core,
                plan: Arc::new(Mutex::new(Some(plan(registry, number)))),
            });
        }
        // The memory of executors that are gone is still counted for a moment.
        let until = Instant::now() + EXECUTOR_RETRY_MAX;
        let failed = loop {
            let (ready, failed) = self.start_some(&mut unstarted, shards, &fellows);
            // Also after a failure: the shards that did start must be ended.
            self.handles.extend(ready);
            match failed {
                Some(StartError::Memlock { .. }) if Instant::now() < until && !unstarted.is_empty() => {
                    thread::sleep(EXECUTOR_RETRY_INTERVAL);
                }
                failed => break failed,
            }
        };
        // They come as they are ready; messages are addressed by their numbers.
        self.handles.sort_by_key(ShardHandle::number);
        match failed {
            Some(error) => Err(error),
            None => {
                fellows.set(self.handles.clone());
                Ok(self.handles.clone())
            }
        }
    }

    /// Starts those that have not been: the handles of those that run, and the first failure. Where the executor could not be
    /// made the shard stays among them.
    pub(super) fn start_some(
        &mut self,
        unstarted: &mut Vec<Unstarted>,
        shards: usize,
        fellows: &Fellows,
    ) -> (Vec<ShardHandle>, Option<StartError>) {
        let (started, results) = unbounded();
        let (mut handles, mut failed) = (Vec::new(), None);
        let mut joins = Vec::new();
        for shard in unstarted.iter() {
            match spawn(shard, shards, started.clone(), fellows.clone()) {
                Ok(join) => joins.push(join),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(started);
        // Each thread sends one result, or ends without.
        for result in results {
            match result {
                Ok(handle) => handles.push(handle),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for (shard, join) in std::mem::take(unstarted).into_iter().zip(joins) {
            if shard.plan.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                self.shards.push(join);
                continue;
            }
            let reason = join.join().err();
            failed = failed.or_else(|| Some(no_executor(reason, shards)));
            unstarted.push(shard);
        }
        (handles, failed)
    }

    pub(super) fn start_admin(
        &mut self,
        listener: Option<TcpListener>,
        names: &Names,
        limits: Limits,
        pool: PoolObserver,
    ) -> Result<(), StartError> {
        if let Some(listener) = listener {
            let admin = Admin::start(listener, names.clone(), limits, self.handles.clone(), pool);
            self.admin = Some(Arc::new(admin.map_err(|error| resource("the admin interface", &error))?));
        }
        Ok(())
    }

    /// A handle that ends it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper {
            handles: self.handles.clone(),
            admin: self.admin.as_ref().map(Arc::downgrade).unwrap_or_default(),
        }
    }

    /// Waits for its end. Returns what all shards measured.
    ///
    /// # Errors
    /// When a shard failed.
    pub fn join(self) -> Result<ShardMetrics, StartError> {
        let mut all: Option<ShardMetrics> = None;
        for shard in self.shards {
            let metrics = shard
                .join()
                .map_err(|error| resource("(or go on with) a shard", &error))?
                .map_err(|error| resource("(or go on with) a ring", &error))?;
            match &mut all {
                Some(all) => all.merge(&metrics),
                None => all = Some(metrics),
            }
        }
        Ok(all.unwrap_or_else(|| ShardMetrics::new([])))
    }
}
