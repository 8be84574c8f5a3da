//! The parameters of a message and its era: the body decides, and the headers are checked against it
//! (<https://modelcontextprotocol.io/specification/2026-07-28/basic/versioning>,
//! <https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#server-validation>).

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::mcp::{
    envelope::client::{Affinity, Client, Transport},
    error::{ErrorKind, RequestError, is_modern_version, supported},
    sessions::{Session, Sessions},
};
use crate::{
    call::{CLIENT_CAPABILITIES, CLIENT_INFO, Capabilities, Headers, Level, Revision},
    http1::Field,
    json::Node,
    jsonrpc::{Id, IdFault, read_id_member},
};

/// `_meta` key that names the revision; its presence makes a request one of the 2026 era.
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// `_meta` key of the minimum level of log messages.
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

const VERSION_REPEATED: &str = "MCP-Protocol-Version is given more than once";

/// The members of `params` and `params._meta` that methods use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Params<'a> {
    pub(crate) meta: Option<Node<'a>>,
    pub(crate) name: Option<Node<'a>>,
    pub(crate) arguments: Option<Node<'a>>,
    pub(crate) cursor: Option<Node<'a>>,
    pub(crate) uri: Option<Node<'a>>,
    pub(crate) input_responses: Option<Node<'a>>,
    pub(crate) request_state: Option<Node<'a>>,
    /// All of `params`, for the members that few methods use.
    whole: Option<Node<'a>>,
    protocol_version: Option<Node<'a>>,
    client_capabilities: Option<Node<'a>>,
    client_info: Option<Node<'a>>,
    log_level: Option<Node<'a>>,
    /// The token for progress notifications, a string or an integer
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/progress>).
    progress_token: Option<Result<Id<'a>, IdFault>>,
}

impl<'a> Params<'a> {
    /// Reads the members of `params` and of its `_meta`, each in one pass.
    pub(crate) fn read(params: Option<Node<'a>>, id_bytes_max: usize) -> Self {
        let mut read = Self { whole: params, ..Self::default() };
        let Some(members) = params.and_then(Node::members) else { return read };
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
        let Some((meta, members)) = read.meta.and_then(|meta| Some((meta, meta.members()?))) else {
            return read;
        };
        for (key, value) in members {
            let slot = match key {
                PROTOCOL_VERSION => &mut read.protocol_version,
                CLIENT_CAPABILITIES => &mut read.client_capabilities,
                CLIENT_INFO => &mut read.client_info,
                LOG_LEVEL => &mut read.log_level,
                "progressToken" => {
                    read.progress_token = read_id_member(meta, key, id_bytes_max).transpose();
                    continue;
                }
                _ => continue,
            };
            *slot = Some(value);
        }
        read
    }

    /// A member by its name.
    pub(crate) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.whole?.get(key)
    }

    /// The same parameters without `inputResponses` and `requestState`, for methods that cannot return `input_required`.
    pub(crate) fn without_input(&self) -> Self {
        Self { input_responses: None, request_state: None, ..*self }
    }

    /// Validates the required members of `_meta` and returns the version that `claim` contains
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic#meta>).
    fn validate(&self, claim: Node<'a>) -> Result<&'a str, RequestError> {
        let invalid = |message: &'static str| RequestError::new(ErrorKind::InvalidParams, message);
        let claim = claim
            .as_str()
            .ok_or_else(|| invalid("_meta io.modelcontextprotocol/protocolVersion must be a string"))?;
        if !self.client_capabilities.is_some_and(Node::is_object) {
            return Err(invalid("_meta io.modelcontextprotocol/clientCapabilities must be an object"));
        }
        let is_text = |info: Node<'_>, key| info.get(key).is_some_and(|value| value.as_str().is_some());
        // `null` counts as absent. It is checked last because clients rarely send it.
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
}

/// Decides the era of a request and reads its client. In the 2026 era, checks the headers against the body.
pub(crate) fn client<'a>(
    transport: Transport<'_>,
    sessions: &mut Sessions,
    now: u64,
    method: &str,
    params: &Params<'a>,
) -> Result<Client<'a>, RequestError> {
    let mut legacy = || legacy(transport, sessions, now, method, params);
    let Some(claim) = params.protocol_version else { return legacy() };
    // `initialize` does not exist in the 2026 era: unless its envelope is valid, it is a legacy handshake.
    let claim = match params.validate(claim) {
        Err(_) if method == "initialize" => return legacy(),
        Ok(claim) if method == "initialize" && !is_modern_version(claim.as_bytes()) => return legacy(),
        claim => claim?,
    };
    // JSON lines have no headers (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/stdio>).
    let headers = transport.headers();
    let version = headers.map(|headers| headers.head.protocol_version(headers.bytes));
    let called = headers.map(|headers| headers.head.mcp_method(headers.bytes));
    // Order of precedence: contradiction of the body, unsupported version, missing header.
    match version {
        Some(Field::Repeated) => return Err(mismatch(VERSION_REPEATED)),
        Some(Field::Value(version)) if version != claim.as_bytes() => {
            return Err(mismatch("MCP-Protocol-Version header does not match _meta"));
        }
        _ => {}
    }
    if called.is_some_and(|called| called != Field::Absent && called != Field::Value(method.as_bytes())) {
        return Err(mismatch("Mcp-Method header does not match method"));
    }
    let supported = Revision::parse(claim.as_bytes()).filter(|revision| revision.is_modern());
    let revision = supported.ok_or_else(|| RequestError::unsupported(claim))?;
    if version == Some(Field::Absent) {
        return Err(mismatch("MCP-Protocol-Version header is missing"));
    }
    if called == Some(Field::Absent) {
        return Err(mismatch("Mcp-Method header is missing"));
    }
    // The parameter that the `Mcp-Name` header repeats
    // (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http>).
    let name = match method {
        "tools/call" | "prompts/get" => params.name,
        "resources/read" => params.uri,
        "tasks/get" | "tasks/update" | "tasks/cancel" => params.get("taskId"),
        _ => None,
    };
    // The method reports a missing parameter.
    if let (Some(headers), Some(name)) = (headers, name.and_then(Node::as_str)) {
        expect(headers.head.mcp_name(headers.bytes), "Mcp-Name", |value| value == name.as_bytes())?;
    }
    let capabilities = params.client_capabilities;
    Ok(Client {
        revision,
        capabilities: capabilities.map(Capabilities::read).unwrap_or_default(),
        affinity: Affinity::None,
        level: params.log_level.and_then(Node::as_str).and_then(Level::parse),
        progress_token: params.progress_token.transpose().map_err(invalid_progress_token)?,
        extensions: capabilities.and_then(|capabilities| capabilities.get("extensions")),
    })
}

fn invalid_progress_token(fault: IdFault) -> RequestError {
    let message = match fault {
        IdFault::Kind | IdFault::Range => "_meta progressToken must be a string or an integer of 64 bits",
        IdFault::Long => "_meta progressToken has more bytes than limits.id_bytes_max",
    };
    RequestError::new(ErrorKind::InvalidMethodParams, message)
}

/// Checks the version header of a notification; the other standard headers are required of requests only
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#sending-messages>).
pub(crate) fn check_notification(transport: Transport<'_>) -> Result<(), RequestError> {
    let Transport::Http(headers) = transport else { return Ok(()) };
    match version_header(headers)? {
        Some(version) if Revision::parse(version).is_none() => Err(unsupported_legacy(version)),
        _ => Ok(()),
    }
}

/// The revision of the version header: `None` without the header, `Some(None)` if the version is unsupported.
pub(crate) fn version(headers: Headers<'_>) -> Option<Option<Revision>> {
    match headers.head.protocol_version(headers.bytes) {
        Field::Absent => None,
        Field::Value(version) => Some(Revision::parse(version)),
        Field::Repeated => Some(None),
    }
}

fn version_header(headers: Headers<'_>) -> Result<Option<&[u8]>, RequestError> {
    match headers.head.protocol_version(headers.bytes) {
        Field::Value(value) => Ok(Some(value)),
        Field::Absent => Ok(None),
        Field::Repeated => Err(mismatch(VERSION_REPEATED)),
    }
}

fn legacy<'a>(
    transport: Transport<'_>,
    sessions: &mut Sessions,
    now: u64,
    method: &str,
    params: &Params<'a>,
) -> Result<Client<'a>, RequestError> {
    let mut client = match transport {
        Transport::Http(headers) => legacy_by_headers(headers, sessions, now, method)?,
        Transport::JsonLines(Some(handshake)) => Client {
            capabilities: handshake.capabilities,
            affinity: Affinity::Connection,
            level: handshake.level,
            ..Client::legacy(handshake.revision)
        },
        Transport::JsonLines(None) if matches!(method, "initialize" | "ping") => {
            Client { affinity: Affinity::Connection, ..Client::legacy(Revision::LATEST_LEGACY) }
        }
        // <https://modelcontextprotocol.io/specification/2025-11-25/basic/lifecycle#initialization>
        Transport::JsonLines(None) => {
            return Err(RequestError::new(ErrorKind::InvalidRequest, "initialize must come first"));
        }
    };
    client.progress_token = params.progress_token.transpose().map_err(invalid_progress_token)?;
    Ok(client)
}

fn legacy_by_headers<'a>(
    headers: Headers<'_>,
    sessions: &mut Sessions,
    now: u64,
    method: &str,
) -> Result<Client<'a>, RequestError> {
    // The handshake negotiates in its body; its headers are ignored.
    if method == "initialize" {
        return Ok(Client::legacy(Revision::LATEST_LEGACY));
    }
    let version = version_header(headers)?;
    let named = version.map(Revision::parse);
    let is_modern = match named {
        Some(Some(revision)) => revision.is_modern(),
        Some(None) | None => version.is_some_and(is_modern_version),
    };
    match version {
        _ if is_modern => {
            return Err(RequestError::new(
                ErrorKind::InvalidParams,
                format!("params._meta must have {PROTOCOL_VERSION} and {CLIENT_CAPABILITIES}"),
            ));
        }
        _ => {}
    }
    let named = match (version, named) {
        (Some(version), Some(None)) => return Err(unsupported_legacy(version)),
        (_, named) => named.flatten().unwrap_or(Revision::ASSUMED),
    };
    match session(headers, sessions, now)? {
        None => Ok(Client::legacy(named)),
        // The negotiated revision applies, although the header may name another supported one
        // (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#protocol-version-header>).
        Some(session) => Ok(Client {
            capabilities: session.capabilities,
            affinity: Affinity::Session(session),
            level: sessions.level(session.key),
            ..Client::legacy(session.revision)
        }),
    }
}

/// The session of a request; `None` if the request names none.
pub(crate) fn session(
    headers: Headers<'_>,
    sessions: &mut Sessions,
    now: u64,
) -> Result<Option<Session>, RequestError> {
    match headers.head.mcp_session_id(headers.bytes) {
        Field::Absent => Ok(None),
        Field::Value(id) => {
            let unknown = || RequestError::new(ErrorKind::UnknownSession, "Session not found");
            sessions.verify(id, now).map(Some).ok_or_else(unknown)
        }
        Field::Repeated => {
            Err(RequestError::new(ErrorKind::InvalidRequest, "Mcp-Session-Id is given more than once"))
        }
    }
}

/// The error for an unsupported version in a legacy request. The legacy era has no error code for it, so the message lists the
/// supported versions, as in the official SDKs.
fn unsupported_legacy(version: &[u8]) -> RequestError {
    let version = String::from_utf8_lossy(version.get(..VERSION_BYTES_MAX).unwrap_or(version));
    let supported = supported().join(", ");
    let message =
        format!("Bad Request: Unsupported protocol version: {version} (supported versions: {supported})");
    RequestError::new(ErrorKind::UnknownLegacyVersion, message)
}

/// Maximum length of a client's version in an error message, in bytes.
const VERSION_BYTES_MAX: usize = 64;

fn mismatch(message: impl Into<Cow<'static, str>>) -> RequestError {
    RequestError::new(ErrorKind::HeaderMismatch, message)
}

/// Checks a header that repeats a part of the body, literally or as `=?base64?…?=`
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#value-encoding>).
pub(crate) fn expect(
    header: Field<'_>,
    name: &str,
    equals: impl FnOnce(&[u8]) -> bool,
) -> Result<(), RequestError> {
    let value = match header {
        Field::Absent => return Err(mismatch(format!("{name} header is missing"))),
        Field::Repeated => return Err(mismatch(format!("{name} header is given more than once"))),
        Field::Value(value) => value,
    };
    let encoded = value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?="));
    let (is_equal, is_well_formed) = match encoded.map(|encoded| BASE64_STANDARD.decode(encoded)) {
        Some(Ok(bytes)) => (equals(&bytes), std::str::from_utf8(&bytes).is_ok()),
        Some(Err(_)) => (false, false),
        None => (equals(value), value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))),
    };
    match (is_well_formed, is_equal) {
        (true, true) => Ok(()),
        (true, false) => Err(mismatch(format!("{name} header does not match the body"))),
        (false, _) => Err(mismatch(format!("{name} header is malformed"))),
    }
}
