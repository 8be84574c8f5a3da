//! `resources/read` (<https://modelcontextprotocol.io/specification/2026-07-28/server/resources>),
//! `resources/subscribe` and `resources/unsubscribe`
//! (<https://modelcontextprotocol.io/specification/2025-11-25/server/resources#subscriptions>).

use crate::mcp::{
    envelope::client::{Affinity, Client},
    envelope::era::Params,
    error::{ErrorKind, RequestError, session_needed},
    methods::call::CallRequest,
    methods::listen::check_length,
    model::method::RpcMethod,
    outcome::{Outcome, SessionAction},
    router_context::RouterContext,
};
use crate::{call::Revision, json::Node, jsonrpc::Id};

pub(crate) fn read<'a>(
    context: &RouterContext<'a, '_>,
    client: &Client<'a>,
    id: Id<'a>,
    params: &Params<'a>,
) -> Result<Outcome<'a>, RequestError> {
    let (uri, node) = uri(params)?;
    let found = context.snapshot.resource(uri).ok_or_else(|| not_found(uri, client.revision))?;
    let request = CallRequest {
        client,
        id,
        params,
        method: "resources/read",
        name: uri,
        arguments: None,
        schema: None,
        limits: context.limits,
    };
    request.run(found, node, context.sessions.signing_key(), context.now)
}

/// Handles `resources/subscribe` and `resources/unsubscribe`.
pub(crate) fn subscribe<'a>(
    context: &RouterContext<'a, '_>,
    client: &Client<'a>,
    id: Id<'a>,
    method: RpcMethod,
    params: &Params<'a>,
) -> Result<Outcome<'a>, RequestError> {
    let (uri, _) = uri(params)?;
    if client.affinity == Affinity::None {
        return Err(session_needed());
    }
    if client.affinity.session().is_some_and(|session| session.is_foreign) {
        // The subscriptions of a session are kept by the process that opened it. On 404 the client opens another session
        // (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#session-management>).
        return Err(RequestError::new(ErrorKind::UnknownSession, "Session not found"));
    }
    check_length(uri, context.limits)?;
    let action = if method == RpcMethod::Unsubscribe {
        SessionAction::Unsubscribe(uri.to_owned())
    } else {
        context.snapshot.resource(uri).ok_or_else(|| not_found(uri, client.revision))?;
        SessionAction::Subscribe(uri.to_owned())
    };
    Ok(Outcome::SessionCommand(id, client.affinity, action))
}

fn uri<'a>(params: &Params<'a>) -> Result<(&'a str, Node<'a>), RequestError> {
    let invalid = || RequestError::new(ErrorKind::InvalidMethodParams, "params.uri must be a string");
    let node = params.uri.ok_or_else(invalid)?;
    Ok((node.as_str().ok_or_else(invalid)?, node))
}

/// The error for an unknown resource; its code depends on the era
/// (<https://modelcontextprotocol.io/specification/2026-07-28/server/resources#error-handling>).
fn not_found(uri: &str, revision: Revision) -> RequestError {
    let reason =
        if revision.is_modern() { ErrorKind::UnknownResource } else { ErrorKind::UnknownLegacyResource };
    let data = Some(serde_json::json!({"uri": uri}).to_string());
    RequestError { data, ..RequestError::new(reason, "Resource not found") }
}
