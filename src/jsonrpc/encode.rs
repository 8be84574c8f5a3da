//! Encoders of responses.

use super::id::{Id, write_id};
use crate::json::{write_integer, write_string};

/// Error codes of JSON-RPC and MCP (<https://modelcontextprotocol.io/specification/2026-07-28/basic#error-codes>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The body is not JSON.
    ParseError,
    /// JSON, but not a request.
    InvalidRequest,
    /// No such method.
    MethodNotFound,
    /// The method's parameters are wrong.
    InvalidParams,
    /// The server failed.
    InternalError,
    /// A header is missing or contradicts the body (2026-07-28).
    HeaderMismatch,
    /// The request needs a client capability that it did not declare (2026-07-28).
    MissingRequiredClientCapability,
    /// The requested protocol version is not implemented (2026-07-28).
    UnsupportedProtocolVersion,
    /// Generic code of the legacy range: the server is busy, or a header of the legacy era is invalid.
    Generic,
    /// The resource does not exist (before 2026-07-28).
    ResourceNotFound,
    /// The legacy session has ended, or did not exist.
    SessionNotFound,
    /// A code defined by the tool.
    Other(i64),
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::ParseError => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::InternalError => -32603,
            Self::HeaderMismatch => -32020,
            Self::MissingRequiredClientCapability => -32021,
            Self::UnsupportedProtocolVersion => -32022,
            Self::ResourceNotFound => -32002,
            Self::SessionNotFound => -32001,
            Self::Generic => -32000,
            Self::Other(code) => code,
        }
    }
}

/// Appends a response with a result, whose members `write` appends.
pub fn write_result(out: &mut Vec<u8>, id: Id<'_>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    write_id(out, id);
    out.extend_from_slice(b",\"result\":{");
    write(out);
    out.extend_from_slice(b"}}");
}

/// Appends an error response. Without an id the member is omitted, because MCP has no null id
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic#error-responses>). `data` is encoded JSON.
pub fn write_error(
    out: &mut Vec<u8>,
    id: Option<Id<'_>>,
    code: ErrorCode,
    message: &str,
    data: Option<&str>,
) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        write_id(out, id);
    }
    out.extend_from_slice(b",\"error\":{\"code\":");
    write_integer(out, code.number());
    out.extend_from_slice(b",\"message\":");
    write_string(out, message);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_bytes());
    }
    out.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_id_is_omitted() {
        let mut out = Vec::new();
        write_error(&mut out, None, ErrorCode::ParseError, "Parse error", None);
        assert_eq!(out, br#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"}}"#);
    }

    #[test]
    fn id_is_echoed_with_its_type() {
        for (id, text) in [
            (Id::Signed(-1), "-1"),
            (Id::Unsigned(u64::MAX), "18446744073709551615"),
            (Id::String("1\""), r#""1\"""#),
        ] {
            let mut out = Vec::new();
            write_result(&mut out, id.to_owned().as_id(), |_| {});
            assert_eq!(
                String::from_utf8(out).unwrap(),
                format!(r#"{{"jsonrpc":"2.0","id":{text},"result":{{}}}}"#)
            );
        }
    }
}
