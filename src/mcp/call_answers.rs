//! What is written when a tool has run, or could not.

use super::{
    outcome::Refused,
    tools::{explain, write_call_result},
};
use crate::{
    config::Limits,
    http::Status,
    json::Decoder,
    jsonrpc::{ErrorCode, Id, write_error},
    registry::{RegisteredTool, Reply, Revision, Snapshot},
    schema::Validator,
};

/// Room an in-place parser needs behind a document, in bytes.
const PADDING_BYTES: usize = 64;

/// Writes the answers to calls. Holds structured content against the schema that promised it, with memory of its own.
pub struct CallAnswers {
    decoder: Decoder,
    scratch: Vec<u8>,
}

impl CallAnswers {
    /// Results are decoded within the same bounds as requests.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { decoder: Decoder::new(limits), scratch: Vec::new() }
    }

    /// Writes what a tool said; or, where it broke its promise, that it did, and says so.
    pub fn result(
        &mut self,
        out: &mut Vec<u8>,
        snapshot: &Snapshot,
        tool: &RegisteredTool,
        id: Id<'_>,
        revision: Revision,
        reply: &Reply,
    ) -> Option<Refused> {
        if let Some(failure) = reply.failure() {
            let data = failure.data.as_ref().map(ToString::to_string);
            write_error(out, Some(id), ErrorCode::Other(failure.code), &failure.message, data.as_deref());
            return None;
        }
        if let Some(output) = tool.output().filter(|_| !reply.is_error())
            && let Err(why) = self.check(output, reply.structured_json())
        {
            let message = format!("Tool {} broke its outputSchema: {why}", tool.name());
            write_error(out, Some(id), ErrorCode::InternalError, &message, None);
            return Some(Refused::InvalidOutput);
        }
        write_call_result(out, snapshot, id, revision, reply);
        None
    }

    fn check(&mut self, output: &Validator, json: &[u8]) -> Result<(), String> {
        if json.is_empty() {
            return Err("no structured content".to_owned());
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(json);
        self.scratch.resize(json.len() + PADDING_BYTES, 0);
        let document = self
            .decoder
            .decode(&mut self.scratch, json.len())
            .map_err(|refused| refused.reason.to_string())?;
        if output.is_valid(document.root()) {
            return Ok(());
        }
        Err(explain(&output.violations(document.root())))
    }
}

/// Writes the answer to a call that gave no result: no room, a panic, out of time. Nothing of the inside is told.
pub fn write_call_refused(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    id: Id<'_>,
    revision: Revision,
    refused: Refused,
) -> Status {
    let message = match refused {
        Refused::Busy => "Server busy",
        Refused::Deadline => "The tool did not answer in time",
        _ => "The tool failed",
    };
    match refused.code() {
        Some(code) => write_error(out, Some(id), code, message, None),
        None => {
            let mut reply = Reply::default();
            reply.error(message);
            write_call_result(out, snapshot, id, revision, &reply);
        }
    }
    refused.status(revision)
}
