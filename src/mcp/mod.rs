//! The protocol, without I/O: decides the era of a message, routes it to its method, and encodes replies.
//!
//! [`route`] either encodes the reply into a buffer or returns an [`Outcome`] that the caller carries out: for example, the
//! caller runs an [`Outcome::Run`] and encodes its result with [`CallAnswers`]. [`Sessions`] holds the records of legacy
//! sessions on one shard. Time and randomness are inputs, passed in [`RouterContext`].

mod envelope;
mod methods;
mod model;
mod outcome;
mod error;
mod response;
mod router;
mod session_records;
mod sessions;
mod router_context;

pub use crate::call::Headers;
pub use envelope::client::{Affinity, Handshake, Transport};
pub use envelope::questions::QuestionId;
pub use envelope::request_state::write_input_required;
pub use error::ErrorKind;
pub use methods::tasks::{write_task, write_task_acknowledged, write_task_created, write_unknown_task};
pub use model::events::{Event, Topic, events_encoded, write_listen_ended};
pub use model::method::RpcMethod;
pub use model::session::{PeerHash, Session, SessionKey};
pub use model::stream::StreamId;
pub use model::task::{TaskAction, TaskKey, TaskRequest, TaskStatus, TaskView};
pub use outcome::{
    Call, CallState, ClientAnswer, Outcome, RequestFingerprint, SessionAction, SubscriptionRequest,
};
pub use response::call_answers::CallAnswers;
pub use response::error::{write_decode_error, write_rejection};
pub use response::invalid_arguments::{InvalidArguments, invalid_arguments_text};
pub use router::{accepts_batches, require_session, route};
pub use router_context::RouterContext;
pub use session_records::{EndRecord, PeerGroup};
pub use sessions::{Instance, Sessions, ShardLives};
