//! `tools/call` (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#calling-tools>).

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::mcp::{
    envelope::client::{Client, Transport},
    envelope::header_params,
    envelope::params::Params,
    error::{ErrorKind, RequestError},
    methods::call::CallRequest,
    model::method::RpcMethod,
    outcome::Outcome,
    response::error::{reject, truncate},
    router_context::RouterContext,
};
use crate::{
    call::{Reply, Revision},
    json::{Node, write_string},
    jsonrpc::{Id, begin_result, finish_result},
    registry::{RegisteredTool, Snapshot},
    schema::Violation,
};

pub(crate) fn call<'a>(
    context: &RouterContext<'a, '_>,
    client: &Client<'a>,
    transport: Transport<'_>,
    id: Id<'a>,
    params: &Params<'a>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    let revision = client.revision;
    let run = || {
        let (tool, arguments) = find(context.snapshot, client, transport, params)?;
        let name = tool.callable().name();
        let arguments_sent = params.arguments;
        let request = CallRequest {
            client,
            id,
            params,
            method: "tools/call",
            name,
            arguments: arguments_sent,
            schema: Some(tool.input()),
            limits: context.limits,
        };
        request.run(tool.callable(), arguments, context.sessions.signing_key(), context.now)
    };
    run().unwrap_or_else(|error| reject(out, Some(id), revision, RpcMethod::ToolsCall, error))
}

/// Finds the tool and its arguments.
///
/// Errors if the parameters are invalid, a header contradicts an argument, or the client lacks a required capability.
fn find<'a>(
    snapshot: &'a Snapshot,
    client: &Client<'_>,
    transport: Transport<'_>,
    params: &Params<'a>,
) -> Result<(&'a Arc<RegisteredTool>, Node<'a>), RequestError> {
    let invalid = |message: &'static str| RequestError::new(ErrorKind::InvalidMethodParams, message);
    let name = params.name.and_then(Node::as_str).ok_or_else(|| invalid("params.name must be a string"))?;
    let unknown = || RequestError::new(ErrorKind::UnknownTool, format!("Unknown tool: {}", truncate(name)));
    let tool = snapshot.tool(name).ok_or_else(unknown)?;
    let mut arguments = params.arguments.unwrap_or_else(Node::empty_object);
    if !arguments.is_object() {
        if !arguments.is_null() {
            return Err(invalid("params.arguments must be an object"));
        }
        arguments = Node::empty_object();
    }
    // Legacy revisions do not define these headers, and JSON lines have no headers.
    if let Transport::Http(headers) = transport
        && client.revision.is_modern()
    {
        header_params::check(tool.header_params(), headers, arguments)?;
    }
    let missing = tool.requires().without(client.capabilities);
    if missing.is_empty() {
        return Ok((tool, arguments));
    }
    let needed = missing.to_json();
    let message = format!("Missing required client capability: {needed}");
    let data = Some(serde_json::json!({"requiredCapabilities": needed}).to_string());
    // Only the 2026 era defines the error code.
    Err(if client.revision.is_modern() {
        RequestError { data, ..RequestError::new(ErrorKind::MissingCapability, message) }
    } else {
        RequestError { data, ..RequestError::new(ErrorKind::InvalidMethodParams, message) }
    })
}

/// Encodes the result of a call.
pub(crate) fn write_call_result(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    id: Id<'_>,
    revision: Revision,
    reply: &Reply,
) {
    begin_result(out, id);
    write_result_members(out, snapshot, revision, reply, |out| reply.write(out, revision));
    finish_result(out);
}

/// Appends the members of a result: those that every result of the era has, and those that `write` appends.
pub(crate) fn write_result_members(
    out: &mut Vec<u8>,
    snapshot: &Snapshot,
    revision: Revision,
    reply: &Reply,
    write: impl FnOnce(&mut Vec<u8>),
) {
    if revision.is_modern() {
        out.extend_from_slice(b"\"resultType\":\"complete\",");
    }
    write(out);
    let own = if revision.is_modern() { snapshot.server_info() } else { &[] };
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

/// Formats violations in one line.
pub(crate) fn explain(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
