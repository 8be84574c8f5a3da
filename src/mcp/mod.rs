//! The protocol, without I/O: which era a message belongs to, which method it calls, what is answered.
//!
//! A message is either answered here, into the buffer given, or becomes an [`Outcome`] that says what is to be done first: a
//! [`Outcome::Run`] is run by the caller, who writes the result with [`CallAnswers`]. The tables a shard keeps are here too:
//! [`Sessions`], [`Subscriptions`]. Time and randomness come in with [`World`].

mod call;
mod call_answers;
mod client;
mod completion;
mod discover;
mod era;
mod events;
mod header_params;
mod initialize;
mod listen;
mod lists;
mod logging;
mod method;
mod outcome;
mod params;
mod ping;
mod prompts;
mod questions;
mod refusal;
mod request_state;
mod resources;
mod response;
mod router;
mod sessions;
mod subscriptions;
mod task;
mod tasks;
mod tools;
mod world;

pub use call_answers::{CallAnswers, write_call_refused};
pub use client::{Handshake, Headers, Tie, Transport};
pub use events::{Event, Topic, write_listen_ended};
pub use method::CallMethod;
pub use outcome::{Binding, Call, ClientAnswer, Outcome, SessionAction, Wanted};
pub use questions::QuestionId;
pub use refusal::Refused;
pub use request_state::write_input_required;
pub use response::{write_not_json, write_refused};
pub use router::{require_session, route, takes_batches};
pub use sessions::{Instance, Session, SessionKey, Sessions};
pub use subscriptions::{ListenerKey, Subscriptions};
pub use task::{TaskAction, TaskKey, TaskRequest, TaskStatus, TaskView};
pub use tasks::{write_task, write_task_acknowledged, write_task_created, write_unknown_task};
pub use world::World;
