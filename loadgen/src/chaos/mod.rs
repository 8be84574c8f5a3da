//! Chaos: faults, done to a running server that serves a bystander.
//!
//! | fault | file |
//! |---|---|
//! | a tool panics | `tool_panic` |
//! | clients vanish without a FIN | `peer_vanishes` |
//! | a client makes the server hold all the memory it may | `memory_pressure` |
//! | ten times as many calls as the server admits | `message_flood` |
//! | requests that are no HTTP, no JSON, no JSON-RPC or no MCP | `invalid_payload` |
//! | connections that are never closed, beyond the limit | `connection_leak` |
//! | clients that do not read | `slow_consumer` |
//! | a shard's executor ends | `shard_death` |
//! | the disk of the log is full | `disk_full` |
//! | other processes use the core of the server | `cpu_saturation` |
//! | payloads of 100 MB | `large_payload` |
//!
//! Each file defines for its fault which refusal is right, what counts as detected, when the server has recovered, and which call is
//! lost. For all of them: a fault passes if the refusal is the right one, it is detected and over within the [`Bars`], no call is lost,
//! and no other client is hurt. A call is lost if it got neither a result nor a refusal; a call of the bystander, each of whose replies is
//! read and checked, is lost if it failed in any way. Somebody else is hurt if a call of the bystander failed, if its p99 during or
//! after the fault is above the bar, or if the server's process ended.

mod cpu_saturation;
mod connection_leak;
mod definition;
mod disk_full;
mod file;
mod invalid_payload;
mod large_payload;
mod lines;
mod measure;
mod memory_pressure;
mod message_flood;
mod observation;
mod outcome;
mod peer_vanishes;
mod sample;
mod scene;
mod shard_death;
mod slow_consumer;
mod tool_panic;

pub use definition::Fault;
pub use file::{ChaosFile, SCHEMA};
pub use measure::measure;
pub use outcome::{Bars, FaultOutcome, Service, Status};

/// Returns all faults, in the order of the table of [the module](self).
#[must_use]
pub fn all() -> Vec<Fault> {
    vec![
        tool_panic::fault(),
        peer_vanishes::fault(),
        memory_pressure::fault(),
        message_flood::fault(),
        invalid_payload::fault(),
        connection_leak::fault(),
        slow_consumer::fault(),
        shard_death::fault(),
        disk_full::fault(),
        cpu_saturation::fault(),
        large_payload::fault(),
    ]
}
