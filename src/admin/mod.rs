//! The admin interface: `/healthz`, `/livez`, `/readyz` and `/metrics` over HTTP/1.1, on an address of its own. Served from
//! dedicated threads, so the endpoints respond even when every shard is saturated; a shard only copies its metrics.

mod connection;
mod health;
mod listener;
mod metrics;
mod response;
mod shared;

pub(crate) use listener::Admin;
