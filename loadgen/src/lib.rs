//! placeholder
pub mod budget;
pub mod compare;
pub mod conduct;
pub mod demand;
pub mod engine;
pub mod error;
pub mod http;
pub mod latency;
pub mod markdown;
pub mod metric;
pub mod probe;
pub mod progress;
pub mod repeats;
pub mod report;
pub mod request;
pub mod result;
pub mod schedule;
pub mod statistics;
pub mod target;
pub mod template;
pub mod units;
pub mod watch;
#[cfg(test)]
mod sample;
