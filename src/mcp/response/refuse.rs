//! Answers that refuse.

use crate::mcp::{
    model::method::CallMethod,
    outcome::Outcome,
    refusal::{Refusal, Refused},
};
use crate::{
    call::Revision,
    json::{self, NotJson},
    jsonrpc::{Id, answerable_id, write_error},
};

/// No more of a name that a client made up than this is sent back, in bytes.
const NAME_BYTES_TOLD: usize = 64;

/// Writes a refusal.
pub(crate) fn refuse<'a>(
    out: &mut Vec<u8>,
    id: Option<Id<'_>>,
    revision: Revision,
    method: CallMethod,
    refusal: Refusal,
) -> Outcome<'a> {
    let Refusal { reason, message, data } = refusal;
    if let Some(code) = reason.code() {
        write_error(out, id, code, &message, data.as_deref());
    }
    Outcome::Refused(reason.status(revision), method, reason, message, id.map(Id::to_owned))
}

/// Answers a body that is not JSON, or JSON beyond the limits.
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
    refuse(out, id, Revision::ASSUMED, CallMethod::Other, refusal)
}

/// Refuses something outside the protocol's methods: a stream, a session's end, a batch.
pub fn write_refused<'a>(
    out: &mut Vec<u8>,
    id: Option<Id<'_>>,
    revision: Revision,
    method: CallMethod,
    reason: Refused,
    message: &'static str,
) -> Outcome<'a> {
    refuse(out, id, revision, method, Refusal::new(reason, message))
}

/// A name as it is told in an error.
pub(crate) fn shortened(name: &str) -> std::borrow::Cow<'_, str> {
    let end = name.floor_char_boundary(NAME_BYTES_TOLD);
    match name.split_at_checked(end) {
        Some((told, rest)) if !rest.is_empty() => format!("{told}…").into(),
        _ => name.into(),
    }
}
