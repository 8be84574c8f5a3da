//! Encoding of the replies to calls.

use serde_json::{Map, Value};

use crate::mcp::error::ErrorKind;
use crate::{
    call::{Callable, Kind, OutputValidation, OutputValidator, Reply, Revision},
    config::Limits,
    http1::Status,
    json::{write_string, write_unsigned},
    jsonrpc::{ErrorCode, Id, write_error, write_result},
    policy::Flags,
    registry::Snapshot,
};

/// Encoder of the replies to calls. Validates structured content against the output schema of the tool.
pub struct CallAnswers {
    outputs: OutputValidator,
    /// Validated results: with a validator compiled before, and with one compiled for them.
    validations: [u64; 2],
}

impl CallAnswers {
    /// An encoder that decodes structured content within the limits of requests.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { outputs: OutputValidator::new(limits), validations: [0; 2] }
    }

    /// Validates results with these flags.
    pub fn set_flags(&mut self, flags: Flags) {
        self.outputs.set_flags(flags);
    }

    /// Number of validated results since the last call: with a validator compiled before, and with one compiled for them.
    pub fn take_validations(&mut self) -> [u64; 2] {
        std::mem::take(&mut self.validations)
    }

    /// Validates the structured content of a reply, unless it was, or there is no output schema. Returns `false` if that takes more
    /// work than `validation_inline_work_max`.
    #[inline]
    pub fn validate_inline(&mut self, callable: &Callable, reply: &mut Reply) -> bool {
        callable.output().is_none_or(|output| self.outputs.validate_inline(output, reply))
    }

    /// Encodes the reply of a handler, or an error if its structured content violates the output schema. It has been validated before,
    /// or is validated now, whatever work that takes up to `validation_work_max`. The status is 400 for a missing client
    /// capability, else 200
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/schema#missingrequiredclientcapabilityerror>).
    pub fn result(
        &mut self,
        out: &mut Vec<u8>,
        snapshot: &Snapshot,
        callable: &Callable,
        id: Id<'_>,
        revision: Revision,
        reply: &mut Reply,
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
        if let Some(output) = callable.output() {
            self.outputs.validate(output, reply);
        }
        if let Some(is_cached) = reply.is_output_cached() {
            let [hits, misses] = &mut self.validations;
            *if is_cached { hits } else { misses } += 1;
        }
        let (kind, reason) = match reply.output() {
            None | Some(OutputValidation::Valid) => (None, ""),
            Some(OutputValidation::Invalid(reason)) => (Some(ErrorKind::InvalidOutput), reason.as_str()),
            Some(OutputValidation::BudgetExceeded) => (
                Some(ErrorKind::OutputWork),
                "its validation takes more work than the limit validation_work_max allows",
            ),
        };
        if let Some(kind) = kind {
            let message = format!("Tool {} broke its outputSchema: {reason}", callable.name());
            write_error(out, Some(id), kind.code().unwrap_or(ErrorCode::InternalError), &message, None);
            return (Status::Ok, Some(kind));
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
            (ErrorKind::ResultMemory, _) => "The memory for results is used up, try again later",
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
            self.result(out, snapshot, callable, id, revision, &mut reply);
        }
        error.status(revision)
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
