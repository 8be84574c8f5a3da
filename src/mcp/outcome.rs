//! What becomes of a message, and which method it called.

use std::sync::Arc;

use crate::{
    http::Status,
    json::Node,
    jsonrpc::Id,
    registry::{RegisteredTool, Revision},
};

/// The methods that are measured apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallMethod {
    /// `server/discover`
    Discover,
    /// `initialize`
    Initialize,
    /// `ping`
    Ping,
    /// `tools/list`
    ToolsList,
    /// `tools/call`
    ToolsCall,
    /// Everything that was refused, and notifications.
    Other,
}

impl CallMethod {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Discover, Self::Initialize, Self::Ping, Self::ToolsList, Self::ToolsCall, Self::Other];

    /// The method's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "server/discover",
            Self::Initialize => "initialize",
            Self::Ping => "ping",
            Self::ToolsList => "tools/list",
            Self::ToolsCall => "tools/call",
            Self::Other => "other",
        }
    }

    /// Only the two eras together know all methods.
    pub(super) fn parse(method: &str, revision: Revision) -> Option<Self> {
        match (method, revision.is_modern()) {
            ("tools/call", _) => Some(Self::ToolsCall),
            ("tools/list", _) => Some(Self::ToolsList),
            ("server/discover", true) => Some(Self::Discover),
            ("initialize", false) => Some(Self::Initialize),
            ("ping", false) => Some(Self::Ping),
            _ => None,
        }
    }
}

/// What is to be done with a message.
pub enum Outcome<'a> {
    /// The answer is in the buffer.
    Reply(Status, CallMethod),
    /// Nothing is answered: 202.
    Accepted,
    /// Run this tool.
    Run(ToolCall<'a>),
}

/// A call whose arguments fit the tool's schema.
pub struct ToolCall<'a> {
    /// The tool.
    pub tool: &'a Arc<RegisteredTool>,
    /// Its arguments, on the tape.
    pub arguments: Node<'a>,
    /// The request's id.
    pub id: Id<'a>,
    /// The revision the client speaks.
    pub revision: Revision,
}
