//! Replies as they arrive: HTTP framing and event streams, or lines. Sans-io: bytes in, parts of replies out.

mod chunked;
mod events;
mod framer;
mod lines;
mod part;

pub use framer::Framer;
pub use part::{FrameError, Head, Part};
