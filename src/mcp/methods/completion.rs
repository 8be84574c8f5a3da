//! `completion/complete` (<https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/completion>).

use crate::mcp::{
    envelope::client::Client,
    envelope::era::Params,
    error::{ErrorKind, RequestError},
    methods::call::CallRequest,
    model::method::RpcMethod,
    outcome::Outcome,
    response::error::truncate,
    router_context::RouterContext,
};
use crate::{
    json::Node,
    jsonrpc::{Id, write_result},
    registry::{Completers, Snapshot},
};

/// Handles `completion/complete`. `whole` is all of `params`, which is the input of a completer.
pub(crate) fn complete<'a>(
    context: &RouterContext<'a, '_>,
    client: &Client<'a>,
    id: Id<'a>,
    (whole, params): (Node<'a>, &Params<'a>),
    out: &mut Vec<u8>,
) -> Result<Outcome<'a>, RequestError> {
    let (completers, argument) = find(context.snapshot, params)?;
    let unknown = || invalid(format!("Unknown argument: {}", truncate(argument)));
    let Some(completer) = completers.find(argument).ok_or_else(unknown)? else {
        // The argument has no completer: no values.
        let is_modern = client.revision.is_modern();
        write_result(out, id, |out| {
            if is_modern {
                out.extend_from_slice(b"\"resultType\":\"complete\",");
            }
            out.extend_from_slice(b"\"completion\":{\"values\":[],\"total\":0,\"hasMore\":false}");
            if is_modern {
                out.extend_from_slice(b",\"_meta\":{");
                out.extend_from_slice(context.snapshot.server_info());
                out.push(b'}');
            }
        });
        return Ok(Outcome::Reply(RpcMethod::Complete));
    };
    let client = &Client { capabilities: Default::default(), ..*client };
    let request = CallRequest {
        client,
        id,
        params: &params.without_input(),
        method: "completion/complete",
        name: "",
        arguments: None,
        schema: None,
        limits: context.limits,
    };
    request.run(completer, whole, context.sessions.signing_key(), context.now)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> RequestError {
    RequestError::new(ErrorKind::InvalidMethodParams, message)
}

/// Finds the completers that `ref` names, and the name of the argument to complete.
fn find<'s, 'a>(
    snapshot: &'s Snapshot,
    params: &Params<'a>,
) -> Result<(&'s Completers, &'a str), RequestError> {
    let reference = params.get("ref").filter(|reference| reference.is_object());
    let reference = reference.ok_or_else(|| invalid("params.ref must be an object"))?;
    let text = |object: Node<'a>, key: &str| object.get(key).and_then(Node::as_str);
    let argument = params.get("argument").filter(|argument| text(*argument, "value").is_some());
    let argument = argument.and_then(|argument| text(argument, "name"));
    let argument =
        argument.ok_or_else(|| invalid("params.argument must have a name and a value, both strings"))?;
    let is_present = |node: &Node<'_>| !node.is_null();
    if params.get("context").filter(is_present).is_some_and(|context| {
        !context.is_object()
            || context.get("arguments").filter(is_present).is_some_and(|arguments| !arguments.is_object())
    }) {
        return Err(invalid("params.context.arguments must be an object"));
    }
    let completers = match text(reference, "type") {
        Some("ref/prompt") => {
            let name = text(reference, "name").ok_or_else(|| invalid("params.ref.name must be a string"))?;
            let prompt = snapshot.prompts().find(name);
            prompt.ok_or_else(|| invalid(format!("Unknown prompt: {}", truncate(name))))?.completers()
        }
        Some("ref/resource") => {
            let uri = text(reference, "uri").ok_or_else(|| invalid("params.ref.uri must be a string"))?;
            let completers = snapshot.template_completers(uri);
            completers.ok_or_else(|| invalid(format!("Unknown resource template: {}", truncate(uri))))?
        }
        _ => return Err(invalid("params.ref.type must be ref/prompt or ref/resource")),
    };
    Ok((completers, argument))
}
