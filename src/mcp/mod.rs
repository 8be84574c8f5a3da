//! The protocol, without I/O: which era a message belongs to, which method it calls, what is answered.
//!
//! A message is either answered here, into the buffer given, or becomes an [`Outcome`] that says what is to be done first: a
//! [`Outcome::Run`] is run by the caller, who writes the result with [`CallAnswers`]. The tables a shard keeps are here too:
//! [`Sessions`]. Time and randomness come in with [`World`].

mod envelope;
mod methods;
mod model;
mod outcome;
mod refusal;
mod response;
mod router;
mod sessions;
mod world;

pub use crate::call::Headers;
pub use envelope::client::{Handshake, Tie, Transport};
pub use envelope::questions::QuestionId;
pub use envelope::request_state::write_input_required;
pub use methods::tasks::{write_task, write_task_acknowledged, write_task_created, write_unknown_task};
pub use model::events::{Event, Topic, write_listen_ended};
pub use model::method::CallMethod;
pub use model::task::{TaskAction, TaskKey, TaskRequest, TaskStatus, TaskView};
pub use outcome::{Call, ClientAnswer, Outcome, RequestFingerprint, SessionAction, Wanted};
pub use refusal::Refused;
pub use response::call_answers::{CallAnswers, write_call_refused};
pub use response::invalid_arguments::{
    InvalidArguments, invalid_arguments_text, validate, write_invalid_arguments,
};
pub use response::refuse::{write_not_json, write_refused};
pub use router::{require_session, route, takes_batches};
pub use sessions::{Instance, Session, SessionKey, Sessions};
pub use world::World;
