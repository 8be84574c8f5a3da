//! `tools/list` and `tools/call`.

use super::{
    era::Params,
    outcome::{CallMethod, Outcome, ToolCall},
};
use crate::{
    http::Status,
    json::Node,
    jsonrpc::{ErrorCode, Id, begin_result, finish_result, write_error},
    registry::{Reply, Revision, Snapshot},
    schema::Violation,
};

pub(super) fn list<'a>(
    snapshot: &Snapshot,
    revision: Revision,
    id: Id<'_>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let page = match params.cursor {
        None => Some(0),
        Some(cursor) => cursor.as_str().and_then(|cursor| cursor.parse().ok()),
    };
    match page.and_then(|page| snapshot.tool_page(revision, page)) {
        Some(page) => {
            begin_result(out, id);
            out.extend_from_slice(page);
            finish_result(out);
        }
        None => write_error(out, Some(id), ErrorCode::InvalidParams, "Invalid cursor", None),
    }
    Outcome::Reply(Status::Ok, CallMethod::ToolsList)
}

pub(super) fn call<'a>(
    snapshot: &'a Snapshot,
    revision: Revision,
    id: Id<'a>,
    params: &Params<'a>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let invalid = |out: &mut Vec<u8>, message: &str| {
        write_error(out, Some(id), ErrorCode::InvalidParams, message, None);
        Outcome::Reply(Status::Ok, CallMethod::ToolsCall)
    };
    let Some(name) = params.name.and_then(Node::as_str) else {
        return invalid(out, "params.name must be a string");
    };
    let Some(tool) = snapshot.tool(name) else {
        return invalid(out, &format!("Unknown tool: {name}"));
    };
    let arguments = params.arguments.unwrap_or_else(Node::empty_object);
    if !arguments.is_object() {
        return invalid(out, "params.arguments must be an object");
    }
    if !tool.input().is_valid(arguments) {
        // An error the model can read and mend, not one of the protocol (checklist T-11).
        let mut reply = Reply::default();
        reply.error(&explain(&tool.input().violations(arguments)));
        write_call_result(out, snapshot, id, revision, &reply);
        return Outcome::Reply(Status::Ok, CallMethod::ToolsCall);
    }
    Outcome::Run(ToolCall { tool, arguments, id, revision })
}

/// Writes the answer to a call that was run.
pub fn write_call_result(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    id: Id<'_>,
    revision: Revision,
    reply: &Reply,
) {
    begin_result(out, id);
    if revision.is_modern() {
        out.extend_from_slice(b"\"resultType\":\"complete\",");
    }
    reply.write(out, revision);
    if revision.is_modern() {
        out.push(b',');
        out.extend_from_slice(snapshot.meta());
    }
    finish_result(out);
}

/// Writes the answer to a call whose tool panicked.
pub fn write_call_failed(out: &mut Vec<u8>, id: Id<'_>) {
    write_error(out, Some(id), ErrorCode::InternalError, "The tool failed", None);
}

/// Writes the answer to a call there is no room for.
pub fn write_busy(out: &mut Vec<u8>, id: Id<'_>) {
    write_error(out, Some(id), ErrorCode::Busy, "Server busy", None);
}

fn explain(violations: &[Violation]) -> String {
    let mut text = "Invalid arguments".to_owned();
    for (number, violation) in violations.iter().enumerate() {
        text.push_str(if number == 0 { ": " } else { "; " });
        text.push_str(&violation.to_string());
    }
    text
}
