//! Sockets that leave for other rings, and the handles of these.

use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
};

use io_uring::{IoUring, Probe, opcode};

/// A ring that receives sockets of other rings, for any thread. It keeps the kernel's ring, not its sockets.
#[derive(Clone, Debug)]
pub struct RingHandle(Arc<OwnedFd>);

impl RingHandle {
    pub(super) fn new(ring: OwnedFd) -> Self {
        Self(Arc::new(ring))
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A socket that leaves.
pub(super) struct HandOver {
    /// Keeps the file until the operation has completed.
    pub(super) to: RingHandle,
    /// The user data of the completion in the other ring.
    pub(super) user_data: u64,
    /// The owner has closed the socket while the operation was under way.
    pub(super) closes: bool,
}

/// Whether sockets can be handed over: Linux 6.7 and newer, as `peer_queries`. Older kernels that have the operation are not tested.
pub(super) fn is_supported(ring: &IoUring, peer_queries: bool) -> bool {
    let mut supported = Probe::new();
    let probed = ring.submitter().register_probe(&mut supported);
    peer_queries && probed.is_ok() && supported.is_supported(opcode::MsgRingSendFd::CODE)
}
