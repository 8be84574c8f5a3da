//! `logging/setLevel` (<https://modelcontextprotocol.io/specification/2025-11-25/server/utilities/logging#setting-log-level>).

use crate::mcp::{
    envelope::client::{Affinity, Client},
    envelope::era::Params,
    error::{ErrorKind, RequestError, session_needed},
    model::method::RpcMethod,
    outcome::{Outcome, SessionAction},
    response::error::reject,
};
use crate::{call::Level, json::Node, jsonrpc::Id};

pub(crate) fn set_level<'a>(
    client: &Client<'a>,
    id: Id<'a>,
    params: &Params<'a>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let level = params.get("level").and_then(Node::as_str).and_then(Level::parse);
    let error = match (level, client.affinity) {
        (None, _) => RequestError::new(ErrorKind::InvalidMethodParams, "params.level is not a log level"),
        (Some(_), Affinity::None) => session_needed(),
        (Some(level), affinity) => {
            return Outcome::SessionCommand(id, affinity, SessionAction::SetLevel(level));
        }
    };
    reject(out, Some(id), client.revision, RpcMethod::SetLevel, error)
}
