//! Which era a message belongs to: the body decides, the headers are cross-checked (checklist, section 2).

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    outcome::Refused,
    sessions::{Session, Sessions},
};
use crate::{
    http::{Field, RequestHead},
    json::Node,
    jsonrpc::{Id, IdFault, read_id_member},
    registry::{Capabilities, Level, Revision},
};

/// `_meta` key that names the revision; its presence makes a request one of the 2026 era.
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// How a message came.
#[derive(Clone, Copy, Debug)]
pub enum Transport<'a> {
    /// As a request's body.
    Http(Headers<'a>),
    /// As a line; the handshake that came before on the same connection, if one did (checklist S-06b).
    Line(Option<Handshake>),
}

/// What a handshake on a connection agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The revision.
    pub revision: Revision,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// The least severe log messages it wants.
    pub level: Option<Level>,
}

/// The headers a message is cross-checked with: the head it came with.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// The parsed head.
    pub head: &'a RequestHead,
    /// The bytes it was parsed from.
    pub bytes: &'a [u8],
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

    fn unsupported(requested: &str) -> Self {
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

fn supported() -> Vec<&'static str> {
    Revision::ALL.iter().rev().map(|revision| revision.as_str()).collect()
}

/// Who asks, once the era is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    pub(super) revision: Revision,
    pub(super) capabilities: Capabilities,
    pub(super) tie: Tie,
    pub(super) level: Option<Level>,
    /// What progress is reported under.
    pub(super) progress_token: Option<Id<'a>>,
    /// The extensions it declared.
    pub(super) extensions: Option<Node<'a>>,
}

/// What ties a request to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Nothing: it is served by itself.
    None,
    /// A legacy session.
    Session(Session),
    /// The connection it came on, a line's.
    Connection,
}

impl Client<'_> {
    /// A legacy client that nothing more is known of.
    fn legacy(revision: Revision) -> Self {
        Self {
            revision,
            capabilities: Capabilities::default(),
            tie: Tie::None,
            level: None,
            progress_token: None,
            extensions: None,
        }
    }
}

/// The members of `params` this server reads, found in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Params<'a> {
    pub(super) meta: Option<Node<'a>>,
    pub(super) name: Option<Node<'a>>,
    pub(super) arguments: Option<Node<'a>>,
    pub(super) cursor: Option<Node<'a>>,
    pub(super) uri: Option<Node<'a>>,
    pub(super) input_responses: Option<Node<'a>>,
    pub(super) request_state: Option<Node<'a>>,
    /// All of them, for what few methods read.
    whole: Option<Node<'a>>,
}

impl<'a> Params<'a> {
    pub(super) fn read(params: Option<Node<'a>>) -> Self {
        let mut read = Self { whole: params, ..Self::default() };
        let Some(members) = params.and_then(Node::members) else {
            return read;
        };
        for (key, value) in members {
            let slot = match key {
                "_meta" => &mut read.meta,
                "name" => &mut read.name,
                "arguments" => &mut read.arguments,
                "cursor" => &mut read.cursor,
                "uri" => &mut read.uri,
                "inputResponses" => &mut read.input_responses,
                "requestState" => &mut read.request_state,
                _ => continue,
            };
            *slot = Some(value);
        }
        read
    }

    /// Any of them by its name.
    pub(super) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.whole?.get(key)
    }
}

/// What `_meta` says of the request, before any of it is believed.
#[derive(Clone, Copy, Debug, Default)]
struct Envelope<'a> {
    /// All of it.
    whole: Option<Node<'a>>,
    protocol_version: Option<Node<'a>>,
    client_capabilities: Option<Node<'a>>,
    client_info: Option<Node<'a>>,
    log_level: Option<Node<'a>>,
    progress_token: Option<Node<'a>>,
}

impl<'a> Envelope<'a> {
    fn read(meta: Option<Node<'a>>) -> Self {
        let mut read = Self { whole: meta, ..Self::default() };
        let Some(members) = meta.and_then(Node::members) else {
            return read;
        };
        for (key, value) in members {
            let slot = match key {
                PROTOCOL_VERSION => &mut read.protocol_version,
                CLIENT_CAPABILITIES => &mut read.client_capabilities,
                CLIENT_INFO => &mut read.client_info,
                LOG_LEVEL => &mut read.log_level,
                "progressToken" => &mut read.progress_token,
                _ => continue,
            };
            *slot = Some(value);
        }
        read
    }

    /// The revision claimed, once the rest of the envelope is as it must be (checklist M-04 to M-06).
    fn validate(&self, claim: Node<'a>) -> Result<&'a str, Refusal> {
        let invalid = |message: &'static str| Refusal::new(Refused::InvalidParams, message);
        let claim = claim
            .as_str()
            .ok_or_else(|| invalid("_meta io.modelcontextprotocol/protocolVersion must be a string"))?;
        if !self.client_capabilities.is_some_and(Node::is_object) {
            return Err(invalid("_meta io.modelcontextprotocol/clientCapabilities must be an object"));
        }
        let is_text = |info: Node<'_>, key| info.get(key).is_some_and(|value| value.as_str().is_some());
        // What is null is absent: looked at last, for nobody sends it.
        if self
            .client_info
            .is_some_and(|info| (!is_text(info, "name") || !is_text(info, "version")) && !info.is_null())
        {
            return Err(invalid("_meta io.modelcontextprotocol/clientInfo must have name and version"));
        }
        if self
            .log_level
            .is_some_and(|level| level.as_str().and_then(Level::parse).is_none() && !level.is_null())
        {
            return Err(invalid("_meta io.modelcontextprotocol/logLevel is not a log level"));
        }
        Ok(claim)
    }

    /// The token, which must be a text or an integer (checklist B-02, M-90).
    fn progress_token(&self, bytes_max: usize) -> Result<Option<Id<'a>>, Refusal> {
        let (Some(_), Some(whole)) = (self.progress_token, self.whole) else { return Ok(None) };
        read_id_member(whole, "progressToken", bytes_max).map_err(|fault| {
            let told = match fault {
                IdFault::Kind | IdFault::Range => {
                    "_meta progressToken must be a string or an integer of 64 bits"
                }
                IdFault::Long => "_meta progressToken has more bytes than limits.id_bytes_max",
            };
            Refusal::new(Refused::InvalidMethodParams, told)
        })
    }
}

/// The body parameter that the Mcp-Name header must repeat, for the methods that have one (checklist, section 0.3).
fn named_by<'a>(method: &str, params: &Params<'a>) -> Option<Option<&'a str>> {
    match method {
        "tools/call" | "prompts/get" => Some(params.name.and_then(Node::as_str)),
        "resources/read" => Some(params.uri.and_then(Node::as_str)),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some(params.get("taskId").and_then(Node::as_str)),
        _ => None,
    }
}

/// Decides who asks (rungs 5 to 7 of the ladder).
pub(super) fn client<'a>(
    transport: Transport<'_>,
    sessions: &mut Sessions,
    now: u64,
    method: &str,
    params: &Params<'a>,
    id_bytes_max: usize,
) -> Result<Client<'a>, Refusal> {
    let envelope = Envelope::read(params.meta);
    let mut legacy = || legacy(transport, sessions, now, method, &envelope, id_bytes_max);
    let Some(claim) = envelope.protocol_version else {
        return legacy();
    };
    // A handshake never reaches the modern era: without a claim that is right in all parts it is a legacy one.
    let claim = match envelope.validate(claim) {
        Err(_) if method == "initialize" => return legacy(),
        Ok(claim) if method == "initialize" && !names_modern(claim.as_bytes()) => return legacy(),
        claim => claim?,
    };
    let known = Revision::parse(claim.as_bytes()).filter(|revision| revision.is_modern());
    let revision = match transport {
        // No layer of headers there (checklist S-05).
        Transport::Line(_) => known.ok_or_else(|| Refusal::unsupported(claim))?,
        Transport::Http(headers) => cross_check(headers, claim, known, method, params)?,
    };
    let capabilities = envelope.client_capabilities;
    let level = envelope.log_level.and_then(Node::as_str).and_then(Level::parse);
    Ok(Client {
        revision,
        capabilities: capabilities.map(Capabilities::read).unwrap_or_default(),
        tie: Tie::None,
        level,
        progress_token: envelope.progress_token(id_bytes_max)?,
        extensions: capabilities.and_then(|capabilities| capabilities.get("extensions")),
    })
}

/// Holds the headers against the body.
fn cross_check(
    headers: Headers<'_>,
    claim: &str,
    known: Option<Revision>,
    method: &str,
    params: &Params<'_>,
) -> Result<Revision, Refusal> {
    let version = version_header(headers)?;
    let called = headers.head.mcp_method(headers.bytes);
    // What contradicts the body is worse than a revision nobody knows, and that is worse than what is missing.
    if version.is_some_and(|version| version != claim.as_bytes()) {
        return Err(mismatch("MCP-Protocol-Version header does not match _meta"));
    }
    if !matches!(called, Field::Absent) && called != Field::Value(method.as_bytes()) {
        return Err(mismatch("Mcp-Method header does not match method"));
    }
    let revision = known.ok_or_else(|| Refusal::unsupported(claim))?;
    if version.is_none() {
        return Err(mismatch("MCP-Protocol-Version header is missing"));
    }
    if called == Field::Absent {
        return Err(mismatch("Mcp-Method header is missing"));
    }
    // A body without the parameter is a worse fault, told by the method itself.
    if let Some(Some(name)) = named_by(method, params) {
        let header = headers.head.mcp_name(headers.bytes);
        expect(header, "Mcp-Name", |value| value == name.as_bytes())?;
    }
    Ok(revision)
}

/// Checks what is known of a notification: nothing but its version, for no header is defined for one (checklist H-02).
pub(super) fn notified(transport: Transport<'_>) -> Result<(), Refusal> {
    let Transport::Http(headers) = transport else { return Ok(()) };
    match version_header(headers)? {
        Some(version) if Revision::parse(version).is_none() => Err(unknown(version)),
        _ => Ok(()),
    }
}

/// The revision the header names, if it names one this server knows; `None` without the header.
pub(super) fn version(headers: Headers<'_>) -> Option<Option<Revision>> {
    match headers.head.protocol_version(headers.bytes) {
        Field::Absent => None,
        Field::Value(version) => Some(Revision::parse(version)),
        Field::Repeated => Some(None),
    }
}

fn version_header(headers: Headers<'_>) -> Result<Option<&[u8]>, Refusal> {
    match headers.head.protocol_version(headers.bytes) {
        Field::Value(value) => Ok(Some(value)),
        Field::Absent => Ok(None),
        Field::Repeated => Err(mismatch("MCP-Protocol-Version is given more than once")),
    }
}

/// Whether a version is 2026-07-28 or later, known or not: dates compare as text. What is no date is no revision.
fn names_modern(version: &[u8]) -> bool {
    version >= Revision::V2026_07_28.as_str().as_bytes() && is_date(version)
}

/// `YYYY-MM-DD`, with a month and a day that can be.
fn is_date(version: &[u8]) -> bool {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = version else { return false };
    let is_digits = [y0, y1, y2, y3, m0, m1, d0, d1].iter().all(u8::is_ascii_digit);
    is_digits && (b"01"..=b"12").contains(&&[m0, m1]) && (b"01"..=b"31").contains(&&[d0, d1])
}

fn legacy<'a>(
    transport: Transport<'_>,
    sessions: &mut Sessions,
    now: u64,
    method: &str,
    envelope: &Envelope<'a>,
    id_bytes_max: usize,
) -> Result<Client<'a>, Refusal> {
    let mut client = match transport {
        Transport::Http(headers) => legacy_by_headers(headers, sessions, now, method)?,
        Transport::Line(Some(handshake)) => Client {
            capabilities: handshake.capabilities,
            tie: Tie::Connection,
            level: handshake.level,
            ..Client::legacy(handshake.revision)
        },
        Transport::Line(None) if matches!(method, "initialize" | "ping") => {
            Client { tie: Tie::Connection, ..Client::legacy(Revision::LATEST_LEGACY) }
        }
        // Checklist L-02.
        Transport::Line(None) => {
            return Err(Refusal::new(Refused::InvalidRequest, "initialize must come first"));
        }
    };
    client.progress_token = envelope.progress_token(id_bytes_max)?;
    Ok(client)
}

fn legacy_by_headers<'a>(
    headers: Headers<'_>,
    sessions: &mut Sessions,
    now: u64,
    method: &str,
) -> Result<Client<'a>, Refusal> {
    // The handshake negotiates by its body; its headers, if there, are ignored.
    if method == "initialize" {
        return Ok(Client::legacy(Revision::LATEST_LEGACY));
    }
    let version = version_header(headers)?;
    let named = version.map(Revision::parse);
    let is_modern = match named {
        Some(Some(revision)) => revision.is_modern(),
        Some(None) | None => version.is_some_and(names_modern),
    };
    match version {
        _ if is_modern => {
            return Err(Refusal::new(
                Refused::InvalidParams,
                format!("params._meta must have {PROTOCOL_VERSION} and {CLIENT_CAPABILITIES}"),
            ));
        }
        _ => {}
    }
    let named = match (version, named) {
        (Some(version), Some(None)) => return Err(unknown(version)),
        (_, named) => named.flatten().unwrap_or(Revision::ASSUMED),
    };
    match session(headers, sessions, now)? {
        None => Ok(Client::legacy(named)),
        // What was agreed on holds, whatever known revision the header names (checklist V-06).
        Some(session) => Ok(Client {
            capabilities: session.capabilities,
            tie: Tie::Session(session),
            level: sessions.level(session.key),
            ..Client::legacy(session.revision)
        }),
    }
}

/// The session a request names.
pub(super) fn session(
    headers: Headers<'_>,
    sessions: &mut Sessions,
    now: u64,
) -> Result<Option<Session>, Refusal> {
    match headers.head.mcp_session_id(headers.bytes) {
        Field::Absent => Ok(None),
        Field::Value(id) => {
            let unknown = || Refusal::new(Refused::UnknownSession, "Session not found");
            sessions.verify(id, now).map(Some).ok_or_else(unknown)
        }
        Field::Repeated => {
            Err(Refusal::new(Refused::InvalidRequest, "Mcp-Session-Id is given more than once"))
        }
    }
}

/// A client of the legacy era knows no code for this, so the message says everything, as the official SDKs' does.
fn unknown(version: &[u8]) -> Refusal {
    let version = String::from_utf8_lossy(version.get(..VERSION_BYTES_TOLD).unwrap_or(version));
    let supported = supported().join(", ");
    let told =
        format!("Bad Request: Unsupported protocol version: {version} (supported versions: {supported})");
    Refusal::new(Refused::UnknownLegacyVersion, told)
}

/// No more of what a client sent than this is sent back, in bytes.
const VERSION_BYTES_TOLD: usize = 64;

fn mismatch(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Refused::HeaderMismatch, message)
}

/// Checks a header that repeats a part of the body, perhaps as `=?base64?…?=` (checklist H-20 to H-23).
pub(super) fn expect(header: Field<'_>, name: &str, fits: impl FnOnce(&[u8]) -> bool) -> Result<(), Refusal> {
    match header {
        Field::Absent => Err(mismatch(format!("{name} header is missing"))),
        Field::Repeated => Err(mismatch(format!("{name} header is given more than once"))),
        Field::Value(value) => match decode(value) {
            None => Err(mismatch(format!("{name} header is malformed"))),
            Some(decoded) if fits(&decoded) => Ok(()),
            Some(_) => Err(mismatch(format!("{name} header does not match the body"))),
        },
    }
}

/// Undoes `=?base64?…?=`; anything else is taken literally.
fn decode(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let encoded = value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?="));
    match encoded {
        Some(encoded) => {
            let bytes = BASE64_STANDARD.decode(encoded).ok()?;
            std::str::from_utf8(&bytes).is_ok().then_some(Cow::Owned(bytes))
        }
        None => value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')).then_some(Cow::Borrowed(value)),
    }
}
