//! `logging/setLevel` (<https://modelcontextprotocol.io/specification/2025-11-25/server/utilities/logging#setting-log-level>).

use crate::mcp::{
    envelope::client::{Affinity, Client},
    envelope::era::Params,
    error::{ErrorKind, RequestError, session_needed},
    outcome::{Outcome, SessionAction},
};
use crate::{call::Level, json::Node, jsonrpc::Id};

pub(crate) fn set_level<'a>(
    client: &Client<'a>,
    id: Id<'a>,
    params: &Params<'a>,
) -> Result<Outcome<'a>, RequestError> {
    let level = params.get("level").and_then(Node::as_str).and_then(Level::parse);
    match (level, client.affinity) {
        (None, _) => {
            Err(RequestError::new(ErrorKind::InvalidMethodParams, "params.level is not a log level"))
        }
        (Some(_), Affinity::None) => Err(session_needed()),
        (Some(level), affinity) => Ok(Outcome::SessionCommand(id, affinity, SessionAction::SetLevel(level))),
    }
}
