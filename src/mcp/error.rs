//! The errors of messages, with their JSON-RPC codes, HTTP statuses and metric labels.

use std::borrow::Cow;

use crate::{
    call::{Capability, ProtocolError, Revision},
    http1::Status,
    jsonrpc::ErrorCode,
    peer::NoRoom,
};

/// The kind of an error: determines its JSON-RPC code, its HTTP status and its metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The body is not JSON, or nested too deeply.
    NotJson,
    /// JSON that exceeds a limit; contains the metric label.
    BeyondLimits(&'static str),
    /// JSON that is not a JSON-RPC message.
    InvalidRequest,
    /// The `_meta` of a 2026-era request is incomplete: the only invalid parameters that are answered with status 400.
    InvalidParams,
    /// A header is missing or contradicts the body.
    HeaderMismatch,
    /// The client did not declare a capability that the tool requires.
    MissingCapability,
    /// The body names an unsupported protocol version.
    UnsupportedVersion,
    /// The header of a legacy request names an unsupported protocol version.
    UnknownLegacyVersion,
    /// No such method in this era.
    UnknownMethod,
    /// The parameters of the method are invalid.
    InvalidMethodParams,
    /// No such tool.
    UnknownTool,
    /// No such prompt.
    UnknownPrompt,
    /// No such resource.
    UnknownResource,
    /// No such resource, in the legacy era, which has a different code for it.
    UnknownLegacyResource,
    /// No such session, or it has ended.
    UnknownSession,
    /// The method needs a session and the request names none.
    SessionNeeded,
    /// The stream does not exist or belongs to another session.
    UnknownStream,
    /// Too many subscriptions or streams.
    TooManySubscriptions,
    /// The URIs and task ids of one client's subscriptions are too large.
    SubscriptionBytes,
    /// The request state is forged, belongs to another request or has expired.
    InvalidState,
    /// A response to a request that this server has not made.
    UnknownRequest,
    /// No such task.
    UnknownTask,
    /// The arguments violate the schema of the tool; reported in a result so that the model can correct them.
    InvalidArguments,
    /// Validating the arguments exceeds the work limit.
    ValidationWork,
    /// The headers and `_meta` members that the call would copy exceed [`REQUEST_COPY_BYTES_MAX`](crate::call::REQUEST_COPY_BYTES_MAX).
    RequestCopyTooLarge,
    /// The request state was used already, with other answers or without an outcome.
    StateUsed,
    /// The number of calls in flight or queued is at its limit.
    Busy,
    /// The peer uses its share of a table that others use too.
    PeerShare,
    /// The memory of results that wait to be sent is used up.
    ResultMemory,
    /// A call whose connection has closed was cancelled, because its peer has too many of them.
    OrphanLimit,
    /// The tool panicked.
    ToolPanicked,
    /// The result violates the tool's `outputSchema`.
    InvalidOutput,
    /// Validating the result exceeds the work limit.
    OutputWork,
    /// The call exceeded its deadline.
    Deadline,
    /// The server stops, and the call was not done within the time limit of the drain.
    ShuttingDown,
    /// Not an error: the call returned `input_required`.
    InputRequired,
}

impl ErrorKind {
    /// The code of the JSON-RPC error; `None` for errors that are reported to the model in a result.
    #[must_use]
    pub fn code(self) -> Option<ErrorCode> {
        Some(match self {
            Self::NotJson => ErrorCode::ParseError,
            Self::BeyondLimits(_) | Self::InvalidRequest | Self::RequestCopyTooLarge => {
                ErrorCode::InvalidRequest
            }
            Self::InvalidParams
            | Self::InvalidMethodParams
            | Self::UnknownTool
            | Self::UnknownPrompt
            | Self::UnknownResource
            | Self::InvalidState
            | Self::StateUsed
            | Self::UnknownTask => ErrorCode::InvalidParams,
            Self::UnknownLegacyResource => ErrorCode::ResourceNotFound,
            Self::UnknownSession => ErrorCode::SessionNotFound,
            Self::SessionNeeded => ErrorCode::Generic,
            Self::UnknownRequest | Self::UnknownStream => ErrorCode::InvalidRequest,
            Self::TooManySubscriptions | Self::SubscriptionBytes => ErrorCode::InternalError,
            Self::HeaderMismatch => ErrorCode::HeaderMismatch,
            Self::MissingCapability => ErrorCode::MissingRequiredClientCapability,
            Self::UnsupportedVersion => ErrorCode::UnsupportedProtocolVersion,
            Self::UnknownLegacyVersion
            | Self::Busy
            | Self::PeerShare
            | Self::ResultMemory
            | Self::OrphanLimit
            | Self::ShuttingDown => ErrorCode::Generic,
            Self::UnknownMethod => ErrorCode::MethodNotFound,
            Self::ToolPanicked | Self::InvalidOutput | Self::OutputWork => ErrorCode::InternalError,
            Self::InvalidArguments | Self::ValidationWork | Self::Deadline | Self::InputRequired => {
                return None;
            }
        })
    }

    /// The HTTP status of the reply.
    #[must_use]
    pub fn status(self, revision: Revision) -> Status {
        match self {
            Self::NotJson
            | Self::BeyondLimits(_)
            | Self::InvalidRequest
            | Self::RequestCopyTooLarge
            | Self::InvalidParams
            | Self::HeaderMismatch
            | Self::MissingCapability
            | Self::UnsupportedVersion
            | Self::UnknownLegacyVersion
            | Self::SessionNeeded
            | Self::UnknownRequest
            | Self::UnknownStream => Status::BadRequest,
            Self::UnknownSession => Status::NotFound,
            Self::UnknownMethod if revision.is_modern() => Status::NotFound,
            Self::Busy | Self::PeerShare | Self::ResultMemory | Self::OrphanLimit | Self::ShuttingDown => {
                Status::ServiceUnavailable
            }
            _ => Status::Ok,
        }
    }

    /// The metric label.
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
            Self::UnknownPrompt => "unknown_prompt",
            Self::UnknownResource | Self::UnknownLegacyResource => "unknown_resource",
            Self::UnknownSession => "unknown_session",
            Self::SessionNeeded => "session_needed",
            Self::UnknownStream => "unknown_stream",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::SubscriptionBytes => "subscription_bytes",
            Self::InvalidState => "invalid_state",
            Self::StateUsed => "state_used",
            Self::UnknownRequest => "unknown_request",
            Self::UnknownTask => "unknown_task",
            Self::InvalidArguments => "invalid_arguments",
            Self::ValidationWork => "validation_work",
            Self::RequestCopyTooLarge => "request_copy_too_large",
            Self::Busy => "busy",
            Self::PeerShare => "peer_share",
            Self::ResultMemory => "result_memory",
            Self::OrphanLimit => "orphan_limit",
            Self::ToolPanicked => "tool_panicked",
            Self::InvalidOutput => "invalid_output",
            Self::OutputWork => "output_work",
            Self::Deadline => "deadline",
            Self::ShuttingDown => "shutting_down",
            Self::InputRequired => "input_required",
        }
    }
}

impl From<NoRoom> for ErrorKind {
    fn from(reason: NoRoom) -> Self {
        match reason {
            NoRoom::Full => Self::Busy,
            NoRoom::Share => Self::PeerShare,
        }
    }
}

/// An error that is sent to the client: kind, message and data.
#[derive(Debug)]
pub(super) struct RequestError {
    pub(super) reason: ErrorKind,
    pub(super) message: Cow<'static, str>,
    /// The `data` member, as JSON.
    pub(super) data: Option<String>,
}

impl RequestError {
    pub(super) fn new(reason: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), data: None }
    }

    pub(super) fn unsupported(requested: &str) -> Self {
        let mut supported = supported();
        // Legacy revisions are supported, but not when named in `_meta`.
        if supported.contains(&requested) {
            supported.retain(|version| is_modern_version(version.as_bytes()));
        }
        let data = serde_json::json!({"supported": supported, "requested": requested});
        Self {
            reason: ErrorKind::UnsupportedVersion,
            message: "Unsupported protocol version".into(),
            data: Some(data.to_string()),
        }
    }
}

pub(super) fn supported() -> Vec<&'static str> {
    Revision::ALL.iter().rev().map(|revision| revision.as_str()).collect()
}

/// Whether a version is a date of 2026-07-28 or later, supported or not. Dates are compared as text.
pub(super) fn is_modern_version(version: &[u8]) -> bool {
    version >= Revision::V2026_07_28.as_str().as_bytes() && is_date(version)
}

/// Whether a version has the form `YYYY-MM-DD`, with a month of 01 to 12 and a day of 01 to 31.
fn is_date(version: &[u8]) -> bool {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = version else { return false };
    let is_digits = [y0, y1, y2, y3, m0, m1, d0, d1].iter().all(u8::is_ascii_digit);
    is_digits && (b"01"..=b"12").contains(&&[m0, m1]) && (b"01"..=b"31").contains(&&[d0, d1])
}

/// The error for a request that needs a session and names none.
pub(super) fn session_needed() -> RequestError {
    RequestError::new(ErrorKind::SessionNeeded, "Bad Request: Mcp-Session-Id header is required")
}

/// The error for a request whose client did not declare a required capability
/// (<https://modelcontextprotocol.io/specification/2026-07-28/schema#missingrequiredclientcapabilityerror>).
pub(super) fn missing_capability(capability: Capability) -> RequestError {
    let ProtocolError { message, data, .. } = ProtocolError::missing_capability(capability);
    RequestError {
        data: data.map(|data| data.to_string()),
        ..RequestError::new(ErrorKind::MissingCapability, message)
    }
}
