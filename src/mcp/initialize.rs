//! `initialize` (legacy): agrees on a revision (checklist V-05, L-01). No session is made: every later request is
//! served by itself.

use super::{
    era::{Params, Refusal},
    outcome::{CallMethod, Outcome, Refused},
    router::refuse,
};
use crate::{
    json::{Node, write_string},
    jsonrpc::{Id, begin_result, finish_result},
    registry::{Revision, Snapshot},
};

pub(super) fn answer<'a>(
    snapshot: &Snapshot,
    id: Id<'_>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let Some(requested) = params.protocol_version.and_then(Node::as_str) else {
        let refusal = Refusal::new(Refused::InvalidMethodParams, "params.protocolVersion must be a string");
        return refuse(out, Some(id), Revision::LATEST_LEGACY, CallMethod::Initialize, &refusal);
    };
    let agreed = Revision::parse(requested.as_bytes())
        .filter(|revision| !revision.is_modern())
        .unwrap_or(Revision::LATEST_LEGACY);
    begin_result(out, id);
    out.extend_from_slice(b"\"protocolVersion\":");
    write_string(out, agreed.as_str());
    out.push(b',');
    out.extend_from_slice(snapshot.initialize(agreed));
    finish_result(out);
    Outcome::Reply(CallMethod::Initialize)
}
