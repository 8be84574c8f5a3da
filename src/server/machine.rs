//! What the machine allows: descriptors, locked memory, io_uring. What is missing is found before a shard is started.

use std::{io, thread};

use corelane_ring::RingConfig;
use glommio::GlommioError;
use tracing::debug;

use super::{
    error::{StartError, resource},
    placement::default_shards,
};
use crate::config::{Config, Limits};

/// What the kernel counts as locked for it, in bytes: a registered buffer of 64 KiB and two queues in each of its three rings.
const EXECUTOR_LOCKED_BYTES: u64 = 3 * (64 * 1024 + 2 * 4096);

/// A shard's ring. A turn handles at most 256 completions, and what finds a queue full waits for the next turn; the queues
/// count as locked memory, of which users that are not root have 8 MiB by default.
pub(super) const SHARD_RING: RingConfig = RingConfig {
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

/// The kernel's own bound on a table of direct descriptors.
const TABLE_MAX: u32 = 1 << 20;

/// Why glommio's executor could not be made.
pub(super) fn no_executor(reason: Option<GlommioError<()>>, shards: usize) -> StartError {
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
pub(super) fn refused(what: &'static str, error: io::Error, shards: usize) -> StartError {
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

pub(super) fn too_few_descriptors(shards: usize) -> StartError {
    let need = DESCRIPTORS_BASE + (shards as u64).saturating_mul(DESCRIPTORS_PER_SHARD);
    StartError::Descriptors { shards, need, limit: corelane_ring::raise_descriptor_limit().unwrap_or(0) }
}

/// Bytes that count as locked for one shard.
fn shard_locked_bytes() -> u64 {
    EXECUTOR_LOCKED_BYTES + RingConfig { sockets_max: 1, ..SHARD_RING }.locked_bytes()
}

/// Whether there can be enough descriptors: found out before the first is taken.
pub(super) fn check_descriptors(config: &Config) -> Result<(), StartError> {
    let limit = corelane_ring::raise_descriptor_limit()
        .map_err(|error| resource("with the descriptor limit", &error))?;
    let shards = config.shards.unwrap_or_else(|| default_shards(config));
    let StartError::Descriptors { need, .. } = too_few_descriptors(shards) else { return Ok(()) };
    // One for each further listener of a shard.
    let listeners = (config.listen.len().saturating_sub(1) as u64).saturating_mul(shards as u64);
    let need = need.saturating_add(listeners);
    if limit < need { Err(StartError::Descriptors { shards, need, limit }) } else { Ok(()) }
}

/// Asks the kernel on a thread of its own: the end of a ring may interrupt a system call of the thread that had it, and
/// the caller's thread is the caller's.
pub(super) fn probe() -> Result<(), StartError> {
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
pub(super) fn is_too_few(allowed: u32, limits: &Limits) -> bool {
    let is_asked_for = limits.connections_max != Limits::default().connections_max;
    allowed < limits.connections_max && (is_asked_for || allowed < CONNECTIONS_FEW)
}

/// The size of a ring's table of direct descriptors: what the limits ask for, as far as the process may.
pub(super) fn sockets_max(descriptors: u64, limits: &Limits) -> u32 {
    let wanted = limits.connections_max.saturating_add(limits.connections_reserve).min(TABLE_MAX);
    u32::try_from(descriptors.saturating_sub(1)).map_or(wanted, |allowed| wanted.min(allowed)).max(1)
}
