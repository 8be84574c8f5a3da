//! Validated configuration, from the command line, the environment and a file.

mod allowed;
mod auto;
mod bound;
mod control;
mod cores;
mod error;
mod file;
mod limits;
mod listen;
mod percent;
mod performance;
mod proxy;
mod raw;
mod rollout;
mod size;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

#[cfg(feature = "cli")]
pub(crate) use allowed::{check_host, check_origin};
pub use control::ControlSocket;
pub use cores::Cores;
pub use error::ConfigError;
pub use limits::{Limits, SchemaLimits};
pub use listen::{Endpoint, Listen, Transport};
pub use percent::Percent;
pub use performance::{JsonBackend, Performance};
pub use proxy::{ForwardedHeader, Network, Proxy};
pub use rollout::Rollout;

/// Configuration of a server. By default it serves on loopback with one shard per available core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on; port 0 selects a free one.
    pub listen: Vec<Listen>,
    /// Number of shards. `None`: one per core of `cpus`, or fewer if a CPU quota allows fewer
    /// ([`std::thread::available_parallelism`]). May exceed the number of cores; shards then share cores.
    pub shards: Option<usize>,
    /// Cores to pin shards to. `None`: all available cores.
    pub cpus: Option<Vec<usize>>,
    /// Whether shards are pinned to cores.
    pub placement: ShardPlacement,
    /// Time a shard polls for work before it sleeps. `None`: [`Config::SPIN`] if each shard has its own core, otherwise zero.
    pub spin_before_park: Option<Duration>,
    /// Permanent threads of the blocking pool; [`Limits::blocking_threads_max`] bounds the temporary ones. `None`: one per core without
    /// a shard, and at least [`Config::BLOCKING_THREADS`].
    pub blocking_threads: Option<usize>,
    /// Memory that the process may use, in bytes. Near it new work is refused and the connections that hold the most are closed.
    /// `None`: four fifths of the memory of the machine or of its control group, whichever is less.
    pub memory_max: Option<usize>,
    /// Whether to print latency histograms when the server exits.
    pub stats: bool,
    /// Address of `/healthz`, `/readyz` and `/metrics`; `None` disables them.
    pub admin: Option<SocketAddr>,
    /// The control socket, through which `corelane ctl` inspects the server and drains it.
    pub control: ControlSocket,
    /// Hosts allowed on the admin address, in addition to `allowed_hosts`, loopback names and IP addresses.
    pub admin_allowed_hosts: Vec<String>,
    /// Hosts allowed in addition to loopback names: `name` with any port, or `name:port`.
    pub allowed_hosts: Vec<String>,
    /// Origins from which browsers may send requests, such as `https://app.example.com`. Loopback origins are also allowed if the
    /// server listens on loopback addresses only.
    pub allowed_origins: Vec<String>,
    /// Proxies in front of the server, which state the client of a connection or request.
    pub proxy: Proxy,
    /// File with the key that signs session ids, cursors and request states, of at least 32 bytes. `None`: a random key per start,
    /// which makes the tokens of the previous run invalid.
    pub secret_file: Option<PathBuf>,
    /// Log of the command line. A program that calls [`Server::serve`](crate::Server::serve) installs its own subscriber.
    pub log: Log,
    /// Optimisations, each with a fallback.
    pub performance: Performance,
    /// The part of the sessions and connections that each of them is on for, and when it is rolled back.
    pub rollout: Rollout,
    /// Limits.
    pub limits: Limits,
}

impl Config {
    /// Default address of a server.
    pub const LISTEN: SocketAddr =
        SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8080));

    /// Default address of the admin interface of the command line.
    pub const ADMIN: SocketAddr =
        SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9464));

    /// Minimum of the default of `blocking_threads`.
    pub const BLOCKING_THREADS: usize = 4;

    /// Maximum of `blocking_threads`.
    pub const BLOCKING_THREADS_MAX: usize = 1024;

    /// Default of `spin_before_park`, chosen by measurement (docs/DECISIONS.md).
    pub const SPIN: Duration = Duration::from_micros(50);

    /// Minimum of `memory_max` in a file, in bytes.
    pub(crate) const MEMORY_MIN: usize = 64 << 20;

    /// Maximum of `shards` on the command line.
    pub(crate) const SHARDS_MAX: u16 = 1024;

    /// Maximum of `spin_before_park` on the command line, in microseconds.
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
            memory_max: None,
            stats: false,
            admin: None,
            control: ControlSocket::None,
            admin_allowed_hosts: Vec::new(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            proxy: Proxy::default(),
            secret_file: None,
            log: Log::default(),
            performance: Performance::default(),
            rollout: Rollout::default(),
            limits: Limits::default(),
        }
    }
}

/// Whether shards are pinned to cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ShardPlacement {
    /// Pinned if `cpus` is set, or if every core has a shard. Not pinned if there are fewer shards than cores, so that several
    /// servers do not share the first cores.
    #[default]
    Auto,
    /// Pinned to the cores of `cpus` in turn, or to the available ones.
    Cores,
    /// Not pinned, even if `cpus` is set.
    None,
}

/// Level and format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Minimum severity of the lines that are written.
    pub level: LogLevel,
    /// Format of a line.
    pub format: LogFormat,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// No lines.
    Off,
    /// Failures of the server.
    Error,
    /// Conditions that an operator should check.
    #[default]
    Warn,
    /// Starts, exits and rejected requests.
    Info,
    /// Tools whose results are errors.
    Debug,
    /// All lines.
    Trace,
}

/// Format of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human-readable text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Address of the admin interface as it is configured: an address, or `none`.
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
