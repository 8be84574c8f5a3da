//! Errors of handlers, and their encoding for clients.

use std::{any::Any, error::Error, fmt};

use serde_json::{Value, json};

use super::{
    capability::{Capabilities, Capability},
    revision::Revision,
};

/// A JSON-RPC error, which the client's program handles. Most failures of a tool should reach the model instead: return any
/// other error, and the result has `isError`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ProtocolError {
    /// JSON-RPC error code. Codes of your own belong outside -32768 to -32000.
    pub code: i64,
    /// A short sentence.
    pub message: String,
    /// Further information.
    pub data: Option<Value>,
}

impl ProtocolError {
    /// -32602: the parameters are invalid in a way that the schema cannot express.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self { code: -32602, message: message.into(), data: None }
    }

    /// -32603: an internal error of the server.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { code: -32603, message: message.into(), data: None }
    }
}

/// -32002: the code for a missing resource before 2026-07-28, which uses -32602
/// (<https://modelcontextprotocol.io/specification/2025-11-25/server/resources#error-handling>,
/// <https://modelcontextprotocol.io/specification/2026-07-28/server/resources#error-handling>).
const RESOURCE_NOT_FOUND: i64 = -32002;

impl ProtocolError {
    /// No resource has this URI.
    #[must_use]
    pub fn resource_not_found(uri: &str) -> Self {
        Self {
            code: RESOURCE_NOT_FOUND,
            message: "Resource not found".to_owned(),
            data: Some(serde_json::json!({"uri": uri})),
        }
    }

    /// Whether no resource has the URI.
    pub(crate) fn is_resource_not_found(&self) -> bool {
        self.code == RESOURCE_NOT_FOUND
    }

    /// The code of this error in a revision.
    #[must_use]
    pub fn code_for(&self, revision: Revision) -> i64 {
        let is_renamed = self.code == RESOURCE_NOT_FOUND && revision.is_modern();
        if is_renamed { Self::invalid_params("").code } else { self.code }
    }
}

/// Why a request to the client has no result. As the error of a handler it becomes the matching JSON-RPC error.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AskError {
    /// The client did not declare the capability
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr>).
    Unsupported(Capability),
    /// The call cannot wait: it belongs to a legacy client without a session, or the maximum number of blocking handlers waits.
    CannotWait(&'static str),
    /// The client answered with an error.
    Refused {
        /// Code of the error.
        code: i64,
        /// Message of the error.
        message: String,
    },
    /// The client's result does not match the request.
    Malformed,
    /// Validating the client's answer to a form takes more work than `validation_inline_work_max`.
    BudgetExceeded,
    /// No response arrived in time, or the client disconnected.
    NoAnswer,
    /// The call must return now, with `input_required` as its result (2026-07-28). Only blocking handlers get this error;
    /// they must return it.
    InputRequired,
}

impl std::fmt::Display for AskError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&ProtocolError::from(self.clone()).message)
    }
}

impl std::error::Error for AskError {}

impl From<AskError> for ProtocolError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Unsupported(capability) => Self::missing_capability(capability),
            AskError::CannotWait(why) => Self::internal(format!("The client cannot be asked: {why}")),
            AskError::Refused { message, .. } => Self::internal(format!("The client refused: {message}")),
            AskError::Malformed => Self::internal("The client's answer is malformed"),
            AskError::BudgetExceeded => Self::internal(
                "The validation of the client's answer takes more work than the limit validation_inline_work_max allows",
            ),
            AskError::NoAnswer => Self::internal("The client did not answer"),
            AskError::InputRequired => Self::internal("Input is required"),
        }
    }
}

impl ProtocolError {
    /// -32021: the request needs a client capability that was not declared.
    #[must_use]
    pub fn missing_capability(capability: Capability) -> Self {
        let needed = Capabilities::default().with(capability).to_json();
        Self {
            code: -32021,
            message: format!("Missing required client capability: {needed}"),
            data: Some(json!({"requiredCapabilities": needed})),
        }
    }
}

/// The error of a handler: text for the model, or a JSON-RPC error. `?` converts any error to it. The type holds an error
/// and does not implement `Error`, so that every `Error` converts to it; [`CallError::into_error`] converts back.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError {
    /// Sent to the model, in a result with `isError`.
    Told(String),
    /// Sent to the client's program, as a JSON-RPC error.
    Protocol(ProtocolError),
}

impl CallError {
    /// The error that it holds, for functions that return another error type, such as `anyhow::Error`.
    ///
    /// ```
    /// use corelane::{CallError, ProtocolError};
    ///
    /// let error = CallError::from(ProtocolError::invalid_params("no such page")).into_error();
    /// assert!(error.is::<ProtocolError>());
    /// ```
    #[must_use]
    pub fn into_error(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::Told(text) => text.into(),
            Self::Protocol(error) => Box::new(error),
        }
    }

    /// The JSON-RPC error for requests whose results cannot carry `isError`.
    pub(crate) fn into_protocol(self) -> ProtocolError {
        match self {
            Self::Told(text) => ProtocolError::internal(text),
            Self::Protocol(error) => error,
        }
    }

    /// The text of an error with its causes, or the JSON-RPC error that it is.
    fn of(error: &(dyn Error + 'static)) -> Self {
        if let Some(error) = error.downcast_ref::<ProtocolError>() {
            return Self::Protocol(error.clone());
        }
        if let Some(error) = error.downcast_ref::<AskError>() {
            return Self::Protocol(error.clone().into());
        }
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            let cause = source.to_string();
            // Some errors already end with the text of their cause.
            if !text.ends_with(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
            next = source.source();
        }
        Self::Told(text)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(text) => formatter.write_str(text),
            Self::Protocol(error) => error.fmt(formatter),
        }
    }
}

impl<E: Error + 'static> From<E> for CallError {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

/// Error types of handlers: of tools, resources, templates, prompts and completers. Implemented for every type with `Display`:
/// [`CallError`], [`ProtocolError`] and [`AskError`] keep their codes, also inside a boxed error or an `anyhow::Error` (feature
/// `anyhow`). Of a boxed error and an `anyhow::Error` the text of the whole chain is sent, of any other value its text.
///
/// ```
/// use corelane::{NoArguments, Tool};
///
/// fn port() -> Result<u16, std::num::ParseIntError> {
///     "80".parse()
/// }
///
/// let typed = Tool::new("typed").run(|_: NoArguments, _cx| port());
/// let boxed = Tool::new("boxed").run(|_: NoArguments, _cx| {
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(port()?)
/// });
/// let text = Tool::new("text").run(|_: NoArguments, _cx| Err::<(), _>("not today"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a handler",
    label = "cannot be displayed",
    note = "return `CallError`, any `std::error::Error`, a text, or `anyhow::Error`"
)]
pub trait HandlerError {
    /// Converts to the error that is sent to the client.
    fn into_call_error(self) -> CallError;
}

// Without this the compiler reports the missing `Display` instead of the message above.
#[diagnostic::do_not_recommend]
impl<E: fmt::Display + 'static> HandlerError for E {
    fn into_call_error(self) -> CallError {
        let error: &dyn Any = &self;
        if let Some(error) = error.downcast_ref::<CallError>() {
            return error.clone();
        }
        if let Some(error) = error.downcast_ref::<ProtocolError>() {
            return CallError::Protocol(error.clone());
        }
        if let Some(error) = error.downcast_ref::<AskError>() {
            return CallError::Protocol(error.clone().into());
        }
        if let Some(error) = error.downcast_ref::<Box<dyn Error + Send + Sync>>() {
            return CallError::of(&**error);
        }
        if let Some(error) = error.downcast_ref::<Box<dyn Error>>() {
            return CallError::of(&**error);
        }
        #[cfg(feature = "anyhow")]
        if let Some(error) = error.downcast_ref::<anyhow::Error>() {
            // `anyhow` finds the type also under a context.
            if let Some(error) = error.downcast_ref::<ProtocolError>() {
                return CallError::Protocol(error.clone());
            }
            if let Some(error) = error.downcast_ref::<AskError>() {
                return CallError::Protocol(error.clone().into());
            }
            return CallError::of(error.as_ref());
        }
        CallError::Told(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the configuration")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the file is locked: {0}")]
    struct Inner(#[source] std::num::ParseIntError);

    fn outer() -> Outer {
        Outer(Inner("x".parse::<u8>().unwrap_err()))
    }

    const CHAIN: &str = "cannot read the configuration: the file is locked: invalid digit found in string";

    fn converted(error: impl HandlerError) -> CallError {
        error.into_call_error()
    }

    #[test]
    fn error_text_has_the_chain_and_protocol_errors_keep_their_code() {
        let invalid = || ProtocolError::invalid_params("no such page");
        let protocol = CallError::Protocol(invalid());
        let text = |text: &str| CallError::Told(text.to_owned());
        assert_eq!(CallError::from(outer()), text(CHAIN));
        assert_eq!(converted(Box::<dyn Error + Send + Sync>::from(outer())), text(CHAIN));
        assert_eq!(converted(Box::<dyn Error>::from(outer())), text(CHAIN));
        assert_eq!(converted("text"), text("text"));
        assert_eq!(converted("text".to_owned()), text("text"));
        assert_eq!(CallError::from(invalid()), protocol);
        assert_eq!(converted(invalid()), protocol);
        assert_eq!(converted(protocol.clone()), protocol);
        assert_eq!(converted(protocol.clone().into_error()), protocol);
        let no_answer = CallError::Protocol(AskError::NoAnswer.into());
        assert_eq!(CallError::from(AskError::NoAnswer), no_answer);
        assert_eq!(converted(AskError::NoAnswer), no_answer);
    }

    #[test]
    #[cfg(feature = "anyhow")]
    fn anyhow_error_text_has_the_chain_and_protocol_errors_keep_their_code() {
        use anyhow::Context;
        let chain = format!("at start: {CHAIN}");
        assert_eq!(converted(Err::<(), _>(outer()).context("at start").unwrap_err()), CallError::Told(chain));
        let invalid = || ProtocolError::invalid_params("no such page");
        assert_eq!(converted(anyhow::Error::from(invalid())), CallError::Protocol(invalid()));
        assert_eq!(converted(anyhow::Error::from(invalid()).context("on")), CallError::Protocol(invalid()));
        assert_eq!(
            converted(anyhow::Error::from(AskError::NoAnswer)),
            CallError::Protocol(AskError::NoAnswer.into())
        );
    }
}
