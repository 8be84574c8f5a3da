//! The transport of a message, and the client that sent it.

use crate::mcp::sessions::Session;
use crate::{
    call::{Capabilities, Headers, Level, Revision},
    json::Node,
    jsonrpc::Id,
};

/// The transport of a message, with what the transport contributes to the protocol.
#[derive(Clone, Copy, Debug)]
pub enum Transport<'a> {
    /// HTTP, with the headers of the request.
    Http(Headers<'a>),
    /// JSON lines, with the handshake of the connection, if there was one.
    JsonLines(Option<Handshake>),
}

impl<'a> Transport<'a> {
    /// The headers of the request; JSON lines have none.
    pub(crate) fn headers(self) -> Option<Headers<'a>> {
        match self {
            Self::Http(headers) => Some(headers),
            Self::JsonLines(_) => None,
        }
    }
}

/// The result of the `initialize` handshake of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The negotiated revision.
    pub revision: Revision,
    /// The capabilities that the client declared.
    pub capabilities: Capabilities,
    /// The minimum level of log messages, if the client has set one.
    pub level: Option<Level>,
}

/// The client of a request, once the era is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) revision: Revision,
    pub(crate) capabilities: Capabilities,
    pub(crate) affinity: Affinity,
    pub(crate) level: Option<Level>,
    /// The token for progress notifications.
    pub(crate) progress_token: Option<Id<'a>>,
    /// The extensions that the client declared.
    pub(crate) extensions: Option<Node<'a>>,
}

/// The state that a request shares with other requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// None: the request is independent of all others.
    None,
    /// The state of a legacy session.
    Session(Session),
    /// The state of its connection (JSON lines).
    Connection,
}

impl Client<'_> {
    /// A legacy client without a session and capabilities.
    pub(crate) fn legacy(revision: Revision) -> Self {
        Self {
            revision,
            capabilities: Capabilities::default(),
            affinity: Affinity::None,
            level: None,
            progress_token: None,
            extensions: None,
        }
    }
}

impl Affinity {
    /// The session, if there is one.
    #[must_use]
    pub fn session(self) -> Option<Session> {
        match self {
            Self::Session(session) => Some(session),
            Self::None | Self::Connection => None,
        }
    }
}
