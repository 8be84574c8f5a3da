//! Replies as they arrive: HTTP framing and event streams. Sans-io: bytes in, parts of replies out.

mod chunked;
mod events;
mod framer;

pub use framer::{Broken, Framer, Head, Part};
