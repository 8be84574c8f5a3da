//! Declaring a tool.

use std::{borrow::Cow, future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    reply::{IntoReply, Reply},
    revision::Revision,
};
use crate::json::Node;

/// What a tool can know of the call it serves.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The protocol revision the client speaks.
    pub revision: Revision,
    /// The shard that took the call.
    pub shard: usize,
}

/// A fast tool: runs on the shard's core, at once.
pub type InlineHandler = dyn Fn(Node<'_>, Context, &mut Reply) + Send + Sync;
/// An async tool's work: stays on the shard's thread.
pub type LocalReply = Pin<Box<dyn Future<Output = Reply>>>;
/// An async tool: a task on the shard's executor.
pub type AsyncHandler = dyn Fn(Node<'_>, Context) -> LocalReply + Send + Sync;
/// A blocking tool's work: moves to a thread of the pool.
pub type BlockingJob = Box<dyn FnOnce() -> Reply + Send>;
/// A blocking tool: runs on the blocking pool.
pub type BlockingHandler = dyn Fn(Node<'_>, Context) -> BlockingJob + Send + Sync;

/// How a tool runs.
#[derive(Clone)]
pub enum Handler {
    /// On the core, before the next request.
    Inline(Arc<InlineHandler>),
    /// As a task beside the requests.
    Async(Arc<AsyncHandler>),
    /// On a thread off the core.
    Blocking(Arc<BlockingHandler>),
}

/// A declared tool.
#[derive(Clone)]
pub struct Tool {
    pub(super) name: Cow<'static, str>,
    pub(super) title: Option<Cow<'static, str>>,
    pub(super) description: Option<Cow<'static, str>>,
    pub(super) input_schema: Value,
    pub(super) output_schema: Option<Value>,
    pub(super) annotations: Option<Value>,
    pub(super) handler: Handler,
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tool {
    /// Starts declaring a tool. The name is what clients call it by: 1 to 64 of `A-Z a-z 0-9 _ - .`.
    #[allow(clippy::new_ret_no_self, reason = "a tool without a handler is none")]
    pub fn new(name: impl Into<Cow<'static, str>>) -> ToolBuilder<NoArguments> {
        ToolBuilder {
            name: name.into(),
            title: None,
            description: None,
            input_schema: serde_json::json!({"type": "object", "additionalProperties": false}),
            output_schema: None,
            annotations: None,
            arguments: PhantomData,
        }
    }
}

/// A tool without arguments.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct NoArguments {}

/// Arguments that borrow their strings from the received bytes. For inline tools: nothing is copied.
///
/// ```
/// use corelane::{BorrowedArguments, Tool};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Shout<'a> {
///     text: &'a str,
/// }
///
/// impl BorrowedArguments for Shout<'static> {
///     type Of<'a> = Shout<'a>;
/// }
///
/// let tool = Tool::new("shout")
///     .input::<Shout<'static>>()
///     .run_borrowed(|arguments, _cx, reply| reply.text(arguments.text));
/// ```
pub trait BorrowedArguments {
    /// The same arguments, borrowing for `'a`.
    type Of<'a>: Deserialize<'a>;
}

/// A tool being declared, with arguments of type `A`.
pub struct ToolBuilder<A> {
    name: Cow<'static, str>,
    title: Option<Cow<'static, str>>,
    description: Option<Cow<'static, str>>,
    input_schema: Value,
    output_schema: Option<Value>,
    annotations: Option<Value>,
    arguments: PhantomData<fn(A)>,
}

impl<A> ToolBuilder<A> {
    /// What the tool does, for the model.
    #[must_use]
    pub fn description(mut self, description: impl Into<Cow<'static, str>>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The name people see.
    #[must_use]
    pub fn title(mut self, title: impl Into<Cow<'static, str>>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Hints for clients: a `ToolAnnotations` object, as `{"readOnlyHint": true}`.
    #[must_use]
    pub fn annotations(mut self, annotations: Value) -> Self {
        self.annotations = Some(annotations);
        self
    }

    /// Takes arguments of type `T`; their schema is derived.
    #[must_use]
    pub fn input<T: JsonSchema>(self) -> ToolBuilder<T> {
        ToolBuilder {
            name: self.name,
            title: self.title,
            description: self.description,
            input_schema: schemars::schema_for!(T).to_value(),
            output_schema: self.output_schema,
            annotations: self.annotations,
            arguments: PhantomData,
        }
    }

    /// Promises structured content of type `T`; its schema is derived.
    #[must_use]
    pub fn output<T: JsonSchema>(mut self) -> Self {
        self.output_schema = Some(schemars::schema_for!(T).to_value());
        self
    }

    fn finish(self, handler: Handler) -> Tool {
        Tool {
            name: self.name,
            title: self.title,
            description: self.description,
            input_schema: self.input_schema,
            output_schema: self.output_schema,
            annotations: self.annotations,
            handler,
        }
    }

    /// A fast tool that borrows its arguments and writes its reply in place.
    pub fn run_borrowed<F>(self, run: F) -> Tool
    where
        A: BorrowedArguments,
        F: for<'a> Fn(A::Of<'a>, Context, &mut Reply) + Send + Sync + 'static,
    {
        self.finish(Handler::Inline(Arc::new(move |node, context, reply| match A::Of::deserialize(node) {
            Ok(arguments) => run(arguments, context, reply),
            Err(error) => reply.error(&unfit(&error)),
        })))
    }
}

impl<A: DeserializeOwned + 'static> ToolBuilder<A> {
    /// A fast tool: runs on the core, before the next request. Must not block.
    pub fn run<F, R>(self, run: F) -> Tool
    where
        F: Fn(A, Context) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        self.finish(Handler::Inline(Arc::new(move |node, context, reply| match A::deserialize(node) {
            Ok(arguments) => run(arguments, context).into_reply(reply),
            Err(error) => reply.error(&unfit(&error)),
        })))
    }

    /// An async tool: a task on the shard's executor. Timers and channels are glommio's.
    pub fn run_async<F, R>(self, run: F) -> Tool
    where
        F: AsyncFn(A, Context) -> R + Send + Sync + 'static,
        R: IntoReply + 'static,
    {
        let run = Arc::new(run);
        self.finish(Handler::Async(Arc::new(move |node, context| {
            let arguments = A::deserialize(node);
            let run = Arc::clone(&run);
            Box::pin(async move {
                let mut reply = Reply::default();
                match arguments {
                    Ok(arguments) => run(arguments, context).await.into_reply(&mut reply),
                    Err(error) => reply.error(&unfit(&error)),
                }
                reply
            })
        })))
    }

    /// A blocking tool: runs on a thread of the blocking pool.
    pub fn run_blocking<F, R>(self, run: F) -> Tool
    where
        A: Send,
        F: Fn(A, Context) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        let run = Arc::new(run);
        self.finish(Handler::Blocking(Arc::new(move |node, context| {
            let arguments = A::deserialize(node);
            let run = Arc::clone(&run);
            Box::new(move || {
                let mut reply = Reply::default();
                match arguments {
                    Ok(arguments) => run(arguments, context).into_reply(&mut reply),
                    Err(error) => reply.error(&unfit(&error)),
                }
                reply
            })
        })))
    }
}

/// The schema let through what the type does not take: the schema and the type disagree.
fn unfit(error: &crate::json::DeserializeError) -> String {
    format!("Invalid arguments: {error}")
}
