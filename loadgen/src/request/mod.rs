//! Requests: their operation, their bytes, and the check of their replies.

mod operation;
mod reply;
#[cfg(test)]
mod tests;

pub use operation::{Era, Operation};
pub use reply::{ReplyError, SentRequest, id_of, is_reply};

use std::borrow::Cow;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use self::reply::Expected;
use crate::{
    error::LoadError,
    result::RequestParameters,
    target::Target,
    template::{COUNTER_START, PlaceholderValues, Placeholders, Template},
};

/// A prepared request, which can be rendered many times.
#[derive(Clone, Debug)]
pub struct Request {
    weight: u32,
    placeholders: Placeholders,
    /// The head up to the session's header line.
    head: Vec<u8>,
    /// The rest of the head.
    head_end: Vec<u8>,
    /// The body before and after its id.
    body: Option<(Vec<u8>, Template)>,
    expected: Expected,
}

/// The client's name in `clientInfo`.
const CLIENT: &str = "corelane-loadgen";
/// Number of digits of a JSON-RPC id.
const ID_DIGITS: usize = 10;

impl Request {
    /// Prepares a request. `closing` adds `Connection: close`.
    ///
    /// # Errors
    /// When the arguments are not a JSON object.
    pub fn new(
        target: &Target,
        era: Era,
        operation: Operation,
        weight: u32,
        closing: bool,
    ) -> Result<Self, LoadError> {
        let mut placeholders = Placeholders::default();
        let Params { members, name, echo } = Params::of(&operation, &mut placeholders)?;
        let Target { path, host, headers, .. } = target;
        let connection = if closing { "Connection: close\r\n" } else { "" };
        let modern = era == Era::Modern && operation != Operation::Plain;
        if operation == Operation::Plain {
            return Ok(Self {
                head: format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{connection}").into_bytes(),
                head_end: b"\r\n".to_vec(),
                body: None,
                weight,
                placeholders,
                expected: Expected { operation, echo, modern },
            });
        }
        let method = operation.method();
        let params = match (modern, members.as_str()) {
            (false, "") => String::new(),
            (false, members) => format!(r#","params":{{{members}}}"#),
            (true, members) => {
                let comma = if members.is_empty() { "" } else { "," };
                let meta = match operation {
                    Operation::Task { .. } => modern_meta_with(&json!({"extensions": {TASKS: {}}})),
                    _ => modern_meta(),
                };
                format!(r#","params":{{{members}{comma}"_meta":{meta}}}"#)
            }
        };
        let before_id = br#"{"jsonrpc":"2.0","id":"#.to_vec();
        let mut after_id = format!(r#","method":"{method}"{params}}}"#);
        let is_line = target.is_lines;
        if is_line {
            // Line ends occur only between tokens; inside strings they are escaped.
            after_id = after_id.replace(['\n', '\r'], " ");
            after_id.push('\n');
        }
        let after_id = Template::of(&after_id);
        let length = before_id.len() + ID_DIGITS + after_id.length(&placeholders);
        let version = match (&operation, modern) {
            (Operation::Initialize, _) => String::new(),
            (_, false) => format!("MCP-Protocol-Version: {}\r\n", era.name()),
            (_, true) => {
                let name =
                    name.map_or(String::new(), |name| format!("Mcp-Name: {}\r\n", header_value(&name)));
                format!("MCP-Protocol-Version: {}\r\nMcp-Method: {method}\r\n{name}", era.name())
            }
        };
        let (head, head_end) = if is_line {
            Default::default()
        } else {
            let head = format!("{}{version}{headers}{connection}", head_begin(target));
            (head, format!("Content-Length: {length}\r\n\r\n"))
        };
        Ok(Self {
            head: head.into_bytes(),
            head_end: head_end.into_bytes(),
            body: Some((before_id, after_id)),
            weight,
            placeholders,
            expected: Expected { operation, echo, modern },
        })
    }

    /// The request's parameters in a result.
    #[must_use]
    pub fn parameters(&self) -> RequestParameters {
        let arguments = match &self.expected.operation {
            Operation::Tool { arguments, .. }
            | Operation::Task { arguments, .. }
            | Operation::Prompt { arguments, .. } => Some(arguments.clone()),
            _ => None,
        };
        RequestParameters {
            name: self.expected.operation.name(),
            weight: self.weight,
            request_bytes: u32::try_from(self.length()).unwrap_or(u32::MAX),
            arguments,
        }
    }

    /// Weight in the mix.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Length in bytes, without the session's header line.
    #[must_use]
    pub fn length(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |(before_id, after_id)| {
            before_id.len() + ID_DIGITS + after_id.length(&self.placeholders)
        });
        self.head.len() + self.head_end.len() + body
    }

    /// Appends the rendered request. `number` is the sender's sequence number.
    pub fn write(
        &self,
        kind: usize,
        number: u64,
        session: Option<&str>,
        random: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> SentRequest {
        out.extend_from_slice(&self.head);
        write_session(session, out);
        out.extend_from_slice(&self.head_end);
        let id = COUNTER_START + number % COUNTER_START;
        let mut echo = None;
        if let Some((before_id, after_id)) = &self.body {
            let values = if self.placeholders.is_empty() {
                PlaceholderValues::default()
            } else {
                self.placeholders.fill(number, random)
            };
            out.extend_from_slice(before_id);
            push_ten_digits(id, out);
            after_id.write(&values, out);
            if let Some(template) = self.expected.echo.as_ref().filter(|_| !self.placeholders.is_empty()) {
                let mut text = Vec::new();
                template.write(&values, &mut text);
                echo = Some(text.into_boxed_slice());
            }
        }
        SentRequest { id, kind, echo }
    }

    /// Renders a single request of 2026-07-28 with the given body.
    #[must_use]
    pub fn post(target: &Target, method: &str, body: &str) -> Vec<u8> {
        let version = Era::Modern.name();
        let headers = format!("MCP-Protocol-Version: {version}\r\nMcp-Method: {method}\r\n");
        Self::post_with(target, &headers, body)
    }

    /// Renders a single request with the given header lines, each with its line end, and body.
    #[must_use]
    pub fn post_with(target: &Target, headers: &str, body: &str) -> Vec<u8> {
        let (begin, others, length) = (head_begin(target), &target.headers, body.len());
        format!("{begin}{headers}{others}Content-Length: {length}\r\n\r\n{body}").into_bytes()
    }

    /// Whether the request may be sent again although the server may have read it (RFC 9112, section 9.3.1): a `GET`
    /// may, a `POST` may not.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.expected.operation == Operation::Plain
    }

    /// Appends a notification that was created by [`initialized`].
    pub fn write_notification(notification: &[u8], session: Option<&str>, out: &mut Vec<u8>) {
        // The session's header line follows the request line.
        let split = memchr::memchr(b'\n', notification).map_or(0, |end| end + 1);
        let (line, rest) = notification.split_at(split);
        out.extend_from_slice(line);
        write_session(session, out);
        out.extend_from_slice(rest);
    }

    /// Checks the reply to a sent request.
    ///
    /// # Errors
    /// The reason why the reply is wrong.
    pub fn check(&self, sent: &SentRequest, status: u16, body: &[u8]) -> Result<(), ReplyError> {
        self.expected.check(sent, status, body)
    }
}

/// The members of `params` that belong to the operation.
struct Params {
    /// Members of the object, with marks for placeholders.
    members: String,
    /// The value of `Mcp-Name`.
    name: Option<String>,
    /// The text that `echo` must return.
    echo: Option<Template>,
}

impl Params {
    fn of(operation: &Operation, placeholders: &mut Placeholders) -> Result<Self, LoadError> {
        let mut echo = None;
        let (members, name) = match operation {
            Operation::Tool { name, arguments } => {
                let marked = marked_object(placeholders, operation, arguments)?;
                // With a placeholder as a number the marked text is not JSON; then the returned text is not checked.
                let message = serde_json::from_str::<Value>(&marked)
                    .ok()
                    .and_then(|value| value.get("message").and_then(Value::as_str).map(str::to_owned));
                if name == "echo" {
                    echo = message.map(|text| Template::of(&text));
                }
                (format!(r#""name":{},"arguments":{marked}"#, json!(name)), Some(name.clone()))
            }
            Operation::Task { name, arguments } | Operation::Prompt { name, arguments } => {
                let marked = marked_object(placeholders, operation, arguments)?;
                (format!(r#""name":{},"arguments":{marked}"#, json!(name)), Some(name.clone()))
            }
            Operation::Resource { uri } => (format!(r#""uri":{}"#, json!(uri)), Some(uri.clone())),
            Operation::Initialize => {
                let params = json!({
                    "protocolVersion": Era::Legacy.name(),
                    "capabilities": {},
                    "clientInfo": client_info(),
                });
                (members_of(&params), None)
            }
            Operation::Method(_) | Operation::Plain => (String::new(), None),
        };
        Ok(Self { members, name, echo })
    }
}

/// The first lines of the head of every `POST`.
fn head_begin(target: &Target) -> String {
    let Target { path, host, .. } = target;
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n"
    )
}

fn write_session(session: Option<&str>, out: &mut Vec<u8>) {
    if let Some(session) = session {
        out.extend_from_slice(b"Mcp-Session-Id: ");
        out.extend_from_slice(session.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// The notification that completes the handshake, for [`Request::write_notification`].
#[must_use]
pub fn initialized(target: &Target) -> Vec<u8> {
    let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    if target.is_lines {
        return format!("{body}\n").into_bytes();
    }
    let (begin, headers) = (head_begin(target), &target.headers);
    let (version, length) = (Era::Legacy.name(), body.len());
    format!("{begin}MCP-Protocol-Version: {version}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn push_ten_digits(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; ID_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Replaces the placeholders of arguments by marks, and checks that the arguments are a JSON object.
fn marked_object(
    placeholders: &mut Placeholders,
    operation: &Operation,
    arguments: &str,
) -> Result<String, LoadError> {
    let invalid = |reason: String| {
        let excerpt: String = arguments.chars().take(60).collect();
        LoadError::Usage(format!("the arguments of {}, {excerpt:?}: {reason}", operation.name()))
    };
    let marked = placeholders.mark(arguments.trim()).map_err(invalid)?;
    let mut filled = Vec::new();
    let template = Template::of(&marked);
    template.write(&placeholders.fill(0, &mut StdRng::seed_from_u64(0)), &mut filled);
    match serde_json::from_slice::<Value>(&filled) {
        Ok(Value::Object(_)) => Ok(marked),
        Ok(_) => Err(invalid("not a JSON object".to_owned())),
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// Name of the tasks extension.
const TASKS: &str = "io.modelcontextprotocol/tasks";

/// `_meta` of a request of 2026-07-28.
#[must_use]
pub fn modern_meta() -> Value {
    modern_meta_with(&json!({}))
}

/// `_meta` of a request of 2026-07-28 of a client with these capabilities.
fn modern_meta_with(capabilities: &Value) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": Era::Modern.name(),
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    })
}

fn client_info() -> Value {
    json!({"name": CLIENT, "version": env!("CARGO_PKG_VERSION")})
}

/// The members of an object, without its braces.
fn members_of(object: &Value) -> String {
    let text = object.to_string();
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(&text).to_owned()
}

/// Encodes a name as a header value: unchanged if possible, otherwise in base64
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#value-encoding>).
fn header_value(name: &str) -> Cow<'_, str> {
    use base64::Engine as _;
    let plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && name.trim() == name
        && !name.starts_with("=?");
    if plain {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(name)))
}
