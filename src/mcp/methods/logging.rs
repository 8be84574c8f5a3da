//! `logging/setLevel` (<https://modelcontextprotocol.io/specification/2025-11-25/server/utilities/logging#setting-log-level>).

use crate::mcp::{
    envelope::client::{Client, Tie},
    envelope::params::Params,
    model::method::CallMethod,
    outcome::{Outcome, SessionAction},
    refusal::{Refusal, Refused, session_needed},
    response::refuse::refuse,
};
use crate::{call::Level, json::Node, jsonrpc::Id};

pub(crate) fn set_level<'a>(
    client: &Client<'a>,
    id: Id<'a>,
    params: &Params<'a>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let level = params.get("level").and_then(Node::as_str).and_then(Level::parse);
    let refusal = match (level, client.tie) {
        (None, _) => Refusal::new(Refused::InvalidMethodParams, "params.level is not a log level"),
        (Some(_), Tie::None) => session_needed(),
        (Some(level), tie) => return Outcome::Tied(id, tie, SessionAction::SetLevel(level)),
    };
    refuse(out, Some(id), client.revision, CallMethod::SetLevel, refusal)
}
