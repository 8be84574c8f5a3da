//! From a message to its method, or to the error the ladder demands.

use super::{
    discover,
    era::{self, Headers, NameHeader, Params, Refusal},
    initialize,
    outcome::{CallMethod, Outcome},
    ping, tools,
};
use crate::{
    http::Status,
    json::{Node, NotJson, Refused},
    jsonrpc::{ErrorCode, Id, Message, answerable_id, write_error},
    registry::Snapshot,
};

/// Answers a message into `out`, or says which tool is to be run.
pub fn route<'a>(
    snapshot: &'a Snapshot,
    headers: &Headers<'_>,
    root: Node<'a>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let refused = |out: &mut Vec<u8>, id: Option<Id<'_>>, refusal: &Refusal| {
        write_error(out, id, refusal.code, &refusal.message, refusal.data.as_deref());
        Outcome::Reply(Status::BadRequest, CallMethod::Other)
    };
    let (id, method, params) = match Message::read(root) {
        Ok(Message::Request { id, method, params }) => (id, method, params),
        // No notification of either era changes anything here; what came is accepted and dropped (checklist H-02).
        Ok(Message::Notification { .. }) => return Outcome::Accepted,
        // Nobody was asked anything (checklist B-08).
        Ok(Message::Response) => {
            return refused(out, None, &Refusal::new(ErrorCode::InvalidRequest, "Unexpected response"));
        }
        Err(malformed) => {
            return refused(out, malformed.id, &Refusal::new(ErrorCode::InvalidRequest, malformed.reason));
        }
    };
    let params = Params::read(params);
    let name = match method {
        "tools/call" => NameHeader::Expected(params.name.and_then(Node::as_str)),
        _ => NameHeader::NotUsed,
    };
    let revision = match era::revision(headers, method, &params, name) {
        Ok(revision) => revision,
        Err(refusal) => return refused(out, Some(id), &refusal),
    };
    match CallMethod::parse(method, revision) {
        Some(CallMethod::ToolsCall) => tools::call(snapshot, revision, id, &params, out),
        Some(CallMethod::ToolsList) => tools::list(snapshot, revision, id, &params, out),
        Some(CallMethod::Discover) => discover::answer(snapshot, id, out),
        Some(CallMethod::Initialize) => initialize::answer(snapshot, id, &params, out),
        Some(CallMethod::Ping) => ping::answer(id, out),
        Some(CallMethod::Other) | None => {
            write_error(out, Some(id), ErrorCode::MethodNotFound, "Method not found", None);
            let status = if revision.is_modern() { Status::NotFound } else { Status::Ok };
            Outcome::Reply(status, CallMethod::Other)
        }
    }
}

/// Answers a body that is not JSON, or JSON beyond the limits.
pub fn write_not_json(out: &mut Vec<u8>, refused: &Refused<'_, '_>) -> Status {
    let code = match refused.reason {
        NotJson::Malformed => ErrorCode::ParseError,
        _ => ErrorCode::InvalidRequest,
    };
    let id = refused.root().and_then(answerable_id);
    write_error(out, id, code, &refused.reason.to_string(), None);
    Status::BadRequest
}
