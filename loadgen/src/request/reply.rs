//! Replies: what one must match, and why one is wrong.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::operation::Operation;
use crate::template::Template;

/// What a request was sent with, as far as its reply must match.
#[derive(Clone, Debug)]
pub struct SentRequest {
    /// Its JSON-RPC id.
    pub id: u64,
    /// Which request of the mix.
    pub kind: usize,
    /// The text expected back, where it differs from request to request.
    pub(super) echo: Option<Box<[u8]>>,
}

/// What a reply is held against, besides what its request was sent with.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) operation: Operation,
    /// The text an echo must bring back.
    pub(super) echo: Option<Template>,
    pub(super) modern: bool,
}

impl Expected {
    pub(super) fn check(&self, sent: &SentRequest, status: u16, body: &[u8]) -> Result<(), ReplyError> {
        if status != 200 {
            return Err(ReplyError::Status(status));
        }
        if self.operation == Operation::Plain {
            return Ok(());
        }
        let reply: Reply<'_> = serde_json::from_slice(body).map_err(|_| ReplyError::NotJson)?;
        if reply.id != Some(Id::Number(sent.id)) {
            return Err(ReplyError::Id);
        }
        if reply.error.is_some() {
            return Err(ReplyError::Error);
        }
        let result = reply.result.ok_or(ReplyError::NoResult)?;
        if self.modern && result.result_type.as_deref().is_some_and(|kind| kind != "complete") {
            return Err(ReplyError::Incomplete);
        }
        match &self.operation {
            Operation::Tool { .. } => {
                if result.is_error == Some(true) {
                    return Err(ReplyError::ToolError);
                }
                let Some(template) = &self.echo else { return Ok(()) };
                let text = result.content.as_ref().and_then(|content| content.first()?.text.as_deref());
                let text = text.ok_or(ReplyError::Echo)?;
                let same = match &sent.echo {
                    Some(expected) => text.as_bytes() == &**expected,
                    None => template.is_text(text),
                };
                if same { Ok(()) } else { Err(ReplyError::Echo) }
            }
            Operation::Method("tools/list") if result.tools.is_none() => Err(ReplyError::NoResult),
            Operation::Resource { .. } if result.contents.is_none() => Err(ReplyError::NoResult),
            _ => Ok(()),
        }
    }
}

/// The id of a reply, if it is a number of ours.
#[must_use]
pub fn id_of(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Identified {
        id: u64,
    }
    serde_json::from_slice::<Identified>(body).ok().map(|message| message.id)
}

/// Whether a message of an event stream is a reply: notifications may come before it.
#[must_use]
pub fn is_reply(body: &[u8]) -> bool {
    serde_json::from_slice::<Envelope<'_>>(body).is_ok_and(|message| message.method.is_none())
}

/// Why a reply is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum ReplyError {
    /// Not a 200.
    #[error("status {0}")]
    Status(u16),
    /// Not JSON, or not a JSON-RPC reply.
    #[error("the body is no JSON-RPC reply")]
    NotJson,
    /// Another request's reply.
    #[error("the reply's id is not the request's")]
    Id,
    /// A JSON-RPC error.
    #[error("a JSON-RPC error")]
    Error,
    /// Neither result nor error, or not the result that belongs to the method.
    #[error("the reply has no such result")]
    NoResult,
    /// A result that asks for more.
    #[error("the result is not complete")]
    Incomplete,
    /// The tool says it failed.
    #[error("the tool failed (isError)")]
    ToolError,
    /// Not the text that was sent.
    #[error("the echo is not what was said")]
    Echo,
}

impl ReplyError {
    /// Its kind, as results count it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Status(503) => "busy_503",
            Self::Status(500..) => "status_5xx",
            Self::Status(_) => "status_other",
            Self::NotJson => "reply_not_json",
            Self::Id => "reply_id_wrong",
            Self::Error => "jsonrpc_error",
            Self::NoResult => "reply_without_result",
            Self::Incomplete => "result_incomplete",
            Self::ToolError => "tool_error",
            Self::Echo => "echo_wrong",
        }
    }
}

/// A reply, as far as it is looked at.
#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    id: Option<Id<'a>>,
    #[serde(borrow)]
    result: Option<ReplyResult<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize, PartialEq)]
#[serde(untagged)]
enum Id<'a> {
    Number(u64),
    #[serde(borrow)]
    Other(
        #[allow(dead_code, reason = "an id that is no number of ours is wrong whatever it says")]
        Cow<'a, str>,
    ),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReplyResult<'a> {
    #[serde(borrow)]
    result_type: Option<Cow<'a, str>>,
    is_error: Option<bool>,
    #[serde(borrow)]
    content: Option<Vec<Content<'a>>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    contents: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
}

/// What tells a reply from a notification.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: Option<&'a RawValue>,
}
