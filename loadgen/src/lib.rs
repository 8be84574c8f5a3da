//! corelane-loadgen: an open-loop load generator for Model Context Protocol servers.
//!
//! # What is measured
//!
//! The canonical workload is `tools/call` of `echo` with one string of eleven characters, 2026-07-28, one request in flight on
//! each connection; `corelane-loadgen workloads` lists the others. Every reply is read in full, parsed and compared with its
//! request: status, id, result, and the text that `echo` must return. A wrong reply counts as an error, never as a latency.
//!
//! In an *open loop* requests are due at the times of a schedule that does not depend on the server. Latency counts from the
//! time a request was **due**, so that a stall of the server is charged to every request that waited during it. A generator
//! without this correction has "coordinated omission". The latency from the actual send time is reported beside it. A
//! *closed loop* sends the next request when a reply has arrived: it measures throughput, and its latencies are for
//! comparisons only.
//!
//! The generator also measures itself: how busy its threads are, and how much later than possible its requests were sent.
//! When the generator was the limit, the result contains the reason.
//!
//! # Life of a run
//!
//! | # | stage | where |
//! |---|---|---|
//! | 1 | arguments → workload → plan | [`cli`], [`workloads`], [`suite`] |
//! | 2 | address of the server, its protocol revision and its tools | [`target`], [`probe`] |
//! | 3 | process of the server, its own metrics | [`monitor`] |
//! | 4 | start the generator's threads, connect, handshake, begin together | [`placement`], [`job`], [`engine`] |
//! | 5 | time at which a request is due | [`schedule`] |
//! | 6 | bytes of a request, check of its reply | [`request`], [`template`] |
//! | 7 | received bytes → replies | [`http`] |
//! | 8 | times → histograms → a result | [`latency`], [`figures`], [`result`] |
//! | 9 | a result → tables, pages, logs | [`report`], [`markdown`] |
//! | 10 | a result compared with another, or with budgets | [`compare`], [`budget`] |
//!
//! # Layers
//!
//! The modules are declared lowest layer first; a module imports only modules that are declared before it
//! (`tests/tidy.rs` checks this).
//!
//! | layer | modules | what they are |
//! |---|---|---|
//! | values | [`error`], [`units`], [`statistics`], [`latency`], [`schedule`], [`template`], [`payloads`], [`fault_injection`] | numbers, times and texts, without I/O |
//! | processes | [`placement`], [`process`], [`spawn`], [`stdio`], [`target`], [`fixture`] | cores, child processes, addresses |
//! | results | [`result`], [`environment`], [`demand`], [`figures`], [`metric`], [`repeats`] | the result file and what is computed from it |
//! | protocol | [`http`], [`request`], [`stages`] | replies from bytes, requests to bytes; single stages without a socket |
//! | load | [`engine`] | the generator's threads |
//! | runs | [`progress`], [`probe`], [`monitor`], [`job`] | one run, from the first connection to its result |
//! | workloads | [`workloads`], [`idle`], [`fanout`], [`suite`], [`ablation`], [`attack`], [`chaos`] | named runs, and runs that need more than one load |
//! | reports | [`report`], [`compare`], [`budget`], [`markdown`] | results as text, tables and pages |
//! | commands | [`cli`] | the command line |
//!
//! # Threads
//!
//! One per generator core, pinned, each with a ring of its own ([`corelane_ring`]) and its share of connections and schedule;
//! and the thread that starts them, which shows progress and samples the server's process once a second.

#![forbid(unsafe_code)]

pub mod error;
pub mod units;
pub mod statistics;
pub mod latency;
pub mod schedule;
pub mod template;
pub mod payloads;
pub mod fault_injection;

pub mod placement;
pub mod process;
pub mod spawn;
pub mod stdio;
pub mod target;
pub mod fixture;

pub mod result;
pub mod environment;
pub mod demand;
pub mod figures;
pub mod metric;
pub mod repeats;

pub mod http;
pub mod request;
pub mod stages;

pub mod engine;

pub mod progress;
pub mod probe;
pub mod monitor;
pub mod job;

pub mod workloads;
pub mod idle;
pub mod fanout;
pub mod suite;
pub mod ablation;
pub mod attack;
pub mod chaos;

pub mod report;
pub mod compare;
pub mod budget;
pub mod markdown;

pub mod cli;

#[cfg(test)]
mod sample;
