//! Probe of the kernel before the start. Each missing feature is a one-line error with its remedy.

use std::{
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use io_uring::{IoUring, Probe, opcode};

use super::peer_queries;

/// Memory that glommio locks for each executor's rings, in bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Time for which creating a ring is retried after `ENOMEM`.
const MEMORY_RETRY_MAX: Duration = Duration::from_secs(1);
/// Interval of these retries.
const MEMORY_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Why the machine or container cannot run a ring.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// `io_uring_setup` is disabled by the sysctl.
    #[error(
        "io_uring is disabled on this machine (kernel.io_uring_disabled = {0}), and corelane needs it for HTTP and stdio alike; remedy: sysctl -w kernel.io_uring_disabled=0{group}", group = if *.0 == 1 { ", or set kernel.io_uring_group to a group of this user" } else { "" }
    )]
    DisabledBySysctl(u8),
    /// `io_uring_setup` is denied although the sysctl allows it and the kernel supports it, as by a container's default seccomp filter.
    #[error(
        "io_uring is forbidden for this process ({0}; Linux {kernel} has it), probably by a container's seccomp profile, and corelane needs it for HTTP and stdio alike; remedy: run with a profile that allows io_uring_setup, io_uring_enter and io_uring_register, such as deploy/seccomp.json (docker run --security-opt seccomp=deploy/seccomp.json)", kernel = kernel_release()
    )]
    Forbidden(#[source] io::Error),
    /// The kernel has no io_uring, or lacks flags or operations that the ring uses.
    #[error("the kernel ({0}) is too old: Linux 6.1 or newer is needed; remedy: upgrade the kernel")]
    KernelTooOld(String),
    /// The kernel is new enough and lacks a flag or an operation.
    #[error(
        "the kernel ({kernel}) is new enough and refuses what corelane needs of io_uring ({0}); remedy: a kernel with the whole of io_uring, or a sandbox that passes it on", kernel = kernel_release()
    )]
    Unsupported(io::Error),
    /// A ring cannot be created although `RLIMIT_MEMLOCK` permits one.
    #[error(
        "the kernel has no memory for a ring: this user's processes have locked nearly all of what they may ({0} bytes, RLIMIT_MEMLOCK), or the machine or its container has no memory left; remedy: ulimit -l {kib} (systemd: LimitMEMLOCK={kib}K, Docker: --ulimit memlock={bytes}), or end other processes", kib = .0.saturating_mul(2) / 1024, bytes = .0.saturating_mul(2)
    )]
    MemlockUsedUp(u64),
    /// The process has no file descriptor left for a ring.
    #[error(
        "no descriptor is left for a ring: the process may have {0} (RLIMIT_NOFILE); remedy: ulimit -n 1024 (systemd: LimitNOFILE=1024)"
    )]
    Descriptors(u64),
    /// `RLIMIT_MEMLOCK` is too small for the rings.
    #[error("the locked-memory limit is {0} bytes and {MEMLOCK_BYTES_MIN} are needed; remedy: ulimit -l {kib}, or LimitMEMLOCK={kib}K in the systemd unit", kib = 8 * MEMLOCK_BYTES_MIN / 1024)]
    MemlockTooSmall(u64),
    /// Any other error of the kernel.
    #[error("io_uring could not be set up: {0}; remedy: look for the reason in the kernel's log (dmesg)")]
    Other(#[source] io::Error),
}

/// Optional features of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Optional {
    /// Whether a ring can post a completion to another ring (`IORING_OP_MSG_RING`).
    pub msg_ring: bool,
    /// Accepted connections carry the address of their peer (`SOCKET_URING_OP_GETSOCKOPT`, Linux 6.7).
    pub peer_address: bool,
}

/// Checks that the kernel supports all that the ring and the executor need. Returns its optional features.
///
/// # Errors
/// The first missing feature.
pub fn probe() -> Result<Optional, ProbeError> {
    let memlock = raise_memlock_limit().map_err(ProbeError::Other)?;
    if memlock < MEMLOCK_BYTES_MIN {
        return Err(ProbeError::MemlockTooSmall(memlock));
    }
    let build = || -> io::Result<IoUring> {
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().build(8)
    };
    let mut ring = retry_for_memory(build).map_err(explain)?;
    let mut supported = Probe::new();
    ring.submitter().register_probe(&mut supported).map_err(explain)?;
    let operations = [
        opcode::Accept::CODE,
        opcode::Recv::CODE,
        opcode::Send::CODE,
        opcode::Shutdown::CODE,
        opcode::Close::CODE,
        opcode::AsyncCancel::CODE,
        opcode::Timeout::CODE,
        opcode::PollAdd::CODE,
    ];
    if operations.into_iter().all(|code| supported.is_supported(code)) {
        Ok(Optional {
            msg_ring: supported.is_supported(opcode::MsgRingData::CODE),
            peer_address: peer_queries::is_supported(&mut ring).map_err(explain)?,
        })
    } else {
        Err(too_old_or(ProbeError::Unsupported(io::Error::from_raw_os_error(libc::EOPNOTSUPP))))
    }
}

/// Calls `make`, which creates a ring, and retries it after `ENOMEM` for up to a second: the kernel releases the locked memory of closed
/// rings with a delay.
///
/// # Errors
/// The last error of `make`; errors other than `ENOMEM` are not retried.
pub fn retry_for_memory<T>(mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + MEMORY_RETRY_MAX;
    loop {
        match make() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && Instant::now() < until => {
                thread::sleep(MEMORY_RETRY_INTERVAL);
            }
            made => return made,
        }
    }
}

/// Raises the soft limit of locked memory to the hard one and returns it, in bytes. The limit applies to all processes of the user
/// together.
///
/// # Errors
/// The error of `getrlimit`.
pub fn raise_memlock_limit() -> io::Result<u64> {
    let memlock = limit(libc::RLIMIT_MEMLOCK)?;
    if memlock.rlim_cur == memlock.rlim_max {
        return Ok(memlock.rlim_cur);
    }
    let raised = libc::rlimit { rlim_cur: memlock.rlim_max, ..memlock };
    // SAFETY: the struct is initialised and lives through the call.
    let refused = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const raised) } != 0;
    Ok(if refused { memlock.rlim_cur } else { raised.rlim_cur })
}

/// Raises the soft limit of file descriptors to the hard one and returns it. It also bounds a ring's table of direct descriptors.
///
/// # Errors
/// The error of `getrlimit` or `setrlimit`.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut descriptors = limit(libc::RLIMIT_NOFILE)?;
    descriptors.rlim_cur = descriptors.rlim_max;
    // SAFETY: the struct is initialised and lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const descriptors) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(descriptors.rlim_cur)
}

/// Returns standard output for exclusive use, and redirects all other output to standard error.
///
/// # Errors
/// The process has no file descriptor left.
pub fn divert_stdout() -> io::Result<OwnedFd> {
    let mut stdout = io::stdout().lock();
    stdout.flush()?;
    let taken = stdout.as_fd().try_clone_to_owned()?;
    let (from, to) = (io::stderr().as_raw_fd(), stdout.as_raw_fd());
    // SAFETY: both descriptors stay open as long as the process runs, and no value owns the one that is replaced.
    if unsafe { libc::dup2(from, to) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(taken)
}

/// Converts an error of creating a ring to its explanation.
#[must_use]
pub fn explain(error: io::Error) -> ProbeError {
    explain_with(error, std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok())
}

/// Returns `otherwise`, or [`ProbeError::KernelTooOld`] if the kernel is.
fn too_old_or(otherwise: ProbeError) -> ProbeError {
    const MINIMUM: (u32, u32) = (6, 1);
    let release = kernel_release();
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= MINIMUM => otherwise,
        _ => ProbeError::KernelTooOld(release),
    }
}

fn explain_with(error: io::Error, sysctl: Option<String>) -> ProbeError {
    let disabled = sysctl.and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0);
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if disabled > 0 => ProbeError::DisabledBySysctl(disabled),
        Some(libc::EPERM | libc::EACCES) => ProbeError::Forbidden(error),
        // Seccomp profiles return either error.
        Some(libc::ENOSYS) => too_old_or(ProbeError::Forbidden(error)),
        Some(libc::EINVAL) => too_old_or(ProbeError::Unsupported(error)),
        Some(libc::ENOMEM) => limit(libc::RLIMIT_MEMLOCK)
            .map_or_else(ProbeError::Other, |memlock| ProbeError::MemlockUsedUp(memlock.rlim_cur)),
        Some(libc::EMFILE | libc::ENFILE) => limit(libc::RLIMIT_NOFILE)
            .map_or_else(ProbeError::Other, |files| ProbeError::Descriptors(files.rlim_cur)),
        _ => ProbeError::Other(error),
    }
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown release".to_owned(), |release| release.trim().to_owned())
}

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is initialised and lives through the call.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(errno: i32, sysctl: &str) -> String {
        explain_with(io::Error::from_raw_os_error(errno), Some(sysctl.to_owned())).to_string()
    }

    #[test]
    fn each_error_is_one_line_with_a_remedy() {
        for (line, word) in [
            (message(libc::EPERM, "2\n"), "sysctl -w kernel.io_uring_disabled=0"),
            (message(libc::EPERM, "0\n"), "seccomp"),
            (message(libc::EPERM, "1\n"), "kernel.io_uring_group"),
            (message(libc::ENOSYS, "0\n"), "seccomp=deploy/seccomp.json"),
            (message(libc::EINVAL, "0\n"), "new enough"),
            (message(libc::ENOMEM, "0\n"), "ulimit -l"),
            (message(libc::EMFILE, "0\n"), "ulimit -n"),
            (message(libc::EIO, "0\n"), "remedy"),
            (ProbeError::KernelTooOld("5.10.0".to_owned()).to_string(), "6.1"),
            (ProbeError::MemlockTooSmall(65536).to_string(), "ulimit -l 4096"),
        ] {
            assert!(line.contains(word), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn probe_passes_on_this_machine() {
        probe().unwrap();
    }
}
