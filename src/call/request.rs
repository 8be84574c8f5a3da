//! The request of a call: borrowed while its bytes are valid, and the parts that outlive them.

use std::{borrow::Cow, sync::Arc, time::Instant};

use corelane_ring::PeerAddress;
use serde::Deserialize;
use serde_json::Value;

use super::{capability::Capabilities, headers::Headers, revision::Revision};
use crate::{
    http1::Field,
    json::Node,
    jsonrpc::{Id, OwnedId},
};

/// `_meta` member that describes the client program
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic#meta>).
pub(crate) const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// `_meta` member with the capabilities of the client.
pub(crate) const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// The header that names a session, before 2026-07-28.
const SESSION_ID: &str = "mcp-session-id";

/// Maximum number of bytes that one call copies of its request's headers and `_meta`: names and values, with 32 bytes for each
/// JSON value in addition to its text. Fixed while the server runs.
pub const REQUEST_COPY_BYTES_MAX: usize = 4096;

/// Bytes counted for a JSON value in addition to its text.
const VALUE_BYTES: usize = 32;

/// The protocol revision and the capabilities of the client that calls, and the shard that runs the call.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The protocol revision of the request.
    pub revision: Revision,
    /// The capabilities that the client declared, with this request or in the handshake of its session.
    pub capabilities: Capabilities,
    /// The shard that received the call.
    pub shard: usize,
}

/// The client program, as it describes itself in `_meta` (`io.modelcontextprotocol/clientInfo`). Nothing of it is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientInfo<'a> {
    /// The program's name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The name for people.
    pub title: Option<&'a str>,
}

/// The request of a call: built once by dispatch, passed by reference, without an allocation.
///
/// The authenticated principal, the flags that apply to the request and its stage marks become fields here as soon as something
/// reads them: borrowed or `Copy`, so that a request that does not use them pays nothing.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// The client.
    pub caller: Caller,
    /// The declared name of the callable: see [`Callable::name`](super::Callable::name).
    pub target: &'a Arc<str>,
    /// The id of the request.
    pub id: Id<'a>,
    /// The head of the HTTP request; `None` on a newline-delimited connection.
    pub headers: Option<Headers<'a>>,
    /// `params._meta`.
    pub meta: Option<Node<'a>>,
    /// The address of the peer; `None` if it has none.
    pub peer: Option<PeerAddress>,
    /// Start of the turn that received the request.
    pub received: Instant,
}

impl<'a> RequestContext<'a> {
    /// The value of a header: see [`Headers::get`].
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        self.headers?.get(name)
    }

    /// The id of the legacy session, as the client sent it.
    #[must_use]
    pub fn session_id(&self) -> Option<&'a str> {
        let Headers { head, bytes } = self.headers.filter(|_| !self.caller.revision.is_modern())?;
        match head.mcp_session_id(bytes) {
            Field::Value(id) => std::str::from_utf8(id).ok(),
            Field::Absent | Field::Repeated => None,
        }
    }

    /// A member of `_meta`.
    #[must_use]
    pub fn meta(&self, key: &str) -> Option<Node<'a>> {
        self.meta?.get(key)
    }

    /// The client program, if the request describes it.
    #[must_use]
    pub fn client(&self) -> Option<ClientInfo<'a>> {
        let info = self.meta(CLIENT_INFO)?;
        let text = |key| info.get(key).and_then(Node::as_str);
        Some(ClientInfo { name: text("name")?, version: text("version")?, title: text("title") })
    }

    /// The settings of an extension that the request declares.
    #[must_use]
    pub fn extension(&self, id: &str) -> Option<Node<'a>> {
        let capabilities = self.meta(CLIENT_CAPABILITIES).filter(|_| self.caller.revision.is_modern())?;
        capabilities.get("extensions")?.get(id)
    }

    /// Copies the parts that a call needs after the request's bytes are gone: those in `reads`.
    ///
    /// # Errors
    /// If they have more than [`REQUEST_COPY_BYTES_MAX`] bytes.
    pub fn to_owned(&self, reads: Option<&Arc<DeclaredReads>>) -> Result<OwnedRequest, CopyTooLarge> {
        let fields = reads.map(|reads| CopiedFields::copy(self, reads).map(Arc::new)).transpose()?;
        Ok(OwnedRequest {
            caller: self.caller,
            target: Arc::clone(self.target),
            id: self.id.to_owned(),
            peer: self.peer,
            fields,
        })
    }
}

/// The parts that a call copies exceed [`REQUEST_COPY_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyTooLarge;

/// The headers and the members of `_meta` that a callable reads, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeclaredReads {
    pub(crate) headers: Vec<Cow<'static, str>>,
    pub(crate) meta: Vec<Cow<'static, str>>,
}

impl DeclaredReads {
    /// Whether nothing is read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.meta.is_empty()
    }
}

/// Headers and members of `_meta`, copied: one for each name in `reads`, in the same order.
#[derive(Debug)]
struct CopiedFields {
    reads: Arc<DeclaredReads>,
    headers: Vec<Option<Box<str>>>,
    meta: Vec<Option<Value>>,
}

impl CopiedFields {
    fn copy(request: &RequestContext<'_>, reads: &Arc<DeclaredReads>) -> Result<Self, CopyTooLarge> {
        let mut left = REQUEST_COPY_BYTES_MAX;
        let header = |name: &Cow<'static, str>| {
            let Some(value) = request.header(name) else { return Ok(None) };
            left = left.checked_sub(name.len() + value.len()).ok_or(CopyTooLarge)?;
            Ok(Some(Box::from(value)))
        };
        let headers = reads.headers.iter().map(header).collect::<Result<_, _>>()?;
        let member = |key: &Cow<'static, str>| {
            let Some(value) = request.meta(key) else { return Ok(None) };
            left =
                left.checked_sub(key.len()).and_then(|left| left_behind(value, left)).ok_or(CopyTooLarge)?;
            // Deserializing a tree of plain values does not fail.
            Ok(Some(Value::deserialize(value).unwrap_or_default()))
        };
        let meta = reads.meta.iter().map(member).collect::<Result<_, _>>()?;
        Ok(Self { reads: Arc::clone(reads), headers, meta })
    }

    fn header(&self, name: &str) -> Option<&str> {
        let place = self.reads.headers.iter().position(|read| read.eq_ignore_ascii_case(name))?;
        self.headers.get(place)?.as_deref()
    }

    fn meta(&self, key: &str) -> Option<&Value> {
        let place = self.reads.meta.iter().position(|read| *read == key)?;
        self.meta.get(place)?.as_ref()
    }
}

/// The rest of `left` bytes after a value was copied; `None` if the value is larger. The decoder bounds the recursion depth.
fn left_behind(value: Node<'_>, left: usize) -> Option<usize> {
    let left = left.checked_sub(VALUE_BYTES)?;
    if let Some(text) = value.as_str() {
        return left.checked_sub(text.len());
    }
    if let Some(mut members) = value.members() {
        return members.try_fold(left, |left, (key, value)| left_behind(value, left.checked_sub(key.len())?));
    }
    match value.elements() {
        Some(mut elements) => elements.try_fold(left, |left, element| left_behind(element, left)),
        None => Some(left),
    }
}

/// The parts of a request that outlive its bytes.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    caller: Caller,
    target: Arc<str>,
    id: OwnedId,
    pub(super) peer: Option<PeerAddress>,
    /// `None` if the callable reads none.
    fields: Option<Arc<CopiedFields>>,
}

impl OwnedRequest {
    /// The client.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// The id of the request. Clones share its text.
    #[must_use]
    pub fn id(&self) -> &OwnedId {
        &self.id
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.fields.as_ref()?.header(name)
    }

    pub(super) fn session_id(&self) -> Option<&str> {
        self.header(SESSION_ID).filter(|_| !self.caller.revision.is_modern())
    }

    pub(super) fn meta(&self, key: &str) -> Option<&Value> {
        self.fields.as_ref()?.meta(key)
    }

    pub(super) fn client(&self) -> Option<ClientInfo<'_>> {
        let info = self.meta(CLIENT_INFO)?;
        let text = |key| info.get(key).and_then(Value::as_str);
        Some(ClientInfo { name: text("name")?, version: text("version")?, title: text("title") })
    }
}
