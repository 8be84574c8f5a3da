//! CORS headers for pages of an allowed origin (<https://fetch.spec.whatwg.org/#http-cors-protocol>). The MCP specification does
//! not define them; the set of headers is the one that the official SDKs need.

use super::head::{Field, RequestHead};

/// HTTP methods the endpoint accepts.
pub const METHODS: &str = "POST, GET, DELETE, OPTIONS";

/// Request headers a page may set, besides `Mcp-Param-…`.
const HEADERS: &str = "content-type, accept, authorization, mcp-protocol-version, mcp-method, mcp-name, \
                       mcp-session-id, last-event-id";

/// How long a browser may cache a preflight reply, in seconds.
const MAX_AGE_SECONDS: u32 = 86_400;

/// Header lines of every reply to an allowed origin.
#[must_use]
pub fn cors_headers(origin: &[u8]) -> String {
    format!(
        "Access-Control-Allow-Origin: {}\r\nVary: Origin\r\n\
         Access-Control-Expose-Headers: Mcp-Session-Id, WWW-Authenticate\r\n",
        String::from_utf8_lossy(origin)
    )
}

/// Header lines of the reply to OPTIONS, without those of [`cors_headers`].
#[must_use]
pub fn preflight_headers(head: &RequestHead, bytes: &[u8]) -> String {
    let mut lines = format!("Allow: {METHODS}\r\n");
    if matches!(head.origin(bytes), Field::Absent) {
        return lines;
    }
    lines.push_str(&format!(
        "Access-Control-Allow-Methods: {METHODS}\r\nAccess-Control-Allow-Headers: {HEADERS}"
    ));
    // The names of `Mcp-Param-…` headers are defined by the tools, so each requested one is allowed by name.
    if let Field::Value(requested) = head.field(bytes, "access-control-request-headers") {
        for name in requested.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let is_parameter = name
                .split_at_checked(b"mcp-param-".len())
                .is_some_and(|(prefix, _)| prefix.eq_ignore_ascii_case(b"mcp-param-"));
            let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
            if is_parameter && name.iter().all(is_token) {
                lines.push_str(", ");
                lines.push_str(&String::from_utf8_lossy(name));
            }
        }
    }
    lines.push_str(&format!("\r\nAccess-Control-Max-Age: {MAX_AGE_SECONDS}\r\n"));
    lines
}
