//! Why no profile was taken.

use std::io;

use super::options::{HZ_MAX, SECONDS_MAX};

/// Why no profile was taken.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A profile is under way.
    #[error("a profile is being taken; wait until it has ended")]
    Running,
    /// [`ProfileOptions::seconds`](super::ProfileOptions::seconds) is out of range.
    #[error("a profile of {0} s is out of range: 1 to {SECONDS_MAX}")]
    Seconds(u32),
    /// [`ProfileOptions::hz`](super::ProfileOptions::hz) is out of range.
    #[error("{0} samples per second are out of range: 1 to {HZ_MAX}")]
    Hz(u32),
    /// There is no such shard.
    #[error("there is no shard {0}")]
    NoShard(usize),
    /// No thread can be sampled.
    #[error(
        "no thread can be sampled: {0}; remedy: sysctl kernel.perf_event_paranoid=2, and a seccomp profile that allows \
         perf_event_open or timer_create"
    )]
    NotPermitted(io::Error),
    /// A dump of the allocator is in an unknown format.
    #[error("the heap dump of the allocator is in an unknown format; heap_v2 is read")]
    Dump,
    /// A system call failed.
    #[error("{action} failed: {error}")]
    System {
        /// The operation that failed.
        action: &'static str,
        /// Its error.
        error: io::Error,
    },
}

impl ProfileError {
    /// The identifier of the error in replies and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "profile_running",
            Self::Seconds(_) => "profile_seconds",
            Self::Hz(_) => "profile_hz",
            Self::NoShard(_) => "profile_no_shard",
            Self::NotPermitted(_) => "profile_not_permitted",
            Self::Dump => "heap_profile_dump",
            Self::System { .. } => "profile_system",
        }
    }
}
