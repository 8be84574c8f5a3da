//! The protocol, without I/O: which era a message belongs to, which method it calls, what is answered.
//!
//! A message is either answered here, into the buffer given, or becomes an [`Outcome`] that says what is to be done first: a
//! [`Outcome::Run`] is run by the caller, who writes the result with [`CallAnswers`]. The tables a shard keeps are here too:
//! [`Sessions`], [`Subscriptions`]. Time and randomness come in with [`World`].

mod call;
mod call_answers;
mod completion;
mod discover;
mod era;
mod events;
mod header_params;
mod initialize;
mod lists;
mod logging;
mod outcome;
mod ping;
mod prompts;
mod questions;
mod request_state;
mod resources;
mod router;
mod sessions;
mod subscriptions;
mod tasks;
mod tools;

pub use call_answers::{CallAnswers, write_call_refused};
pub use era::{Handshake, Headers, Tie, Transport};
pub use events::{Event, Topic, write_listen_ended};
pub use outcome::{Binding, Call, CallMethod, ClientAnswer, Outcome, Refused, SessionAction};
pub use questions::QuestionId;
pub use request_state::write_input_required;
pub use router::{World, require_session, route, takes_batches, write_not_json, write_refused};
pub use sessions::{Instance, Session, SessionKey, Sessions};
pub use subscriptions::{ListenerKey, Subscriptions, Wanted};
pub use tasks::{
    TaskAction, TaskKey, TaskRequest, TaskStatus, TaskView, write_task, write_task_acknowledged,
    write_task_created, write_unknown_task,
};
