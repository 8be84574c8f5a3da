//! From a message to its method, or to the error the ladder demands.

use super::{
    discover,
    era::{self, Headers, Params, Refusal},
    initialize,
    outcome::{CallMethod, Outcome, Refused},
    ping, tools,
};
use crate::{
    json::{self, Node, NotJson},
    jsonrpc::{Id, Message, answerable_id, write_error},
    registry::{Revision, Snapshot},
};

/// Answers a message into `out`, or says which tool is to be run.
pub fn route<'a>(
    snapshot: &'a Snapshot,
    headers: Headers<'_>,
    root: Node<'a>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    // Until the era is decided, for the status of a refusal does not depend on it.
    let any = Revision::ASSUMED;
    let (id, method, params) = match Message::read(root) {
        Ok(Message::Request { id, method, params }) => (id, method, params),
        // No notification of either era changes anything here; what came is accepted and dropped (checklist H-02).
        Ok(Message::Notification { .. }) => {
            return match era::notified(headers) {
                Ok(()) => Outcome::Accepted,
                Err(refusal) => refuse(out, None, any, CallMethod::Other, &refusal),
            };
        }
        // Nobody was asked anything (checklist B-08).
        Ok(Message::Response) => {
            let refusal = Refusal::new(Refused::InvalidRequest, "Unexpected response");
            return refuse(out, None, any, CallMethod::Other, &refusal);
        }
        Err(malformed) => {
            let refusal = Refusal::new(Refused::InvalidRequest, malformed.reason);
            return refuse(out, malformed.id, any, CallMethod::Other, &refusal);
        }
    };
    let params = Params::read(params);
    let client = match era::client(headers, method, &params) {
        Ok(client) => client,
        Err(refusal) => return refuse(out, Some(id), any, CallMethod::Other, &refusal),
    };
    match CallMethod::parse(method, client.revision) {
        Some(CallMethod::ToolsCall) => tools::call(snapshot, client, headers, id, &params, out),
        Some(CallMethod::ToolsList) => tools::list(snapshot, client.revision, id, &params, out),
        Some(CallMethod::Discover) => discover::answer(snapshot, id, out),
        Some(CallMethod::Initialize) => initialize::answer(snapshot, id, &params, out),
        Some(CallMethod::Ping) => ping::answer(id, out),
        Some(CallMethod::Other) | None => {
            let refusal = Refusal::new(Refused::UnknownMethod, "Method not found");
            refuse(out, Some(id), client.revision, CallMethod::Other, &refusal)
        }
    }
}

/// Writes a refusal.
pub(super) fn refuse<'a>(
    out: &mut Vec<u8>,
    id: Option<Id<'_>>,
    revision: Revision,
    method: CallMethod,
    refusal: &Refusal,
) -> Outcome<'a> {
    if let Some(code) = refusal.reason.code() {
        write_error(out, id, code, &refusal.message, refusal.data.as_deref());
    }
    Outcome::Refused(refusal.reason.status(revision), method, refusal.reason)
}

/// Answers a body that is not JSON, or JSON beyond the limits.
pub fn write_not_json<'a>(out: &mut Vec<u8>, refused: &json::Refused<'_, '_>) -> Outcome<'a> {
    let reason = match refused.reason {
        NotJson::Malformed => Refused::NotJson,
        beyond => Refused::BeyondLimits(beyond.name()),
    };
    let id = refused.root().and_then(answerable_id);
    let refusal = Refusal::new(reason, refused.reason.to_string());
    refuse(out, id, Revision::ASSUMED, CallMethod::Other, &refusal)
}
