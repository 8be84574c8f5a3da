//! Errors of `io_uring_enter` after which the ring is intact.

use std::io;

/// Ignores the transient errors of entering the kernel.
pub(super) fn ignore_transient(result: io::Result<()>) -> io::Result<()> {
    match result.as_ref().map_err(io::Error::raw_os_error) {
        // ETIME: fewer completions than requested. EBUSY and EAGAIN: completions must be reaped before the next submission.
        Err(Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
        _ => result,
    }
}
