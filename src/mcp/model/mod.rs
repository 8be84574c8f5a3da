//! Data types of the protocol: methods, events, streams, tasks.

pub(super) mod events;
pub(super) mod method;
pub(super) mod session;
pub(super) mod stream;
pub(super) mod task;
