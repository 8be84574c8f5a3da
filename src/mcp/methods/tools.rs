//! `tools/call` (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#calling-tools>).

use crate::mcp::{
    envelope::client::{Client, Transport},
    envelope::era::Params,
    envelope::header_params,
    error::{ErrorKind, RequestError},
    methods::call::CallRequest,
    outcome::Outcome,
    response::error::truncate,
    router_context::RouterContext,
};
use crate::{json::Node, jsonrpc::Id};

/// Handles `tools/call`.
///
/// Errors if the parameters are invalid, a header contradicts an argument, or the client lacks a required capability.
pub(crate) fn call<'a>(
    context: &RouterContext<'a, '_>,
    client: &Client<'a>,
    transport: Transport<'_>,
    id: Id<'a>,
    params: &Params<'a>,
) -> Result<Outcome<'a>, RequestError> {
    let invalid = |message: &'static str| RequestError::new(ErrorKind::InvalidMethodParams, message);
    let name = params.name.and_then(Node::as_str).ok_or_else(|| invalid("params.name must be a string"))?;
    let unknown = || RequestError::new(ErrorKind::UnknownTool, format!("Unknown tool: {}", truncate(name)));
    let tool = context.snapshot.tools().find(name).ok_or_else(unknown)?;
    let mut input = params.arguments.unwrap_or_else(Node::empty_object);
    if !input.is_object() {
        if !input.is_null() {
            return Err(invalid("params.arguments must be an object"));
        }
        input = Node::empty_object();
    }
    // Legacy revisions do not define these headers, and JSON lines have no headers.
    if let Transport::Http(headers) = transport
        && client.revision.is_modern()
    {
        for param in tool.header_params() {
            header_params::check(param, headers, input)?;
        }
    }
    let missing = tool.requires().without(client.capabilities);
    if !missing.is_empty() {
        let needed = missing.to_json();
        let message = format!("Missing required client capability: {needed}");
        let data = Some(serde_json::json!({"requiredCapabilities": needed}).to_string());
        // Only the 2026 era defines the error code.
        let is_modern = client.revision.is_modern();
        let reason = if is_modern { ErrorKind::MissingCapability } else { ErrorKind::InvalidMethodParams };
        return Err(RequestError { data, ..RequestError::new(reason, message) });
    }
    let request = CallRequest {
        client,
        id,
        params,
        method: "tools/call",
        name: tool.callable().name(),
        arguments: params.arguments,
        schema: Some(tool.input()),
        limits: context.limits,
    };
    request.run(tool.callable(), input, context.sessions.signing_key(), context.now)
}
