//! corelane-loadgen: an open-loop load generator for Model Context Protocol servers.
//!
//! # What is measured
//!
//! The canonical workload is `tools/call` of `echo` with one string of eleven characters, 2026-07-28, one request in flight on
//! each connection; `corelane-loadgen workloads` lists the others. Every reply is read in full, parsed and held against its
//! request: status, id, result, and the text an echo must bring back. A reply that is wrong is an error, never a latency.
//!
//! In an *open loop* requests are due at the times of a schedule, which knows nothing of the server. Latency counts from
//! the time a request was **due**, so a server that stalls is charged for every request it kept waiting (the
//! "coordinated omission" of closed loops is the lack of just that). The figure from the actual time of sending stands
//! beside it. A *closed loop* sends the next request when a reply has come: good for throughput, and its latencies for
//! comparisons only.
//!
//! The generator measures itself too: how busy its threads are, and by how much requests left later than they could have.
//! When it was the limit, the result says so.
//!
//! # Life of a run
//!
//! | # | stage | where |
//! |---|---|---|
//! | 1 | words → plan | [`cli`], [`workloads`], [`suite`] |
//! | 2 | who answers, in which era | [`probe`], [`target`] |
//! | 3 | whose process it is, its own figures | [`monitor`] |
//! | 4 | connect, greet, wait for one another | [`engine`] |
//! | 5 | when a request is due | [`schedule`] |
//! | 6 | how it looks, which reply is right | [`request`], [`template`] |
//! | 7 | bytes → replies | [`http`] |
//! | 8 | times → histograms → a result | [`job`], [`latency`], [`figures`], [`result`] |
//! | 9 | a result → tables, pages, logs | [`report`], [`markdown`] |
//! | 10 | a result against another, against budgets | [`compare`], [`budget`] |
//!
//! # Threads
//!
//! One per generator core, pinned, each with a ring of its own ([`corelane_ring`]) and its share of connections and schedule;
//! and the one that started them, which shows progress and looks at the server's process once a second.

#![forbid(unsafe_code)]

// In the order of a run.
pub mod cli;
pub mod error;
pub mod workloads;
pub mod payloads;
pub mod suite;
pub mod idle;
pub mod fanout;
pub mod fault_injection;
pub mod process;
pub mod spawn;
pub mod stdio;
pub mod placement;
pub mod target;
pub mod probe;
pub mod monitor;
pub mod job;
pub mod progress;
pub mod engine;
pub mod schedule;
pub mod request;
pub mod template;
pub mod http;
pub mod latency;
pub mod demand;
pub mod figures;
pub mod environment;
pub mod result;
pub mod metric;
pub mod repeats;
pub mod statistics;
pub mod units;
pub mod report;
pub mod markdown;
pub mod compare;
pub mod budget;

#[cfg(test)]
mod sample;
