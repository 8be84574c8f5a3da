//! JSON-RPC 2.0 envelopes: messages are read from the tape, replies are encoded
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic#messages>).

mod as_written;
mod encode;
mod id;
mod message;

pub use as_written::{Rewritten, needs_text};
pub use encode::{ErrorCode, write_error, write_result};
pub use id::{Id, IdFault, IdValue, OwnedId, has_value_of, read_id, read_id_member, write_id};
pub use message::{Malformed, Message, answerable_id};
