//! Log and metrics.

pub mod log;
pub mod metrics;
pub(crate) mod observer;
pub mod turn_status;
