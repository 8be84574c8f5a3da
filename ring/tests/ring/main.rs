//! Tests of the ring with real sockets. They also run under AddressSanitizer (scripts/test.sh).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accept;
mod dial;
mod hand_over;
mod harness;
mod transfer;
mod wait;
