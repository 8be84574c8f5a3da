//! Log and metrics.

pub(crate) mod advice;
pub(crate) mod interval;
pub mod log;
pub(crate) mod log_level;
pub mod metrics;
pub(crate) mod observer;
pub mod turn_status;
