//! Newline-delimited JSON without I/O: bytes in, lines out.

mod framer;

pub use framer::{Flow, Handler, Line, LineFramer, LineTooLong, Progress, is_http};
