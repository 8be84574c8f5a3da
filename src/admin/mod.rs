//! The admin interface: `/healthz`, `/livez`, `/readyz`, `/metrics` and `/dashboard` over HTTP/1.1, on an address of its own. Served from
//! dedicated threads, so the endpoints respond even when every shard is saturated; a shard only copies its metrics.
//!
//! One thread does the I/O of all connections, and one thread for each kind of page waits for the shards. A connection that has
//! not sent a whole request never holds the place of one that has.
//!
//! Nothing on this address changes the state of the server: GET and HEAD are the only methods, and no query is read. That is done through the control socket (`control/`), a Unix socket for
//! the user of the server and root.

mod allocator;
mod collect;
mod connection;
mod control;
mod dashboard;
mod event_loop;
mod health;
#[cfg(feature = "jemalloc")]
mod jemalloc;
mod listener;
mod metrics;
mod pages;
mod response;
mod rollouts;
mod sample;
mod shared;
mod wake;

pub(crate) use allocator::release_free_memory;
pub(crate) use control::{ControlListener, ControlRefusals, ControlServer, Drain, Identity};
pub(crate) use listener::Admin;
pub(crate) use sample::Sampler;
