//! What becomes of a message, and which method it called.

use std::sync::Arc;

use crate::{
    http::Status,
    json::Node,
    jsonrpc::{ErrorCode, Id},
    registry::{Capabilities, RegisteredTool, Revision},
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

/// Why a message is refused: its code, its status, and the metric it is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The body is not JSON, or nested too deeply.
    NotJson,
    /// JSON beyond a limit, counted under this name.
    BeyondLimits(&'static str),
    /// JSON, but no message.
    InvalidRequest,
    /// The envelope of the 2026 era is incomplete: the only wrong parameters that have a status of their own.
    InvalidParams,
    /// A header is missing, or contradicts the body.
    HeaderMismatch,
    /// The client lacks what the tool needs.
    MissingCapability,
    /// The body names a revision nobody here knows.
    UnsupportedVersion,
    /// A header of the legacy era does.
    UnknownLegacyVersion,
    /// No such method in this era.
    UnknownMethod,
    /// The method's own parameters are wrong.
    InvalidMethodParams,
    /// No such tool.
    UnknownTool,
    /// Arguments that do not fit the tool's schema: for the model to mend.
    InvalidArguments,
    /// Arguments that would take too long to validate.
    ValidationWork,
    /// As many calls in flight, or waiting, as may be.
    Busy,
    /// The tool panicked.
    ToolPanicked,
    /// The tool's result does not fit the schema it promises.
    InvalidOutput,
    /// The tool did not answer in time.
    Deadline,
}

impl Refused {
    /// The code of the JSON-RPC error; none for what is told to the model in a result.
    #[must_use]
    pub fn code(self) -> Option<ErrorCode> {
        Some(match self {
            Self::NotJson => ErrorCode::ParseError,
            Self::BeyondLimits(_) | Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::InvalidParams | Self::InvalidMethodParams | Self::UnknownTool => ErrorCode::InvalidParams,
            Self::HeaderMismatch => ErrorCode::HeaderMismatch,
            Self::MissingCapability => ErrorCode::MissingRequiredClientCapability,
            Self::UnsupportedVersion => ErrorCode::UnsupportedProtocolVersion,
            Self::UnknownLegacyVersion | Self::Busy => ErrorCode::Generic,
            Self::UnknownMethod => ErrorCode::MethodNotFound,
            Self::ToolPanicked | Self::InvalidOutput => ErrorCode::InternalError,
            Self::InvalidArguments | Self::ValidationWork | Self::Deadline => return None,
        })
    }

    /// The HTTP status it is answered with.
    #[must_use]
    pub fn status(self, revision: Revision) -> Status {
        match self {
            Self::NotJson
            | Self::BeyondLimits(_)
            | Self::InvalidRequest
            | Self::InvalidParams
            | Self::HeaderMismatch
            | Self::MissingCapability
            | Self::UnsupportedVersion
            | Self::UnknownLegacyVersion => Status::BadRequest,
            Self::UnknownMethod if revision.is_modern() => Status::NotFound,
            Self::Busy => Status::ServiceUnavailable,
            _ => Status::Ok,
        }
    }

    /// The metric it is counted under.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::BeyondLimits(name) => name,
            Self::InvalidRequest => "invalid_request",
            Self::InvalidParams => "invalid_params",
            Self::HeaderMismatch => "header_mismatch",
            Self::MissingCapability => "missing_capability",
            Self::UnsupportedVersion => "unsupported_version",
            Self::UnknownLegacyVersion => "unknown_legacy_version",
            Self::UnknownMethod => "unknown_method",
            Self::InvalidMethodParams => "invalid_method_params",
            Self::UnknownTool => "unknown_tool",
            Self::InvalidArguments => "invalid_arguments",
            Self::ValidationWork => "validation_work",
            Self::Busy => "busy",
            Self::ToolPanicked => "tool_panicked",
            Self::InvalidOutput => "invalid_output",
            Self::Deadline => "deadline",
        }
    }
}

/// What is to be done with a message.
pub enum Outcome<'a> {
    /// The answer is in the buffer: 200.
    Reply(CallMethod),
    /// The refusal is in the buffer.
    Refused(Status, CallMethod, Refused),
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
    /// What the client can do.
    pub capabilities: Capabilities,
}
