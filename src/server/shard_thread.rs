//! A shard's thread: its executor, and the shard built on it.

use std::{
    cell::{OnceCell, RefCell},
    collections::VecDeque,
    mem,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use corelane_ring::{Ring, RingConfig, SocketFile};
use crossbeam_channel::Sender;
use futures_lite::FutureExt;
use glommio::{GlommioError, Placement};
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
    shard::{FlagControl, Remains, Served, Shard, ShardHandle, Sources},
    signed_token::SigningKey,
    telemetry::{
        log::{self, RateLimit},
        metrics::ShardMetrics,
    },
};

/// Path of the MCP endpoint.
pub(super) const ENDPOINT: &str = "/mcp";

/// Number of failures of shards within [`FAILURES_WITHIN`] after which the server drains and exits.
const FAILURES_MAX: usize = 3;

/// See [`FAILURES_MAX`].
const FAILURES_WITHIN: Duration = Duration::from_secs(60);

/// How long creating the executor of a restarted shard is retried.
const RESTART_MAX: Duration = Duration::from_secs(5);

/// Time between two attempts.
const RESTART_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Inputs from which a shard's thread builds its shard.
pub(super) struct ShardPlan {
    pub(super) number: usize,
    pub(super) registry: Arc<Registry>,
    /// The lists of `registry`, encoded once for all shards.
    pub(super) encoded: Option<Arc<EncodedLists>>,
    pub(super) state: Option<StateFactory>,
    pub(super) config: Config,
    pub(super) allowed_hosts: AllowedHosts,
    /// Of the first shard; a successor gets those of the failed one.
    pub(super) sources: Sources,
    /// Held until the thread exits: the last to exit removes the files.
    pub(super) _files: Vec<Arc<SocketFile>>,
    pub(super) off_shard: WorkerPools,
    pub(super) spin: Duration,
    pub(super) sockets_max: u32,
    pub(super) shards: usize,
    pub(super) signing_key: SigningKey,
    pub(super) broadcast: Broadcast,
    pub(super) pressure: MemoryPressure,
    pub(super) flags: FlagControl,
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
        let create = || Executor::new(core.clone());
        let executor = create().map_err(|reason| ThreadError::NoExecutor(executor_error(reason, shards)))?;
        // A statement of its own, so that the lock is released before the shard runs.
        let plan = plan.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(plan) = plan else { return Ok(ShardMetrics::new([])) };
        let mut lives = Lives::new(plan, started, group);
        let outcome = lives.run(executor, create);
        // Drains the other shards where this one failed for good.
        drop(lives);
        outcome.map_err(ThreadError::Failed)
    };
    let name = format!("shard-{number}");
    let thread = thread::Builder::new().name(name).stack_size(shard.stack_bytes);
    thread.spawn(run).map_err(|error| system_error("a shard", error, shards))
}

/// The shards of a server, for each of their threads. When one exits, the others drain: a server with a shard less would look
/// healthy and reject a part of its clients.
#[derive(Clone, Default)]
pub(super) struct ShardGroup {
    handles: Arc<OnceLock<Vec<ShardHandle>>>,
    /// The times of the last failures of a shard.
    failures: Arc<Mutex<VecDeque<Instant>>>,
}

/// Marks a shard as ended and drains the shards of its group, when dropped.
struct DrainOnDrop(ShardGroup, ShardHandle);

impl ShardGroup {
    /// Sets the handles, once all shards run.
    pub(super) fn set(&self, handles: Vec<ShardHandle>) {
        // Set once, by `Running::start_shards`.
        let _ = self.handles.set(handles);
    }

    /// Records a failure. Returns whether the shard may be restarted.
    fn add_failure(&self, now: Instant) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|at| now.saturating_duration_since(*at) < FAILURES_WITHIN);
        failures.push_back(now);
        failures.len() < FAILURES_MAX && self.handles.get().is_some()
    }
}

impl Drop for DrainOnDrop {
    /// Runs also when the shard's thread panics.
    fn drop(&mut self) {
        self.1.end();
        for handle in self.0.handles.get().into_iter().flatten() {
            handle.drain();
        }
    }
}

/// The shards of one number that run on one thread, each after the failure of the one before.
struct Lives {
    plan: Rc<ShardPlan>,
    started: Option<Sender<Result<ShardHandle, StartError>>>,
    group: ShardGroup,
    /// Set once the first shard runs. Its drop drains the group.
    drain: Rc<OnceCell<DrainOnDrop>>,
    /// The sources of the first shard, until it is built.
    sources: Sources,
    /// Number of shards that have failed.
    failed: u32,
    remains: Rc<RefCell<Option<Remains>>>,
}

/// A running shard, which becomes what remains of it when its task is dropped.
struct Running {
    shard: Option<Shard>,
    remains: Rc<RefCell<Option<Remains>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(shard) = self.shard.take() else { return };
        // A panic leaves no remains, and the shard is not restarted.
        if let Ok(remains) = panic::catch_unwind(AssertUnwindSafe(|| shard.into_remains())) {
            *self.remains.borrow_mut() = Some(remains);
        }
    }
}

impl Lives {
    fn new(mut plan: ShardPlan, started: Sender<Result<ShardHandle, StartError>>, group: ShardGroup) -> Self {
        let sources = mem::take(&mut plan.sources);
        let (plan, started, drain, remains) = (Rc::new(plan), Some(started), Rc::default(), Rc::default());
        Self { plan, started, group, drain, sources, failed: 0, remains }
    }

    /// Runs a shard until it has drained; after a failure, its successor on a new executor.
    ///
    /// # Errors
    /// Why the last shard failed, and why it has no successor.
    fn run(
        &mut self,
        mut executor: Executor,
        create: impl Fn() -> Result<Executor, Option<GlommioError<()>>>,
    ) -> Result<ShardMetrics, String> {
        loop {
            let reason = match self.run_once(&executor) {
                Ok(metrics) => return Ok(metrics),
                Err(reason) => reason,
            };
            // Closes its rings.
            if panic::catch_unwind(AssertUnwindSafe(|| drop(executor))).is_err() {
                return Err(reason);
            }
            let number = self.plan.number;
            let backtrace = log::take_backtrace();
            let Some(handle) = self.drain.get().map(|DrainOnDrop(_, handle)| handle) else {
                return Err(reason);
            };
            let may_restart = self.group.add_failure(Instant::now());
            if !may_restart || handle.is_draining() || self.remains.borrow().is_none() {
                let reason = if may_restart {
                    reason
                } else {
                    format!("{reason} (failure {FAILURES_MAX} within a minute)")
                };
                error!(
                    shard = number,
                    detail = reason,
                    backtrace,
                    "shard_failed: it is not restarted, the server drains"
                );
                return Err(reason);
            }
            error!(
                shard = number,
                detail = reason,
                backtrace,
                "shard_failed: it is restarted; its connections, calls and sessions are lost"
            );
            self.failed += 1;
            self.plan.broadcast.lives().restart(number);
            let messages = handle.fail();
            if let Some(remains) = self.remains.borrow_mut().as_mut() {
                remains.handle(messages, &self.plan.broadcast);
            }
            executor = retry_executor(&create).ok_or(reason)?;
        }
    }

    /// Runs one shard until it has drained.
    ///
    /// # Errors
    /// Why it failed.
    fn run_once(&mut self, executor: &Executor) -> Result<ShardMetrics, String> {
        let plan = Rc::clone(&self.plan);
        let (started, group) = (self.started.take(), self.group.clone());
        let (remains, drain, life) = (Rc::clone(&self.remains), Rc::clone(&self.drain), self.failed);
        let mut taken = self.remains.borrow_mut().take();
        let sources = mem::take(match &mut taken {
            Some(remains) => &mut remains.sources,
            None => &mut self.sources,
        });
        let task = async move {
            let before = drain.get().map(|DrainOnDrop(_, handle)| handle.clone());
            let (mut shard, handle) = match plan.build(before, sources) {
                Ok(built) => built,
                Err(error) => {
                    let reason = error.to_string();
                    // The error of the first shard is reported by the start.
                    return match started.map(|started| started.send(Err(error))) {
                        Some(_) => Ok(ShardMetrics::new([])),
                        None => Err(reason),
                    };
                }
            };
            if let Some(remains) = taken {
                shard.succeed(remains, life);
            }
            handle.revive();
            if let Some(started) = started {
                let _ = started.send(Ok(handle.clone()));
            }
            drain.get_or_init(|| DrainOnDrop(group, handle));
            run_shard(shard, remains).await
        };
        let mut limit = RateLimit::new(self.plan.config.limits.log_lines_per_second_max);
        let (number, drain) = (self.plan.number, Rc::clone(&self.drain));
        let on_panic = move |message: &str| {
            if let Some(DrainOnDrop(_, handle)) = drain.get() {
                handle.add_executor_resumed();
            }
            if let Some(suppressed) = limit.admit("executor_resumed", Instant::now()) {
                let suppressed = (suppressed > 0).then_some(suppressed);
                warn!(shard = number, detail = message, suppressed, "executor_resumed");
            }
        };
        executor.run(task, on_panic)?
    }
}

/// Runs a shard until it has drained. One that fails, or is dropped, becomes `remains`.
///
/// # Errors
/// Why it failed.
async fn run_shard(shard: Shard, remains: Rc<RefCell<Option<Remains>>>) -> Result<ShardMetrics, String> {
    let mut running = Running { shard: Some(shard), remains };
    let Some(shard) = &mut running.shard else { return Ok(ShardMetrics::new([])) };
    match AssertUnwindSafe(shard.run()).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error.to_string()),
        Err(panic) => {
            return Err(format!("panicked: {}", log::panic_excerpt(log::panic_message(&*panic))));
        }
    }
    match running.shard.take() {
        Some(shard) => Ok(shard.finish().await),
        None => Ok(ShardMetrics::new([])),
    }
}

/// Creates an executor for a successor. The kernel frees the locked memory of closed rings late.
fn retry_executor(create: impl Fn() -> Result<Executor, Option<GlommioError<()>>>) -> Option<Executor> {
    let until = Instant::now() + RESTART_MAX;
    loop {
        match create() {
            Ok(executor) => return Some(executor),
            Err(_) if Instant::now() < until => thread::sleep(RESTART_RETRY_INTERVAL),
            Err(_) => return None,
        }
    }
}

impl ShardPlan {
    /// Builds the shard on the thread that will run it; the successor of `before`, where that has failed.
    fn build(
        &self,
        before: Option<ShardHandle>,
        sources: Sources,
    ) -> Result<(Shard, ShardHandle), StartError> {
        let limits = self.config.limits;
        let config = RingConfig { sockets_max: self.sockets_max, ..SHARD_RING };
        let build = || match &before {
            Some(before) => Ring::in_place_of(before.waker(), config),
            None => Ring::new(config),
        };
        let ring = corelane_ring::retry_for_memory(build)
            .map_err(|error| system_error("a ring", error, self.shards))?;
        let handle =
            before.unwrap_or_else(|| ShardHandle::new(self.number, &ring, limits.broadcast_queue_max));
        let waker = ring.waker();
        let wake = Arc::new(move || waker.wake());
        // An eighth of the shard's memory, in addition to its buffers.
        let results_bytes_max = limits.buffers_bytes_max / 4;
        let completions =
            Completions::new(limits.calls_in_flight_max, results_bytes_max, limits.notes_queue_max, wake);
        let newest = handle.newest();
        let snapshot = match &newest {
            Some(served) => served.snapshot.clone(),
            None => {
                let (registry, encoded) = (&self.registry, self.encoded.as_ref());
                Snapshot::build_for(registry, &limits, &self.signing_key, self.number, None, encoded)?
            }
        };
        let state = self.state.as_ref().map(|make| make(self.number));
        let publisher: Arc<dyn Publish> = Arc::new(self.broadcast.clone());
        let side = ShardContext { state, publisher: Some(publisher) };
        let runner = Runner::new(completions, self.off_shard.clone(), side, &limits);
        let pipeline_config = PipelineConfig {
            endpoint: ENDPOINT,
            allowed_hosts: self.allowed_hosts.clone(),
            proxy: self.config.proxy.clone(),
            shard: self.number,
            shards: self.shards,
            signing_key: self.signing_key.clone(),
            broadcast: self.broadcast.clone(),
            pressure: self.pressure.clone(),
            limits: &limits,
        };
        let mut pipeline = Pipeline::new(pipeline_config, snapshot.clone(), runner);
        pipeline.set_flags(self.flags.of_shard(self.number));
        match newest {
            Some(Served { tools, .. }) => drop(pipeline.metrics().set_tools(tools)),
            None => handle.begin(Served { snapshot, tools: pipeline.metrics().tools().clone() }),
        }
        let shard = Shard::new(ring, pipeline, handle.clone(), sources, limits, self.spin, self.sockets_max);
        Ok((shard, handle))
    }
}
