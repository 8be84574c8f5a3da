//! JSON-RPC 2.0 envelopes (MCP specification, basic/index): from the tape to messages, from results to bytes.

mod encode;
mod message;

pub use encode::{ErrorCode, begin_result, finish_result, write_error, write_id};
pub use message::{Id, Malformed, Message, OwnedId, answerable_id, read_id};
