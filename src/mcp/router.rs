//! The router: dispatches a decoded message to its method, or encodes the error of the first check that fails.

use serde::Deserialize;
use serde_json::Value;

use super::{
    envelope::client::{Affinity, Transport},
    envelope::era::{self, Params},
    envelope::questions::QuestionId,
    error::{ErrorKind, RequestError, session_needed},
    methods::completion,
    methods::discover,
    methods::initialize,
    methods::listen,
    methods::lists,
    methods::logging,
    methods::ping,
    methods::prompts,
    methods::resources,
    methods::tasks,
    methods::tools,
    model::method::RpcMethod,
    outcome::{ClientAnswer, Outcome},
    response::error::reject,
    router_context::RouterContext,
    sessions::{Session, Sessions},
};
use crate::{
    call::{Headers, Revision},
    http1::Status,
    json::{Node, Number},
    jsonrpc::{Id, IdFault, Message, read_id_member},
    registry::List,
};

// Long: one arm for each kind of message, and one for each method.
/// Routes a message: encodes the reply into `out`, or returns the action for the caller.
pub fn route<'a>(
    context: &mut RouterContext<'a, '_>,
    transport: Transport<'_>,
    root: Node<'a>,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    // The revision for errors before the era is decided: their HTTP status does not depend on it.
    let any = Revision::ASSUMED;
    let (id, method, whole) = match Message::read(root, context.limits.id_bytes_max) {
        Ok(Message::Request { id, method, params }) => (id, method, params),
        Ok(Message::Notification { method, params }) => {
            return match notification(context, transport, method, params) {
                Ok(outcome) => outcome,
                Err(error) => reject(out, None, any, RpcMethod::Other, error),
            };
        }
        Ok(Message::Response { id, result, error }) => {
            return match response(context, transport, id, result, error) {
                Ok(answer) => Outcome::Answered(answer),
                Err(error) => reject(out, None, any, RpcMethod::Other, error),
            };
        }
        Err(malformed) => {
            // The status of an unknown session takes precedence over that of a batch
            // (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#session-management>).
            let unknown_session = match transport {
                Transport::Http(headers) if root.elements().is_some() => {
                    era::session(headers, context.sessions, context.now).err()
                }
                _ => None,
            };
            let invalid = || RequestError::new(ErrorKind::InvalidRequest, malformed.reason);
            let error = unknown_session.unwrap_or_else(invalid);
            return reject(out, malformed.id, any, RpcMethod::Other, error);
        }
    };
    let params = Params::read(whole, context.limits.id_bytes_max);
    let client = match era::client(transport, context.sessions, context.now, method, &params) {
        Ok(client) => client,
        Err(error) => {
            return reject(out, Some(id), any, RpcMethod::Other, error);
        }
    };
    let (snapshot, revision) = (context.snapshot, client.revision);
    let method = RpcMethod::parse(method, revision, snapshot);
    let list = |list, out: &mut Vec<u8>| lists::answer(snapshot, list, method, revision, id, &params, out);
    let routed = match method {
        RpcMethod::ToolsCall => tools::call(context, &client, transport, id, &params),
        RpcMethod::ToolsList => list(List::Tools, out),
        RpcMethod::ResourcesList => list(List::Resources, out),
        RpcMethod::TemplatesList => list(List::Templates, out),
        RpcMethod::PromptsList => list(List::Prompts, out),
        RpcMethod::ResourcesRead => resources::read(context, &client, id, &params),
        RpcMethod::PromptsGet => prompts::get(context, &client, id, &params),
        RpcMethod::Complete => {
            let whole = whole.unwrap_or_else(Node::empty_object);
            completion::complete(context, &client, id, (whole, &params), out)
        }
        RpcMethod::Discover => Ok(discover::answer(snapshot, id, out)),
        RpcMethod::Listen => listen::listen(context, &client, id, &params),
        RpcMethod::TasksGet | RpcMethod::TasksUpdate | RpcMethod::TasksCancel => {
            tasks::request(method, context.sessions.signing_key(), &client, id, &params)
        }
        RpcMethod::Initialize => initialize::answer(context, id, &params, out),
        RpcMethod::Ping => Ok(ping::answer(id, out)),
        RpcMethod::SetLevel => logging::set_level(&client, id, &params),
        RpcMethod::Subscribe | RpcMethod::Unsubscribe => {
            resources::subscribe(context, &client, id, method, &params)
        }
        RpcMethod::Other => Err(RequestError::new(ErrorKind::UnknownMethod, "Method not found")),
    };
    routed.unwrap_or_else(|error| reject(out, Some(id), revision, method, error))
}

/// Handles a notification. `notifications/cancelled` cancels a request
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/cancellation>); all others are accepted and ignored.
fn notification<'a>(
    context: &mut RouterContext<'a, '_>,
    transport: Transport<'_>,
    method: &str,
    params: Option<Node<'a>>,
) -> Result<Outcome<'a>, RequestError> {
    era::check_notification(transport)?;
    let affinity = match transport {
        Transport::Http(headers) => match era::session(headers, context.sessions, context.now)? {
            Some(session) => Affinity::Session(session),
            None => Affinity::None,
        },
        Transport::JsonLines(_) => Affinity::Connection,
    };
    if method != "notifications/cancelled" {
        return Ok(Outcome::Accepted);
    }
    let id_bytes_max = context.limits.id_bytes_max;
    let id = match params.map(|params| read_id_member(params, "requestId", id_bytes_max)) {
        Some(Ok(id)) => id,
        // A malformed id is ignored, as is the id of an unknown or completed request.
        None | Some(Err(IdFault::Kind)) => None,
        Some(Err(IdFault::Range)) => {
            return Err(RequestError::new(
                ErrorKind::InvalidRequest,
                "requestId must be an integer of 64 bits",
            ));
        }
        Some(Err(IdFault::Long)) => {
            let message = "requestId has more bytes than limits.id_bytes_max";
            return Err(RequestError::new(ErrorKind::InvalidRequest, message));
        }
    };
    let id = id.filter(|_| affinity != Affinity::None);
    Ok(id.map_or(Outcome::Accepted, |id| Outcome::Cancelled(affinity, id.to_owned())))
}

/// Handles a response. Only legacy clients send responses, and only to requests that this server has made
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns>).
fn response(
    context: &mut RouterContext<'_, '_>,
    transport: Transport<'_>,
    id: Option<Id<'_>>,
    result: Option<Node<'_>>,
    error: Option<Node<'_>>,
) -> Result<ClientAnswer, RequestError> {
    let unexpected = || RequestError::new(ErrorKind::UnknownRequest, "Unexpected response");
    let session = match transport {
        Transport::Http(headers) => {
            let session = era::session(headers, context.sessions, context.now)?;
            Some(session.ok_or_else(unexpected)?.key)
        }
        Transport::JsonLines(_) => None,
    };
    let Some(Id::String(id)) = id else { return Err(unexpected()) };
    let question =
        QuestionId::verify(id, context.sessions.signing_key(), session, context.sessions.instance());
    let question = question.ok_or_else(unexpected)?;
    let answer = match (result, error) {
        (Some(result), _) if result.is_object() => Ok(Value::deserialize(result).unwrap_or_default()),
        (Some(_), _) => return Err(RequestError::new(ErrorKind::InvalidRequest, "result must be an object")),
        (None, error) => {
            let part = |key: &str| error.and_then(|error| error.get(key));
            let code = match part("code").and_then(Node::as_number) {
                Some(Number::Signed(code)) => code,
                Some(Number::Unsigned(code)) => i64::try_from(code).unwrap_or(i64::MAX),
                _ => 0,
            };
            let message = part("message").and_then(Node::as_str).unwrap_or_default();
            Err((code, message.to_owned()))
        }
    };
    Ok(ClientAnswer { question, session, answer })
}

/// Whether batches are accepted: in revision 2025-03-26, and without a session and version header
/// (<https://modelcontextprotocol.io/specification/2025-03-26/basic#batching>).
#[must_use]
pub fn accepts_batches(sessions: &mut Sessions, now: u64, transport: Transport<'_>) -> bool {
    let has_batches = |revision: Revision| revision == Revision::V2025_03_26;
    match transport {
        Transport::JsonLines(handshake) => handshake.is_some_and(|handshake| has_batches(handshake.revision)),
        Transport::Http(headers) => match era::session(headers, sessions, now) {
            Ok(Some(session)) => has_batches(session.revision),
            Ok(None) => era::version(headers).is_none_or(|version| version.is_some_and(has_batches)),
            Err(_) => false,
        },
    }
}

/// The session of an HTTP request that carries no message (`GET` and `DELETE`).
///
/// # Errors
/// 400 without a session id or with an unsupported version, 404 for an unknown session. The error is in `out`.
pub fn require_session(
    sessions: &mut Sessions,
    now: u64,
    headers: Headers<'_>,
    out: &mut Vec<u8>,
) -> Result<Session, (Status, ErrorKind)> {
    let found =
        era::check_notification(Transport::Http(headers)).and_then(|()| era::session(headers, sessions, now));
    let error = match found.and_then(|session| session.ok_or_else(session_needed)) {
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    let reason = error.reason;
    reject(out, None, Revision::ASSUMED, RpcMethod::Other, error);
    Err((reason.status(Revision::ASSUMED), reason))
}
