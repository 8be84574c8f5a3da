//! A shard's thread: its executor, and the shard built on it.

use std::{
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use corelane_ring::{Ring, RingConfig, SocketFile};
use crossbeam_channel::Sender;
use futures_lite::FutureExt;
use glommio::Placement;
use tracing::{error, warn};

use super::{
    builder::StateFactory,
    error::StartError,
    executor::Executor,
    machine::{SHARD_RING, executor_error, system_error},
};
use crate::{
    call::{Publish, ShardContext},
    config::Config,
    connection::{Pipeline, PipelineConfig},
    http1::AllowedHosts,
    memory::MemoryPressure,
    mesh::Broadcast,
    registry::{EncodedLists, Registry, Snapshot},
    runtime::{Completions, Runner, WorkerPools},
    shard::{Served, Shard, ShardHandle, Sources},
    signed_token::SigningKey,
    telemetry::{
        log::{self, RateLimit},
        metrics::ShardMetrics,
    },
};

/// Path of the MCP endpoint.
pub(super) const ENDPOINT: &str = "/mcp";

/// Inputs from which a shard's thread builds its shard.
pub(super) struct ShardPlan {
    pub(super) number: usize,
    pub(super) registry: Arc<Registry>,
    /// The lists of `registry`, encoded once for all shards.
    pub(super) encoded: Option<Arc<EncodedLists>>,
    pub(super) state: Option<StateFactory>,
    pub(super) config: Config,
    pub(super) allowed_hosts: AllowedHosts,
    pub(super) sources: Sources,
    pub(super) files: Vec<Arc<SocketFile>>,
    pub(super) off_shard: WorkerPools,
    pub(super) spin: Duration,
    pub(super) sockets_max: u32,
    pub(super) shards: usize,
    pub(super) signing_key: SigningKey,
    pub(super) broadcast: Broadcast,
    pub(super) pressure: MemoryPressure,
}

/// A shard whose thread has not been started.
pub(super) struct Unstarted {
    pub(super) number: usize,
    pub(super) core: Placement,
    /// Stack of the thread, in bytes.
    pub(super) stack_bytes: usize,
    /// Taken by the shard's thread once its executor runs; still there if the executor could not be created.
    pub(super) plan: Arc<Mutex<Option<ShardPlan>>>,
}

/// Why a shard's thread ended without metrics.
pub(super) enum ThreadError {
    /// The executor could not be created, and the plan was not taken.
    NoExecutor(StartError),
    /// The shard failed while it ran.
    Failed(String),
}

/// Starts a shard's thread, which sends the shard's handle or its error to `started`.
///
/// # Errors
/// The thread could not be created.
pub(super) fn spawn(
    shard: &Unstarted,
    shards: usize,
    started: Sender<Result<ShardHandle, StartError>>,
    group: ShardGroup,
) -> Result<JoinHandle<Result<ShardMetrics, ThreadError>>, StartError> {
    let number = shard.number;
    let (core, plan) = (shard.core.clone(), Arc::clone(&shard.plan));
    let run = move || {
        let executor =
            Executor::new(core).map_err(|reason| ThreadError::NoExecutor(executor_error(reason, shards)))?;
        // A statement of its own, so that the lock is released before the shard runs.
        let plan = plan.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(plan) = plan else { return Ok(ShardMetrics::new([])) };
        let mut limit = RateLimit::new(plan.config.limits.log_lines_per_second_max);
        let on_panic = move |message: &str| {
            if let Some(suppressed) = limit.admit("executor_resumed", Instant::now()) {
                let suppressed = (suppressed > 0).then_some(suppressed);
                warn!(shard = number, detail = message, suppressed, "executor_resumed");
            }
        };
        match executor.run(plan.run(started, group), on_panic) {
            Ok(end) => end.map_err(|error| ThreadError::Failed(error.to_string())),
            Err(message) => Err(ThreadError::Failed(message)),
        }
    };
    let name = format!("shard-{number}");
    let thread = thread::Builder::new().name(name).stack_size(shard.stack_bytes);
    thread.spawn(run).map_err(|error| system_error("a shard", error, shards))
}

/// The handles of all shards of a server. When one shard exits, the others drain: a server with a shard less would look healthy
/// and reject a part of its clients.
#[derive(Clone, Default)]
pub(super) struct ShardGroup(Arc<OnceLock<Vec<ShardHandle>>>);

/// Marks a shard as ended and drains the shards of its group, when dropped.
pub(super) struct DrainOnDrop(ShardGroup, ShardHandle);

impl ShardGroup {
    /// Sets the handles, once all shards run.
    pub(super) fn set(&self, handles: Vec<ShardHandle>) {
        // Set once, by `Running::start_shards`.
        let _ = self.0.set(handles);
    }
}

impl Drop for DrainOnDrop {
    /// Runs also when the shard's thread panics.
    fn drop(&mut self) {
        self.1.end();
        for handle in self.0.0.get().into_iter().flatten() {
            handle.drain();
        }
    }
}

impl ShardPlan {
    /// Builds the shard, sends its handle or its error, and runs it until it has drained.
    ///
    /// # Errors
    /// The kernel rejected an operation of the ring.
    async fn run(
        self,
        started: Sender<Result<ShardHandle, StartError>>,
        group: ShardGroup,
    ) -> io::Result<ShardMetrics> {
        let _files = self.files.clone();
        let number = self.number;
        match self.build() {
            Ok((shard, handle)) => {
                let _ = started.send(Ok(handle.clone()));
                drop(started);
                let _drain = DrainOnDrop(group, handle);
                AssertUnwindSafe(shard.run()).catch_unwind().await.unwrap_or_else(|panic| {
                    let detail = log::panic_excerpt(log::panic_message(&*panic));
                    let backtrace = log::take_backtrace();
                    error!(
                        shard = number,
                        detail, backtrace, "shard_panicked: its thread ends, the server drains"
                    );
                    // The executor is not to be resumed, as after a panic of its own.
                    Err(io::Error::other(detail))
                })
            }
            Err(error) => {
                let _ = started.send(Err(error));
                Ok(ShardMetrics::new([]))
            }
        }
    }

    /// Builds the shard on the thread that will run it.
    fn build(self) -> Result<(Shard, ShardHandle), StartError> {
        let limits = self.config.limits;
        let build = || Ring::new(RingConfig { sockets_max: self.sockets_max, ..SHARD_RING });
        let ring = corelane_ring::retry_for_memory(build)
            .map_err(|error| system_error("a ring", error, self.shards))?;
        let handle = ShardHandle::new(self.number, &ring, limits.broadcast_queue_max);
        let waker = ring.waker();
        let wake = Arc::new(move || waker.wake());
        let completions = Completions::new(limits.calls_in_flight_max, limits.notes_queue_max, wake);
        let (registry, encoded) = (&self.registry, self.encoded.as_ref());
        let snapshot = Snapshot::build_for(registry, &limits, &self.signing_key, self.number, None, encoded)?;
        let state = self.state.map(|make| make(self.number));
        let publisher: Arc<dyn Publish> = Arc::new(self.broadcast.clone());
        let side = ShardContext { state, publisher: Some(publisher) };
        let runner = Runner::new(completions, self.off_shard, side);
        let pipeline_config = PipelineConfig {
            endpoint: ENDPOINT,
            allowed_hosts: self.allowed_hosts,
            proxy: self.config.proxy,
            shard: self.number,
            shards: self.shards,
            signing_key: self.signing_key,
            broadcast: self.broadcast,
            pressure: self.pressure,
            limits: &limits,
        };
        let mut pipeline = Pipeline::new(pipeline_config, snapshot.clone(), runner);
        handle.begin(Served { snapshot, tools: pipeline.metrics().tools().clone() });
        let shard =
            Shard::new(ring, pipeline, handle.clone(), self.sources, limits, self.spin, self.sockets_max);
        Ok((shard, handle))
    }
}
