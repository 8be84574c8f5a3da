//! Completion: what a client may offer a person who fills in a prompt's argument or a template's variable (checklist C-01).

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use super::{
    context::{Context, RemoteContext},
    error::{HandlerError, ProtocolError},
    handler::{Convert, Handler},
    reply::Reply,
};
use crate::json::Node;

/// What is to be completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completing {
    /// What has been typed so far.
    pub value: String,
    /// The other arguments, as far as they are filled in.
    pub arguments: BTreeMap<String, String>,
}

/// The values a person may choose from, the best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// No more than a hundred are sent.
    pub values: Vec<String>,
    /// How many there are in all, if these are not all.
    pub total: Option<usize>,
}

impl<T: Into<String>> FromIterator<T> for Completion {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self { values: values.into_iter().map(Into::into).collect(), total: None }
    }
}

impl<T: Into<String>> From<Vec<T>> for Completion {
    fn from(values: Vec<T>) -> Self {
        values.into_iter().collect()
    }
}

/// What a completer may return.
#[diagnostic::on_unimplemented(
    message = "a completer cannot return `{Self}`",
    label = "cannot be made a completion",
    note = "return a `Vec` of texts, `Completion`, or an `Option` or a `Result` of these"
)]
pub trait IntoCompletion {
    /// The values, or why there are none.
    ///
    /// # Errors
    /// What the client is told.
    fn into_completion(self) -> Result<Completion, ProtocolError>;
}

impl IntoCompletion for Completion {
    fn into_completion(self) -> Result<Completion, ProtocolError> {
        Ok(self)
    }
}

impl<T: Into<String>> IntoCompletion for Vec<T> {
    fn into_completion(self) -> Result<Completion, ProtocolError> {
        Ok(self.into())
    }
}

/// No values, where there is nothing.
impl<T: IntoCompletion> IntoCompletion for Option<T> {
    fn into_completion(self) -> Result<Completion, ProtocolError> {
        self.map_or_else(|| Ok(Completion::default()), IntoCompletion::into_completion)
    }
}

impl<T: IntoCompletion, E: HandlerError> IntoCompletion for Result<T, E> {
    fn into_completion(self) -> Result<Completion, ProtocolError> {
        self.map_err(|error| error.into_call_error().into_protocol())?.into_completion()
    }
}

/// How one argument is completed.
#[derive(Clone)]
pub struct Completer {
    pub(super) argument: Cow<'static, str>,
    pub(super) handler: Handler,
}

impl std::fmt::Debug for Completer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Completer").field("argument", &self.argument).finish_non_exhaustive()
    }
}

impl Completer {
    /// Completes by a fast function: runs on the core, before the next request.
    pub fn new<F, R>(argument: impl Into<Cow<'static, str>>, complete: F) -> Self
    where
        F: Fn(Completing, Context) -> R + Send + Sync + 'static,
        R: IntoCompletion + 'static,
    {
        Self { argument: argument.into(), handler: convert().inline(complete) }
    }

    /// Completes by a task on the shard's executor.
    pub fn new_async<F, R>(argument: impl Into<Cow<'static, str>>, complete: F) -> Self
    where
        F: AsyncFn(Completing, Context) -> R + Send + Sync + 'static,
        R: IntoCompletion + 'static,
    {
        Self { argument: argument.into(), handler: convert().local(complete) }
    }

    /// Completes on a thread of the blocking pool.
    pub fn new_blocking<F, R>(argument: impl Into<Cow<'static, str>>, complete: F) -> Self
    where
        F: Fn(Completing, RemoteContext) -> R + Send + Sync + 'static,
        R: IntoCompletion + 'static,
    {
        Self { argument: argument.into(), handler: convert().blocking(complete) }
    }

    /// Completes by those of some values that start with what has been typed, whatever the case.
    pub fn of(
        argument: impl Into<Cow<'static, str>>,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        Self::new(argument, move |completing, _cx| {
            let typed = completing.value.to_lowercase();
            let fits = |value: &&String| value.to_lowercase().starts_with(&typed);
            values.iter().filter(fits).cloned().collect::<Vec<_>>()
        })
    }
}

fn convert<R: IntoCompletion + 'static>() -> Convert<Completing, R> {
    Convert {
        read: Arc::new(|params| Ok((read(params), ()))),
        refuse: |reply, told| reply.fail(ProtocolError::invalid_params(told)),
        put: |said: R, (), reply: &mut Reply| match said.into_completion() {
            Ok(completion) => {
                reply.completion(completion.values.iter().map(String::as_str), completion.total);
            }
            Err(error) => reply.fail(error),
        },
    }
}

/// Reads the parameters of `completion/complete`, whose shape has been checked.
fn read(params: Node<'_>) -> Completing {
    let value = params.get("argument").and_then(|argument| argument.get("value")?.as_str());
    let arguments = params.get("context").and_then(|context| context.get("arguments")?.members());
    Completing {
        value: value.unwrap_or_default().to_owned(),
        arguments: arguments
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.to_owned(), value.as_str()?.to_owned())))
            .collect(),
    }
}
