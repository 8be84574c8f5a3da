//! A legacy session ([Session Management][spec]).
//!
//! [spec]: https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#session-management

use crate::call::{Capabilities, Revision};

/// Key of a session: the random part of its id.
pub type SessionKey = u128;

/// Keyed hash of the peer that opened a session.
pub type PeerHash = [u8; 3];

/// A session, as decoded from its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The random part of the id.
    pub key: SessionKey,
    /// The shard that keeps the session's subscriptions and GET streams.
    pub home: u16,
    /// The protocol version that was negotiated.
    pub revision: Revision,
    /// The capabilities that the client declared.
    pub capabilities: Capabilities,
    /// Time of expiry, in seconds since 1970.
    pub expires: u64,
    /// Hash of the peer that opened the session.
    pub peer: PeerHash,
    /// Another instance opened the session, and its streams and subscriptions are not available here.
    pub is_foreign: bool,
}
