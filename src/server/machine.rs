//! Checks of the machine before a shard is started: descriptors, locked memory, io_uring.

use std::{io, thread};

use corelane_ring::RingConfig;
use glommio::GlommioError;
use tracing::debug;

use super::{
    error::{StartError, resource},
    placement,
};
use crate::config::{Config, Limits};

/// Locked memory of a glommio executor, in bytes: in each of its three rings, a registered buffer of 64 KiB and two queues.
const EXECUTOR_LOCKED_BYTES: u64 = 3 * (64 * 1024 + 2 * 4096);

/// Configuration of a shard's ring. A turn handles at most 256 completions; an operation that finds a queue full is
/// submitted in the next turn. The queues count as locked memory, of which unprivileged users have 8 MiB by default.
pub(super) const SHARD_RING: RingConfig = RingConfig {
    sockets_max: 1024,
    submission_entries: 512,
    completion_entries: 2048,
    buffers: 1024,
    buffer_bytes: 2048,
    large_buffers: 16,
    large_buffer_bytes: 32 * 1024,
};

/// A descriptor limit that allows fewer connections per shard than this is logged as a warning.
const CONNECTIONS_FEW: u32 = 16_384;

/// Descriptors of a process without shards: measured, with a margin.
const DESCRIPTORS_BASE: u64 = 24;

/// Descriptors of a shard with one listener: measured, with a margin.
const DESCRIPTORS_PER_SHARD: u64 = 8;

/// Maximum size of a table of direct descriptors (the kernel's `IORING_MAX_FIXED_FILES`).
const TABLE_MAX: u32 = 1 << 20;

/// The error of a glommio executor that could not be created; `None` as the reason means that it panicked.
pub(super) fn executor_error(reason: Option<GlommioError<()>>, shards: usize) -> StartError {
    match reason {
        Some(GlommioError::IoError(error) | GlommioError::EnhancedIoError { source: error, .. }) => {
            system_error("a shard", error, shards)
        }
        // glommio panics where it does not expect a system call to fail.
        Some(GlommioError::BuilderError(_)) | None => too_few_descriptors(shards),
        Some(error) => resource("a shard", &error),
    }
}

/// The error of a system call that created `what`, with the limit that may have caused it.
pub(super) fn system_error(what: &'static str, error: io::Error, shards: usize) -> StartError {
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

/// [`StartError::Descriptors`] for this number of shards, after raising the soft limit.
pub(super) fn too_few_descriptors(shards: usize) -> StartError {
    let need = DESCRIPTORS_BASE + (shards as u64).saturating_mul(DESCRIPTORS_PER_SHARD);
    StartError::Descriptors { shards, need, limit: corelane_ring::raise_descriptor_limit().unwrap_or(0) }
}

/// Locked memory of one shard, in bytes.
fn shard_locked_bytes() -> u64 {
    EXECUTOR_LOCKED_BYTES + RingConfig { sockets_max: 1, ..SHARD_RING }.locked_bytes()
}

/// Raises the descriptor limit and checks that it is high enough for the configuration, before any descriptor is opened.
///
/// # Errors
/// [`StartError::Descriptors`] where it is not.
pub(super) fn check_descriptors(config: &Config) -> Result<(), StartError> {
    let limit = corelane_ring::raise_descriptor_limit()
        .map_err(|error| resource("the server: raising the descriptor limit failed", &error))?;
    let shards = placement::shards(config);
    let StartError::Descriptors { need, .. } = too_few_descriptors(shards) else { return Ok(()) };
    // Each further listener takes one descriptor per shard.
    let listeners = (config.listen.len().saturating_sub(1) as u64).saturating_mul(shards as u64);
    let need = need.saturating_add(listeners);
    if limit < need { Err(StartError::Descriptors { shards, need, limit }) } else { Ok(()) }
}

/// Probes io_uring on a thread of its own: closing a ring may interrupt a system call of the thread that created it, and that
/// must not be the caller's thread.
pub(super) fn probe() -> Result<(), StartError> {
    match thread::spawn(corelane_ring::probe).join() {
        Ok(probed) => {
            let corelane_ring::Optional { msg_ring, peer_address } = probed?;
            debug!(msg_ring, peer_address, "io_uring has what is needed");
            Ok(())
        }
        Err(_) => Err(resource("the server: the probe of io_uring failed", &"it panicked")),
    }
}

/// Whether to warn that the descriptor limit allows only `allowed` connections per shard: fewer than a configured
/// `connections_max`, or, where it is the default, fewer than [`CONNECTIONS_FEW`]. Many machines allow fewer than the default.
pub(super) fn is_too_few(allowed: u32, limits: &Limits) -> bool {
    let is_configured = limits.connections_max != Limits::default().connections_max;
    allowed < limits.connections_max && (is_configured || allowed < CONNECTIONS_FEW)
}

/// Size of a ring's table of direct descriptors: `connections_max` plus the reserve, capped by the descriptor limit and
/// [`TABLE_MAX`].
pub(super) fn sockets_max(descriptors: u64, limits: &Limits) -> u32 {
    let wanted = limits.connections_max.saturating_add(limits.connections_reserve).min(TABLE_MAX);
    u32::try_from(descriptors.saturating_sub(1)).map_or(wanted, |allowed| wanted.min(allowed)).max(1)
}
