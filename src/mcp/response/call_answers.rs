//! Encoding of the replies to calls.

use serde_json::{Map, Value};

use super::invalid_arguments::explain;
use crate::mcp::error::ErrorKind;
use crate::{
    call::{Callable, Kind, Reply, Revision},
    config::Limits,
    http1::Status,
    json::{Decoder, write_string, write_unsigned},
    jsonrpc::{ErrorCode, Id, write_error, write_result},
    registry::Snapshot,
    schema::Validator,
};

/// Padding that the in-place decoder needs after a document, in bytes.
const PADDING_BYTES: usize = 64;

/// Encoder of the replies to calls. Validates structured content against the output schema of the tool.
pub struct CallAnswers {
    decoder: Decoder,
    scratch: Vec<u8>,
    work_max: usize,
    inline_work_max: usize,
}

impl CallAnswers {
    /// An encoder that decodes structured content within the limits of requests.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            decoder: Decoder::new(limits),
            scratch: Vec::new(),
            work_max: limits.validation_work_max,
            inline_work_max: limits.validation_inline_work_max,
        }
    }

    /// Encodes the reply of a handler, or an error if its structured content violates the output schema. The status is 400 for
    /// a missing client capability, else 200
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/schema#missingrequiredclientcapabilityerror>).
    pub fn result(
        &mut self,
        out: &mut Vec<u8>,
        snapshot: &Snapshot,
        callable: &Callable,
        id: Id<'_>,
        revision: Revision,
        reply: &Reply,
    ) -> (Status, Option<ErrorKind>) {
        if let Some(failure) = reply.failure() {
            let code = failure.code_for(revision);
            let data = failure.data.as_ref().map(ToString::to_string);
            write_error(out, Some(id), ErrorCode::Other(code), &failure.message, data.as_deref());
            let lacks = code == ErrorCode::MissingRequiredClientCapability.number() && revision.is_modern();
            return if lacks {
                (Status::BadRequest, Some(ErrorKind::MissingCapability))
            } else {
                (Status::Ok, None)
            };
        }
        if let Some(output) = callable.output().filter(|_| !reply.is_error())
            && let Err(reason) = self.check(output, reply.structured_json())
        {
            let message = format!("Tool {} broke its outputSchema: {reason}", callable.name());
            write_error(out, Some(id), ErrorCode::InternalError, &message, None);
            return (Status::Ok, Some(ErrorKind::InvalidOutput));
        }
        let is_modern = revision.is_modern();
        write_result(out, id, |out| {
            if is_modern {
                out.extend_from_slice(b"\"resultType\":\"complete\",");
            }
            reply.write(out, callable.kind(), revision);
            if is_modern && callable.kind() == Kind::Resource {
                write_cache(out, callable);
            }
            let own = if is_modern { snapshot.server_info() } else { &[] };
            let more = reply.meta_members();
            if own.is_empty() && more.is_empty() {
                return;
            }
            out.extend_from_slice(b",\"_meta\":{");
            out.extend_from_slice(own);
            if !more.is_empty() {
                write_meta_members(out, own, more);
            }
            out.push(b'}');
        });
        (Status::Ok, None)
    }

    /// Encodes the reply to a call without a result: rejected as busy, panicked, or past its deadline. The message contains no
    /// internal details.
    pub fn error(
        &mut self,
        out: &mut Vec<u8>,
        snapshot: &Snapshot,
        callable: &Callable,
        id: Id<'_>,
        revision: Revision,
        error: ErrorKind,
    ) -> Status {
        let kind = callable.kind();
        let message = match (error, kind) {
            (ErrorKind::Busy, _) => "Server busy",
            (ErrorKind::StateUsed, _) => "The requestState was used already, or is no longer known",
            (ErrorKind::ShuttingDown, _) => "The server is shutting down",
            (ErrorKind::PeerShare, _) => "Too many calls of this client are in flight",
            (ErrorKind::OrphanLimit, _) => "Too many calls of this client go on without a connection",
            (ErrorKind::RequestCopyTooLarge, _) => {
                "The headers and _meta members that this call reads exceed 4096 bytes"
            }
            (ErrorKind::Deadline, Kind::Tool) => "The tool did not answer in time",
            (ErrorKind::Deadline, _) => "No answer in time",
            (_, Kind::Tool) => "The tool failed",
            _ => "Internal error",
        };
        // Only the result of a tool can have `isError`.
        let code = error.code().or_else(|| (kind != Kind::Tool).then_some(ErrorCode::InternalError));
        if let Some(code) = code {
            write_error(out, Some(id), code, message, None);
        } else {
            let mut reply = Reply::default();
            reply.error(message);
            self.result(out, snapshot, callable, id, revision, &reply);
        }
        error.status(revision)
    }

    fn check(&mut self, output: &Validator, json: &[u8]) -> Result<(), String> {
        if json.is_empty() {
            return Err("no structured content".to_owned());
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(json);
        self.scratch.resize(json.len() + PADDING_BYTES, 0);
        let document =
            self.decoder.decode(&mut self.scratch, json.len()).map_err(|error| error.reason.to_string())?;
        let (root, inline_max) = (document.root(), self.inline_work_max as u64);
        if output.work_bound(root, json.len()) > inline_max
            && output.work(root, self.work_max as u64).is_none()
        {
            return Err("its validation takes more work than the limit validation_work_max allows".to_owned());
        }
        if output.is_valid(root) {
            return Ok(());
        }
        if !output.can_explain(root, inline_max) {
            return Err("it is invalid, and too large to list its violations".to_owned());
        }
        Err(explain(&output.violations(root)))
    }
}

/// Appends the cache hints of a resource (<https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/caching>).
fn write_cache(out: &mut Vec<u8>, callable: &Callable) {
    let cache = callable.cache();
    out.extend_from_slice(b",\"ttlMs\":");
    write_unsigned(out, u64::try_from(cache.ttl.as_millis()).unwrap_or(u64::MAX));
    out.extend_from_slice(b",\"cacheScope\":\"");
    out.extend_from_slice(cache.scope.as_str().as_bytes());
    out.push(b'"');
}

/// Appends the `_meta` members that the handler set, after the server's `own`.
fn write_meta_members(out: &mut Vec<u8>, own: &[u8], more: &Map<String, Value>) {
    for (number, (key, value)) in more.iter().enumerate() {
        if number > 0 || !own.is_empty() {
            out.push(b',');
        }
        write_string(out, key);
        out.push(b':');
        out.extend_from_slice(value.to_string().as_bytes());
    }
}
