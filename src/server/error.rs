//! Errors of starting and running a server.

use std::{io, net::SocketAddr};

use corelane_ring::ProbeError;

use crate::{config::Listen, registry::RegistryError};

/// Why a server did not start, or stopped with a failure. Displays as one line, with the remedy where one is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// io_uring is missing, forbidden or restricted on this machine or in this container.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The registry cannot be served.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The configuration names a core that the process cannot use.
    #[error("core {core} is not available (available: {available}); remedy: name other cores with --cpus")]
    CoreAbsent {
        /// The configured core.
        core: usize,
        /// The cores that can be used, separated by commas.
        available: String,
    },
    /// No shards, or no address, are configured.
    #[error("nothing to serve: {0}")]
    Nothing(&'static str),
    /// Listening on an address failed.
    #[error("cannot listen on {listen}: {reason}; remedy: {remedy}")]
    Listen {
        /// The address.
        listen: Listen,
        /// The error of the kernel.
        reason: io::Error,
        /// The remedy.
        remedy: &'static str,
    },
    /// Listening on the admin address failed.
    #[error("cannot listen on {address} for the admin interface: {reason}; remedy: {remedy}")]
    ListenAdmin {
        /// The address.
        address: SocketAddr,
        /// The error of the kernel.
        reason: io::Error,
        /// The remedy.
        remedy: &'static str,
    },
    /// Listening on the control socket failed.
    #[error("cannot listen on {path} for the control socket: {reason}; remedy: {remedy}")]
    ListenControl {
        /// The path.
        path: String,
        /// The error of the kernel.
        reason: io::Error,
        /// The remedy.
        remedy: &'static str,
    },
    /// A non-loopback address is configured for HTTP without `allowed_hosts`.
    #[error(
        "{0} is not a loopback address, and no allowed hosts are configured; remedy: name the hosts that clients use with \
         --allowed-hosts ([http] allowed_hosts), or listen on loopback"
    )]
    NotLoopback(SocketAddr),
    /// The key in `[security] secret_file` cannot be used.
    #[error("cannot use secret_file {path}: {reason}; remedy: {remedy}")]
    Secret {
        /// Path of the file.
        path: String,
        /// The reason.
        reason: String,
        /// The remedy.
        remedy: String,
    },
    /// A non-loopback address is configured for newline-delimited JSON, which has no host to check.
    #[error(
        "tcp://{0} is not a loopback address, and anybody who reaches it could call tools; remedy: listen on loopback behind \
         a proxy that knows its clients, or serve HTTP"
    )]
    LinesNotLoopback(SocketAddr),
    /// The rings of the shards need more locked memory than RLIMIT_MEMLOCK allows.
    #[error(
        "cannot lock the memory of {shards} shards: they need {need_kib} KiB, and this user's processes may lock {limit_kib} \
         KiB together (RLIMIT_MEMLOCK), enough for {fit} shards where nothing else is locked; remedy: ulimit -l {need_kib} \
         (systemd: LimitMEMLOCK={need_kib}K, Docker: --ulimit memlock={need_bytes}), or --shards {fit}",
        fit = limit_kib.saturating_mul(*shards as u64).checked_div(*need_kib).unwrap_or(0).max(1),
        need_bytes = need_kib.saturating_mul(1024)
    )]
    Memlock {
        /// Configured number of shards.
        shards: usize,
        /// Memory that they lock, in KiB.
        need_kib: u64,
        /// The limit in force, in KiB.
        limit_kib: u64,
    },
    /// The shards need more descriptors than RLIMIT_NOFILE allows.
    #[error(
        "{shards} shards need about {need} descriptors, and the process may have {limit} (RLIMIT_NOFILE); remedy: ulimit -n \
         {need} (systemd: LimitNOFILE={need}, Docker: --ulimit nofile={need}), or fewer --shards"
    )]
    Descriptors {
        /// Configured number of shards.
        shards: usize,
        /// Descriptors that they need.
        need: u64,
        /// The limit in force.
        limit: u64,
    },
    /// A shard stopped with a failure while the server was running.
    #[error("shard {shard} failed: {reason}")]
    ShardFailed {
        /// Number of the shard.
        shard: usize,
        /// The reason: a panic, or an error of the kernel.
        reason: String,
    },
    /// The server has stopped, and calls were answered with an error because they were not done within `drain_timeout`.
    #[error(
        "{calls} calls were not done within limits.drain_timeout and were answered with an error; remedy: a longer drain_timeout"
    )]
    CallsAbandoned {
        /// Number of calls.
        calls: u64,
    },
    /// Creating a thread, a ring or a signal handler failed.
    #[error("cannot start {what}: {reason}")]
    Resource {
        /// The resource.
        what: &'static str,
        /// The error of the kernel.
        reason: String,
    },
}

impl StartError {
    /// Key of the setting that the error is about.
    #[cfg(feature = "cli")]
    pub(crate) fn key(&self) -> Option<&'static str> {
        match self {
            Self::CoreAbsent { .. } => Some("server.cpus"),
            Self::Listen { .. } | Self::NotLoopback(_) | Self::LinesNotLoopback(_) => Some("server.listen"),
            Self::ListenAdmin { .. } => Some("server.admin"),
            Self::ListenControl { .. } => Some("admin.control"),
            Self::Secret { .. } => Some("security.secret_file"),
            Self::CallsAbandoned { .. } => Some("limits.drain_timeout"),
            _ => None,
        }
    }
}

/// [`StartError::Resource`] of any error.
pub(super) fn resource(what: &'static str, reason: &dyn std::fmt::Display) -> StartError {
    StartError::Resource { what, reason: reason.to_string() }
}
