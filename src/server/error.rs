//! Why a server does not start.

use std::{io, net::SocketAddr};

use corelane_ring::ProbeError;

use crate::{config::Listen, registry::RegistryError};

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

pub(super) fn resource(what: &'static str, reason: &dyn std::fmt::Display) -> StartError {
    StartError::Resource { what, reason: reason.to_string() }
}
