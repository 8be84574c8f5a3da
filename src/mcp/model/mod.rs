//! Data types of the protocol: methods, events, tasks.

pub(super) mod events;
pub(super) mod method;
pub(super) mod task;
