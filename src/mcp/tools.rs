//! `tools/list` and `tools/call`.

use super::{
    era::{Client, Headers, Params, Refusal},
    header_params,
    outcome::{CallMethod, Outcome, Refused, ToolCall},
    router::refuse,
};
use crate::{
    json::{Node, write_string},
    jsonrpc::{Id, begin_result, finish_result},
    registry::{RegisteredTool, Reply, Revision, Snapshot},
    schema::{Verdict, Violation},
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
        Some(cursor) => cursor.as_str().and_then(page_number),
    };
    let Some(page) = page.and_then(|page| snapshot.tool_page(revision, page)) else {
        let refusal = Refusal::new(Refused::InvalidMethodParams, "Invalid cursor");
        return refuse(out, Some(id), revision, CallMethod::ToolsList, &refusal);
    };
    begin_result(out, id);
    out.extend_from_slice(page);
    finish_result(out);
    Outcome::Reply(CallMethod::ToolsList)
}

/// The page a cursor of ours stands for: never the first, and written in one way only.
fn page_number(cursor: &str) -> Option<usize> {
    cursor.parse().ok().filter(|page: &usize| *page > 0 && page.to_string() == cursor)
}

/// No more of a name that a client made up than this is sent back, in bytes.
const NAME_BYTES_TOLD: usize = 64;

pub(super) fn call<'a>(
    snapshot: &'a Snapshot,
    client: Client,
    headers: Headers<'_>,
    id: Id<'a>,
    params: &Params<'a>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let Client { revision, capabilities } = client;
    match find(snapshot, client, headers, params) {
        Err(refusal) => refuse(out, Some(id), revision, CallMethod::ToolsCall, &refusal),
        Ok((tool, arguments)) => match fit(tool, arguments) {
            Ok(()) => Outcome::Run(ToolCall { tool, arguments, id, revision, capabilities }),
            // An error the model can read and mend, not one of the protocol (checklist T-11).
            Err((refused, told)) => {
                let mut reply = Reply::default();
                reply.error(&told);
                write_call_result(out, snapshot, id, revision, &reply);
                Outcome::Refused(refused.status(revision), CallMethod::ToolsCall, refused)
            }
        },
    }
}

/// Which tool is called with what, and whether this client may.
fn find<'a>(
    snapshot: &'a Snapshot,
    client: Client,
    headers: Headers<'_>,
    params: &Params<'a>,
) -> Result<(&'a std::sync::Arc<RegisteredTool>, Node<'a>), Refusal> {
    let invalid = |message: &'static str| Refusal::new(Refused::InvalidMethodParams, message);
    let name = params.name.and_then(Node::as_str).ok_or_else(|| invalid("params.name must be a string"))?;
    let Some(tool) = snapshot.tool(name) else {
        let end = name.floor_char_boundary(NAME_BYTES_TOLD);
        let (told, rest) = name.split_at_checked(end).unwrap_or((name, ""));
        let more = if rest.is_empty() { "" } else { "…" };
        return Err(Refusal::new(Refused::UnknownTool, format!("Unknown tool: {told}{more}")));
    };
    let arguments = params.arguments.unwrap_or_else(Node::empty_object);
    if !arguments.is_object() {
        return Err(invalid("params.arguments must be an object"));
    }
    // Legacy clients are never held to these headers.
    if client.revision.is_modern() {
        header_params::check(tool.header_params(), headers, arguments)?;
    }
    let missing = tool.requires().without(client.capabilities);
    if missing.is_empty() {
        return Ok((tool, arguments));
    }
    let needed = missing.to_json();
    let told = format!("Missing required client capability: {needed}");
    let data = Some(serde_json::json!({"requiredCapabilities": needed}).to_string());
    // The code is one of the 2026 era.
    Err(if client.revision.is_modern() {
        Refusal { data, ..Refusal::new(Refused::MissingCapability, told) }
    } else {
        Refusal { data, ..Refusal::new(Refused::InvalidMethodParams, told) }
    })
}

/// Holds arguments against the tool's schema.
fn fit(tool: &RegisteredTool, arguments: Node<'_>) -> Result<(), (Refused, String)> {
    match tool.input().judge(arguments) {
        Verdict::Fits => Ok(()),
        Verdict::Unfit => {
            let violations = tool.input().violations(arguments);
            Err((Refused::InvalidArguments, format!("Invalid arguments: {}", explain(&violations))))
        }
        Verdict::TooMuchWork => {
            Err((Refused::ValidationWork, "Invalid arguments: too many values to validate".to_owned()))
        }
    }
}

/// Writes the answer to a call that was run.
pub(super) fn write_call_result(
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
    let own = if revision.is_modern() { snapshot.server_info() } else { &[] };
    let more = reply.meta_members();
    if !own.is_empty() || !more.is_empty() {
        out.extend_from_slice(b",\"_meta\":{");
        out.extend_from_slice(own);
        for (number, (key, value)) in more.iter().enumerate() {
            if number > 0 || !own.is_empty() {
                out.push(b',');
            }
            write_string(out, key);
            out.push(b':');
            out.extend_from_slice(value.to_string().as_bytes());
        }
        out.push(b'}');
    }
    finish_result(out);
}

/// What does not fit, and where, in one line.
pub(super) fn explain(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
