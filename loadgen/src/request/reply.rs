//! Replies: their required content, and their faults.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::operation::Operation;
use crate::template::Template;

/// The properties of a sent request that its reply must match.
#[derive(Clone, Debug)]
pub struct SentRequest {
    /// Its JSON-RPC id.
    pub id: u64,
    /// Index of the request in the mix.
    pub kind: usize,
    /// The text that must be returned, if it differs between requests.
    pub(super) echo: Option<Box<[u8]>>,
}

/// The properties that replies to all instances of a request must match.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) operation: Operation,
    /// The text that `echo` must return.
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
        let result_type = result.result_type.as_deref();
        if matches!(self.operation, Operation::Task { .. }) {
            return if result_type == Some("task") { Ok(()) } else { Err(ReplyError::NoTask) };
        }
        if self.modern && result_type.is_some_and(|kind| kind != "complete") {
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

/// The id of a reply, if it is a number.
#[must_use]
pub fn id_of(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Identified {
        id: u64,
    }
    serde_json::from_slice::<Identified>(body).ok().map(|message| message.id)
}

/// Whether a message of an event stream is a response; notifications may precede it.
#[must_use]
pub fn is_reply(body: &[u8]) -> bool {
    serde_json::from_slice::<Envelope<'_>>(body).is_ok_and(|message| message.method.is_none())
}

/// The reason why a reply is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum ReplyError {
    /// The status is not 200.
    #[error("status {0}")]
    Status(u16),
    /// The body is not a JSON-RPC response.
    #[error("the body is not a JSON-RPC response")]
    NotJson,
    /// The id belongs to another request.
    #[error("the id of the reply is not that of the request")]
    Id,
    /// The response is a JSON-RPC error.
    #[error("a JSON-RPC error")]
    Error,
    /// The response has neither a result nor an error, or not the result of the method.
    #[error("the response has no result of the method")]
    NoResult,
    /// The result is not complete: the server needs input.
    #[error("the result is not complete")]
    Incomplete,
    /// The result is not a task.
    #[error("the result is not a task")]
    NoTask,
    /// The tool reports an error.
    #[error("the tool failed (isError)")]
    ToolError,
    /// The returned text is not the sent one.
    #[error("the returned text is not the sent text")]
    Echo,
}

impl ReplyError {
    /// The error's kind in results.
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
            Self::NoTask => "result_without_task",
            Self::ToolError => "tool_error",
            Self::Echo => "echo_wrong",
        }
    }
}

/// The members of a reply that are checked.
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
        #[allow(dead_code, reason = "an id that is not a number is wrong, whatever its value")] Cow<'a, str>,
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

/// The member that distinguishes a response from a notification.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: Option<&'a RawValue>,
}
