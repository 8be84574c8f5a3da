//! A shard's thread: its executor, and what it builds there.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use corelane_ring::{Ring, RingConfig, SocketFile};
use crossbeam_channel::Sender;
use futures_lite::FutureExt;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use tracing::error;

use super::{
    builder::StateFactory,
    error::StartError,
    machine::{SHARD_RING, no_executor, refused, too_few_descriptors},
};
use crate::{
    config::Config,
    connection::{Pipeline, PipelineConfig},
    http1::Names,
    mesh::Broadcast,
    registry::{EncodedLists, Publish, Registry, ShardSide, Snapshot},
    runtime::{Completions, OffShard, Runner},
    shard::{Served, Shard, ShardHandle, Sources},
    signed_token::Secret,
    telemetry::{log, metrics::ShardMetrics},
};

/// The one endpoint.
pub(super) const ENDPOINT: &str = "/mcp";

/// glommio allocates this much for file I/O on each executor, in bytes; a shard reads nothing but an eventfd.
const EXECUTOR_IO_BYTES: usize = 64 * 1024;

/// Entries of glommio's own rings.
const EXECUTOR_RING_DEPTH: usize = 32;

/// How long an executor without a task looks for one before it sleeps. Just long enough for the shard's look at the
/// executor's timers, which waits for a microsecond.
const EXECUTOR_SPIN: Duration = Duration::from_micros(10);

/// How long glommio lets tasks run before it polls its rings. When this timer fires before the first task of a round has
/// run, glommio 0.9 parks although a task is runnable: it must be longer than any pause of a thread.
const EXECUTOR_PREEMPTION: Duration = Duration::from_secs(60);

/// What a shard's thread needs to build its shard.
pub(super) struct ShardPlan {
    pub(super) number: usize,
    pub(super) registry: Arc<Registry>,
    /// Encoded from `registry`.
    pub(super) encoded: Option<Arc<EncodedLists>>,
    pub(super) state: Option<StateFactory>,
    pub(super) config: Config,
    pub(super) names: Names,
    pub(super) sources: Sources,
    pub(super) files: Vec<Arc<SocketFile>>,
    pub(super) off_shard: OffShard,
    pub(super) spin: Duration,
    pub(super) sockets_max: u32,
    pub(super) shards: usize,
    pub(super) secret: Secret,
    pub(super) broadcast: Broadcast,
}

/// A shard whose thread is to be started.
pub(super) struct Unstarted {
    pub(super) number: usize,
    pub(super) core: Placement,
    /// Taken by the shard's thread once its executor runs.
    pub(super) plan: Arc<Mutex<Option<ShardPlan>>>,
}

/// Starts a shard's thread.
pub(super) fn spawn(
    shard: &Unstarted,
    shards: usize,
    started: Sender<Result<ShardHandle, StartError>>,
    fellows: Fellows,
) -> Result<ExecutorJoinHandle<io::Result<ShardMetrics>>, StartError> {
    let name = format!("shard-{}", shard.number);
    let (core, plan) = (shard.core.clone(), Arc::clone(&shard.plan));
    let run = move || async move {
        // In a statement of its own, so that the lock is not held from here on.
        let plan = plan.lock().unwrap_or_else(PoisonError::into_inner).take();
        match plan {
            Some(plan) => plan.run(started, fellows).await,
            None => Ok(ShardMetrics::new([])),
        }
    };
    let spawn = move || {
        LocalExecutorBuilder::new(core)
            .name(&name)
            .io_memory(EXECUTOR_IO_BYTES)
            .ring_depth(EXECUTOR_RING_DEPTH)
            .spin_before_park(EXECUTOR_SPIN)
            .preempt_timer(EXECUTOR_PREEMPTION)
            .spawn(run)
    };
    // glommio reads the machine's cores from files, and panics when it may not open one more.
    match panic::catch_unwind(AssertUnwindSafe(spawn)) {
        Ok(Ok(shard)) => Ok(shard),
        Ok(Err(error)) => Err(no_executor(Some(error), shards)),
        Err(_) => Err(too_few_descriptors(shards)),
    }
}

/// All shards of a server, for the one that fails: a server with a lane less would look well and refuse a part of its
/// clients, so the others are told to end too.
#[derive(Clone, Default)]
pub(super) struct Fellows(Arc<OnceLock<Vec<ShardHandle>>>);

/// Tells a shard's fellows when it ends, and everybody else who has its handle.
pub(super) struct LastWill(Fellows, ShardHandle);

impl Fellows {
    pub(super) fn set(&self, handles: Vec<ShardHandle>) {
        // Set once, by the one that started them.
        let _ = self.0.set(handles);
    }
}

impl Drop for LastWill {
    /// Also when the shard's thread panics.
    fn drop(&mut self) {
        self.1.end();
        for handle in self.0.0.get().into_iter().flatten() {
            handle.drain();
        }
    }
}

impl ShardPlan {
    pub(super) async fn run(
        self,
        started: Sender<Result<ShardHandle, StartError>>,
        fellows: Fellows,
    ) -> io::Result<ShardMetrics> {
        let _files = self.files.clone();
        let number = self.number;
        match self.build() {
            Ok((shard, handle)) => {
                let _ = started.send(Ok(handle.clone()));
                drop(started);
                let _will = LastWill(fellows, handle);
                AssertUnwindSafe(shard.run()).catch_unwind().await.unwrap_or_else(|panic| {
                    let backtrace = log::take_backtrace();
                    error!(shard = number, backtrace, "shard_panicked: its thread ends, the server drains");
                    panic::resume_unwind(panic)
                })
            }
            Err(error) => {
                let _ = started.send(Err(error));
                Ok(ShardMetrics::new([]))
            }
        }
    }

    pub(super) fn build(self) -> Result<(Shard, ShardHandle), StartError> {
        let limits = self.config.limits;
        let build = || Ring::new(RingConfig { sockets_max: self.sockets_max, ..SHARD_RING });
        let ring =
            corelane_ring::retry_for_memory(build).map_err(|error| refused("a ring", error, self.shards))?;
        let handle = ShardHandle::new(self.number, &ring, limits.broadcast_queue_max);
        let waker = ring.waker();
        let wake = Arc::new(move || waker.wake());
        let completions = Completions::new(limits.calls_in_flight_max, limits.notes_queue_max, wake);
        let (registry, encoded) = (&self.registry, self.encoded.as_ref());
        let snapshot = Snapshot::build_for(registry, &limits, &self.secret, self.number, None, encoded)?;
        let state = self.state.map(|make| make(self.number));
        let publisher: Arc<dyn Publish> = Arc::new(self.broadcast.clone());
        let side = ShardSide { state, publisher: Some(publisher), ..ShardSide::default() };
        let runner = Runner::new(completions, self.off_shard, side);
        let pipeline_config = PipelineConfig {
            endpoint: ENDPOINT,
            names: self.names,
            shard: self.number,
            shards: self.shards,
            secret: self.secret,
            broadcast: self.broadcast,
            limits: &limits,
        };
        let mut pipeline = Pipeline::new(pipeline_config, snapshot.clone(), runner);
        handle.begin(Served { snapshot, tools: pipeline.metrics().tools().clone() });
        let shard =
            Shard::new(ring, pipeline, handle.clone(), self.sources, limits, self.spin, self.sockets_max);
        Ok((shard, handle))
    }
}
