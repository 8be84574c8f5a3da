//! `prompts/get` (<https://modelcontextprotocol.io/specification/2026-07-28/server/prompts#getting-a-prompt>).

use crate::mcp::{
    envelope::client::Client,
    envelope::era::Params,
    error::{ErrorKind, RequestError},
    methods::call::CallRequest,
    outcome::Outcome,
    response::error::truncate,
    router_context::RouterContext,
};
use crate::{json::Node, jsonrpc::Id};

pub(crate) fn get<'a>(
    context: &RouterContext<'a, '_>,
    client: &Client<'a>,
    id: Id<'a>,
    params: &Params<'a>,
) -> Result<Outcome<'a>, RequestError> {
    let invalid = |message: String| RequestError::new(ErrorKind::InvalidMethodParams, message);
    let name = params.name.and_then(Node::as_str);
    let name = name.ok_or_else(|| invalid("params.name must be a string".to_owned()))?;
    let unknown =
        || RequestError::new(ErrorKind::UnknownPrompt, format!("Unknown prompt: {}", truncate(name)));
    let prompt = context.snapshot.prompts().find(name).ok_or_else(unknown)?;
    let is_present = |node: &Node<'_>| !node.is_null();
    let arguments = params.arguments.filter(is_present).unwrap_or_else(Node::empty_object);
    let members = arguments.members();
    let mut members = members.ok_or_else(|| invalid("params.arguments must be an object".to_owned()))?;
    if let Some((key, _)) = members.find(|(_, value)| value.as_str().is_none() && is_present(value)) {
        return Err(invalid(format!("Argument {} must be a string", truncate(key))));
    }
    if let Some(missing) =
        prompt.required().find(|required| arguments.get(required).filter(is_present).is_none())
    {
        return Err(invalid(format!("Missing required argument: {missing}")));
    }
    let request = CallRequest {
        client,
        id,
        params,
        method: "prompts/get",
        name,
        arguments: params.arguments,
        schema: None,
        limits: context.limits,
    };
    request.run(prompt.callable(), arguments, context.sessions.signing_key(), context.now)
}
