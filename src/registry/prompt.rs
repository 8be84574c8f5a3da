//! `Prompt` and its builder (<https://modelcontextprotocol.io/specification/2026-07-28/server/prompts>).

use std::{borrow::Cow, marker::PhantomData, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    completion::Completer,
    declare::{impl_describe_methods, impl_read_methods},
    text::{self, Text},
    tool::NoArguments,
};
use crate::call::{
    Adapter, Content, Context, DeclaredReads, Handler, HandlerError, Icon, InlineContext, ProtocolError,
    RemoteContext, Reply, Role, impl_run_methods,
};

/// A declared prompt.
#[derive(Clone)]
pub struct Prompt {
    /// Shared by clones, which a registry recognizes as unchanged by its address.
    pub(super) description: Arc<PromptDescription>,
    pub(super) handler: Handler,
}

/// The declaration of a prompt, except for its handler.
pub(super) struct PromptDescription {
    pub(super) name: Cow<'static, str>,
    pub(super) title: Option<Cow<'static, str>>,
    pub(super) text: Option<Cow<'static, str>>,
    pub(super) arguments: Vec<PromptArgument>,
    pub(super) icons: Vec<Icon>,
    pub(super) meta: Map<String, Value>,
    pub(super) completers: Vec<Completer>,
    pub(super) deadline: Option<Duration>,
    pub(super) reads: DeclaredReads,
    /// Why the handler's type cannot be deserialized from the arguments; reported when the registry is compiled.
    pub(super) unreadable: Option<String>,
}

/// An argument of a prompt. Its value is a string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PromptArgument {
    /// The programmatic name.
    pub name: String,
    /// The display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it is required.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

/// The messages of a prompt, with its arguments filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Messages {
    description: Option<String>,
    messages: Vec<(Role, Content)>,
}

impl Messages {
    /// An empty list of messages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the description.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Adds a message of the user.
    #[must_use]
    pub fn user(mut self, content: impl Into<Content>) -> Self {
        self.messages.push((Role::User, content.into()));
        self
    }

    /// Adds a message of the model.
    #[must_use]
    pub fn assistant(mut self, content: impl Into<Content>) -> Self {
        self.messages.push((Role::Assistant, content.into()));
        self
    }
}

/// Types that a prompt may return.
#[diagnostic::on_unimplemented(
    message = "a prompt cannot return `{Self}`",
    label = "cannot be made messages",
    note = "return a text, `Content`, `Vec<Content>`, `Messages`, or a `Result` of these"
)]
pub trait IntoMessages {
    /// Converts to the messages.
    ///
    /// # Errors
    /// The error that is sent to the client.
    fn into_messages(self) -> Result<Messages, ProtocolError>;
}

impl IntoMessages for Messages {
    fn into_messages(self) -> Result<Messages, ProtocolError> {
        Ok(self)
    }
}

/// One message of the user.
impl IntoMessages for &str {
    fn into_messages(self) -> Result<Messages, ProtocolError> {
        Ok(Messages::new().user(self))
    }
}

/// One message of the user.
impl IntoMessages for String {
    fn into_messages(self) -> Result<Messages, ProtocolError> {
        Ok(Messages::new().user(self))
    }
}

/// One message of the user.
impl IntoMessages for Content {
    fn into_messages(self) -> Result<Messages, ProtocolError> {
        Ok(Messages::new().user(self))
    }
}

/// One message of the user.
impl IntoMessages for Cow<'_, str> {
    fn into_messages(self) -> Result<Messages, ProtocolError> {
        Ok(Messages::new().user(self))
    }
}

/// One message of the user for each item.
impl<T: Into<Content>> IntoMessages for Vec<T> {
    fn into_messages(self) -> Result<Messages, ProtocolError> {
        Ok(self.into_iter().fold(Messages::new(), Messages::user))
    }
}

impl<T: IntoMessages, E: HandlerError> IntoMessages for Result<T, E> {
    fn into_messages(self) -> Result<Messages, ProtocolError> {
        self.map_err(|error| error.into_call_error().into_protocol())?.into_messages()
    }
}

impl std::fmt::Debug for Prompt {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Prompt").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Prompt {
    /// Starts the declaration of a prompt with this name: 1 to 128 of `A-Z a-z 0-9 _ - .`.
    #[allow(clippy::new_ret_no_self, reason = "a prompt without a handler is none")]
    pub fn new(name: impl Into<Cow<'static, str>>) -> PromptBuilder<NoArguments> {
        let description = PromptDescription {
            name: name.into(),
            title: None,
            text: None,
            arguments: Vec::new(),
            icons: Vec::new(),
            meta: Map::new(),
            completers: Vec::new(),
            deadline: None,
            reads: DeclaredReads::default(),
            unreadable: None,
        };
        PromptBuilder { description, arguments: PhantomData }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.description.name
    }
}

/// Builder of a [`Prompt`] with arguments of type `A`.
pub struct PromptBuilder<A> {
    description: PromptDescription,
    arguments: PhantomData<fn(A)>,
}

impl<A> PromptBuilder<A> {
    impl_describe_methods!(
        "Describes the prompt to people and to the model.",
        "Sets the deadline of `prompts/get`, instead of `limits.call_deadline`."
    );

    impl_read_methods!(description.reads);

    /// Sets the type of the arguments: a struct, of which each field is an argument with its description. Fields that are
    /// not `Option` are required. Clients send strings; numbers, booleans, characters and enums of unit variants are parsed
    /// from them. A type with other fields is rejected when the registry is compiled.
    ///
    /// ```
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Review {
    ///     code: String,
    ///     lines: Option<u32>,
    /// }
    ///
    /// let prompt = corelane::Prompt::new("review")
    ///     .arguments::<Review>()
    ///     .run(|review, _cx| format!("Review {} lines of {}", review.lines.unwrap_or(10), review.code));
    /// ```
    #[must_use]
    pub fn arguments<T: JsonSchema>(mut self) -> PromptBuilder<T> {
        let schema = schemars::schema_for!(T).to_value();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let required = schema.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
        let properties = schema.get("properties").and_then(Value::as_object);
        self.description.arguments = properties
            .into_iter()
            .flatten()
            .map(|(name, property)| PromptArgument {
                name: name.clone(),
                title: text(property.get("title")),
                description: text(property.get("description")),
                required: is_required(name),
            })
            .collect();
        PromptBuilder { description: self.description, arguments: PhantomData }
    }

    /// Adds an argument, for prompts that take their arguments as a map:
    /// `PromptBuilder<BTreeMap<String, String>>`.
    #[must_use]
    pub fn argument(
        mut self,
        argument: PromptArgument,
    ) -> PromptBuilder<std::collections::BTreeMap<String, String>> {
        self.description.arguments.push(argument);
        PromptBuilder { description: self.description, arguments: PhantomData }
    }

    /// Adds the completer of an argument.
    #[must_use]
    pub fn complete(mut self, completer: Completer) -> Self {
        self.description.completers.push(completer);
        self
    }
}

impl<A: DeserializeOwned + 'static> PromptBuilder<A> {
    fn adapter<R: IntoMessages + 'static>(&self) -> Adapter<A, R> {
        Adapter {
            read: Arc::new(|node| {
                let arguments = || {
                    node.members().into_iter().flatten().map(|(name, value)| {
                        (name, Text { text: value.as_str().unwrap_or_default().into(), list: None })
                    })
                };
                let arguments: A =
                    text::read(arguments).map_err(|message| format!("Invalid arguments: {message}"))?;
                Ok((arguments, ()))
            }),
            refuse: |reply, message| reply.fail(ProtocolError::invalid_params(message)),
            put: |value: R, (), reply: &mut Reply| match value.into_messages() {
                Ok(Messages { description, messages }) => {
                    if let Some(description) = description {
                        reply.describe(description);
                    }
                    for (role, content) in &messages {
                        reply.message(*role, content);
                    }
                }
                Err(error) => reply.fail(error),
            },
        }
    }

    fn finish(mut self, handler: Handler) -> Prompt {
        let names: Vec<&str> = self.description.arguments.iter().map(|argument| &*argument.name).collect();
        self.description.unreadable = text::unreadable::<A>(&names, false);
        Prompt { description: Arc::new(self.description), handler }
    }

    /// Sets a handler that runs inline on the shard. Must not block.
    pub fn run<F, R>(self, run: F) -> Prompt
    where
        F: Fn(A, InlineContext<'_>) -> R + Send + Sync + 'static,
        R: IntoMessages + 'static,
    {
        let handler = self.adapter().inline(run);
        self.finish(handler)
    }

    impl_run_methods!(A, IntoMessages, Prompt, Send: [A]);
}
