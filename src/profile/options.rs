//! The subject and the duration of a profile.

use super::threads::SampledThreads;

/// Maximum duration of a profile, in seconds.
pub(super) const SECONDS_MAX: u32 = 600;

/// Maximum samples per second of CPU time of a thread.
pub(super) const HZ_MAX: u32 = 999;

/// The subject of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileOptions {
    /// Its duration: 1 to 600.
    pub seconds: u32,
    /// Samples per second of CPU time of each thread: 1 to 999.
    pub hz: u32,
    /// The threads.
    pub threads: SampledThreads,
}

impl Default for ProfileOptions {
    /// All threads for 60 s. 99 samples per second do not coincide with periodic work.
    fn default() -> Self {
        Self { seconds: 60, hz: 99, threads: SampledThreads::All }
    }
}
