//! Reasons to reject a request at the HTTP level, with their status and effect on the connection.

use super::response::Status;

/// Why a request was rejected before its body was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::VariantArray)]
#[non_exhaustive]
pub enum RejectReason {
    /// The head is not HTTP/1.x.
    MalformedHead,
    /// The request target is longer than the limit.
    TargetTooLong,
    /// The whole head, one header or the number of headers exceeds its limit.
    HeadTooLarge,
    /// HTTP/0.9, HTTP/2 or later.
    VersionNotSupported,
    /// HTTP/1.1 without exactly one Host (<https://www.rfc-editor.org/rfc/rfc9112#section-3.2>).
    HostMissing,
    /// A Content-Length that is not a number, or given twice, or beside Transfer-Encoding.
    LengthAmbiguous,
    /// A Transfer-Encoding other than exactly one `chunked`.
    TransferEncodingUnknown,
    /// A chunk that violates <https://www.rfc-editor.org/rfc/rfc9112#section-7.1>.
    MalformedChunk,
    /// The body is longer than the limit.
    BodyTooLarge,
    /// An Expect other than `100-continue`.
    ExpectationUnknown,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The Host header names no allowed host.
    HostForbidden,
    /// The Origin header names no allowed origin.
    OriginForbidden,
    /// The path is not the endpoint's.
    PathUnknown,
    /// The endpoint does not support the HTTP method.
    VerbNotAllowed,
    /// The body's media type is not `application/json`.
    MediaTypeUnsupported,
    /// The body has a Content-Encoding other than `identity`.
    ContentEncodingUnsupported,
    /// A GET whose Accept header excludes event streams.
    NotAcceptable,
    /// The memory for requests is used up.
    MemoryShort,
}

impl RejectReason {
    /// Status of the reply.
    #[must_use]
    pub fn status(self) -> Status {
        match self {
            Self::MalformedHead | Self::HostMissing | Self::LengthAmbiguous | Self::MalformedChunk => {
                Status::BadRequest
            }
            Self::TargetTooLong => Status::UriTooLong,
            Self::HeadTooLarge => Status::HeaderFieldsTooLarge,
            Self::VersionNotSupported => Status::VersionNotSupported,
            Self::TransferEncodingUnknown => Status::NotImplemented,
            Self::BodyTooLarge => Status::ContentTooLarge,
            Self::ExpectationUnknown => Status::ExpectationFailed,
            Self::HeadTimeout | Self::BodyTimeout => Status::RequestTimeout,
            Self::HostForbidden | Self::OriginForbidden => Status::Forbidden,
            Self::PathUnknown => Status::NotFound,
            Self::VerbNotAllowed => Status::MethodNotAllowed,
            Self::MediaTypeUnsupported | Self::ContentEncodingUnsupported => Status::UnsupportedMediaType,
            Self::NotAcceptable => Status::NotAcceptable,
            Self::MemoryShort => Status::ServiceUnavailable,
        }
    }

    /// Whether the connection is closed, because the start of the next request is unknown.
    #[must_use]
    pub fn closes(self) -> bool {
        !matches!(
            self,
            Self::HostForbidden
                | Self::OriginForbidden
                | Self::PathUnknown
                | Self::VerbNotAllowed
                | Self::MediaTypeUnsupported
                | Self::ContentEncodingUnsupported
                | Self::NotAcceptable
        )
    }

    /// Label of the metric that counts it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedHead => "malformed_head",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::VersionNotSupported => "http_version_not_supported",
            Self::HostMissing => "host_missing",
            Self::LengthAmbiguous => "length_ambiguous",
            Self::TransferEncodingUnknown => "transfer_encoding_unknown",
            Self::MalformedChunk => "malformed_chunk",
            Self::BodyTooLarge => "body_too_large",
            Self::ExpectationUnknown => "expectation_unknown",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::HostForbidden => "host_forbidden",
            Self::OriginForbidden => "origin_forbidden",
            Self::PathUnknown => "path_unknown",
            Self::VerbNotAllowed => "verb_not_allowed",
            Self::MediaTypeUnsupported => "media_type_unsupported",
            Self::ContentEncodingUnsupported => "content_encoding_unsupported",
            Self::NotAcceptable => "not_acceptable",
            Self::MemoryShort => "memory_max",
        }
    }

    /// One short sentence for the reply's body.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::MalformedHead => "Malformed HTTP request",
            Self::TargetTooLong => "Request target too long",
            Self::HeadTooLarge => "Request head too large",
            Self::VersionNotSupported => "HTTP version not supported",
            Self::HostMissing => "Exactly one Host header is required",
            Self::LengthAmbiguous => "Ambiguous message length",
            Self::TransferEncodingUnknown => "Transfer-Encoding not supported",
            Self::MalformedChunk => "Malformed chunked body",
            Self::BodyTooLarge => "Request body too large",
            Self::ExpectationUnknown => "Expectation not supported",
            Self::HeadTimeout => "Request head not received in time",
            Self::BodyTimeout => "Request body not received in time",
            Self::HostForbidden => "Host not allowed",
            Self::OriginForbidden => "Origin not allowed",
            Self::PathUnknown => "Not found",
            Self::VerbNotAllowed => "Method not allowed",
            Self::MediaTypeUnsupported => "Content-Type must be application/json",
            Self::ContentEncodingUnsupported => "Content-Encoding must be identity: send the body unencoded",
            Self::NotAcceptable => "Accept must have text/event-stream",
            Self::MemoryShort => "The memory for requests is used up, try again later",
        }
    }
}
