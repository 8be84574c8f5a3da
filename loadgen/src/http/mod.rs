//! Replies from received bytes: HTTP framing and event streams, or lines. Sans-io: no I/O and no clock.

mod chunked;
mod events;
mod framer;
mod lines;
mod part;

pub use framer::Framer;
pub use part::{FrameError, Head, Part};
