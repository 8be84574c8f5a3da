//! Memory and descriptors of a process.

use procfs::process::Process;

/// The resources of a process at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// The largest resident memory so far, in bytes.
    pub peak_bytes: u64,
    /// Number of open descriptors.
    pub descriptors: usize,
}

impl Footprint {
    /// Reads the footprint of a process; `None` if it has ended.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let process = Process::new(pid).ok()?;
        let status = process.status().ok()?;
        let bytes = |kibibytes: Option<u64>| kibibytes.unwrap_or(0) * 1024;
        Some(Self {
            resident_bytes: bytes(status.vmrss),
            peak_bytes: bytes(status.vmhwm),
            descriptors: process.fd_count().ok()?,
        })
    }
}
