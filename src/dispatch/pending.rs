//! A call, and a request to other shards, whose reply is pending.

use std::time::Instant;

use corelane_ring::PeerAddress;

use super::{ReplyTo, handling::Handling, suspended::SuspendedCall};
use crate::{
    call::{Revision, SharedCallable},
    jsonrpc::OwnedId,
    mcp::{CallState, RpcMethod, SessionKey},
};

/// The state that encodes and delivers the reply of a call when it ends.
pub(crate) struct PendingCall {
    pub(crate) reply_to: ReplyTo,
    /// Whether the call is part of a batch over HTTP.
    pub(crate) in_batch: bool,
    pub(crate) peer: Option<PeerAddress>,
    pub(crate) callable: SharedCallable,
    pub(crate) id: OwnedId,
    pub(crate) revision: Revision,
    pub(crate) started: Instant,
    /// Time at which the call is cancelled.
    pub(crate) deadline: Instant,
    /// The legacy session of the call.
    pub(crate) session: Option<SessionKey>,
    /// The request state of the call, if it can return `input_required`.
    pub(crate) state: Option<Box<CallState>>,
    /// Requests to the client without a response: number and key.
    pub(crate) questions: Vec<(u32, String)>,
    /// Number of requests to the client so far.
    pub(crate) requests_made: u32,
    /// The flags that the call began with, which it keeps.
    pub(super) handling: Handling,
    /// The state to resume the call with, if its arguments are validated off the shard.
    pub(super) suspended: Option<Box<SuspendedCall>>,
}

/// A request that awaits responses of other shards.
pub(crate) struct RemoteRequest {
    pub(crate) reply_to: ReplyTo,
    pub(crate) peer: Option<PeerAddress>,
    pub(crate) id: Option<OwnedId>,
    pub(crate) method: RpcMethod,
    pub(crate) started: Instant,
    /// Number of shards that have not responded.
    pub(crate) left: usize,
}
