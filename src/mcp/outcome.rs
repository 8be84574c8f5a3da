//! The outcomes of routing a message.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    envelope::client::{Affinity, Handshake},
    envelope::questions::QuestionId,
    error::ErrorKind,
    model::events::Topic,
    model::method::RpcMethod,
    model::task::TaskRequest,
    sessions::SessionKey,
};
use crate::{
    call::{AnswersDigest, CallDetails, Capabilities, FirstUse, Level, OnceToken, Revision, SharedCallable},
    http1::Status,
    json::Node,
    jsonrpc::{Id, OwnedId},
    schema::Validator,
};

/// The outcome of routing a message.
pub enum Outcome<'a> {
    /// The reply is in the buffer; HTTP status 200.
    Reply(RpcMethod),
    /// The reply to `initialize` is in the buffer. Over HTTP the caller opens a session.
    Initialized(Handshake),
    /// The error is in the buffer. The text is its message, in which names from the client are truncated.
    Rejected(Status, RpcMethod, ErrorKind, Cow<'static, str>, Option<OwnedId>),
    /// A notification without a reply; HTTP status 202.
    Accepted,
    /// Run this call.
    Run(Call<'a>),
    /// Open a subscription (2026-07-28).
    Listen(SubscriptionRequest),
    /// Carry out this action on a legacy session, or on a connection, and reply afterwards.
    SessionCommand(Id<'a>, Affinity, SessionAction),
    /// A response of the client to a request of a call.
    Answered(ClientAnswer),
    /// Cancel this request (`notifications/cancelled`).
    Cancelled(Affinity, OwnedId),
    /// Forward this request to the shard that owns the task.
    Task(Id<'a>, TaskRequest),
}

/// A `subscriptions/listen` request, without the notification types that the registry does not offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRequest {
    /// The id of the subscription, which is the id of the request.
    pub id: OwnedId,
    /// The topics of the subscription.
    pub topics: Vec<Topic>,
    /// The acknowledgment, which is the first message of the subscription
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/subscriptions>).
    pub acknowledged: Vec<u8>,
}

/// An action on the state of a legacy session, or of a connection that has made a handshake.
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
    /// The method of the request.
    #[must_use]
    pub fn method(&self) -> RpcMethod {
        match self {
            Self::SetLevel(_) => RpcMethod::SetLevel,
            Self::Subscribe(_) => RpcMethod::Subscribe,
            Self::Unsubscribe(_) => RpcMethod::Unsubscribe,
        }
    }
}

/// A client's response to a request of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientAnswer {
    /// The id of the request.
    pub question: QuestionId,
    /// The session that sent the response; `None` over JSON lines.
    pub session: Option<SessionKey>,
    /// The result, or the code and message of the error.
    pub answer: Result<Value, (i64, String)>,
}

/// A call that can run once its input has been validated.
pub struct Call<'a> {
    /// The handler and its description.
    pub callable: &'a SharedCallable,
    /// The input, in the decoded request.
    pub input: Node<'a>,
    /// The schema of the input; `None` without one.
    pub schema: Option<&'a Validator>,
    /// The id of the request.
    pub id: Id<'a>,
    /// The `_meta` of the request.
    pub meta: Option<Node<'a>>,
    /// The protocol version of the request.
    pub revision: Revision,
    /// The capabilities that the client declared.
    pub capabilities: Capabilities,
    /// The session or connection of the request.
    pub affinity: Affinity,
    /// The parts of the request that the client channel needs; `None` for an inline call that requests no notifications.
    pub details: Option<Box<CallDetails>>,
    /// The request state of the call; `None` if it cannot return `input_required`. Boxed because most calls are moved without one.
    pub state: Option<Box<CallState>>,
}

/// The request state of a call that can return `input_required`
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr>).
#[derive(Debug)]
pub struct CallState {
    /// The fingerprint that binds the state.
    pub fingerprint: RequestFingerprint,
    /// The state that the call is retried with and its expiry, and the digest of the answers, if the tool's states are used once.
    pub once: Option<((OnceToken, u64), AnswersDigest)>,
    /// Set once the first use of that state has begun.
    pub first_use: Option<Box<FirstUse>>,
}

/// SHA-256 of a method and its parameters, which a request state is bound to.
pub type RequestFingerprint = [u8; 32];
