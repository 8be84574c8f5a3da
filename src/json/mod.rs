//! JSON as this server handles it: parsed in place onto a tape, read through a cursor, written by hand.
//!
//! Nothing here knows of the protocol. Strings of a [`Node`] point into the buffer the bytes were received in.

mod decode;
mod deserialize;
mod node;
mod write;

#[cfg(test)]
pub(crate) use decode::tests::with_node;
pub use decode::{Decoder, Document, NotJson, Refused};
pub use deserialize::DeserializeError;
pub use node::{Elements, Members, Node, Number};
pub use write::{write_integer, write_string, write_unsigned};
