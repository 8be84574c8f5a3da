//! Who sends a message, and how it came.

use crate::mcp::sessions::Session;
use crate::{
    call::{Capabilities, Headers, Level, Revision},
    json::Node,
    jsonrpc::Id,
};

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

/// Who asks, once the era is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) revision: Revision,
    pub(crate) capabilities: Capabilities,
    pub(crate) tie: Tie,
    pub(crate) level: Option<Level>,
    /// What progress is reported under.
    pub(crate) progress_token: Option<Id<'a>>,
    /// The extensions it declared.
    pub(crate) extensions: Option<Node<'a>>,
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
    pub(crate) fn legacy(revision: Revision) -> Self {
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

impl Tie {
    /// The session's name, if there is a session.
    #[must_use]
    pub fn session(self) -> Option<Session> {
        match self {
            Self::Session(session) => Some(session),
            Self::None | Self::Connection => None,
        }
    }
}
