//! Schema of the configuration file, and its conversion to [`Config`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Admin, Config, ControlSocket, Cores, Limits, Listen, Log, Performance, Proxy, Rollout, ShardPlacement,
    auto, bound::Bound,
};

/// The configuration file. Every key has a default, and every key is written.
#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawConfig {
    pub(super) server: RawServer,
    pub(super) admin: RawAdmin,
    pub(super) http: RawHttp,
    proxy: Proxy,
    security: RawSecurity,
    schema: RawSchema,
    performance: Performance,
    rollout: Rollout,
    limits: Limits,
    log: Log,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawServer {
    pub(super) listen: Vec<Listen>,
    #[serde(with = "auto")]
    shards: Option<usize>,
    #[serde(with = "auto")]
    cpus: Option<Cores>,
    placement: ShardPlacement,
    #[serde(with = "auto")]
    spin_us: Option<u32>,
    #[serde(with = "auto")]
    blocking_threads: Option<usize>,
    #[serde(with = "auto")]
    memory_max: Option<Bytes>,
    admin: Admin,
    stats: bool,
}

/// A number of bytes, or a size with a unit.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
struct Bytes(#[serde(deserialize_with = "super::size::deserialize")] usize);

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawAdmin {
    control: ControlSocket,
    pub(super) allowed_hosts: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RawHttp {
    pub(super) allowed_hosts: Vec<String>,
    pub(super) allowed_origins: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct RawSecurity {
    /// Path of the file; empty without one.
    secret_file: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct RawSchema {
    backtracking: bool,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self::from(&Config { admin: Some(Config::ADMIN), control: ControlSocket::Auto, ..Config::default() })
    }
}

impl Default for RawServer {
    fn default() -> Self {
        RawConfig::default().server
    }
}

impl Default for RawAdmin {
    fn default() -> Self {
        RawConfig::default().admin
    }
}

impl From<&Config> for RawConfig {
    fn from(config: &Config) -> Self {
        Self {
            server: RawServer {
                listen: config.listen.clone(),
                shards: config.shards,
                cpus: config.cpus.clone().map(Cores),
                placement: config.placement,
                spin_us: config
                    .spin_before_park
                    .map(|spin| u32::try_from(spin.as_micros()).unwrap_or(u32::MAX)),
                blocking_threads: config.blocking_threads,
                memory_max: config.memory_max.map(Bytes),
                admin: Admin(config.admin),
                stats: config.stats,
            },
            admin: RawAdmin {
                control: config.control.clone(),
                allowed_hosts: config.admin_allowed_hosts.clone(),
            },
            http: RawHttp {
                allowed_hosts: config.allowed_hosts.clone(),
                allowed_origins: config.allowed_origins.clone(),
            },
            proxy: config.proxy.clone(),
            security: RawSecurity {
                secret_file: config
                    .secret_file
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
            },
            schema: RawSchema { backtracking: config.limits.schema_backtracking },
            performance: config.performance,
            rollout: config.rollout,
            limits: config.limits,
            log: config.log,
        }
    }
}

impl RawConfig {
    pub(super) fn into_config(self) -> Config {
        let Self { server, admin, http, proxy, security, schema, performance, rollout, limits, log } = self;
        Config {
            listen: server.listen,
            shards: server.shards,
            cpus: server.cpus.map(|Cores(cpus)| cpus),
            placement: server.placement,
            spin_before_park: server.spin_us.map(|spin| Duration::from_micros(spin.into())),
            blocking_threads: server.blocking_threads,
            memory_max: server.memory_max.map(|Bytes(bytes)| bytes),
            stats: server.stats,
            admin: server.admin.0,
            control: admin.control,
            admin_allowed_hosts: admin.allowed_hosts,
            allowed_hosts: http.allowed_hosts,
            allowed_origins: http.allowed_origins,
            proxy,
            secret_file: Some(security.secret_file).filter(|path| !path.is_empty()).map(Into::into),
            log,
            performance,
            rollout,
            limits: Limits { schema_backtracking: schema.backtracking, ..limits },
        }
    }

    pub(super) fn bounds(&self) -> Vec<Bound> {
        let mut bounds = self.limits.bounds();
        let shards = self.server.shards.unwrap_or(1);
        bounds.push(Bound::new("server.shards", shards, &(1..=Config::SHARDS_MAX.into()), usize::to_string));
        let spin = self.server.spin_us.unwrap_or(0);
        bounds.push(Bound::new("server.spin_us", spin, &(0..=Config::SPIN_US_MAX), u32::to_string));
        let threads = self.server.blocking_threads.unwrap_or(1);
        let Bytes(memory) = self.server.memory_max.unwrap_or(Bytes(Config::MEMORY_MIN));
        let allowed = Config::MEMORY_MIN..=1 << 50;
        bounds.push(Bound::new("server.memory_max", memory, &allowed, usize::to_string));
        let allowed = 1..=Config::BLOCKING_THREADS_MAX;
        bounds.push(Bound::new("server.blocking_threads", threads, &allowed, usize::to_string));
        bounds.extend(self.rollout.bounds());
        bounds
    }
}

/// All keys, as a tree.
pub(super) fn known_keys() -> toml::Table {
    // The defaults consist of numbers, strings and lists, which have a form in TOML.
    toml::Table::try_from(RawConfig::default()).unwrap_or_default()
}
