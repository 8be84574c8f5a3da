//! What an operator decides.

mod limits;

use std::{net::SocketAddr, time::Duration};

pub use limits::Limits;

/// How a server runs. The defaults serve on loopback with one shard per available core.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Number of shards; one per core of `cpus` without it. May exceed the cores: shards then share them.
    pub shards: Option<usize>,
    /// Cores to pin shards to; all available ones without it.
    pub cpus: Option<Vec<usize>>,
    /// How long a shard looks for work before it sleeps. Without it: [`Config::SPIN`] where each shard has a core of
    /// its own, zero where shards share one.
    pub spin_before_park: Option<Duration>,
    /// Print latency histograms when the server ends.
    pub stats: bool,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// Hosts this server answers to besides loopback names: `name` on any port, or `name:port`.
    pub allowed_hosts: Vec<String>,
    /// Origins browsers may call from, as `https://app.example.com`, besides those of this machine where every address
    /// listened on is a loopback one.
    pub allowed_origins: Vec<String>,
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

    /// The measured default of `spin_before_park` (docs/DECISIONS.md).
    pub const SPIN: Duration = Duration::from_micros(50);
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![Self::LISTEN],
            shards: None,
            cpus: None,
            spin_before_park: None,
            stats: false,
            admin: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            limits: Limits::default(),
        }
    }
}
