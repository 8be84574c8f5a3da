//! `Tool` and its builder.

use std::{borrow::Cow, marker::PhantomData, sync::Arc, time::Duration};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    compiled_tool::CompiledOnce,
    declare::{impl_describe_methods, impl_read_methods},
    mismatch::mismatch,
};
use crate::call::{
    Adapter, Capabilities, Capability, Context, DeclaredReads, Handler, Icon, InlineContext, IntoReply,
    OnceStates, RemoteContext, Reply, TaskTerms, impl_run_methods, listable,
};

use crate::json::{Node, retry_with_digits};

/// A declared tool.
#[derive(Clone)]
pub struct Tool {
    /// Shared by clones, with the compiled form: a registry recognizes an unchanged tool by the address.
    pub(super) description: Arc<Description>,
    pub(super) handler: Handler,
}

/// The declaration of a tool, except for its handler.
pub(super) struct Description {
    pub(super) name: Cow<'static, str>,
    pub(super) title: Option<Cow<'static, str>>,
    pub(super) text: Option<Cow<'static, str>>,
    pub(super) icons: Vec<Icon>,
    pub(super) input_schema: Value,
    pub(super) output_schema: Option<Value>,
    pub(super) annotations: Option<ToolAnnotations>,
    pub(super) meta: Map<String, Value>,
    pub(super) requires: Capabilities,
    pub(super) deadline: Option<Duration>,
    pub(super) reads: DeclaredReads,
    /// Terms of the task that a call becomes, where the client has the tasks extension.
    pub(super) task: Option<TaskTerms>,
    /// The used request states, if they are used once.
    pub(super) once: Option<Arc<OnceStates>>,
    pub(super) compiled: CompiledOnce,
}

/// Hints for clients about the behaviour of a tool (<https://modelcontextprotocol.io/specification/2026-07-28/schema#toolannotations>).
/// A member that is `None` is not sent; clients then assume the default in parentheses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolAnnotations {
    /// The display name, for clients without support for [`ToolBuilder::title`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Does not modify its environment (false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_hint: Option<bool>,
    /// May make destructive changes (true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destructive_hint: Option<bool>,
    /// A second call with the same arguments has no further effect (false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent_hint: Option<bool>,
    /// Interacts with external entities (true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_world_hint: Option<bool>,
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tool").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Tool {
    /// Starts the declaration of a tool with this name: 1 to 128 of `A-Z a-z 0-9 _ - .`.
    #[allow(clippy::new_ret_no_self, reason = "a tool without a handler is none")]
    pub fn new(name: impl Into<Cow<'static, str>>) -> ToolBuilder<NoArguments> {
        let description = Description {
            name: name.into(),
            title: None,
            text: None,
            icons: Vec::new(),
            input_schema: serde_json::json!({"type": "object", "additionalProperties": false}),
            output_schema: None,
            annotations: None,
            meta: Map::new(),
            requires: Capabilities::default(),
            deadline: None,
            reads: DeclaredReads::default(),
            task: None,
            once: None,
            compiled: CompiledOnce::default(),
        };
        ToolBuilder { description, arguments: PhantomData }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.description.name
    }
}

/// A tool without arguments.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct NoArguments {}

/// Arguments that borrow their strings from the receive buffer, without a copy. For inline tools.
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

/// Builder of a [`Tool`] with arguments of type `A`.
pub struct ToolBuilder<A> {
    description: Description,
    arguments: PhantomData<fn(A)>,
}

impl<A> ToolBuilder<A> {
    impl_describe_methods!(
        "Describes the tool to the model.",
        "Sets the deadline of a call, instead of `limits.call_deadline`. A call beyond it is cancelled and answered with an error, \
         about 100 ms late at most. An inline tool is not interrupted; a blocking one occupies its thread until it returns."
    );

    impl_read_methods!(description.reads);

    /// Sets hints for clients about the behaviour of the tool.
    #[must_use]
    pub fn annotations(mut self, annotations: ToolAnnotations) -> Self {
        self.description.annotations = Some(annotations);
        self
    }

    /// Requires a client capability; may be called repeatedly. A call without it is rejected with -32021
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic>). Clients of revisions before 2026-07-28 do not send capabilities with
    /// a request, so their calls are always rejected.
    #[must_use]
    pub fn requires(mut self, capability: Capability) -> Self {
        self.description.requires = self.description.requires.with(capability);
        self
    }

    /// Runs calls as tasks: clients with the tasks extension get a task at once, others wait for the result. With
    /// [`ToolBuilder::requires`] and [`Capability::Tasks`] calls of other clients are rejected. Not for inline tools.
    #[must_use]
    pub fn task(mut self, terms: TaskTerms) -> Self {
        self.description.task = Some(terms);
        self
    }

    /// Makes each request state of the tool valid for one use. A call that asks its client (`cx.elicit`, `cx.sample`, `cx.roots`) ends
    /// with a signed `requestState` in 2026-07-28, and starts again when the client retries it with its answers. Without this, anyone who
    /// has the state may repeat the retry until the state expires (`limits.request_state_ttl`, 1 h), with any answers, and the handler
    /// runs each time. With it:
    ///
    /// - A repeat with the same answers gets the stored outcome of the first, and the handler does not run; "busy" while the first runs.
    /// - A repeat with other answers is rejected with -32602. So is one of a call that was cancelled because its client disconnected,
    ///   since the handler may have done its work, and one whose outcome is no longer stored (`limits.once_bytes_max`).
    /// - Answers without a state are rejected, and so are states that another process has issued, or the same one before a restart.
    ///
    /// A used state is stored until it expires, shared by all shards; beyond `limits.once_states_max` the oldest states count as expired.
    /// Has no effect for inline tools, in tasks and in older revisions, where the call itself waits for its client.
    ///
    /// ```
    /// use corelane::{AskError, Context, Elicited, Form, NoArguments, Tool};
    ///
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Confirmation {
    ///     amount: u32,
    /// }
    ///
    /// let tool = Tool::new("pay").once().run_async(async |_: NoArguments, cx: Context| {
    ///     match cx.elicit(Form::<Confirmation>::new("Which amount?")).await? {
    ///         Elicited::Accepted(confirmed) => Ok::<_, AskError>(format!("paid {}", confirmed.amount)),
    ///         _ => Ok("not paid".to_owned()),
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn once(mut self) -> Self {
        self.description.once = Some(Arc::default());
        self
    }

    /// Sets the type of the arguments and derives their schema. `T` is a struct, a map, or an enum whose variants all
    /// serialize as objects.
    ///
    /// ```
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// #[serde(tag = "shape", rename_all = "lowercase")]
    /// enum Shape {
    ///     Circle { radius: f64 },
    ///     Square { side: f64 },
    /// }
    ///
    /// let tool = corelane::Tool::new("area").input::<Shape>().run(|shape, _cx| match shape {
    ///     Shape::Circle { radius } => (radius * radius * std::f64::consts::PI).to_string(),
    ///     Shape::Square { side } => (side * side).to_string(),
    /// });
    /// ```
    #[must_use]
    pub fn input<T: JsonSchema>(self) -> ToolBuilder<T> {
        let mut schema = schemars::schema_for!(T).to_value();
        if is_object(&schema, &schema, REFERENCES_MAX)
            && let Value::Object(members) = &mut schema
        {
            members.insert("type".into(), "object".into());
        }
        self.with_input(listable(schema))
    }

    /// Sets a hand-written JSON Schema of the arguments, which deserialize to [`serde_json::Value`] or to any other type. The
    /// schema is sent verbatim; a missing `"type": "object"` at the root is added.
    #[must_use]
    pub fn input_schema<T>(self, schema: Value) -> ToolBuilder<T> {
        let schema = match schema {
            Value::Object(mut members) => {
                if !members.contains_key("type") {
                    members.insert("type".into(), "object".into());
                }
                Value::Object(members)
            }
            other => other,
        };
        self.with_input(schema)
    }

    fn with_input<T>(self, input_schema: Value) -> ToolBuilder<T> {
        ToolBuilder { description: Description { input_schema, ..self.description }, arguments: PhantomData }
    }

    /// Derives the schema of the structured content from `T`. Results are validated against it.
    #[must_use]
    pub fn output<T: JsonSchema>(self) -> Self {
        let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
        self.output_schema(listable(generator.into_root_schema_for::<T>().to_value()))
    }

    /// Sets a hand-written JSON Schema of the structured content. Results are validated against it.
    #[must_use]
    pub fn output_schema(mut self, schema: Value) -> Self {
        self.description.output_schema = Some(schema);
        self
    }

    fn finish(self, handler: Handler) -> Tool {
        Tool { description: Arc::new(self.description), handler }
    }

    /// Sets a handler that borrows its arguments, writes its reply in place, and runs inline on the shard. Must not block.
    pub fn run_borrowed<F>(self, run: F) -> Tool
    where
        A: BorrowedArguments,
        F: for<'a> Fn(A::Of<'a>, InlineContext<'a>, &mut Reply) + Send + Sync + 'static,
    {
        self.finish(Handler::Inline(Arc::new(move |node, context, reply| match A::Of::deserialize(node) {
            Ok(arguments) => run(arguments, context, reply),
            Err(_) => reply.error(&unfit::<A::Of<'_>>(node)),
        })))
    }

    /// Sets a handler that reads its arguments as parsed JSON, writes its reply in place, and runs inline on the shard.
    /// Must not block.
    ///
    /// ```
    /// use corelane::{Node, Tool};
    ///
    /// let tool = Tool::new("size").input_schema::<()>(serde_json::json!({})).run_raw(|arguments, _cx, reply| {
    ///     let count = arguments.members().map_or(0, |members| members.len());
    ///     reply.text(&format!("{count} arguments"));
    /// });
    /// ```
    pub fn run_raw<F>(self, run: F) -> Tool
    where
        F: Fn(Node<'_>, InlineContext<'_>, &mut Reply) + Send + Sync + 'static,
    {
        self.finish(Handler::Inline(Arc::new(run)))
    }
}

impl<A: DeserializeOwned + 'static> ToolBuilder<A> {
    fn adapter<R: IntoReply + 'static>(&self) -> Adapter<A, R> {
        Adapter {
            read: Arc::new(|node| match A::deserialize(node) {
                Ok(arguments) => Ok((arguments, ())),
                Err(_) => Err(unfit::<A>(node)),
            }),
            refuse: |reply, message| reply.error(&message),
            put: |value: R, (), reply: &mut Reply| value.into_reply(reply),
        }
    }

    /// Sets a handler that runs inline on the shard. Must not block.
    pub fn run<F, R>(self, run: F) -> Tool
    where
        F: Fn(A, InlineContext<'_>) -> R + Send + Sync + 'static,
        R: IntoReply,
    {
        // Not by way of `Adapter`: what is fast is worth a call less.
        self.finish(Handler::Inline(Arc::new(move |node, context, reply| match A::deserialize(node) {
            Ok(arguments) => run(arguments, context).into_reply(reply),
            Err(_) => reply.error(&unfit::<A>(node)),
        })))
    }

    impl_run_methods!(A, IntoReply, Tool, Send: [A]);
}

/// Maximum nesting of branches and references that is followed.
const REFERENCES_MAX: usize = 16;

/// Whether a schema accepts objects only, apart from `null`, which arguments never are. The schema of an enum has the type
/// in its
/// branches, while the root of an input schema needs it (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#tool>).
fn is_object(schema: &Value, root: &Value, references_left: usize) -> bool {
    let Some(next) = references_left.checked_sub(1) else { return false };
    let branches =
        |key: &str| schema.get(key).and_then(Value::as_array).filter(|branches| !branches.is_empty());
    let is_null = |branch: &Value| branch.get("type").is_some_and(|name| name == "null");
    let all = |branches: &Vec<Value>| {
        branches.iter().any(|branch| !is_null(branch))
            && branches.iter().all(|branch| is_null(branch) || is_object(branch, root, next))
    };
    match schema.get("type") {
        Some(Value::String(name)) => name == "object",
        Some(Value::Array(names)) => {
            names.iter().any(|name| name == "object")
                && names.iter().all(|name| name == "object" || name == "null")
        }
        Some(_) => false,
        None => {
            let target = schema.get("$ref").and_then(Value::as_str);
            let target = target.and_then(|target| root.pointer(target.strip_prefix('#')?));
            target.is_some_and(|target| is_object(target, root, next))
                || branches("oneOf").is_some_and(all)
                || branches("anyOf").is_some_and(all)
                || branches("allOf").is_some_and(|parts| parts.iter().any(|part| is_object(part, root, next)))
        }
    }
}

/// Why arguments that are valid for the schema do not deserialize. Empty where they must be decoded again with the digits
/// of their numbers, see [`Started::NeedsDigits`](crate::runtime::Started::NeedsDigits).
#[cold]
#[inline(never)]
fn unfit<'a, A: Deserialize<'a>>(arguments: Node<'a>) -> String {
    if retry_with_digits() {
        return String::new();
    }
    format!("Invalid arguments: {}", mismatch::<A>(arguments))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn derived_schemas_omit_title_dialect_and_rust_formats() {
        #[derive(JsonSchema)]
        #[allow(dead_code, reason = "only its schema is used")]
        struct Sizes {
            format: u64,
            list: Vec<i32>,
            ratio: Option<f64>,
        }
        let schema = listable(schemars::schema_for!(Sizes).to_value());
        assert_eq!(schema["properties"]["format"], json!({"type": "integer", "minimum": 0}));
        let text = schema.to_string();
        for absent in ["title", "$schema", "uint64", "int32", "double"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        let kept = json!({"properties": {"at": {"format": "date-time", "default": {"format": "uint64"}}}});
        assert_eq!(listable(kept.clone()), kept);
    }
}
