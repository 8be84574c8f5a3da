//! Encoding of errors.

use crate::mcp::{
    error::{ErrorKind, RequestError},
    model::method::RpcMethod,
    outcome::Outcome,
};
use crate::{
    call::Revision,
    json::{self, DecodeError},
    jsonrpc::{Id, answerable_id, write_error},
};

/// Maximum length of a client's name in an error message, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Encodes an error.
pub(crate) fn reject<'a>(
    out: &mut Vec<u8>,
    id: Option<Id<'_>>,
    revision: Revision,
    method: RpcMethod,
    error: RequestError,
) -> Outcome<'a> {
    let RequestError { reason, message, data } = error;
    if let Some(code) = reason.code() {
        write_error(out, id, code, &message, data.as_deref());
    }
    Outcome::Rejected(reason.status(revision), method, reason, message, id.map(Id::to_owned))
}

/// Encodes the error for a body that is not JSON or exceeds a limit.
pub fn write_decode_error<'a>(
    out: &mut Vec<u8>,
    rejected: &json::Rejected<'_, '_>,
    id_bytes_max: usize,
) -> Outcome<'a> {
    let reason = match rejected.reason {
        DecodeError::Malformed => ErrorKind::NotJson,
        beyond => ErrorKind::BeyondLimits(beyond.name()),
    };
    let id = rejected.root().and_then(|root| answerable_id(root, id_bytes_max));
    let error = RequestError::new(reason, rejected.reason.to_string());
    reject(out, id, Revision::ASSUMED, RpcMethod::Other, error)
}

/// Encodes the error for a request that is not a method: for a stream, the end of a session, or a batch.
pub fn write_rejection<'a>(
    out: &mut Vec<u8>,
    id: Option<Id<'_>>,
    revision: Revision,
    method: RpcMethod,
    reason: ErrorKind,
    message: &'static str,
) -> Outcome<'a> {
    reject(out, id, revision, method, RequestError::new(reason, message))
}

/// Truncates a client's name for an error message.
pub(crate) fn truncate(name: &str) -> std::borrow::Cow<'_, str> {
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    match name.split_at_checked(end) {
        Some((start, rest)) if !rest.is_empty() => format!("{start}…").into(),
        _ => name.into(),
    }
}
