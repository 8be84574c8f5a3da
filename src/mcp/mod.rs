//! The protocol, without I/O: which era a message belongs to, which method it calls, what is answered.
//!
//! A message is either answered here, into the buffer given, or becomes a [`Outcome::Run`]: the caller runs the tool
//! and writes the result with [`CallAnswers`].

mod call_answers;
mod discover;
mod era;
mod header_params;
mod initialize;
mod outcome;
mod ping;
mod router;
mod tools;

pub use call_answers::{CallAnswers, write_call_refused};
pub use era::Headers;
pub use outcome::{CallMethod, Outcome, Refused, ToolCall};
pub use router::{route, write_not_json};
