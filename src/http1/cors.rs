//! What a browser must be told before it lets a page of an allowed origin talk to this server (checklist O-04; the
//! Fetch standard, section 3.2).

use super::head::{Field, RequestHead};

/// The verbs the endpoint takes.
pub const METHODS: &str = "POST, GET, DELETE, OPTIONS";

/// Request headers a page may set, besides `Mcp-Param-…`.
const HEADERS: &str = "content-type, accept, authorization, mcp-protocol-version, mcp-method, mcp-name, \
                       mcp-session-id, last-event-id";

/// How long a browser may remember the answer, in seconds.
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
    // Their names are the tools' own, so those asked for are allowed by name.
    if let Field::Value(asked) = head.field(bytes, "access-control-request-headers") {
        for name in asked.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
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
