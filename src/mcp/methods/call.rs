//! Builds a call from a request: progress token, log level, elicitation mode, and the answers of earlier rounds.

use serde::Deserialize;
use serde_json::Value;

use crate::mcp::{
    envelope::client::{Affinity, Client},
    envelope::era::Params,
    envelope::request_state,
    error::{ErrorKind, RequestError},
    outcome::{Call, CallState, Outcome},
};
use crate::{
    call::{CallDetails, Capability, ElicitationMode, Handler, Level, SharedCallable},
    config::Limits,
    json::Node,
    jsonrpc::{Id, write_id},
    schema::Validator,
    signed_token::SigningKey,
};

/// A request whose parameters have been checked, before it becomes a call.
pub(crate) struct CallRequest<'a, 'p> {
    pub(crate) client: &'p Client<'a>,
    pub(crate) id: Id<'a>,
    pub(crate) params: &'p Params<'a>,
    pub(crate) method: &'static str,
    /// The name of the tool or prompt, or the URI of the resource.
    pub(crate) name: &'a str,
    /// The arguments, which are part of the fingerprint that the request state is bound to.
    pub(crate) arguments: Option<Node<'a>>,
    /// The schema of the input; `None` without one.
    pub(crate) schema: Option<&'a Validator>,
    pub(crate) limits: &'p Limits,
}

impl<'a> CallRequest<'a, '_> {
    /// Builds the call of `callable` with `input`.
    ///
    /// Errors if the request state or the input responses of a retried request are invalid.
    pub(crate) fn run(
        self,
        callable: &'a SharedCallable,
        input: Node<'a>,
        signing_key: &SigningKey,
        now: u64,
    ) -> Result<Outcome<'a>, RequestError> {
        let Self { client, id, params, .. } = self;
        let is_modern = client.revision.is_modern();
        let is_inline = matches!(callable.handler(), Handler::Inline(_));
        let resumes = is_modern
            && (params.input_responses.is_some() || params.request_state.is_some())
            && [params.input_responses, params.request_state].iter().flatten().any(|node| !node.is_null());
        let can_require_input = is_modern && !is_inline && !client.capabilities.is_empty();
        let mut state = (resumes || can_require_input).then(|| {
            let arguments = self.arguments.filter(|arguments| !arguments.is_null());
            let fingerprint = request_state::fingerprint(self.method, self.name, arguments);
            Box::new(CallState { fingerprint, once: None, first_use: None })
        });
        let answers = match &mut state {
            Some(state) if resumes => {
                let retried = retry_state(params)?;
                let responses = params.input_responses.filter(|responses| !responses.is_null());
                let resumed =
                    request_state::answers(signing_key, now, &state.fingerprint, retried, responses);
                let invalid = || RequestError::new(ErrorKind::InvalidState, "Invalid requestState");
                let (answers, token) = resumed.ok_or_else(invalid)?;
                if callable.once().is_some() {
                    state.once =
                        Some((token.ok_or_else(invalid)?, request_state::responses_digest(responses)));
                }
                Some(answers)
            }
            _ => None,
        };
        // An inline call without a progress token and a log level receives a channel when it first logs, and reads the
        // extensions from the request.
        let uses_channel = client.progress_token.is_some() || client.level.is_some();
        let extensions = client.extensions.filter(|extensions| extensions.is_object() && !is_inline);
        let details = (uses_channel || !is_inline).then(|| {
            Box::new(CallDetails {
                progress_token: client.progress_token.map(token),
                log_level: client.level.or((!is_modern).then_some(Level::LEGACY_DEFAULT)),
                elicitation: match (is_modern, client.affinity) {
                    (true, _) => ElicitationMode::Retry,
                    (false, Affinity::Session(_) | Affinity::Connection) => ElicitationMode::Await,
                    (false, Affinity::None) => {
                        ElicitationMode::Unsupported("the request belongs to no session")
                    }
                },
                answers: answers.unwrap_or_default(),
                extensions: extensions.map(object).unwrap_or_default(),
                schema_limits: self.limits.form_schema(),
                task: callable.task().filter(|_| client.capabilities.has(Capability::Tasks)),
            })
        });
        Ok(Outcome::Run(Call {
            callable,
            input,
            schema: self.schema,
            id,
            meta: params.meta,
            revision: client.revision,
            capabilities: client.capabilities,
            affinity: client.affinity,
            details,
            state,
        }))
    }
}

/// Checks `inputResponses` and `requestState` of a retried request; returns the state.
fn retry_state<'a>(params: &Params<'a>) -> Result<Option<&'a str>, RequestError> {
    let invalid = |message: &'static str| RequestError::new(ErrorKind::InvalidMethodParams, message);
    if let Some(responses) = params.input_responses.filter(|responses| !responses.is_null()) {
        let members =
            responses.members().ok_or_else(|| invalid("params.inputResponses must be an object"))?;
        if members.map(|(_, value)| value).any(|value| !value.is_object()) {
            return Err(invalid("an input response must be an object"));
        }
    }
    match params.request_state.filter(|state| !state.is_null()) {
        None => Ok(None),
        Some(state) => {
            let state = state.as_str().ok_or_else(|| invalid("params.requestState must be a string"))?;
            Ok(Some(state))
        }
    }
}

/// Encodes a progress token as JSON.
fn token(token: Id<'_>) -> Box<str> {
    let mut text = Vec::new();
    write_id(&mut text, token);
    String::from_utf8(text).unwrap_or_default().into()
}

fn object(node: Node<'_>) -> serde_json::Map<String, Value> {
    match Value::deserialize(node) {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    }
}
