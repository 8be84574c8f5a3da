//! JSON-RPC 2.0 envelopes (MCP specification, basic/index): from the tape to messages, from results to bytes.

mod as_written;
mod encode;
mod message;

pub use as_written::{Rewritten, needs_text};
pub use encode::{ErrorCode, begin_result, finish_result, write_error, write_id};
pub use message::{
    Id, IdFault, IdValue, Malformed, Message, OwnedId, answerable_id, has_value_of, read_id, read_id_member,
};
