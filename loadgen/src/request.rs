//! Requests: what is asked, how it looks as bytes, and which reply is right.

use std::borrow::Cow;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    error::LoadError,
    result::RequestParameters,
    target::Target,
    template::{COUNTER_START, Filling, Holes, Template},
};

/// A way to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28: no session, everything in the request.
    Modern,
    /// 2025-11-25: a handshake, perhaps a session.
    Legacy,
    /// No MCP: `GET` and a 200.
    Plain,
}

impl Era {
    /// The revision's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Legacy => "2025-11-25",
            Self::Plain => "none",
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// `tools/call`, with arguments as JSON that may have holes.
    Tool {
        /// The tool.
        name: String,
        /// Its arguments.
        arguments: String,
    },
    /// `resources/read`.
    Resource {
        /// Its URI.
        uri: String,
    },
    /// `prompts/get`, with arguments as JSON that may have holes.
    Prompt {
        /// The prompt.
        name: String,
        /// Its arguments.
        arguments: String,
    },
    /// A method without parameters of its own: `tools/list`, `server/discover`, `ping` …
    Method(&'static str),
    /// The handshake of the older revisions.
    Initialize,
    /// `GET` of the target's path, for servers that are no MCP servers.
    Plain,
}

impl Ask {
    /// Its name in results.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tool { name, .. } => format!("tools/call {name}"),
            Self::Resource { uri } => format!("resources/read {uri}"),
            Self::Prompt { name, .. } => format!("prompts/get {name}"),
            Self::Method(method) => (*method).to_owned(),
            Self::Initialize => "initialize".to_owned(),
            Self::Plain => "GET".to_owned(),
        }
    }

    fn method(&self) -> &'static str {
        match self {
            Self::Tool { .. } => "tools/call",
            Self::Resource { .. } => "resources/read",
            Self::Prompt { .. } => "prompts/get",
            Self::Method(method) => method,
            Self::Initialize => "initialize",
            Self::Plain => "GET",
        }
    }
}

/// A request ready to be rendered, as often as wanted.
#[derive(Clone, Debug)]
pub struct Request {
    ask: Ask,
    weight: u32,
    holes: Holes,
    /// Everything before the session's header line.
    head: Vec<u8>,
    /// The rest of the head.
    head_end: Vec<u8>,
    /// The body up to its id, and behind it.
    body: Option<(Vec<u8>, Template)>,
    /// The text an echo must bring back.
    echo: Option<Template>,
    modern: bool,
}

/// What a request was sent with, as far as its reply must match.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its JSON-RPC id.
    pub id: u64,
    /// Which request of the mix.
    pub kind: usize,
    /// The text expected back, where it differs from request to request.
    echo: Option<Box<[u8]>>,
}

/// The client's name in `clientInfo`.
const CLIENT: &str = "corelane-loadgen";

impl Request {
    /// Prepares a request. `closing` asks the server to close the connection behind its reply.
    ///
    /// # Errors
    /// When its arguments are no JSON object.
    pub fn new(target: &Target, era: Era, ask: Ask, weight: u32, closing: bool) -> Result<Self, LoadError> {
        let mut holes = Holes::default();
        let mut echo = None;
        let (params, extra) = match &ask {
            Ask::Tool { name, arguments } => {
                let marked = marked_object(&mut holes, &ask, arguments)?;
                // With a number for a hole the text is no JSON before it is filled; then nothing is known to come back.
                let message = serde_json::from_str::<Value>(&marked)
                    .ok()
                    .and_then(|value| value.get("message").and_then(Value::as_str).map(str::to_owned));
                if name == "echo" {
                    echo = message.map(|text| Template::of(&text));
                }
                (format!(r#""name":{},"arguments":{marked}"#, json!(name)), Some(name.clone()))
            }
            Ask::Prompt { name, arguments } => {
                let marked = marked_object(&mut holes, &ask, arguments)?;
                (format!(r#""name":{},"arguments":{marked}"#, json!(name)), Some(name.clone()))
            }
            Ask::Resource { uri } => (format!(r#""uri":{}"#, json!(uri)), Some(uri.clone())),
            Ask::Initialize => {
                let params = json!({
                    "protocolVersion": Era::Legacy.name(),
                    "capabilities": {},
                    "clientInfo": client_info(),
                });
                (inside(&params), None)
            }
            Ask::Method(_) | Ask::Plain => (String::new(), None),
        };
        let is_line = target.program().is_some();
        let path = &target.path;
        let host = &target.host;
        let headers = &target.headers;
        let connection = if closing { "Connection: close\r\n" } else { "" };
        if ask == Ask::Plain {
            return Ok(Self {
                head: format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{connection}").into_bytes(),
                head_end: b"\r\n".to_vec(),
                body: None,
                ask,
                weight,
                holes,
                echo,
                modern: false,
            });
        }
        let method = ask.method();
        let modern = era == Era::Modern;
        let params = match (modern, params.as_str()) {
            (false, "") => String::new(),
            (false, params) => format!(r#","params":{{{params}}}"#),
            (true, params) => {
                let comma = if params.is_empty() { "" } else { "," };
                format!(r#","params":{{{params}{comma}"_meta":{}}}"#, modern_meta())
            }
        };
        let before_id = br#"{"jsonrpc":"2.0","id":"#.to_vec();
        let mut behind_id = format!(r#","method":"{method}"{params}}}"#);
        if is_line {
            // Between tokens only: inside of strings a line's end is escaped.
            behind_id = behind_id.replace(['\n', '\r'], " ");
            behind_id.push('\n');
        }
        let behind_id = Template::of(&behind_id);
        let length = before_id.len() + ID_DIGITS + behind_id.length(&holes);
        let version = match (&ask, modern) {
            (Ask::Initialize, _) => String::new(),
            (_, false) => format!("MCP-Protocol-Version: {}\r\n", era.name()),
            (_, true) => {
                let name =
                    extra.map_or(String::new(), |name| format!("Mcp-Name: {}\r\n", header_value(&name)));
                format!("MCP-Protocol-Version: {}\r\nMcp-Method: {method}\r\n{name}", era.name())
            }
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\n{version}{headers}{connection}"
        );
        let head_end = format!("Content-Length: {length}\r\n\r\n");
        let (head, head_end) = if is_line { Default::default() } else { (head, head_end) };
        Ok(Self {
            head: head.into_bytes(),
            head_end: head_end.into_bytes(),
            body: Some((before_id, behind_id)),
            ask,
            weight,
            holes,
            echo,
            modern,
        })
    }

    /// How results speak of it.
    #[must_use]
    pub fn parameters(&self) -> RequestParameters {
        let arguments = match &self.ask {
            Ask::Tool { arguments, .. } | Ask::Prompt { arguments, .. } => Some(arguments.clone()),
            _ => None,
        };
        RequestParameters {
            name: self.ask.name(),
            weight: self.weight,
            request_bytes: u32::try_from(self.length()).unwrap_or(u32::MAX),
            arguments,
        }
    }

    /// Its share of the mix.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Bytes of it, without a session's header.
    #[must_use]
    pub fn length(&self) -> usize {
        let body = self
            .body
            .as_ref()
            .map_or(0, |(before, behind)| before.len() + ID_DIGITS + behind.length(&self.holes));
        self.head.len() + self.head_end.len() + body
    }

    /// Appends it. `number` counts the requests of its sender.
    pub fn write(
        &self,
        kind: usize,
        number: u64,
        session: Option<&str>,
        random: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> Sent {
        out.extend_from_slice(&self.head);
        write_session(session, out);
        out.extend_from_slice(&self.head_end);
        let id = COUNTER_START + number % COUNTER_START;
        let mut echo = None;
        if let Some((before, behind)) = &self.body {
            let filling =
                if self.holes.is_empty() { Filling::default() } else { self.holes.fill(number, random) };
            out.extend_from_slice(before);
            push_ten_digits(id, out);
            behind.write(&filling, out);
            if let Some(template) = self.echo.as_ref().filter(|_| !self.holes.is_empty()) {
                let mut text = Vec::new();
                template.write(&filling, &mut text);
                echo = Some(text.into_boxed_slice());
            }
        }
        Sent { id, kind, echo }
    }

    /// A request of 2026-07-28 that is written by hand and sent once.
    #[must_use]
    pub fn post(target: &Target, method: &str, body: &str) -> Vec<u8> {
        let Target { path, host, headers, .. } = target;
        let (version, length) = (Era::Modern.name(), body.len());
        format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {version}\r\n\
             Mcp-Method: {method}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// The id of a reply, if it is a number of ours.
    #[must_use]
    pub fn id_of(body: &[u8]) -> Option<u64> {
        #[derive(Deserialize)]
        struct Identified {
            id: u64,
        }
        serde_json::from_slice::<Identified>(body).ok().map(|message| message.id)
    }

    /// Whether it may be sent again although the server may have read it (RFC 9112, section 9.3.1): a `GET` may, a `POST`
    /// may not.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.ask == Ask::Plain
    }

    /// Whether a message of an event stream is a reply: notifications may come before it.
    #[must_use]
    pub fn is_reply(body: &[u8]) -> bool {
        serde_json::from_slice::<Envelope<'_>>(body).is_ok_and(|message| message.method.is_none())
    }

    /// Appends a notification made by [`initialized`].
    pub fn write_notification(notification: &[u8], session: Option<&str>, out: &mut Vec<u8>) {
        // The session's line stands behind the request line.
        let split = memchr::memchr(b'\n', notification).map_or(0, |end| end + 1);
        let (line, rest) = notification.split_at(split);
        out.extend_from_slice(line);
        write_session(session, out);
        out.extend_from_slice(rest);
    }

    /// Whether `body` is the right answer to what was sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, sent: &Sent, status: u16, body: &[u8]) -> Result<(), Wrong> {
        if status != 200 {
            return Err(Wrong::Status(status));
        }
        if self.ask == Ask::Plain {
            return Ok(());
        }
        let reply: Reply<'_> = serde_json::from_slice(body).map_err(|_| Wrong::NotJson)?;
        if reply.id != Some(Id::Number(sent.id)) {
            return Err(Wrong::Id);
        }
        if reply.error.is_some() {
            return Err(Wrong::Error);
        }
        let result = reply.result.ok_or(Wrong::NoResult)?;
        if self.modern && result.result_type.as_deref().is_some_and(|kind| kind != "complete") {
            return Err(Wrong::Incomplete);
        }
        match &self.ask {
            Ask::Tool { .. } => {
                if result.is_error == Some(true) {
                    return Err(Wrong::ToolError);
                }
                let Some(template) = &self.echo else { return Ok(()) };
                let text = result.content.as_ref().and_then(|content| content.first()?.text.as_deref());
                let text = text.ok_or(Wrong::Echo)?;
                let same = match &sent.echo {
                    Some(expected) => text.as_bytes() == &**expected,
                    None => template.is_text(text),
                };
                if same { Ok(()) } else { Err(Wrong::Echo) }
            }
            Ask::Method("tools/list") if result.tools.is_none() => Err(Wrong::NoResult),
            Ask::Resource { .. } if result.contents.is_none() => Err(Wrong::NoResult),
            _ => Ok(()),
        }
    }
}

/// Why a reply is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Wrong {
    /// Not a 200.
    #[error("status {0}")]
    Status(u16),
    /// Not JSON, or not a JSON-RPC reply.
    #[error("the body is no JSON-RPC reply")]
    NotJson,
    /// Another request's reply.
    #[error("the reply's id is not the request's")]
    Id,
    /// A JSON-RPC error.
    #[error("a JSON-RPC error")]
    Error,
    /// Neither result nor error, or not the result that belongs to the method.
    #[error("the reply has no such result")]
    NoResult,
    /// A result that asks for more.
    #[error("the result is not complete")]
    Incomplete,
    /// The tool says it failed.
    #[error("the tool failed (isError)")]
    ToolError,
    /// Not the text that was sent.
    #[error("the echo is not what was said")]
    Echo,
}

impl Wrong {
    /// Its kind, as results count it.
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
            Self::ToolError => "tool_error",
            Self::Echo => "echo_wrong",
        }
    }
}

/// A reply, as far as it is looked at.
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
        #[allow(dead_code, reason = "an id that is no number of ours is wrong whatever it says")]
        Cow<'a, str>,
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

/// What tells a reply from a notification.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: Option<&'a RawValue>,
}

fn write_session(session: Option<&str>, out: &mut Vec<u8>) {
    if let Some(session) = session {
        out.extend_from_slice(b"Mcp-Session-Id: ");
        out.extend_from_slice(session.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// The notification that ends the handshake, to be written by [`Request::write_notification`].
#[must_use]
pub fn initialized(target: &Target) -> Vec<u8> {
    let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let Target { path, host, headers, .. } = target;
    let version = Era::Legacy.name();
    if target.program().is_some() {
        return format!("{body}\n").into_bytes();
    }
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {version}\r\n\
         {headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Digits of a JSON-RPC id of ours.
const ID_DIGITS: usize = 10;

fn push_ten_digits(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; ID_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Arguments with marks for their holes.
fn marked_object(holes: &mut Holes, ask: &Ask, arguments: &str) -> Result<String, LoadError> {
    let unusable = |reason: String| {
        let shown: String = arguments.chars().take(60).collect();
        LoadError::Usage(format!("the arguments of {}, {shown:?}: {reason}", ask.name()))
    };
    let marked = holes.mark(arguments.trim()).map_err(unusable)?;
    let mut filled = Vec::new();
    let template = Template::of(&marked);
    template.write(&holes.fill(0, &mut StdRng::seed_from_u64(0)), &mut filled);
    match serde_json::from_slice::<Value>(&filled) {
        Ok(Value::Object(_)) => Ok(marked),
        Ok(_) => Err(unusable("not a JSON object".to_owned())),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// `_meta` of a 2026-07-28 request.
#[must_use]
pub fn modern_meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": Era::Modern.name(),
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn client_info() -> Value {
    json!({"name": CLIENT, "version": env!("CARGO_PKG_VERSION")})
}

/// An object's members without its braces.
fn inside(object: &Value) -> String {
    let text = object.to_string();
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(&text).to_owned()
}

/// A name as a header's value: as it is where it may be, in base64 where it may not (SEP-2243 of the specification).
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

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::parse("http://127.0.0.1:8080/mcp").unwrap()
    }

    fn tool(name: &str, arguments: &str, era: Era) -> Request {
        let ask = Ask::Tool { name: name.to_owned(), arguments: arguments.to_owned() };
        Request::new(&target(), era, ask, 1, false).unwrap()
    }

    fn rendered(request: &Request, number: u64) -> (Sent, String, Value) {
        let mut out = Vec::new();
        let sent = request.write(0, number, Some("s1"), &mut StdRng::seed_from_u64(number), &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), body.len());
        (sent, head.to_owned(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_request_says_in_its_headers_what_its_body_says() {
        let (sent, head, body) = rendered(&tool("greet", r#"{"who":"{{random:4}}"}"#, Era::Modern), 3);
        assert_eq!(body["id"], sent.id);
        assert_eq!(body["params"]["name"], "greet");
        assert_eq!(body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        for line in [
            "MCP-Protocol-Version: 2026-07-28",
            "Mcp-Method: tools/call",
            "Mcp-Name: greet",
            "Mcp-Session-Id: s1",
        ] {
            assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
        }
        let (_, head, body) = rendered(&tool("gr\u{fc}\u{df}", "{}", Era::Legacy), 3);
        assert!(!head.contains("Mcp-Name"));
        assert!(body["params"].get("_meta").is_none());
        let (_, head, _) = rendered(&tool("gr\u{fc}", "{}", Era::Modern), 3);
        assert!(head.contains("Mcp-Name: =?base64?Z3LDvA==?="), "{head}");
    }

    #[test]
    fn the_right_reply_is_told_from_every_wrong_one() {
        for arguments in [r#"{"message":"a \"quoted\" text"}"#, r#"{"message":"n {{counter}} {{random:5}}"}"#]
        {
            let request = tool("echo", arguments, Era::Modern);
            let (sent, _, body) = rendered(&request, 9);
            let said = body["params"]["arguments"]["message"].clone();
            let reply = |id: Value, text: Value, error: bool| {
                json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "complete", "isError": error,
                    "content": [{"type": "text", "text": text}]}})
                .to_string()
            };
            let check = |status, body: &str| request.check(&sent, status, body.as_bytes());
            assert_eq!(check(200, &reply(json!(sent.id), said.clone(), false)), Ok(()));
            assert_eq!(check(200, &reply(json!(sent.id + 1), said.clone(), false)), Err(Wrong::Id));
            assert_eq!(check(200, &reply(json!("1"), said.clone(), false)), Err(Wrong::Id));
            assert_eq!(check(200, &reply(json!(sent.id), json!("other"), false)), Err(Wrong::Echo));
            assert_eq!(check(200, &reply(json!(sent.id), said.clone(), true)), Err(Wrong::ToolError));
            assert_eq!(check(503, ""), Err(Wrong::Status(503)));
            assert_eq!(check(200, "ok"), Err(Wrong::NotJson));
            let error = json!({"jsonrpc": "2.0", "id": sent.id, "error": {"code": -32602, "message": "no"}});
            assert_eq!(check(200, &error.to_string()), Err(Wrong::Error));
            let more = json!({"jsonrpc": "2.0", "id": sent.id, "result": {"resultType": "input_required"}});
            assert_eq!(check(200, &more.to_string()), Err(Wrong::Incomplete));
            let nothing = json!({"jsonrpc": "2.0", "id": sent.id, "result": {}});
            assert_eq!(check(200, &nothing.to_string()), Err(Wrong::Echo));
        }
    }

    #[test]
    fn arguments_that_are_no_object_are_refused_in_one_line() {
        for arguments in ["{", "[1]", "{{bogus}}", "hello"] {
            let ask = Ask::Tool { name: "echo".to_owned(), arguments: arguments.to_owned() };
            let error = Request::new(&target(), Era::Modern, ask, 1, false).unwrap_err().to_string();
            assert!(error.contains("echo") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_line_has_no_head_and_no_line_breaks_inside() {
        let target = Target::stdio("server --flag").unwrap();
        let arguments = "{\n \"message\":\r\n \"a\\nb {{counter}}\"}".to_owned();
        let ask = Ask::Tool { name: "echo".to_owned(), arguments };
        let request = Request::new(&target, Era::Modern, ask, 1, false).unwrap();
        let mut out = Vec::new();
        let sent = request.write(0, 5, None, &mut StdRng::seed_from_u64(1), &mut out);
        assert_eq!(out.len(), request.length());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.find(['\n', '\r']), Some(text.len() - 1), "{text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["params"]["arguments"]["message"], "a\nb 1000000005");
        assert_eq!((body["id"].as_u64(), Request::id_of(text.as_bytes())), (Some(sent.id), Some(sent.id)));
        assert_eq!(
            initialized(&target).iter().position(|byte| *byte == b'\n'),
            Some(initialized(&target).len() - 1)
        );
    }

    #[test]
    fn a_handshake_is_a_whole_message() {
        let request = Request::new(&target(), Era::Legacy, Ask::Initialize, 1, false).unwrap();
        let (_, head, body) = rendered(&request, 1);
        assert_eq!(body["params"]["protocolVersion"], "2025-11-25");
        assert!(!head.contains("MCP-Protocol-Version"));
    }
}
