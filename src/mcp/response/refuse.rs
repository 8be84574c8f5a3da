//! Encoding of errors.

use crate::mcp::{
    model::method::RpcMethod,
    outcome::Outcome,
    refusal::{Refusal, Refused},
};
use crate::{
    call::Revision,
    json::{self, NotJson},
    jsonrpc::{Id, answerable_id, write_error},
};

/// Maximum length of a client's name in an error message, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Encodes an error.
pub(crate) fn refuse<'a>(
    out: &mut Vec<u8>,
    id: Option<Id<'_>>,
    revision: Revision,
    method: RpcMethod,
    refusal: Refusal,
) -> Outcome<'a> {
    let Refusal { reason, message, data } = refusal;
    if let Some(code) = reason.code() {
        write_error(out, id, code, &message, data.as_deref());
    }
    Outcome::Refused(reason.status(revision), method, reason, message, id.map(Id::to_owned))
}

/// Encodes the error for a body that is not JSON or exceeds a limit.
pub fn write_not_json<'a>(
    out: &mut Vec<u8>,
    refused: &json::Refused<'_, '_>,
    id_bytes_max: usize,
) -> Outcome<'a> {
    let reason = match refused.reason {
        NotJson::Malformed => Refused::NotJson,
        beyond => Refused::BeyondLimits(beyond.name()),
    };
    let id = refused.root().and_then(|root| answerable_id(root, id_bytes_max));
    let refusal = Refusal::new(reason, refused.reason.to_string());
    refuse(out, id, Revision::ASSUMED, RpcMethod::Other, refusal)
}

/// Encodes the error for a request that is not a method: for a stream, the end of a session, or a batch.
pub fn write_refused<'a>(
    out: &mut Vec<u8>,
    id: Option<Id<'_>>,
    revision: Revision,
    method: RpcMethod,
    reason: Refused,
    message: &'static str,
) -> Outcome<'a> {
    refuse(out, id, revision, method, Refusal::new(reason, message))
}

/// Truncates a client's name for an error message.
pub(crate) fn truncate(name: &str) -> std::borrow::Cow<'_, str> {
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    match name.split_at_checked(end) {
        Some((start, rest)) if !rest.is_empty() => format!("{start}…").into(),
        _ => name.into(),
    }
}
