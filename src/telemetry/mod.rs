//! What an operator sees of a server: its log and its metrics.

pub mod log;
pub mod metrics;
pub(crate) mod observer;
