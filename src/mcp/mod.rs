//! The protocol, without I/O: which era a message belongs to, which method it calls, what is answered.
//!
//! A message is either answered here, into the buffer given, or becomes a [`Outcome::Run`]: the caller runs the tool
//! and writes the result with [`write_call_result`].

mod discover;
mod era;
mod initialize;
mod outcome;
mod ping;
mod router;
mod tools;

pub use era::{Headers, NameHeader};
pub use outcome::{CallMethod, Outcome, ToolCall};
pub use router::{route, write_not_json};
pub use tools::{write_busy, write_call_failed, write_call_result};
