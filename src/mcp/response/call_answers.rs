//! Encoding of the replies to calls.

use crate::mcp::{
    error::ErrorKind,
    methods::tools::{explain, write_call_result, write_result_members},
};
use crate::{
    call::{Callable, Kind, Reply, Revision},
    config::Limits,
    http1::Status,
    json::{Decoder, write_unsigned},
    jsonrpc::{ErrorCode, Id, begin_result, finish_result, write_error},
    registry::Snapshot,
    schema::Validator,
};

/// Padding that the in-place decoder needs after a document, in bytes.
const PADDING_BYTES: usize = 64;

/// Encoder of the replies to calls. Validates structured content against the output schema of the tool.
pub struct CallAnswers {
    decoder: Decoder,
    scratch: Vec<u8>,
}

impl CallAnswers {
    /// An encoder that decodes structured content within the limits of requests.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { decoder: Decoder::new(limits), scratch: Vec::new() }
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
        match callable.kind() {
            Kind::Tool => write_call_result(out, snapshot, id, revision, reply),
            kind => {
                begin_result(out, id);
                write_result_members(out, snapshot, revision, reply, |out| match kind {
                    Kind::Prompt => reply.write_prompt(out, revision),
                    Kind::Completion => reply.write_completion(out),
                    Kind::Tool | Kind::Resource => {
                        reply.write_contents(out, revision);
                        if revision.is_modern() {
                            write_cache(out, callable);
                        }
                    }
                });
                finish_result(out);
            }
        }
        (Status::Ok, None)
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
        if output.is_valid(document.root()) {
            return Ok(());
        }
        Err(explain(&output.violations(document.root())))
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

/// Encodes the reply to a call without a result: rejected as busy, panicked, or past its deadline. The message contains no
/// internal details.
pub fn write_call_error(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    kind: Kind,
    id: Id<'_>,
    revision: Revision,
    error: ErrorKind,
) -> Status {
    let message = match (error, kind) {
        (ErrorKind::Busy, _) => "Server busy",
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
    match code {
        Some(code) => write_error(out, Some(id), code, message, None),
        None => {
            let mut reply = Reply::default();
            reply.error(message);
            write_call_result(out, snapshot, id, revision, &reply);
        }
    }
    error.status(revision)
}
