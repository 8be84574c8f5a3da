//! The ring against real sockets: what it promises to the shard, one test a promise. Runs under AddressSanitizer too
//! (scripts/test.sh).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accept;
mod dial;
mod harness;
mod transfer;
mod wait;
