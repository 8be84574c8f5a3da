//! What the kernel allows, asked before anything starts: each refusal is one line with its remedy.

use std::{
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use io_uring::{IoUring, Probe, opcode};

/// glommio locks this much memory for each executor's rings, in bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Why this machine, or this container, cannot run a ring.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// `io_uring_setup` is refused and the sysctl says so.
    #[error(
        "io_uring is disabled on this machine (kernel.io_uring_disabled = {0}); remedy: sysctl -w kernel.io_uring_disabled=0"
    )]
    DisabledBySysctl(u8),
    /// `io_uring_setup` is refused although the sysctl allows it: a seccomp filter, as container defaults have.
    #[error(
        "io_uring is forbidden for this process, probably by a container's seccomp profile; remedy: run with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (Docker: --security-opt seccomp=FILE)"
    )]
    Forbidden,
    /// No io_uring, or one without the flags and operations used.
    #[error("the kernel ({0}) is too old: Linux 6.1 or newer is needed; remedy: upgrade the kernel")]
    KernelTooOld(String),
    /// `RLIMIT_MEMLOCK` is too small for the rings.
    #[error("the locked-memory limit is {0} bytes and {MEMLOCK_BYTES_MIN} are needed; remedy: ulimit -l {kib}, or LimitMEMLOCK={kib}K in the systemd unit", kib = 8 * MEMLOCK_BYTES_MIN / 1024)]
    MemlockTooSmall(u64),
    /// Anything else the kernel said.
    #[error("io_uring could not be set up: {0}")]
    Other(#[source] io::Error),
}

/// Asks the kernel for everything the ring and the executor need.
///
/// # Errors
/// The first thing that is missing.
pub fn probe() -> Result<(), ProbeError> {
    let memlock = limit(libc::RLIMIT_MEMLOCK).map_err(ProbeError::Other)?;
    if memlock.rlim_cur < MEMLOCK_BYTES_MIN {
        return Err(ProbeError::MemlockTooSmall(memlock.rlim_cur));
    }
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(8)
        .map_err(|error| {
            explain(error, std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok())
        })?;
    let mut supported = Probe::new();
    ring.submitter().register_probe(&mut supported).map_err(ProbeError::Other)?;
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
        Ok(())
    } else {
        Err(ProbeError::KernelTooOld(kernel_release()))
    }
}

/// Raises the soft descriptor limit to the hard one and returns it: a ring's table of direct descriptors is bounded
/// by it.
///
/// # Errors
/// What `getrlimit` or `setrlimit` say.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut descriptors = limit(libc::RLIMIT_NOFILE)?;
    descriptors.rlim_cur = descriptors.rlim_max;
    // SAFETY: the struct is initialised and lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const descriptors) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(descriptors.rlim_cur)
}

/// Takes standard output for the caller alone. What anybody else prints to it goes to standard error from here on.
///
/// # Errors
/// When the process has no descriptor left.
pub fn divert_stdout() -> io::Result<OwnedFd> {
    let mut stdout = io::stdout().lock();
    stdout.flush()?;
    let taken = stdout.as_fd().try_clone_to_owned()?;
    let (from, to) = (io::stderr().as_raw_fd(), stdout.as_raw_fd());
    // SAFETY: both are open for as long as the process is, and nobody owns the one that is replaced.
    if unsafe { libc::dup2(from, to) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(taken)
}

fn explain(error: io::Error, sysctl: Option<String>) -> ProbeError {
    let disabled = sysctl.and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0);
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if disabled > 0 => ProbeError::DisabledBySysctl(disabled),
        Some(libc::EPERM | libc::EACCES) => ProbeError::Forbidden,
        Some(libc::ENOSYS | libc::EINVAL) => ProbeError::KernelTooOld(kernel_release()),
        Some(libc::ENOMEM) => limit(libc::RLIMIT_MEMLOCK)
            .map_or_else(ProbeError::Other, |memlock| ProbeError::MemlockTooSmall(memlock.rlim_cur)),
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

    fn told(errno: i32, sysctl: &str) -> String {
        explain(io::Error::from_raw_os_error(errno), Some(sysctl.to_owned())).to_string()
    }

    #[test]
    fn each_refusal_is_one_line_with_a_remedy() {
        for (line, word) in [
            (told(libc::EPERM, "2\n"), "sysctl -w kernel.io_uring_disabled=0"),
            (told(libc::EPERM, "0\n"), "seccomp"),
            (told(libc::ENOSYS, "0\n"), "6.1"),
            (told(libc::EINVAL, "0\n"), "upgrade the kernel"),
            (told(libc::ENOMEM, "0\n"), "ulimit -l"),
            (ProbeError::MemlockTooSmall(65536).to_string(), "ulimit -l 4096"),
        ] {
            assert!(line.contains(word), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn this_machine_passes() {
        probe().unwrap();
    }
}
