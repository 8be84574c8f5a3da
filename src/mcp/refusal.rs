//! Why a message is refused.

use std::borrow::Cow;

use crate::{
    call::{Capability, ProtocolError, Revision},
    http1::Status,
    jsonrpc::ErrorCode,
};

/// Why a message is refused: its code, its status, and the metric it is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter)]
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
    /// No such prompt.
    UnknownPrompt,
    /// No such resource.
    UnknownResource,
    /// No such resource, before 2026-07-28: the code is another.
    UnknownLegacyResource,
    /// No such session, or it has ended.
    UnknownSession,
    /// The method belongs to a session, and the request names none.
    SessionNeeded,
    /// A stream that is not there, or is another session's.
    UnknownStream,
    /// Too many subscriptions, or streams.
    TooManySubscriptions,
    /// A request state that was not written by this server, not for this request, or too long ago.
    InvalidState,
    /// A response to a request this server never made.
    UnknownRequest,
    /// No such task.
    UnknownTask,
    /// Arguments that do not fit the tool's schema: for the model to mend.
    InvalidArguments,
    /// Arguments that would take too long to validate.
    ValidationWork,
    /// The headers and `_meta` members that the call would copy exceed [`REQUEST_COPY_BYTES_MAX`](crate::call::REQUEST_COPY_BYTES_MAX).
    RequestCopyTooLarge,
    /// As many calls in flight, or waiting, as may be.
    Busy,
    /// The tool panicked.
    ToolPanicked,
    /// The tool's result does not fit the schema it promises.
    InvalidOutput,
    /// The tool did not answer in time.
    Deadline,
    /// No refusal: the call ends with a question.
    InputRequired,
}

impl Refused {
    /// The code of the JSON-RPC error; none for what is told to the model in a result.
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
            | Self::UnknownTask => ErrorCode::InvalidParams,
            Self::UnknownLegacyResource => ErrorCode::ResourceNotFound,
            Self::UnknownSession => ErrorCode::SessionNotFound,
            Self::SessionNeeded => ErrorCode::Generic,
            Self::UnknownRequest | Self::UnknownStream => ErrorCode::InvalidRequest,
            Self::TooManySubscriptions => ErrorCode::InternalError,
            Self::HeaderMismatch => ErrorCode::HeaderMismatch,
            Self::MissingCapability => ErrorCode::MissingRequiredClientCapability,
            Self::UnsupportedVersion => ErrorCode::UnsupportedProtocolVersion,
            Self::UnknownLegacyVersion | Self::Busy => ErrorCode::Generic,
            Self::UnknownMethod => ErrorCode::MethodNotFound,
            Self::ToolPanicked | Self::InvalidOutput => ErrorCode::InternalError,
            Self::InvalidArguments | Self::ValidationWork | Self::Deadline | Self::InputRequired => {
                return None;
            }
        })
    }

    /// The HTTP status it is answered with.
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
            Self::UnknownPrompt => "unknown_prompt",
            Self::UnknownResource | Self::UnknownLegacyResource => "unknown_resource",
            Self::UnknownSession => "unknown_session",
            Self::SessionNeeded => "session_needed",
            Self::UnknownStream => "unknown_stream",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::InvalidState => "invalid_state",
            Self::UnknownRequest => "unknown_request",
            Self::UnknownTask => "unknown_task",
            Self::InvalidArguments => "invalid_arguments",
            Self::ValidationWork => "validation_work",
            Self::RequestCopyTooLarge => "request_copy_too_large",
            Self::Busy => "busy",
            Self::ToolPanicked => "tool_panicked",
            Self::InvalidOutput => "invalid_output",
            Self::Deadline => "deadline",
            Self::InputRequired => "input_required",
        }
    }
}

/// Why a message is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: Refused,
    pub(super) message: Cow<'static, str>,
    /// JSON.
    pub(super) data: Option<String>,
}

impl Refusal {
    pub(super) fn new(reason: Refused, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), data: None }
    }

    pub(super) fn unsupported(requested: &str) -> Self {
        let mut supported = supported();
        // A revision of the legacy era is served, but not to who claims it in `_meta`.
        if supported.contains(&requested) {
            supported.retain(|version| names_modern(version.as_bytes()));
        }
        let data = serde_json::json!({"supported": supported, "requested": requested});
        Self {
            reason: Refused::UnsupportedVersion,
            message: "Unsupported protocol version".into(),
            data: Some(data.to_string()),
        }
    }
}

pub(super) fn supported() -> Vec<&'static str> {
    Revision::ALL.iter().rev().map(|revision| revision.as_str()).collect()
}

/// Whether a version is 2026-07-28 or later, known or not: dates compare as text. What is no date is no revision.
pub(super) fn names_modern(version: &[u8]) -> bool {
    version >= Revision::V2026_07_28.as_str().as_bytes() && is_date(version)
}

/// `YYYY-MM-DD`, with a month and a day that can be.
fn is_date(version: &[u8]) -> bool {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = version else { return false };
    let is_digits = [y0, y1, y2, y3, m0, m1, d0, d1].iter().all(u8::is_ascii_digit);
    is_digits && (b"01"..=b"12").contains(&&[m0, m1]) && (b"01"..=b"31").contains(&&[d0, d1])
}

/// A request that only makes sense in a session.
pub(super) fn session_needed() -> Refusal {
    Refusal::new(Refused::SessionNeeded, "Bad Request: Mcp-Session-Id header is required")
}

/// What a request needs and its client does not have (checklist M-07).
pub(super) fn missing_capability(capability: Capability) -> Refusal {
    let ProtocolError { message, data, .. } = ProtocolError::missing_capability(capability);
    Refusal { data: data.map(|data| data.to_string()), ..Refusal::new(Refused::MissingCapability, message) }
}
