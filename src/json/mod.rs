//! JSON codec: documents are parsed in place onto a tape and read through a cursor; replies are written directly.
//!
//! Independent of the protocol. Strings of a [`Node`] point into the buffer the bytes were received in.

mod decode;
mod deserialize;
mod digits;
mod node;
mod owned;
mod serde_backend;
mod token_count;
mod write;

#[cfg(test)]
pub(crate) use decode::tests::with_node;
pub use decode::{DecodeError, Decoder, Document, Rejected};
pub use deserialize::DeserializeError;
pub use digits::{Digits, Installed, Places, lacks_digits};
pub(crate) use digits::{retry_with_digits, take_retry_with_digits};
pub use node::{Elements, Members, Node, Number};
pub use owned::OwnedDocument;
pub use write::{write_integer, write_string, write_unsigned};
