//! Starts shards and the blocking pool, waits for signals, drains, joins: the only place that makes threads.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::{
    config::{Config, Limits},
    exec::{BlockingPool, Completions, Runner},
    metrics::ShardMetrics,
    registry::{Registry, RegistryError, ServerInfo, Snapshot, Tool},
    ring::{self, ProbeError, Ring, RingConfig},
    shard::{Control, Pipeline, Shard, ShardHandle},
};

/// The one endpoint.
const ENDPOINT: &str = "/mcp";

/// glommio allocates this much for file I/O on each executor, in bytes; a shard reads nothing but an eventfd.
const EXECUTOR_IO_BYTES: usize = 64 * 1024;
/// Entries of glommio's own rings.
const EXECUTOR_RING_DEPTH: usize = 32;

/// The kernel's own bound on a table of direct descriptors.
const TABLE_MAX: u32 = 1 << 20;

/// Threads of the blocking pool where no core is free of shards.
const BLOCKING_THREADS_MIN: usize = 4;

/// Why a server could not start. One line, with what to do about it where that is known.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine or its container lacks something.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The tools cannot be served.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A core that is not there.
    #[error("core {core} is not available (available: {available}); remedy: name other cores with --cpus")]
    CoreAbsent {
        /// The core asked for.
        core: usize,
        /// Those that are there.
        available: String,
    },
    /// No shards, or no address.
    #[error("nothing to serve: {0}")]
    Nothing(&'static str),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}; remedy: {remedy}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        reason: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// Other machines could reach the server, and it does not know by which names.
    #[error(
        "{0} is not a loopback address, and no allowed hosts are configured; remedy: listen on 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// A thread, a ring or a signal handler could not be made.
    #[error("cannot start {what}: {reason}")]
    Resource {
        /// What.
        what: &'static str,
        /// What the kernel said.
        reason: String,
    },
}

/// A server, ready to be run.
#[derive(Clone, Debug)]
pub struct Server {
    registry: Registry,
}

/// Declares a server.
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    registry: Registry,
}

impl Server {
    /// Starts declaring a server; clients see its name and version.
    pub fn builder(name: impl Into<String>, version: impl Into<String>) -> ServerBuilder {
        let info = ServerInfo { name: name.into(), version: version.into(), instructions: None };
        ServerBuilder { registry: Registry { info, tools: Vec::new() } }
    }

    /// What it offers.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Serves until SIGINT or SIGTERM, then drains. Prints a line for each address to stderr once it is ready.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn serve(&self, config: &Config) -> Result<(), StartError> {
        let mut signals =
            Signals::new([SIGINT, SIGTERM]).map_err(|error| resource("signal handling", &error))?;
        let running = self.start(config)?;
        for address in &running.addresses {
            eprintln!("listening on http://{address}{ENDPOINT} ({})", running.placement);
        }
        let stop = running.stopper();
        let watcher = signals.handle();
        let signalled = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for (count, signal) in signals.forever().enumerate() {
                    if count > 0 {
                        // The second signal is meant.
                        std::process::exit(128 + signal);
                    }
                    stop.drain();
                }
            })
            .map_err(|error| resource("a thread", &error))?;
        let metrics = running.join()?;
        watcher.close();
        // Nothing is left to panic in there.
        let _ = signalled.join();
        if config.stats {
            print!("{metrics}");
        }
        Ok(())
    }

    /// Starts serving and returns at once.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(&self, config: &Config) -> Result<Running, StartError> {
        // Found out here, and told in one line, rather than on a shard.
        drop(Snapshot::build(&self.registry, &config.limits)?);
        probe()?;
        let descriptors =
            ring::raise_descriptor_limit().map_err(|error| resource("with the descriptor limit", &error))?;
        let placement = Placements::choose(config)?;
        let (addresses, mut listeners) = listen(config, placement.shards.len())?;
        let pool = BlockingPool::start(
            placement.free.len().max(BLOCKING_THREADS_MIN),
            &placement.free,
            config.limits.blocking_queue_max,
        )
        .map_err(|error| resource("the blocking pool", &error))?;
        let spin =
            config.spin_before_park.unwrap_or(if placement.shared { Duration::ZERO } else { Config::SPIN });
        let (started, ready) = unbounded();
        let fellows = Fellows::default();
        let mut shards = Vec::new();
        for (number, &core) in placement.shards.iter().enumerate() {
            let plan = ShardPlan {
                number,
                registry: self.registry.clone(),
                config: config.clone(),
                listeners: listeners.pop().unwrap_or_default(),
                pool: pool.clone(),
                spin,
                sockets_max: sockets_max(descriptors, &config.limits),
                started: started.clone(),
                fellows: fellows.clone(),
            };
            let shard = LocalExecutorBuilder::new(Placement::Fixed(core))
                .name(&format!("shard-{number}"))
                .io_memory(EXECUTOR_IO_BYTES)
                .ring_depth(EXECUTOR_RING_DEPTH)
                .spawn(move || plan.run())
                .map_err(|error| resource("a shard", &error))?;
            shards.push(shard);
        }
        drop(started);
        let (handles, failed) = await_ready(&ready, shards.len());
        let running = Running { addresses, placement: placement.describe(), handles, shards };
        let Some(error) = failed else {
            fellows.set(running.handles.clone());
            return Ok(running);
        };
        running.stopper().drain();
        // The first failure is the one to be told.
        let _ = running.join();
        Err(error)
    }
}

impl ServerBuilder {
    /// Adds a tool. Tools are listed in the order they are added.
    #[must_use]
    pub fn tool(mut self, tool: Tool) -> Self {
        self.registry.tools.push(tool);
        self
    }

    /// How to use this server, for the model.
    #[must_use]
    pub fn instructions(mut self, text: impl Into<String>) -> Self {
        self.registry.info.instructions = Some(text.into());
        self
    }

    /// The server.
    #[must_use]
    pub fn build(self) -> Server {
        Server { registry: self.registry }
    }

    /// Serves until SIGINT or SIGTERM: [`Server::serve`].
    ///
    /// # Errors
    /// When it cannot start.
    pub fn serve(self, config: &Config) -> Result<(), StartError> {
        self.build().serve(config)
    }
}

/// A server that runs.
pub struct Running {
    addresses: Vec<SocketAddr>,
    placement: String,
    handles: Vec<ShardHandle>,
    shards: Vec<ExecutorJoinHandle<io::Result<ShardMetrics>>>,
}

/// Ends a running server from any thread.
#[derive(Clone)]
pub struct Stopper {
    handles: Vec<ShardHandle>,
}

impl Stopper {
    /// Takes no more connections, finishes what is in flight, ends.
    pub fn drain(&self) {
        for handle in &self.handles {
            handle.send(Control::Drain);
        }
    }
}

impl Running {
    /// Where it listens; real ports where port 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A handle that ends it.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { handles: self.handles.clone() }
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

/// What a shard's thread needs to build its shard.
struct ShardPlan {
    number: usize,
    registry: Registry,
    config: Config,
    listeners: Vec<TcpListener>,
    pool: BlockingPool,
    spin: Duration,
    sockets_max: u32,
    started: Sender<Result<ShardHandle, StartError>>,
    fellows: Fellows,
}

/// All shards of a server, for the one that fails: a server with a lane less would look well and refuse a part of its
/// clients, so the others are told to end too.
#[derive(Clone, Default)]
struct Fellows(Arc<OnceLock<Vec<ShardHandle>>>);

/// Tells a shard's fellows when it ends.
struct LastWill(Fellows);

impl Fellows {
    fn set(&self, handles: Vec<ShardHandle>) {
        // Set once, by the one that started them.
        let _ = self.0.set(handles);
    }
}

impl Drop for LastWill {
    /// Also when the shard's thread panics.
    fn drop(&mut self) {
        for handle in self.0.0.get().into_iter().flatten() {
            handle.send(Control::Drain);
        }
    }
}

impl ShardPlan {
    async fn run(self) -> io::Result<ShardMetrics> {
        let (started, fellows) = (self.started.clone(), self.fellows.clone());
        match self.build() {
            Ok((shard, handle)) => {
                let _ = started.send(Ok(handle));
                drop(started);
                let _will = LastWill(fellows);
                shard.run().await
            }
            Err(error) => {
                let _ = started.send(Err(error));
                Ok(ShardMetrics::new([]))
            }
        }
    }

    fn build(self) -> Result<(Shard, ShardHandle), StartError> {
        let limits = self.config.limits;
        let ring = Ring::new(RingConfig { sockets_max: self.sockets_max, ..RingConfig::default() })
            .map_err(|error| resource("a ring", &error))?;
        let handle = ShardHandle::new(&ring);
        let waker = ring.waker();
        let completions = Completions::new(limits.calls_in_flight_max, Arc::new(move || waker.wake()));
        let snapshot = Rc::new(Snapshot::build(&self.registry, &limits)?);
        let runner = Runner::new(self.number, completions, Some(self.pool));
        let pipeline = Pipeline::new(ENDPOINT, snapshot, runner, &limits);
        let shard =
            Shard::new(ring, pipeline, handle.clone(), self.listeners, limits, self.spin, self.sockets_max);
        Ok((shard, handle))
    }
}

/// Asks the kernel on a thread of its own: the end of a ring may interrupt a system call of the thread that had it, and
/// the caller's thread is the caller's.
fn probe() -> Result<(), StartError> {
    match thread::spawn(ring::probe).join() {
        Ok(probed) => Ok(probed?),
        Err(_) => Err(resource("the probe of io_uring", &"it panicked")),
    }
}

/// The size of a ring's table of direct descriptors: what the limits ask for, as far as the process may.
fn sockets_max(descriptors: u64, limits: &Limits) -> u32 {
    let wanted = limits.connections_max.saturating_add(limits.connections_reserve).min(TABLE_MAX);
    u32::try_from(descriptors.saturating_sub(1)).map_or(wanted, |allowed| wanted.min(allowed)).max(1)
}

/// Waits until every shard runs or has failed: the handles of those that run, and the first failure.
fn await_ready(
    ready: &Receiver<Result<ShardHandle, StartError>>,
    shards: usize,
) -> (Vec<ShardHandle>, Option<StartError>) {
    let mut handles = Vec::new();
    let mut failed = None;
    for _ in 0..shards {
        match ready.recv().unwrap_or_else(|_| Err(resource("a shard", &"its thread ended"))) {
            Ok(handle) => handles.push(handle),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    (handles, failed)
}

/// Which core each shard runs on, and which are left.
struct Placements {
    shards: Vec<usize>,
    free: Vec<usize>,
    /// Some shards share a core.
    shared: bool,
}

impl Placements {
    fn choose(config: &Config) -> Result<Self, StartError> {
        let available: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        let cores = config.cpus.clone().unwrap_or_else(|| available.clone());
        if let Some(&core) = cores.iter().find(|core| !available.contains(core)) {
            return Err(StartError::CoreAbsent { core, available: list(&available) });
        }
        let count = config.shards.unwrap_or(cores.len());
        if count == 0 || cores.is_empty() {
            return Err(StartError::Nothing("no shards"));
        }
        let shards: Vec<usize> = cores.iter().copied().cycle().take(count).collect();
        let free = available.into_iter().filter(|core| !shards.contains(core)).collect();
        let shared = shards.len() > cores.len();
        Ok(Self { shards, free, shared })
    }

    fn describe(&self) -> String {
        let mut cores = self.shards.clone();
        cores.sort_unstable();
        cores.dedup();
        let plural = |count: usize, word: &str| {
            if count == 1 { word.to_owned() } else { format!("{word}s") }
        };
        format!(
            "{} {} on {} {}",
            self.shards.len(),
            plural(self.shards.len(), "shard"),
            plural(cores.len(), "core"),
            list(&cores)
        )
    }
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// One listener for each address and shard.
fn listen(config: &Config, shards: usize) -> Result<(Vec<SocketAddr>, Vec<Vec<TcpListener>>), StartError> {
    if config.listen.is_empty() {
        return Err(StartError::Nothing("no address"));
    }
    let mut addresses = Vec::new();
    let mut by_shard: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    for &wanted in &config.listen {
        if !wanted.ip().is_loopback() {
            return Err(StartError::NotLoopback(wanted));
        }
        let failed =
            |reason: io::Error| StartError::Listen { address: wanted, remedy: remedy(&reason), reason };
        if wanted.port() != 0 {
            // Shards share the port; another server must not be let in, or let us in, by the same means.
            drop(TcpListener::bind(wanted).map_err(failed)?);
        }
        let mut address = wanted;
        for listeners in &mut by_shard {
            let listener = ring::bind(address).map_err(failed)?;
            address = listener.local_addr().map_err(failed)?;
            listeners.push(listener);
        }
        addresses.push(address);
    }
    Ok((addresses, by_shard))
}

fn remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::AddrInUse => "stop the program that has it, or choose another port with --listen",
        io::ErrorKind::PermissionDenied => "choose a port above 1023, or grant CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine with --listen",
        _ => "choose another address with --listen",
    }
}

fn resource(what: &'static str, reason: &dyn std::fmt::Display) -> StartError {
    StartError::Resource { what, reason: reason.to_string() }
}
