//! Which era a message belongs to: the body decides, the headers are cross-checked (checklist, section 2).

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{http::Field, json::Node, jsonrpc::ErrorCode, registry::Revision};

/// `_meta` key that names the revision; its presence makes a request one of the 2026 era.
const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// The headers a message is cross-checked with.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// MCP-Protocol-Version
    pub protocol_version: Field<'a>,
    /// Mcp-Method
    pub method: Field<'a>,
    /// Mcp-Name
    pub name: Field<'a>,
}

/// Why a message is refused before its method is looked at.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: Cow<'static, str>,
    /// JSON.
    pub(super) data: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    fn unsupported(requested: &str) -> Self {
        let supported: Vec<_> = Revision::ALL.iter().rev().map(|revision| revision.as_str()).collect();
        let data = serde_json::json!({"supported": supported, "requested": requested});
        Self {
            code: ErrorCode::UnsupportedProtocolVersion,
            message: "Unsupported protocol version".into(),
            data: Some(data.to_string()),
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
    pub(super) protocol_version: Option<Node<'a>>,
}

impl<'a> Params<'a> {
    pub(super) fn read(params: Option<Node<'a>>) -> Self {
        let mut read = Self::default();
        let Some(members) = params.and_then(Node::members) else {
            return read;
        };
        for (key, value) in members {
            let slot = match key {
                "_meta" => &mut read.meta,
                "name" => &mut read.name,
                "arguments" => &mut read.arguments,
                "cursor" => &mut read.cursor,
                "protocolVersion" => &mut read.protocol_version,
                _ => continue,
            };
            *slot = Some(value);
        }
        read
    }
}

/// What `_meta` says of the request, before any of it is believed.
#[derive(Clone, Copy, Debug, Default)]
struct Envelope<'a> {
    protocol_version: Option<Node<'a>>,
    client_capabilities: Option<Node<'a>>,
    client_info: Option<Node<'a>>,
    log_level: Option<Node<'a>>,
}

impl<'a> Envelope<'a> {
    fn read(meta: Option<Node<'a>>) -> Self {
        let mut read = Self::default();
        let Some(members) = meta.and_then(Node::members) else {
            return read;
        };
        for (key, value) in members {
            let slot = match key {
                PROTOCOL_VERSION => &mut read.protocol_version,
                CLIENT_CAPABILITIES => &mut read.client_capabilities,
                CLIENT_INFO => &mut read.client_info,
                LOG_LEVEL => &mut read.log_level,
                _ => continue,
            };
            *slot = Some(value);
        }
        read
    }

    /// The revision claimed, once the rest of the envelope is as it must be (checklist M-04 to M-06).
    fn validate(&self, claim: Node<'a>) -> Result<&'a str, Refusal> {
        let invalid = |message: &'static str| Refusal::new(ErrorCode::InvalidParams, message);
        let claim = claim
            .as_str()
            .ok_or_else(|| invalid("_meta io.modelcontextprotocol/protocolVersion must be a string"))?;
        if !self.client_capabilities.is_some_and(Node::is_object) {
            return Err(invalid("_meta io.modelcontextprotocol/clientCapabilities must be an object"));
        }
        let is_text = |info: Node<'_>, key| info.get(key).is_some_and(|value| value.as_str().is_some());
        if self.client_info.is_some_and(|info| !is_text(info, "name") || !is_text(info, "version")) {
            return Err(invalid("_meta io.modelcontextprotocol/clientInfo must have name and version"));
        }
        const LEVELS: [&str; 8] =
            ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
        if self.log_level.is_some_and(|level| !level.as_str().is_some_and(|level| LEVELS.contains(&level))) {
            return Err(invalid("_meta io.modelcontextprotocol/logLevel is not a log level"));
        }
        Ok(claim)
    }
}

/// The body parameter the Mcp-Name header must repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameHeader<'a> {
    /// The method has none.
    NotUsed,
    /// The parameter; `None` if the body lacks it or it is not a string.
    Expected(Option<&'a str>),
}

/// Decides the revision of a request (rungs 5 to 7 of the ladder).
pub(super) fn revision(
    headers: &Headers<'_>,
    method: &str,
    params: &Params<'_>,
    name: NameHeader<'_>,
) -> Result<Revision, Refusal> {
    let envelope = Envelope::read(params.meta);
    let header = match headers.protocol_version {
        Field::Value(value) => Some(value),
        Field::Absent => None,
        Field::Repeated => return Err(mismatch("MCP-Protocol-Version is given more than once")),
    };
    let header_revision = header.map(Revision::parse);
    let is_modern_header = header.is_some_and(names_modern);
    let Some(claim) = envelope.protocol_version else {
        return legacy(method, header, header_revision, is_modern_header);
    };
    // A handshake never reaches the modern era: without a claim that is right in all parts it is a legacy one.
    let claim = match envelope.validate(claim) {
        Err(_) if method == "initialize" => return legacy(method, header, header_revision, is_modern_header),
        Ok(claim) if method == "initialize" && !names_modern(claim.as_bytes()) => {
            return legacy(method, header, header_revision, is_modern_header);
        }
        claim => claim?,
    };
    if header != Some(claim.as_bytes()) {
        return Err(mismatch("MCP-Protocol-Version header does not match _meta"));
    }
    if headers.method != Field::Value(method.as_bytes()) {
        return Err(mismatch("Mcp-Method header does not match method"));
    }
    let revision = Revision::parse(claim.as_bytes())
        .filter(|revision| revision.is_modern())
        .ok_or_else(|| Refusal::unsupported(claim))?;
    if let NameHeader::Expected(name) = name {
        check_name(headers.name, name)?;
    }
    Ok(revision)
}

/// Whether a version is 2026-07-28 or later, known or not: dates compare as text.
fn names_modern(version: &[u8]) -> bool {
    version >= Revision::V2026_07_28.as_str().as_bytes()
}

fn legacy(
    method: &str,
    header: Option<&[u8]>,
    revision: Option<Option<Revision>>,
    is_modern_header: bool,
) -> Result<Revision, Refusal> {
    match revision {
        _ if is_modern_header && method == "initialize" => {
            Err(mismatch("initialize is not part of the revision that MCP-Protocol-Version names"))
        }
        _ if is_modern_header => Err(Refusal::new(
            ErrorCode::InvalidParams,
            format!("params._meta must have {PROTOCOL_VERSION} and {CLIENT_CAPABILITIES}"),
        )),
        // The handshake negotiates by its body; its header, if there, is not looked at.
        _ if method == "initialize" => Ok(Revision::LATEST_LEGACY),
        Some(Some(revision)) => Ok(revision),
        Some(None) => Err(Refusal::unsupported(&String::from_utf8_lossy(header.unwrap_or_default()))),
        None => Ok(Revision::ASSUMED),
    }
}

fn mismatch(message: &'static str) -> Refusal {
    Refusal::new(ErrorCode::HeaderMismatch, message)
}

/// Checklist H-20 to H-22.
fn check_name(header: Field<'_>, name: Option<&str>) -> Result<(), Refusal> {
    // A body without the parameter is a worse fault, told by the method itself.
    let Some(name) = name else { return Ok(()) };
    let Field::Value(value) = header else {
        return Err(mismatch("Mcp-Name header must be given once"));
    };
    let decoded = decode(value).ok_or_else(|| mismatch("Mcp-Name header is malformed"))?;
    if name.as_bytes() == &*decoded {
        Ok(())
    } else {
        Err(mismatch("Mcp-Name header does not match the body"))
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
