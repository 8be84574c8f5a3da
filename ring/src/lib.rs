//! Sockets by io_uring completion on a glommio executor's thread: the only `unsafe` of corelane.
//!
//! glommio schedules tasks, the ring does I/O. One [`Ring`] belongs to one thread. It accepts into *direct descriptors* (a socket
//! uses no file descriptor), receives into a ring of provided buffers (an idle socket holds no buffer) and owns every buffer
//! of a send until the kernel has completed it.
//!
//! The interface is safe: a [`SocketId`] contains a generation, so a stale id is rejected instead of naming the next socket of its
//! slot; a [`ReceivedBuffer`] returns to the kernel only when it is dropped; a send takes its buffer by value and returns it in
//! [`Event::Sent`].
//!
//! ```text
//! listen ─► Accepted ─┐
//! connect ► Connected ┤
//! adopt ──► Connected ┴► Received … Received ─► PeerClosed / ReceiveFailed
//!                       send ─► Sent            close ─► Closed (the slot may be reused)
//! ```

#![allow(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "corelane-ring drives sockets through io_uring, which needs Linux 6.1 or newer on x86-64 or aarch64"
);

mod accept;
mod buffer_source;
mod buffers;
mod close;
mod config;
mod cpu_sampler;
mod dial;
mod dials;
mod enter;
mod event;
mod hand_over;
mod hand_overs;
mod heap;
mod listener;
mod listener_group;
mod operation;
mod peer;
mod peer_queries;
mod probe;
mod query_peer;
mod receive;
mod ring;
mod send;
mod sleep;
mod sleep_state;
mod slots;
mod sources;
mod starved;
mod wake;

pub use buffers::{PADDING_BYTES, ReceivedBuffer};
pub use config::RingConfig;
pub use cpu_sampler::{CpuSample, CpuSampler};
pub use event::{Arrival, Event};
pub use hand_overs::RingHandle;
pub use heap::trim_heap;
pub use listener::{KeepAlive, Listener, SocketFile, UnixSocket, bind, bind_alone, bind_first, keep_alive};
pub use listener_group::ListenerGroup;
pub use peer::PeerAddress;
pub use probe::{
    Optional, ProbeError, divert_stdout, explain, probe, raise_descriptor_limit, raise_memlock_limit,
    retry_for_memory,
};
pub use ring::Ring;
pub use slots::{ListenerId, Refused, SocketId};
pub use wake::{Parker, Waker};
