//! Completion of prompt arguments and template variables
//! (<https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/completion>).

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use super::declare::impl_read_methods;
use crate::{
    call::{
        Adapter, Context, DeclaredReads, Handler, HandlerError, InlineContext, ProtocolError, RemoteContext,
        Reply,
    },
    json::Node,
};

/// A completion request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completing {
    /// The text typed so far.
    pub value: String,
    /// The other arguments that have been filled in.
    pub arguments: BTreeMap<String, String>,
}

/// Suggested values, the best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// The values; the first 100 are sent.
    pub values: Vec<String>,
    /// Total number of values, where `values` does not have all.
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

/// Types that a completer may return.
#[diagnostic::on_unimplemented(
    message = "a completer cannot return `{Self}`",
    label = "cannot be made a completion",
    note = "return a `Vec` of texts, `Completion`, or an `Option` or a `Result` of these"
)]
pub trait IntoCompletion {
    /// Converts to the values.
    ///
    /// # Errors
    /// The error that is sent to the client.
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

/// `None` is an empty completion.
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

/// The completer of one argument.
#[derive(Clone)]
pub struct Completer {
    pub(super) argument: Cow<'static, str>,
    pub(super) handler: Handler,
    pub(super) reads: DeclaredReads,
}

impl std::fmt::Debug for Completer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Completer").field("argument", &self.argument).finish_non_exhaustive()
    }
}

impl Completer {
    impl_read_methods!(reads);

    fn with(argument: impl Into<Cow<'static, str>>, handler: Handler) -> Self {
        Self { argument: argument.into(), handler, reads: DeclaredReads::default() }
    }

    /// Completes by a function that runs inline on the shard. Must not block.
    pub fn new<F, R>(argument: impl Into<Cow<'static, str>>, complete: F) -> Self
    where
        F: Fn(Completing, InlineContext<'_>) -> R + Send + Sync + 'static,
        R: IntoCompletion + 'static,
    {
        Self::with(argument, adapter().inline(complete))
    }

    /// Completes by an async function that runs on the shard's executor.
    pub fn new_async<F, R>(argument: impl Into<Cow<'static, str>>, complete: F) -> Self
    where
        F: AsyncFn(Completing, Context) -> R + Send + Sync + 'static,
        R: IntoCompletion + 'static,
    {
        Self::with(argument, adapter().local(complete))
    }

    /// Completes by a function that runs on the blocking pool.
    pub fn new_blocking<F, R>(argument: impl Into<Cow<'static, str>>, complete: F) -> Self
    where
        F: Fn(Completing, RemoteContext) -> R + Send + Sync + 'static,
        R: IntoCompletion + 'static,
    {
        Self::with(argument, adapter().blocking(complete))
    }

    /// Completes with those of `values` that start with the typed text, ignoring case.
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

fn adapter<R: IntoCompletion + 'static>() -> Adapter<Completing, R> {
    Adapter {
        read: Arc::new(|params| Ok((read(params), ()))),
        refuse: |reply, message| reply.fail(ProtocolError::invalid_params(message)),
        put: |value: R, (), reply: &mut Reply| match value.into_completion() {
            Ok(completion) => {
                reply.completion(completion.values.iter().map(String::as_str), completion.total);
            }
            Err(error) => reply.fail(error),
        },
    }
}

/// Reads the parameters of `completion/complete`, whose structure has been validated.
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
