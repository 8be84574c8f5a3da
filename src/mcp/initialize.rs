//! `initialize` (legacy): agrees on a revision (checklist V-05, L-01). No session is made: every later request is
//! served by itself.

use super::{
    era::Params,
    outcome::{CallMethod, Outcome},
};
use crate::{
    http::Status,
    json::{Node, write_string},
    jsonrpc::{ErrorCode, Id, begin_result, finish_result, write_error},
    registry::{Revision, Snapshot},
};

pub(super) fn answer<'a>(
    snapshot: &Snapshot,
    id: Id<'_>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let Some(requested) = params.protocol_version.and_then(Node::as_str) else {
        write_error(out, Some(id), ErrorCode::InvalidParams, "params.protocolVersion must be a string", None);
        return Outcome::Reply(Status::Ok, CallMethod::Initialize);
    };
    let agreed = Revision::parse(requested.as_bytes())
        .filter(|revision| !revision.is_modern())
        .unwrap_or(Revision::LATEST_LEGACY);
    begin_result(out, id);
    out.extend_from_slice(b"\"protocolVersion\":");
    write_string(out, agreed.as_str());
    out.push(b',');
    out.extend_from_slice(snapshot.initialize());
    finish_result(out);
    Outcome::Reply(Status::Ok, CallMethod::Initialize)
}
