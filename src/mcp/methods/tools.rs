//! `tools/call` (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#calling-tools>).

use std::sync::Arc;

use crate::mcp::{
    envelope::client::{Client, Transport},
    envelope::era::Params,
    envelope::header_params,
    error::{ErrorKind, RequestError},
    methods::call::CallRequest,
    model::method::RpcMethod,
    outcome::Outcome,
    response::error::{reject, truncate},
    router_context::RouterContext,
};
use crate::{
    json::Node,
    jsonrpc::Id,
    registry::{RegisteredTool, Snapshot},
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
