//! Errors of handlers, and what a client gets of each.

use std::{any::Any, error::Error, fmt};

use serde_json::{Value, json};

use super::{
    capability::{Capabilities, Capability},
    revision::Revision,
};

/// An error of the protocol rather than of the tool: the client's program is told, not the model. Most failures of a
/// tool are better told to the model, by returning any other error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ProtocolError {
    /// JSON-RPC error code. Codes of your own belong outside -32768 to -32000.
    pub code: i64,
    /// One short sentence.
    pub message: String,
    /// Anything that helps.
    pub data: Option<Value>,
}

impl ProtocolError {
    /// -32602: the request's parameters are wrong in a way no schema can tell.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self { code: -32602, message: message.into(), data: None }
    }

    /// -32603: it is the server's fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { code: -32603, message: message.into(), data: None }
    }
}

/// -32002: the code for a resource that is not there, before 2026-07-28; from then on it is -32602 (checklist R-04).
const RESOURCE_NOT_FOUND: i64 = -32002;

impl ProtocolError {
    /// There is no resource of this URI.
    #[must_use]
    pub fn resource_not_found(uri: &str) -> Self {
        Self {
            code: RESOURCE_NOT_FOUND,
            message: "Resource not found".to_owned(),
            data: Some(serde_json::json!({"uri": uri})),
        }
    }

    /// The code a client of this revision knows it by.
    #[must_use]
    pub fn code_for(&self, revision: Revision) -> i64 {
        let is_renamed = self.code == RESOURCE_NOT_FOUND && revision.is_modern();
        if is_renamed { Self::invalid_params("").code } else { self.code }
    }
}

/// Why a question was not answered. In a handler's result it becomes what the client must be told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AskError {
    /// The client did not say that it can do this (checklist M-43).
    Unsupported(Capability),
    /// The call cannot wait: it runs inline, or it is a legacy client's without a session.
    CannotWait(&'static str),
    /// The client answered with an error.
    Refused {
        /// Its code.
        code: i64,
        /// Its message.
        message: String,
    },
    /// The client answered with something else than what was asked for.
    Malformed,
    /// No answer came in time, or the client has gone.
    NoAnswer,
    /// The call is to end here: its result will be the question (2026-07-28). Only blocking handlers see this; they hand
    /// it on.
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
            AskError::NoAnswer => Self::internal("The client did not answer"),
            AskError::InputRequired => Self::internal("Input is required"),
        }
    }
}

impl ProtocolError {
    /// -32021: the request needs something of the client that it did not declare.
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

/// The error of a handler: a result for the model, or an error of the protocol. `?` makes one of any error. It holds an error
/// and is none itself, so that it can be made of all others; [`CallError::into_error`] gives one back.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError {
    /// Told to the model, in a result with `isError`.
    Told(String),
    /// Told to the client's program.
    Protocol(ProtocolError),
}

impl CallError {
    /// The error it holds, for functions that return another error type, such as `anyhow::Error`.
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

    /// For requests whose failures only the client's program sees.
    pub(super) fn into_protocol(self) -> ProtocolError {
        match self {
            Self::Told(text) => ProtocolError::internal(text),
            Self::Protocol(error) => error,
        }
    }

    /// An error with what caused it, unless it is one of the protocol.
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
            let told = source.to_string();
            // Some errors end with their cause's text.
            if !text.ends_with(&told) {
                text.push_str(": ");
                text.push_str(&told);
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

/// What a handler's `Result` may hold as its error: alike for tools, resources, templates, prompts and completers. Implemented for
/// all that can be displayed: [`CallError`], [`ProtocolError`] and [`AskError`] keep their codes, also inside a boxed error or
/// an `anyhow::Error` (feature `anyhow`), whose whole chain is sent; of any other value its text is.
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
    /// The error that the client gets.
    fn into_call_error(self) -> CallError;
}

// Else the compiler names the missing `Display` only, and not the message above.
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
            // Also one that was given a context.
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

    fn kept(error: impl HandlerError) -> CallError {
        error.into_call_error()
    }

    #[test]
    fn errors_tell_their_chain_and_those_of_the_protocol_keep_their_code() {
        let invalid = || ProtocolError::invalid_params("no such page");
        let protocol = CallError::Protocol(invalid());
        let told = |text: &str| CallError::Told(text.to_owned());
        assert_eq!(CallError::from(outer()), told(CHAIN));
        assert_eq!(kept(Box::<dyn Error + Send + Sync>::from(outer())), told(CHAIN));
        assert_eq!(kept(Box::<dyn Error>::from(outer())), told(CHAIN));
        assert_eq!(kept("text"), told("text"));
        assert_eq!(kept("text".to_owned()), told("text"));
        assert_eq!(CallError::from(invalid()), protocol);
        assert_eq!(kept(invalid()), protocol);
        assert_eq!(kept(protocol.clone()), protocol);
        assert_eq!(kept(protocol.clone().into_error()), protocol);
        let no_answer = CallError::Protocol(AskError::NoAnswer.into());
        assert_eq!(CallError::from(AskError::NoAnswer), no_answer);
        assert_eq!(kept(AskError::NoAnswer), no_answer);
    }

    #[test]
    #[cfg(feature = "anyhow")]
    fn anyhow_errors_tell_their_chain_and_those_of_the_protocol_keep_their_code() {
        use anyhow::Context;
        let chain = format!("at start: {CHAIN}");
        assert_eq!(kept(Err::<(), _>(outer()).context("at start").unwrap_err()), CallError::Told(chain));
        let invalid = || ProtocolError::invalid_params("no such page");
        assert_eq!(kept(anyhow::Error::from(invalid())), CallError::Protocol(invalid()));
        assert_eq!(kept(anyhow::Error::from(invalid()).context("on")), CallError::Protocol(invalid()));
        assert_eq!(
            kept(anyhow::Error::from(AskError::NoAnswer)),
            CallError::Protocol(AskError::NoAnswer.into())
        );
    }
}
