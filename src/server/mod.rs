//! Starts shards and the blocking pool, waits for signals, drains, joins: the only place that makes threads.

mod listening;
mod secret_file;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    num::NonZero,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use corelane_ring::{ProbeError, Ring, RingConfig, SocketFile};
use crossbeam_channel::{Sender, unbounded};
use futures_lite::FutureExt;
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};
use sd_notify::NotifyState;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tracing::{debug, error, info, warn};

use crate::{
    admin::Admin,
    broadcast::Broadcast,
    config::{Config, Endpoint, Limits, Listen, LogFormat, ShardPlacement, Transport},
    exec::{BlockingPool, Completions, OffShard, PoolConfig, PoolObserver, Runner},
    http::Names,
    live_registry::LiveRegistry,
    log,
    metrics::ShardMetrics,
    registry::{
        EncodedLists, Icon, Prompt, Publish, Registry, RegistryError, Resource, ResourceTemplate, ServerInfo,
        ShardSide, ShardState, Snapshot, Tool,
    },
    seal::Secret,
    shard::{Pipeline, PipelineConfig, Served, Shard, ShardHandle, Sources},
    stdio,
};
use listening::{Listening, listen_admin};
#[cfg(feature = "cli")]
use listening::{check_reach, repeated};
use secret_file::{SECRET_BYTES_MIN, read_secret};

/// The one endpoint.
const ENDPOINT: &str = "/mcp";

/// glommio allocates this much for file I/O on each executor, in bytes; a shard reads nothing but an eventfd.
const EXECUTOR_IO_BYTES: usize = 64 * 1024;
/// Entries of glommio's own rings.
const EXECUTOR_RING_DEPTH: usize = 32;

/// What the kernel counts as locked for it, in bytes: a registered buffer of 64 KiB and two queues in each of its three rings.
const EXECUTOR_LOCKED_BYTES: u64 = 3 * (64 * 1024 + 2 * 4096);
/// How long, and how often, an executor is tried again that the kernel has no memory for.
const EXECUTOR_RETRY_MAX: Duration = Duration::from_secs(1);
const EXECUTOR_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A shard's ring. A turn handles at most 256 completions, and what finds a queue full waits for the next turn; the queues
/// count as locked memory, of which users that are not root have 8 MiB by default.
const SHARD_RING: RingConfig = RingConfig {
    sockets_max: 1024,
    submission_entries: 512,
    completion_entries: 2048,
    buffers: 1024,
    buffer_bytes: 2048,
};

/// Connections of a shard below which the descriptor limit is warned of.
const CONNECTIONS_FEW: u32 = 16_384;

/// Descriptors of a process without a shard, and of each shard with one listener; measured, and some to spare.
const DESCRIPTORS_BASE: u64 = 24;
const DESCRIPTORS_PER_SHARD: u64 = 8;

/// A second signal within this long of the first is the same one, heard twice.
const SIGNAL_ECHO: Duration = Duration::from_millis(250);

/// Connections of a server that has one client. A table for a hundred thousand would be set aside for nothing.
const STDIO_CONNECTIONS: u32 = 16;

/// How long an executor without a task looks for one before it sleeps. Just long enough for the shard's look at the
/// executor's timers, which waits for a microsecond.
const EXECUTOR_SPIN: Duration = Duration::from_micros(10);

/// How long glommio lets tasks run before it polls its rings. When this timer fires before the first task of a round has
/// run, glommio 0.9 parks although a task is runnable: it must be longer than any pause of a thread.
const EXECUTOR_PREEMPTION: Duration = Duration::from_secs(60);

/// A thread of the blocking pool beyond the fixed number ends after this long without a call.
const BLOCKING_IDLE_MAX: Duration = Duration::from_secs(10);

/// The kernel's own bound on a table of direct descriptors.
const TABLE_MAX: u32 = 1 << 20;

/// Threads of the tokio runtime where no core is free of shards.
#[cfg(feature = "tokio")]
const TOKIO_THREADS_MIN: usize = 2;

/// Why a server could not start, or go on. One line, with what to do about it where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
    #[error("cannot listen on {listen}: {reason}; remedy: {remedy}")]
    Listen {
        /// Where.
        listen: Listen,
        /// What the kernel said.
        reason: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The address of the admin interface cannot be listened on.
    #[error("cannot listen on {address} for the admin interface: {reason}; remedy: {remedy}")]
    ListenAdmin {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        reason: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// Other machines could reach the server, and it does not know by which names.
    #[error(
        "{0} is not a loopback address, and the hosts to answer to are unknown; remedy: configure [http] allowed_hosts, or \
         listen on loopback"
    )]
    NotLoopback(SocketAddr),
    /// The key in `[security] secret_file` cannot be used.
    #[error("cannot use secret_file {path}: {reason}; remedy: {remedy}")]
    Secret {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// Other machines could reach the server, and nothing in newline-delimited JSON says whom they mean to reach.
    #[error(
        "tcp://{0} is not a loopback address, and anybody who reaches it could call tools; remedy: listen on loopback behind \
         a proxy that knows its clients, or serve HTTP"
    )]
    LinesNotLoopback(SocketAddr),
    /// The shards' rings take more memory than this user may lock.
    #[error(
        "cannot lock the memory of {shards} shards: they need {need_kib} KiB, and this user's processes may lock {limit_kib} \
         KiB together (RLIMIT_MEMLOCK), enough for {fit} shards where nothing else is locked; remedy: ulimit -l {need_kib} \
         (systemd: LimitMEMLOCK={need_kib}K, Docker: --ulimit memlock={need_bytes}), or --shards {fit}",
        fit = limit_kib.saturating_mul(*shards as u64).checked_div(*need_kib).unwrap_or(0).max(1),
        need_bytes = need_kib.saturating_mul(1024)
    )]
    Memlock {
        /// How many there are to be.
        shards: usize,
        /// What they lock, in KiB.
        need_kib: u64,
        /// The limit in force, in KiB.
        limit_kib: u64,
    },
    /// The process may not have as many descriptors as the shards need.
    #[error(
        "{shards} shards need about {need} descriptors, and the process may have {limit} (RLIMIT_NOFILE); remedy: ulimit -n \
         {need} (systemd: LimitNOFILE={need}, Docker: --ulimit nofile={need}), or fewer --shards"
    )]
    Descriptors {
        /// How many there are to be.
        shards: usize,
        /// What they need.
        need: u64,
        /// The limit in force.
        limit: u64,
    },
    /// A thread, a ring or a signal handler could not be made.
    #[error("cannot start {what}: {reason}")]
    Resource {
        /// What.
        what: &'static str,
        /// What the kernel said.
        reason: String,
    },
}

impl StartError {
    /// The setting it is about.
    #[cfg(feature = "cli")]
    pub(crate) fn key(&self) -> Option<&'static str> {
        match self {
            Self::CoreAbsent { .. } => Some("server.cpus"),
            Self::Listen { .. } | Self::NotLoopback(_) | Self::LinesNotLoopback(_) => Some("server.listen"),
            Self::ListenAdmin { .. } => Some("server.admin"),
            Self::Secret { .. } => Some("security.secret_file"),
            _ => None,
        }
    }
}

/// Makes each shard's state.
type StateFactory = Arc<dyn Fn(usize) -> ShardState + Send + Sync>;

/// A server, ready to be run.
#[derive(Clone)]
pub struct Server {
    registry: LiveRegistry,
    state: Option<StateFactory>,
}

/// Declares a server.
#[derive(Clone)]
pub struct ServerBuilder {
    registry: Registry,
    state: Option<StateFactory>,
}

impl Server {
    /// Starts declaring a server; clients see its name and version.
    pub fn builder(name: impl Into<String>, version: impl Into<String>) -> ServerBuilder {
        let info = ServerInfo { name: name.into(), version: version.into(), ..ServerInfo::default() };
        ServerBuilder { registry: Registry::new(info), state: None }
    }

    /// What it offers, now and while it runs.
    #[must_use]
    pub fn registry(&self) -> LiveRegistry {
        self.registry.clone()
    }

    /// Serves until SIGINT or SIGTERM, then drains. Prints a line for each listener to stderr once it is ready.
    /// Reports `READY=1` and `STOPPING=1` to the service manager that `NOTIFY_SOCKET` names, if any (sd_notify(3)).
    ///
    /// # Errors
    /// When it cannot start.
    pub fn serve(&self, config: &Config) -> Result<(), StartError> {
        check_descriptors(config)?;
        let signals = signals()?;
        let running = self.start(config)?;
        for listen in &running.listeners {
            let line = start_line(listen, &running.placement);
            // Scripts wait for this line, in these words, whatever the format of the log.
            eprintln!("{line}");
            if config.log.format == LogFormat::Json {
                info!("{line}");
            }
        }
        notify_service_manager(&[NotifyState::Ready]);
        let metrics = self.run(running, signals, &config.limits)?;
        if config.stats {
            print!("{metrics}");
        }
        Ok(())
    }

    /// Serves the one client at standard input and output until it closes its end, or until SIGINT or SIGTERM; then
    /// drains. One shard, on whatever core is free unless `cpus` says otherwise; nothing is listened on but the admin
    /// address, if there is one. What tools print to standard output goes to standard error.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn serve_stdio(&self, config: &Config) -> Result<(), StartError> {
        let limits = Limits {
            connections_max: config.limits.connections_max.min(STDIO_CONNECTIONS),
            // Nobody balances the load of one client.
            drain_delay: Duration::ZERO,
            ..config.limits
        };
        let config = &Config { shards: Some(1), limits, ..config.clone() };
        check_descriptors(config)?;
        let signals = signals()?;
        let secret = self.prepare(config)?;
        let placement = Placements::one_of_many(config)?;
        let (socket, bridge) =
            stdio::bridge().map_err(|error| resource("with standard input and output", &error))?;
        let running = self.launch(config, &secret, placement, Listening::adopt(socket.into()))?;
        let metrics = self.run(running, signals, &limits)?;
        if let Err(error) = bridge.join(limits.write_timeout) {
            warn!(%error, "what was left to write to standard output is lost");
        }
        if config.stats {
            eprint!("{metrics}");
        }
        Ok(())
    }

    /// Waits for the end, by a signal or otherwise.
    fn run(
        &self,
        running: Running,
        mut signals: Signals,
        limits: &Limits,
    ) -> Result<ShardMetrics, StartError> {
        let info = self.registry.read(|registry| registry.info.clone());
        info!(
            name = info.name,
            version = info.version,
            shards = running.shards.len(),
            admin = running.admin_address().map(display),
            connections_max = limits.connections_max,
            calls_in_flight_max = limits.calls_in_flight_max,
            body_bytes_max = limits.body_bytes_max,
            "started"
        );
        if let Some(connections) = running.connections_allowed.filter(|allowed| is_too_few(*allowed, limits))
        {
            warn!(
                connections_max = limits.connections_max,
                "the descriptor limit allows {connections} connections for each shard, fewer than connections_max; \
                 remedy: ulimit -n {} (systemd: LimitNOFILE), or a lower connections_max",
                u64::from(limits.connections_max) + u64::from(limits.connections_reserve) + 1
            );
        }
        let stop = running.stopper();
        let (drain_delay, drain_timeout) = (limits.drain_delay, limits.drain_timeout);
        let watcher = signals.handle();
        let signalled = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut first = None;
                for signal in signals.forever() {
                    if signal == SIGHUP {
                        warn!("SIGHUP is ignored: a running server does not reload its configuration; restart it");
                        continue;
                    }
                    match first {
                        None => {
                            notify_service_manager(&[NotifyState::Stopping]);
                            first = Some(Instant::now());
                            drain_after(drain_delay, drain_timeout, signal, &stop);
                        }
                        // Whoever signals a process and then its group means it once.
                        Some(first) if first.elapsed() < SIGNAL_ECHO => {}
                        // The second signal is meant.
                        Some(_) => std::process::exit(128 + signal),
                    }
                }
            })
            .map_err(|error| resource("a thread", &error))?;
        let metrics = running.join()?;
        info!("drain ended");
        watcher.close();
        // Nothing is left to panic in there.
        let _ = signalled.join();
        Ok(metrics)
    }

    /// Everything that would keep a server of this configuration from starting and can be found without listening: cores,
    /// addresses, the key, the registry.
    #[cfg(feature = "cli")]
    pub(crate) fn check(&self, config: &Config) -> Vec<StartError> {
        let mut errors: Vec<_> = Placements::choose(config).err().into_iter().collect();
        errors.extend(config.listen.iter().filter_map(|listen| check_reach(listen, config).err()));
        errors.extend(repeated(&config.listen));
        match secret(config) {
            Ok(secret) => {
                let snapshot = self
                    .registry
                    .read(|registry| Snapshot::build(registry, &config.limits, &secret).map(drop));
                errors.extend(snapshot.err().map(StartError::from));
            }
            Err(error) => errors.push(error),
        }
        errors
    }

    /// Starts serving and returns at once.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(&self, config: &Config) -> Result<Running, StartError> {
        check_descriptors(config)?;
        let secret = self.prepare(config)?;
        let placement = Placements::choose(config)?;
        let listening = Listening::open(config, placement.shards.len())?;
        self.launch(config, &secret, placement, listening)
    }

    /// Whether the registry can be served on this machine: found out here, and told in one line, rather than on a shard.
    /// What signs what clients carry.
    fn prepare(&self, config: &Config) -> Result<Secret, StartError> {
        let secret = secret(config)?;
        self.registry.read(|registry| Snapshot::build(registry, &config.limits, &secret).map(drop))?;
        probe()?;
        Ok(secret)
    }

    fn launch(
        &self,
        config: &Config,
        secret: &Secret,
        placement: Placements,
        listening: Listening,
    ) -> Result<Running, StartError> {
        let descriptors = corelane_ring::raise_descriptor_limit()
            .map_err(|error| resource("with the descriptor limit", &error))?;
        let Listening { listeners, sources, files } = listening;
        let mut sources = sources.into_iter();
        let admin_listener = config.admin.map(listen_admin).transpose()?;
        let is_local = listeners.iter().all(Listen::is_local);
        let names = Names::new(&config.allowed_hosts, &config.allowed_origins, is_local);
        let admin_hosts = [config.allowed_hosts.as_slice(), &config.admin_allowed_hosts].concat();
        let admin_names = Names::new(&admin_hosts, &config.allowed_origins, is_local).with_ip_literals();
        let off_shard = off_shard(&placement.free, config)?;
        let pool = off_shard.pool.as_ref().map(BlockingPool::observer).unwrap_or_default();
        let broadcast = Broadcast::default();
        let addresses = listeners.iter().filter_map(|listen| match listen {
            Listen { transport: Transport::Http, endpoint: Endpoint::Tcp(address) } => Some(*address),
            _ => None,
        });
        let mut running = Running {
            addresses: addresses.collect(),
            listeners,
            placement: placement.describe(),
            handles: Vec::new(),
            shards: Vec::new(),
            admin: None,
            connections_allowed: Some(
                sockets_max(descriptors, &config.limits).saturating_sub(config.limits.connections_reserve),
            ),
        };
        // All shards share the encoded lists. Without them a shard finds out itself what cannot be served.
        let mut encoded: Option<Arc<EncodedLists>> = None;
        let plan = |registry: &Arc<Registry>, number| ShardPlan {
            number,
            registry: Arc::clone(registry),
            encoded: {
                if encoded.is_none() {
                    let built = Snapshot::build_for(registry, &config.limits, secret, number, None, None);
                    encoded = built.ok().map(|snapshot| Arc::clone(snapshot.encoded()));
                }
                encoded.clone()
            },
            state: self.state.clone(),
            config: config.clone(),
            names: names.clone(),
            sources: sources.next().unwrap_or_default(),
            files: files.clone(),
            off_shard: off_shard.clone(),
            spin: config.spin_before_park.unwrap_or(if placement.shared {
                Duration::ZERO
            } else {
                Config::SPIN
            }),
            sockets_max: sockets_max(descriptors, &config.limits),
            shards: placement.shards.len(),
            secret: secret.clone(),
            broadcast: broadcast.clone(),
        };
        let started = self.registry.attach(&config.limits, secret, &broadcast, |registry| {
            let handles = running.start_shards(&placement, plan, registry)?;
            broadcast.connect(handles.iter().map(|handle| Arc::clone(handle.mailbox())).collect());
            Ok(handles)
        });
        match started.and_then(|()| running.start_admin(admin_listener, &admin_names, config.limits, pool)) {
            Ok(()) => Ok(running),
            Err(error) => {
                running.stopper().drain();
                // The first failure is the one to be told.
                let _ = running.join();
                Err(error)
            }
        }
    }
}

impl ServerBuilder {
    /// Adds a tool. Tools are listed in the order they are added.
    #[must_use]
    pub fn tool(mut self, tool: Tool) -> Self {
        self.registry.add(tool);
        self
    }

    /// Adds a resource. Resources are listed in the order they are added.
    #[must_use]
    pub fn resource(mut self, resource: Resource) -> Self {
        self.registry.add(resource);
        self
    }

    /// Adds a template of resources. The first that a URI matches reads it.
    #[must_use]
    pub fn template(mut self, template: ResourceTemplate) -> Self {
        self.registry.add(template);
        self
    }

    /// Adds a prompt. Prompts are listed in the order they are added.
    #[must_use]
    pub fn prompt(mut self, prompt: Prompt) -> Self {
        self.registry.add(prompt);
        self
    }

    /// Declares an extension (checklist N-01): an id with a prefix, as `com.example/foo`, and its settings.
    #[must_use]
    pub fn extension(mut self, id: impl Into<String>, settings: serde_json::Value) -> Self {
        self.registry.declare_extension(id, settings);
        self
    }

    /// What people call the server.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.registry.info.title = Some(title.into());
        self
    }

    /// What the server is for, for people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.registry.info.description = Some(text.into());
        self
    }

    /// Where to read more about the server.
    #[must_use]
    pub fn website_url(mut self, url: impl Into<String>) -> Self {
        self.registry.info.website_url = Some(url.into());
        self
    }

    /// Adds a picture of the server.
    #[must_use]
    pub fn icon(mut self, icon: Icon) -> Self {
        self.registry.info.icons.push(icon);
        self
    }

    /// Gives each shard a state of its own, made on its thread by `make` from the shard's number; tools that run there
    /// reach it by [`Context::state`](crate::Context::state). Nothing in it needs a lock.
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// use corelane::{Server, Tool};
    ///
    /// let server = Server::builder("counter", "1")
    ///     .shard_state(|_shard| Cell::new(0_u64))
    ///     .tool(Tool::new("count").run(|_, cx| {
    ///         let counter = cx.state::<Cell<u64>>();
    ///         counter.set(counter.get() + 1);
    ///         format!("{} calls on shard {}", counter.get(), cx.caller().shard)
    ///     }));
    /// ```
    #[must_use]
    pub fn shard_state<T: 'static>(mut self, make: impl Fn(usize) -> T + Send + Sync + 'static) -> Self {
        self.state = Some(Arc::new(move |shard| Rc::new(make(shard))));
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
        Server { registry: LiveRegistry::new(self.registry), state: self.state }
    }

    /// Serves until SIGINT or SIGTERM: [`Server::serve`].
    ///
    /// # Errors
    /// When it cannot start.
    pub fn serve(self, config: &Config) -> Result<(), StartError> {
        self.build().serve(config)
    }
}

/// A server that runs. Dropping this does not end it: [`Stopper::drain`] does, and [`Running::join`] waits for the end.
pub struct Running {
    listeners: Vec<Listen>,
    addresses: Vec<SocketAddr>,
    placement: String,
    handles: Vec<ShardHandle>,
    shards: Vec<ExecutorJoinHandle<io::Result<ShardMetrics>>>,
    admin: Option<Arc<Admin>>,
    /// Connections of one shard that the descriptor limit leaves room for.
    connections_allowed: Option<u32>,
}

/// Ends a running server from any thread.
#[derive(Clone)]
pub struct Stopper {
    handles: Vec<ShardHandle>,
    admin: Weak<Admin>,
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

    fn start_shards(
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
    fn start_some(
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

    fn start_admin(
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

/// What a shard's thread needs to build its shard.
struct ShardPlan {
    number: usize,
    registry: Arc<Registry>,
    /// Encoded from `registry`.
    encoded: Option<Arc<EncodedLists>>,
    state: Option<StateFactory>,
    config: Config,
    names: Names,
    sources: Sources,
    files: Vec<Arc<SocketFile>>,
    off_shard: OffShard,
    spin: Duration,
    sockets_max: u32,
    shards: usize,
    secret: Secret,
    broadcast: Broadcast,
}

/// A shard whose thread is to be started.
struct Unstarted {
    number: usize,
    core: Placement,
    /// Taken by the shard's thread once its executor runs.
    plan: Arc<Mutex<Option<ShardPlan>>>,
}

/// Starts a shard's thread.
fn spawn(
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

/// Why glommio's executor could not be made.
fn no_executor(reason: Option<GlommioError<()>>, shards: usize) -> StartError {
    match reason {
        Some(GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. }) => {
            refused("a shard", error, shards)
        }
        // glommio panics where a system call fails that it counts on.
        Some(GlommioError::BuilderError(_)) | None => too_few_descriptors(shards),
        Some(error) => resource("a shard", &error),
    }
}

/// What the kernel refused, with the limit that may be the reason.
fn refused(what: &'static str, error: io::Error, shards: usize) -> StartError {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => StartError::Memlock {
            shards,
            need_kib: (shards as u64).saturating_mul(shard_locked_bytes()).div_ceil(1024),
            limit_kib: corelane_ring::raise_memlock_limit().unwrap_or(0) / 1024,
        },
        Some(libc::EMFILE | libc::ENFILE) => too_few_descriptors(shards),
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EINVAL) => {
            corelane_ring::explain(error).into()
        }
        _ => resource(what, &error),
    }
}

fn too_few_descriptors(shards: usize) -> StartError {
    let need = DESCRIPTORS_BASE + (shards as u64).saturating_mul(DESCRIPTORS_PER_SHARD);
    StartError::Descriptors { shards, need, limit: corelane_ring::raise_descriptor_limit().unwrap_or(0) }
}

/// Bytes that count as locked for one shard.
fn shard_locked_bytes() -> u64 {
    EXECUTOR_LOCKED_BYTES + RingConfig { sockets_max: 1, ..SHARD_RING }.locked_bytes()
}

/// Whether there can be enough descriptors: found out before the first is taken.
fn check_descriptors(config: &Config) -> Result<(), StartError> {
    let limit = corelane_ring::raise_descriptor_limit()
        .map_err(|error| resource("with the descriptor limit", &error))?;
    let shards = config.shards.unwrap_or_else(|| default_shards(config));
    let StartError::Descriptors { need, .. } = too_few_descriptors(shards) else { return Ok(()) };
    // One for each further listener of a shard.
    let listeners = (config.listen.len().saturating_sub(1) as u64).saturating_mul(shards as u64);
    let need = need.saturating_add(listeners);
    if limit < need { Err(StartError::Descriptors { shards, need, limit }) } else { Ok(()) }
}

/// All shards of a server, for the one that fails: a server with a lane less would look well and refuse a part of its
/// clients, so the others are told to end too.
#[derive(Clone, Default)]
struct Fellows(Arc<OnceLock<Vec<ShardHandle>>>);

/// Tells a shard's fellows when it ends, and everybody else who has its handle.
struct LastWill(Fellows, ShardHandle);

impl Fellows {
    fn set(&self, handles: Vec<ShardHandle>) {
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
    async fn run(
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

    fn build(self) -> Result<(Shard, ShardHandle), StartError> {
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

/// The key that signs what clients carry: from its file, or one that nobody knows and that ends with the server.
fn secret(config: &Config) -> Result<Secret, StartError> {
    if let Some(path) = &config.secret_file {
        return Ok(Secret::new(&read_secret(path)?));
    }
    let mut key = [0; SECRET_BYTES_MIN];
    getrandom::fill(&mut key).map_err(|error| resource("without randomness", &error))?;
    Ok(Secret::new(&key))
}

/// Where tools run that do not run on a shard: on the cores that are free of them, if there are any.
fn off_shard(free: &[usize], config: &Config) -> Result<OffShard, StartError> {
    let threads = config.blocking_threads.unwrap_or(free.len().max(Config::BLOCKING_THREADS));
    let pool = PoolConfig {
        threads,
        threads_max: config.limits.blocking_threads_max,
        waiting_max: config.limits.blocking_waiting_max,
        queue_max: config.limits.blocking_queue_max,
        idle_max: BLOCKING_IDLE_MAX,
        cores: free.to_vec(),
    };
    let pool = BlockingPool::start(pool).map_err(|error| resource("the blocking pool", &error))?;
    Ok(OffShard {
        pool: Some(pool),
        #[cfg(feature = "tokio")]
        tokio: Some(
            crate::exec::TokioRuntime::start(free.len().max(TOKIO_THREADS_MIN), free)
                .map_err(|error| resource("the tokio runtime", &error))?,
        ),
    })
}

/// Asks the kernel on a thread of its own: the end of a ring may interrupt a system call of the thread that had it, and
/// the caller's thread is the caller's.
fn probe() -> Result<(), StartError> {
    match thread::spawn(corelane_ring::probe).join() {
        Ok(probed) => {
            let corelane_ring::Optional { msg_ring } = probed?;
            debug!(msg_ring, "io_uring has what is needed");
            Ok(())
        }
        Err(_) => Err(resource("the probe of io_uring", &"it panicked")),
    }
}

/// Whether to warn that the descriptor limit allows so few connections: fewer than were asked for, or than a
/// server should have. The default of `connections_max` is more than many machines allow.
fn is_too_few(allowed: u32, limits: &Limits) -> bool {
    let is_asked_for = limits.connections_max != Limits::default().connections_max;
    allowed < limits.connections_max && (is_asked_for || allowed < CONNECTIONS_FEW)
}

/// The size of a ring's table of direct descriptors: what the limits ask for, as far as the process may.
fn sockets_max(descriptors: u64, limits: &Limits) -> u32 {
    let wanted = limits.connections_max.saturating_add(limits.connections_reserve).min(TABLE_MAX);
    u32::try_from(descriptors.saturating_sub(1)).map_or(wanted, |allowed| wanted.min(allowed)).max(1)
}

/// Which core each shard runs on, and which are left.
struct Placements {
    /// One for each shard; of no meaning where they are not pinned.
    shards: Vec<usize>,
    /// Where shards that are not pinned may run: all that the process may use.
    any: Vec<usize>,
    free: Vec<usize>,
    /// Some shards share a core.
    shared: bool,
    /// Shards stay on their cores.
    pinned: bool,
}

/// One shard for each core that the process may use, or fewer where a CPU quota (cgroup) allows fewer.
fn default_shards(config: &Config) -> usize {
    let allowed = thread::available_parallelism().map_or(1, NonZero::get);
    config.cpus.as_ref().map_or(allowed, |cpus| cpus.len().min(allowed.max(1)))
}

impl Placements {
    fn choose(config: &Config) -> Result<Self, StartError> {
        let available: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        let cores = config.cpus.clone().unwrap_or_else(|| available.clone());
        if let Some(&core) = cores.iter().find(|core| !available.contains(core)) {
            return Err(StartError::CoreAbsent { core, available: list(&available) });
        }
        let count = config.shards.unwrap_or_else(|| default_shards(config));
        if count == 0 || cores.is_empty() {
            return Err(StartError::Nothing("no shards"));
        }
        let pinned = match config.placement {
            ShardPlacement::Cores => true,
            ShardPlacement::None => false,
            // Fewer shards than cores: other servers choose too, and all would choose the first cores.
            ShardPlacement::Auto => config.cpus.is_some() || count >= cores.len(),
        };
        let shared = count > cores.len();
        if !pinned {
            return Ok(Self { shards: vec![0; count], any: available, free: Vec::new(), shared, pinned });
        }
        let shards: Vec<usize> = cores.iter().copied().cycle().take(count).collect();
        let free = available.into_iter().filter(|core| !shards.contains(core)).collect();
        Ok(Self { shards, any: Vec::new(), free, shared, pinned })
    }

    /// For a process that is one of many and has no core of its own: it goes where there is room, unless configured otherwise, and
    /// does not spin.
    fn one_of_many(config: &Config) -> Result<Self, StartError> {
        let chosen = Self::choose(config)?;
        Ok(Self { shared: chosen.shared || !chosen.pinned, ..chosen })
    }

    fn describe(&self) -> String {
        let mut cores = if self.pinned { self.shards.clone() } else { self.any.clone() };
        cores.sort_unstable();
        cores.dedup();
        let plural = |count: usize, word: &str| {
            if count == 1 { word.to_owned() } else { format!("{word}s") }
        };
        format!(
            "{} {} on {}{} {}",
            self.shards.len(),
            plural(self.shards.len(), "shard"),
            if self.pinned || cores.len() == 1 { "" } else { "any of " },
            plural(cores.len(), "core"),
            list(&cores)
        )
    }
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// What an operator, and a script, is told of a listener that is ready.
fn start_line(listen: &Listen, placement: &str) -> String {
    match (listen.transport, &listen.endpoint) {
        (Transport::Http, Endpoint::Tcp(_)) => {
            format!("listening on http://{listen}{ENDPOINT} ({placement})")
        }
        (Transport::Http, Endpoint::Unix(_)) => {
            format!("listening on {listen} (HTTP at {ENDPOINT}, {placement})")
        }
        (Transport::Lines, _) => format!("listening on {listen} (newline-delimited JSON, {placement})"),
    }
}

/// Reports a state to systemd, where `NOTIFY_SOCKET` is set.
fn notify_service_manager(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(false, state) {
        warn!(%error, "cannot report the server's state to NOTIFY_SOCKET");
    }
}

/// Announces the end at once, and begins the drain after `delay`: on a thread of its own, so that a second signal is handled
/// meanwhile.
fn drain_after(delay: Duration, drain_timeout: Duration, signal: i32, stop: &Stopper) {
    if delay.is_zero() {
        info!(signal, ?drain_timeout, "drain began");
        return stop.drain();
    }
    stop.unready();
    info!(signal, ?delay, ?drain_timeout, "not ready: drain begins after drain_delay");
    let later = stop.clone();
    let waiting = thread::Builder::new().name("drain-delay".to_owned()).spawn(move || {
        thread::sleep(delay);
        info!(?drain_timeout, "drain began");
        later.drain();
    });
    if waiting.is_err() {
        warn!("drain begins without drain_delay: no thread could be started for it");
        stop.drain();
    }
}

fn signals() -> Result<Signals, StartError> {
    Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|error| resource("signal handling", &error))
}

fn resource(what: &'static str, reason: &dyn std::fmt::Display) -> StartError {
    StartError::Resource { what, reason: reason.to_string() }
}
