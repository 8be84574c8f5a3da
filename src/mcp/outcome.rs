//! What becomes of a message, and which method it called.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    envelope::client::{Handshake, Tie},
    envelope::questions::QuestionId,
    model::events::Topic,
    model::method::CallMethod,
    model::task::TaskRequest,
    refusal::Refused,
    sessions::SessionKey,
};
use crate::{
    call::{CallDetails, Capabilities, Level, Revision, SharedCallable},
    http1::Status,
    json::Node,
    jsonrpc::{Id, OwnedId},
    schema::Validator,
};

/// What is to be done with a message.
pub enum Outcome<'a> {
    /// The answer is in the buffer: 200.
    Reply(CallMethod),
    /// As [`Outcome::Reply`], to a handshake. Over HTTP a session has been opened, of this id.
    Agreed(Handshake, Option<String>),
    /// The refusal is in the buffer. The text is its message, which names what the client asked for, cut.
    Refused(Status, CallMethod, Refused, Cow<'static, str>, Option<OwnedId>),
    /// Nothing is answered: 202.
    Accepted,
    /// Run this.
    Run(Call<'a>),
    /// Open a stream of notifications (2026-07-28).
    Listen(Wanted),
    /// Do this for a legacy session, or for a connection, and then answer.
    Tied(Id<'a>, Tie, SessionAction),
    /// A client has answered a question.
    Answered(ClientAnswer),
    /// A legacy client does not want the answer to this request any more.
    Cancelled(Tie, OwnedId),
    /// Ask whoever keeps the task.
    Task(Id<'a>, TaskRequest),
}

/// What a `subscriptions/listen` asks for, as far as it will be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The subscription's id: the request's.
    pub id: OwnedId,
    /// What it hears of.
    pub topics: Vec<Topic>,
    /// The message that says so, which is the first one (checklist M-61).
    pub acknowledged: Vec<u8>,
}

/// What a legacy session asks of whoever keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAction {
    /// `logging/setLevel`
    SetLevel(Level),
    /// `resources/subscribe`
    Subscribe(String),
    /// `resources/unsubscribe`
    Unsubscribe(String),
}

impl SessionAction {
    /// The method that asks for it.
    #[must_use]
    pub fn method(&self) -> CallMethod {
        match self {
            Self::SetLevel(_) => CallMethod::SetLevel,
            Self::Subscribe(_) => CallMethod::Subscribe,
            Self::Unsubscribe(_) => CallMethod::Unsubscribe,
        }
    }
}

/// A client's answer to a question of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientAnswer {
    /// The question.
    pub question: QuestionId,
    /// The session that answers, if one does.
    pub session: Option<SessionKey>,
    /// The result, or an error's code and message.
    pub answer: Result<Value, (i64, String)>,
}

/// Something to be run, once its input is valid.
pub struct Call<'a> {
    /// What.
    pub callable: &'a SharedCallable,
    /// Its input, on the tape.
    pub input: Node<'a>,
    /// What the input is validated against.
    pub schema: Option<&'a Validator>,
    /// The request's id.
    pub id: Id<'a>,
    /// The request's `_meta`.
    pub meta: Option<Node<'a>>,
    /// The revision the client speaks.
    pub revision: Revision,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// What ties it to other requests.
    pub tie: Tie,
    /// The parts of the request that its channel needs; `None` of an inline call that asks for no notifications.
    pub details: Option<Box<CallDetails>>,
    /// Binds the request state, where the call may end with a request to the client. Boxed, because most calls are moved
    /// without it.
    pub binding: Option<Box<RequestFingerprint>>,
}

/// SHA-256 of a method and its parameters, which a request state is bound to.
pub type RequestFingerprint = [u8; 32];
