//! Starts a server from a configuration.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

#[cfg(feature = "cli")]
use super::listening::{check_reach, repeated};
use super::{
    builder::Server,
    drain::DrainOnce,
    ended_sessions::store_ends,
    error::{StartError, resource},
    listening::{Listening, listen_admin, listen_control},
    machine::{check_descriptors, probe, sockets_max},
    memory::{fit_limits, memory_max, watch_memory},
    placement::Placements,
    rollback::watch_rollouts,
    running::Running,
    secret_file::{SECRET_BYTES_MIN, read_secret},
    shard_thread::ShardPlan,
    watchdog::watch_shards,
};
use crate::{
    admin::{ControlListener, ControlRefusals, ControlServer, Drain, Identity, Sampler},
    config::{Config, Endpoint, Limits, Listen, Transport},
    http1::AllowedHosts,
    memory::MemoryPressure,
    policy::{Rollouts, Salts},
    registry::{EncodedLists, Registry, Snapshot},
    runtime::{BlockingPool, PoolConfig, WorkerPools},
    shard::FlagControl,
    signed_token::{SigningKey, TokenKind},
};

/// A thread of the blocking pool beyond the fixed number exits after this time without a call.
const BLOCKING_IDLE_MAX: Duration = Duration::from_secs(10);

/// Minimum number of threads of the tokio runtime.
#[cfg(feature = "tokio")]
const TOKIO_THREADS_MIN: usize = 2;

impl Server {
    /// Errors that a start with this configuration would fail with, as far as they can be found without opening a socket:
    /// cores, addresses, the key, the registry.
    #[cfg(feature = "cli")]
    pub(crate) fn check(&self, config: &Config) -> Vec<StartError> {
        let mut errors: Vec<_> = Placements::choose(config).err().into_iter().collect();
        errors.extend(config.listen.iter().filter_map(|listen| check_reach(listen, config).err()));
        errors.extend(repeated(&config.listen));
        match signing_key(config) {
            Ok(signing_key) => {
                let snapshot = self
                    .registry
                    .read(|registry| Snapshot::build(registry, &config.limits, &signing_key).map(drop));
                errors.extend(snapshot.err().map(StartError::from));
            }
            Err(error) => errors.push(error),
        }
        errors
    }

    /// Starts serving and returns at once.
    ///
    /// # Errors
    /// The server cannot start.
    pub fn start(&self, config: &Config) -> Result<Running, StartError> {
        check_descriptors(config)?;
        let signing_key = self.prepare(config)?;
        let placement = Placements::choose(config)?;
        let listening = Listening::open(config, placement.shards.len())?;
        self.launch(config, &signing_key, placement, listening)
    }

    /// Checks that the registry compiles and that the machine has io_uring, so that an error is reported before a shard starts.
    /// Returns the signing key.
    pub(super) fn prepare(&self, config: &Config) -> Result<SigningKey, StartError> {
        let signing_key = signing_key(config)?;
        self.registry.read(|registry| Snapshot::build(registry, &config.limits, &signing_key).map(drop))?;
        probe()?;
        Ok(signing_key)
    }

    // Long: one value for each part of a shard's plan.
    /// Starts the blocking pool, the shards and the admin interface.
    ///
    /// # Errors
    /// The first failure; everything that did start has then been stopped.
    pub(super) fn launch(
        &self,
        config: &Config,
        signing_key: &SigningKey,
        placement: Placements,
        listening: Listening,
    ) -> Result<Running, StartError> {
        let descriptors = corelane_ring::raise_descriptor_limit()
            .map_err(|error| resource("the server: raising the descriptor limit failed", &error))?;
        let memory_max = memory_max(config);
        let limits = fit_limits(config.limits, memory_max, placement.shards.len());
        let config = &Config { limits, ..config.clone() };
        let pressure = MemoryPressure::default();
        watch_memory(memory_max, pressure.clone())
            .map_err(|error| resource("the thread that watches the memory", &error))?;
        let sockets_max = sockets_max(descriptors, &config.limits);
        let default_spin = if placement.shared { Duration::ZERO } else { Config::SPIN };
        let Listening { listeners, sources, groups, files, .. } = listening;
        let mut sources = sources.into_iter();
        let admin_listener = config.admin.map(listen_admin).transpose()?;
        let control_listener = listen_control(&config.control)?;
        let is_local = listeners.iter().all(Listen::is_local);
        let allowed_hosts = AllowedHosts::new(&config.allowed_hosts, &config.allowed_origins, is_local);
        let off_shard = start_worker_pools(&placement.free, config)?;
        let pool = off_shard.pool.as_ref().map(BlockingPool::observer).unwrap_or_default();
        let broadcast = store_ends(config.secret_file.as_deref(), signing_key, &config.limits);
        let flags = flag_control(config, signing_key, placement.shards.len());
        let mut running = Running {
            addresses: http_addresses(&listeners),
            listeners,
            placement: placement.describe(),
            handles: Vec::new(),
            shards: Vec::new(),
            admin: None,
            drain: None,
            control: None,
            flags: flags.clone(),
            connections_allowed: Some(sockets_max.saturating_sub(config.limits.connections_reserve)),
        };
        // Encoded once, shared by all shards. Where that fails, a shard reports the same error when it builds its snapshot.
        let mut encoded: Option<Arc<EncodedLists>> = None;
        let plan = |registry: &Arc<Registry>, number| ShardPlan {
            number,
            registry: Arc::clone(registry),
            encoded: {
                if encoded.is_none() {
                    let built =
                        Snapshot::build_for(registry, &config.limits, signing_key, number, None, None);
                    encoded = built.ok().map(|snapshot| Arc::clone(snapshot.encoded()));
                }
                encoded.clone()
            },
            state: self.state.clone(),
            config: config.clone(),
            allowed_hosts: allowed_hosts.clone(),
            sources: sources.next().unwrap_or_default(),
            _files: files.clone(),
            off_shard: off_shard.clone(),
            spin: config.spin_before_park.unwrap_or(default_spin),
            sockets_max,
            shards: placement.shards.len(),
            signing_key: signing_key.clone(),
            broadcast: broadcast.clone(),
            pressure: pressure.clone(),
            flags: flags.clone(),
        };
        let started = self.registry.attach(&config.limits, signing_key, &broadcast, |registry| {
            let stack_bytes = config.limits.thread_stack_bytes;
            let handles = running.start_shards(&placement, stack_bytes, plan, registry)?;
            flags.connect(handles.clone());
            broadcast.connect(handles.iter().map(|handle| Arc::clone(handle.mailbox())).collect());
            Ok(handles)
        });
        match started.and_then(|()| {
            let limits = config.limits;
            let info = self.registry.read(|registry| registry.info.clone());
            let sampler = Arc::new(Sampler {
                name: info.name,
                version: info.version,
                started: Instant::now(),
                shards: running.handles.clone(),
                flags: flags.clone(),
                pool,
                pressure: pressure.clone(),
                memory_max,
            });
            let refusals = Arc::<ControlRefusals>::default();
            let hosts = admin_allowed_hosts(config, is_local);
            running.start_admin(
                admin_listener,
                hosts,
                limits,
                Arc::clone(&sampler),
                Arc::clone(&refusals),
            )?;
            self.start_control(&mut running, control_listener, limits, sampler, refusals)?;
            watch_rollouts(flags.clone(), running.handles.clone())
                .map_err(|error| resource("the thread that compares cohorts", &error))?;
            watch_shards(running.handles.clone(), groups, &config.limits)
                .map_err(|error| resource("the thread that watches the shards", &error))
        }) {
            Ok(()) => Ok(running),
            Err(error) => {
                running.stopper().drain();
                // The first failure is the one to report.
                let _ = running.join();
                Err(error)
            }
        }
    }
}

impl Server {
    /// Serves the control socket, if there is one, and sets the drain that it and signals start.
    fn start_control(
        &self,
        running: &mut Running,
        listener: Option<ControlListener>,
        limits: Limits,
        sampler: Arc<Sampler>,
        refusals: Arc<ControlRefusals>,
    ) -> Result<(), StartError> {
        let drain: Arc<dyn Drain> = Arc::new(DrainOnce::new(running.stopper(), &limits));
        running.drain = Some(Arc::clone(&drain));
        let Some(listener) = listener else { return Ok(()) };
        let identity = Identity {
            name: sampler.name.clone(),
            version: sampler.version.clone(),
            listen: running.listeners.iter().map(ToString::to_string).collect(),
            admin: running.admin_address().map(|address| address.to_string()),
        };
        let control = ControlServer::start(listener, identity, limits, sampler, drain, refusals);
        running.control = Some(control.map_err(|error| resource("the control socket", &error))?);
        Ok(())
    }
}

/// The flags of the configuration. Their salts depend on the key: instances with the same `secret_file` have the same cohorts.
fn flag_control(config: &Config, signing_key: &SigningKey, shards: usize) -> FlagControl {
    let salts =
        Salts::new(|flag| u64::from_le_bytes(signing_key.hash(TokenKind::Cohort, flag.name().as_bytes())));
    FlagControl::new(Rollouts::new(config.performance, &config.rollout, salts, shards))
}

/// The TCP addresses that serve HTTP.
fn http_addresses(listeners: &[Listen]) -> Vec<SocketAddr> {
    let address = |listen: &Listen| match listen {
        Listen { transport: Transport::Http, endpoint: Endpoint::Tcp(address) } => Some(*address),
        _ => None,
    };
    listeners.iter().filter_map(address).collect()
}

/// The hosts and origins that the admin interface accepts.
fn admin_allowed_hosts(config: &Config, is_local: bool) -> AllowedHosts {
    let hosts = [config.allowed_hosts.as_slice(), &config.admin_allowed_hosts].concat();
    AllowedHosts::new(&hosts, &config.allowed_origins, is_local).with_ip_literals()
}

/// The key that signs session ids, cursors and request states: from `secret_file`, or a random one.
fn signing_key(config: &Config) -> Result<SigningKey, StartError> {
    if let Some(path) = &config.secret_file {
        return Ok(SigningKey::new(&read_secret(path)?));
    }
    let mut key = [0; SECRET_BYTES_MIN];
    getrandom::fill(&mut key).map_err(|error| resource("the server: generating a key failed", &error))?;
    Ok(SigningKey::new(&key))
}

/// Starts the blocking pool and, with the feature `tokio`, the tokio runtime, on the cores without a shard where there are any.
fn start_worker_pools(free: &[usize], config: &Config) -> Result<WorkerPools, StartError> {
    let threads = config.blocking_threads.unwrap_or(free.len().max(Config::BLOCKING_THREADS));
    let pool = PoolConfig {
        threads,
        threads_max: config.limits.blocking_threads_max,
        waiting_max: config.limits.blocking_waiting_max,
        queue_max: config.limits.blocking_queue_max,
        peer_share_percent: config.limits.peer_share_percent,
        idle_max: BLOCKING_IDLE_MAX,
        stack_bytes: config.limits.thread_stack_bytes,
        log_lines_per_second_max: config.limits.log_lines_per_second_max,
        cores: free.to_vec(),
    };
    let pool = BlockingPool::start(pool).map_err(|error| resource("the blocking pool", &error))?;
    Ok(WorkerPools {
        pool: Some(pool),
        #[cfg(feature = "tokio")]
        tokio: {
            let (threads, stack_bytes) =
                (free.len().max(TOKIO_THREADS_MIN), config.limits.thread_stack_bytes);
            let started = crate::runtime::TokioRuntime::start(threads, stack_bytes, free);
            Some(started.map_err(|error| resource("the tokio runtime", &error))?)
        },
    })
}
