//! Newline-delimited JSON without I/O: splits bytes into lines.

mod framer;

pub use framer::{Flow, Handler, Line, LineFramer, LineTooLong, Progress, is_http};
