//! What the protocol is about: methods, events, tasks.

pub(super) mod events;
pub(super) mod method;
pub(super) mod task;
