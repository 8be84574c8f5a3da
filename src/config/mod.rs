//! What an operator decides: read from the command line, the environment and a file, and valid from then on.

mod allowed;
mod cores;
mod error;
mod file;
mod limits;
mod listen;
mod raw;
mod size;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

#[cfg(feature = "cli")]
pub(crate) use allowed::{check_host, check_origin};
pub use cores::Cores;
pub use error::ConfigError;
pub use limits::{Limits, SchemaLimits};
pub use listen::{Endpoint, Listen, Transport};

/// How a server runs. The defaults serve on loopback with one shard per available core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: Vec<Listen>,
    /// Number of shards. Without it: one per core of `cpus`, or fewer where a CPU quota allows fewer
    /// ([`std::thread::available_parallelism`]). May exceed the cores: shards then share them.
    pub shards: Option<usize>,
    /// Cores to pin shards to; all available ones without it.
    pub cpus: Option<Vec<usize>>,
    /// Whether shards stay on their cores.
    pub placement: ShardPlacement,
    /// How long a shard looks for work before it sleeps. Without it: [`Config::SPIN`] where each shard has a core of
    /// its own, zero where shards share one.
    pub spin_before_park: Option<Duration>,
    /// Threads of the blocking pool that are always there; [`Limits::blocking_threads_max`] bounds those that come and go.
    /// Without it: one for each core without a shard, [`Config::BLOCKING_THREADS`] at least.
    pub blocking_threads: Option<usize>,
    /// Print latency histograms when the server ends.
    pub stats: bool,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// Hosts the admin address answers to besides `allowed_hosts`, loopback names and IP addresses.
    pub admin_allowed_hosts: Vec<String>,
    /// Hosts this server answers to besides loopback names: `name` on any port, or `name:port`.
    pub allowed_hosts: Vec<String>,
    /// Origins browsers may call from, as `https://app.example.com`, besides those of this machine where every address
    /// listened on is a loopback one.
    pub allowed_origins: Vec<String>,
    /// A file with the key that signs session ids, cursors and request states: at least 32 bytes. Without it a key is made up
    /// at every start, and what was signed before is not known any more.
    pub secret_file: Option<PathBuf>,
    /// What the command line logs. Who calls [`Server::serve`](crate::Server::serve) brings a subscriber instead.
    pub log: Log,
    /// Every bound.
    pub limits: Limits,
}

impl Config {
    /// Where a server listens unless told otherwise.
    pub const LISTEN: SocketAddr =
        SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8080));

    /// Where the admin interface of the command line is served unless told otherwise.
    pub const ADMIN: SocketAddr =
        SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9464));

    /// Threads of the blocking pool that are always there where every core has a shard.
    pub const BLOCKING_THREADS: usize = 4;

    /// The most threads the pool may be given from the start.
    pub const BLOCKING_THREADS_MAX: usize = 1024;

    /// The measured default of `spin_before_park` (docs/DECISIONS.md).
    pub const SPIN: Duration = Duration::from_micros(50);

    /// The most shards the command line starts.
    pub(crate) const SHARDS_MAX: u16 = 1024;

    /// The longest spin of the command line, in microseconds.
    pub(crate) const SPIN_US_MAX: u32 = 1_000_000;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![Self::LISTEN.into()],
            shards: None,
            cpus: None,
            placement: ShardPlacement::Auto,
            spin_before_park: None,
            blocking_threads: None,
            stats: false,
            admin: None,
            admin_allowed_hosts: Vec::new(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            secret_file: None,
            log: Log::default(),
            limits: Limits::default(),
        }
    }
}

/// Whether shards stay on their cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ShardPlacement {
    /// Pinned where `cpus` names cores, or where every core has a shard; not pinned where there are fewer shards than cores,
    /// so that several servers do not meet on the first ones.
    #[default]
    Auto,
    /// Pinned to the cores of `cpus` in turn, or to those available.
    Cores,
    /// Not pinned: they run on any core the process may use, whatever `cpus` is.
    None,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// The least severe lines that are written.
    pub level: LogLevel,
    /// What a line looks like.
    pub format: LogFormat,
}

/// How severe a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing at all.
    Off,
    /// Something failed that should not.
    Error,
    /// Something an operator should look into.
    #[default]
    Warn,
    /// Starts and ends, and what was refused to clients.
    Info,
    /// Tools whose results are errors.
    Debug,
    /// Everything.
    Trace,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the admin interface is served, as it is written: an address, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Admin(pub(crate) Option<SocketAddr>);

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let address = listen::address_of(text)
            .ok_or_else(|| format!("{text:?} is neither an address with a port nor none"))?;
        Ok(Self(Some(address)))
    }
}

impl TryFrom<String> for Admin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Admin> for String {
    fn from(Admin(address): Admin) -> Self {
        address.map_or("none".to_owned(), |address| address.to_string())
    }
}
