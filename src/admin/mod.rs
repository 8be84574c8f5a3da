//! `/healthz`, `/livez`, `/readyz` and `/metrics`, on an address of their own and on threads of their own, so that they answer when
//! the shards are busy, and cost them nothing but a copy of their figures.

mod connection;
mod health;
mod listener;
mod metrics;
mod response;
mod shared;

pub(crate) use listener::Admin;
