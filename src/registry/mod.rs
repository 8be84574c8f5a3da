//! What a server offers: tools, resources and prompts as they are declared, and the snapshot a shard serves from.

mod cache;
mod callable;
mod capability;
mod compile;
mod compiled_tool;
mod completion;
mod content;
mod context;
mod conversation;
mod declare;
mod derived_schema;
mod describe;
mod error;
mod handler;
mod header_params;
mod info;
mod input;
mod level;
mod list;
mod mismatch;
mod prompt;
mod registered;
mod reply;
mod resource;
mod revision;
mod snapshot;
mod text;
mod tool;

pub use cache::{Cache, CacheScope};
pub use callable::{Callable, Kind, SharedCallable};
pub use capability::{Capabilities, Capability, TASKS};
pub use completion::{Completer, Completing, Completion, IntoCompletion};
pub use content::{Annotations, Content, ResourceLink, Role};
pub use context::{Caller, Context, InlineLog, Publish, RemoteContext, ShardSide, ShardState};
pub use conversation::{Asking, CallDetails, Carrier, Conversation, Note, TaskTerms, WaitGauge};
pub use error::{AskError, CallError, HandlerError, ProtocolError};
pub use handler::{AsyncHandler, BlockingHandler, BlockingJob, Handler, InlineHandler, LocalReply};
#[cfg(feature = "tokio")]
pub use handler::{RemoteReply, TokioHandler};
pub use header_params::HeaderParam;
pub use info::{Icon, ServerInfo, Theme};
pub use input::{Elicited, Form, InputRequest, ListRoots, Page, Ping, Question, Root, Sampled, Sampling};
pub use level::Level;
pub use list::{List, Lists};
pub use prompt::{IntoMessages, Messages, Prompt, PromptArgument, PromptBuilder};
pub use registered::{Completers, RegisteredPrompt, RegisteredTool};
pub use reply::{COMPLETIONS_MAX, IntoReply, Reply, Structured};
pub use resource::{
    Contents, IntoContents, Read, Resource, ResourceBuilder, ResourceTemplate, ResourceTemplateBuilder,
};
pub use revision::Revision;
pub use snapshot::{EncodedLists, Snapshot};
pub use tool::{BorrowedArguments, NoArguments, Tool, ToolAnnotations, ToolBuilder};

/// Everything a server offers, before it is compiled.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Who we are.
    pub info: ServerInfo,
    tools: Vec<Tool>,
    resources: Vec<Resource>,
    templates: Vec<ResourceTemplate>,
    prompts: Vec<Prompt>,
    /// Extensions the server declares, with their settings.
    extensions: serde_json::Map<String, serde_json::Value>,
}

/// Something a registry keeps, each under a name of its own.
pub trait Entry: Sized {
    /// What it is found by.
    fn key(&self) -> &str;

    /// Where a registry keeps its kind.
    fn entries(registry: &mut Registry) -> &mut Vec<Self>;
}

macro_rules! entries {
    ($($entry:ty, $key:ident, $field:ident;)*) => {$(
        impl Entry for $entry {
            fn key(&self) -> &str {
                self.$key()
            }

            fn entries(registry: &mut Registry) -> &mut Vec<Self> {
                &mut registry.$field
            }
        }
    )*};
}

entries! {
    Tool, name, tools;
    Resource, uri, resources;
    ResourceTemplate, template, templates;
    Prompt, name, prompts;
}

impl Registry {
    /// Of a server that offers nothing yet.
    #[must_use]
    pub fn new(info: ServerInfo) -> Self {
        Self { info, ..Self::default() }
    }

    /// The tools, in the order they are listed.
    #[must_use]
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// The resources, in the order they are listed.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The templates of resources, in the order they are listed.
    #[must_use]
    pub fn templates(&self) -> &[ResourceTemplate] {
        &self.templates
    }

    /// The prompts, in the order they are listed.
    #[must_use]
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// Adds a tool, a resource, a template or a prompt behind the others of its kind. Two of one name are refused when the
    /// registry is compiled.
    pub fn add<E: Entry>(&mut self, entry: E) {
        E::entries(self).push(entry);
    }

    /// Puts something in the place of the one with its name, or behind the others. Returns the one it replaced.
    pub fn replace<E: Entry>(&mut self, entry: E) -> Option<E> {
        let entries = E::entries(self);
        match entries.iter_mut().find(|other| other.key() == entry.key()) {
            Some(place) => Some(std::mem::replace(place, entry)),
            None => {
                entries.push(entry);
                None
            }
        }
    }

    /// Takes out what has this name: `registry.remove::<Tool>("old")`.
    pub fn remove<E: Entry>(&mut self, key: &str) -> Option<E> {
        let entries = E::entries(self);
        let position = entries.iter().position(|entry| entry.key() == key)?;
        Some(entries.remove(position))
    }

    /// Declares an extension (checklist N-01): an id with a prefix, as `com.example/foo`, and its settings.
    pub fn declare_extension(&mut self, id: impl Into<String>, settings: serde_json::Value) {
        self.extensions.insert(id.into(), settings);
    }
}

/// A registry that cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Names are 1 to 128 of `A-Z a-z 0-9 _ - .` (checklist T-06).
    #[error("name {0:?} is not 1 to 128 of A-Z a-z 0-9 _ - .")]
    Name(String),
    /// Two tools, resources, templates or prompts share a name.
    #[error("two of a kind are called {0:?}")]
    Duplicate(String),
    /// Control characters would reach the model.
    #[error("the title or description of {0:?} holds control characters")]
    Text(String),
    /// A URI that is none (RFC 3986).
    #[error("{0:?} is not a URI with a scheme")]
    Uri(String),
    /// A template that cannot be compiled.
    #[error("template {template:?}: {source}")]
    Template {
        /// The template.
        template: String,
        /// What is wrong.
        source: crate::uri_template::UriTemplateError,
    },
    /// A time that is too short or too long to be meant.
    #[error("{of:?}: {what} is {value:?}; it must be from {min:?} to {max:?}")]
    OutOfRange {
        /// The tool, resource, template or prompt.
        of: String,
        /// Which of its settings.
        what: &'static str,
        /// What it was set to.
        value: std::time::Duration,
        /// The least it may be.
        min: std::time::Duration,
        /// The most it may be.
        max: std::time::Duration,
    },
    /// Arguments or variables of a type that can never be read from texts.
    #[error("{of:?} takes texts, and its type cannot be read from them: {reason}")]
    Arguments {
        /// The prompt or the template.
        of: String,
        /// What is wrong.
        reason: String,
    },
    /// A completer of something that is no argument.
    #[error("{of:?} has no argument {argument:?} that could be completed")]
    Completer {
        /// The prompt or the template.
        of: String,
        /// The argument.
        argument: String,
    },
    /// An inline tool cannot become a task.
    #[error("tool {0:?} runs inline, so it cannot be a task")]
    InlineTask(String),
    /// An extension's id must have a prefix (checklist N-01).
    #[error("extension {0:?} has no prefix, as com.example/ would be")]
    Extension(String),
    /// An icon that is no `https:` or `data:` URI.
    #[error("an icon of {0:?} is neither an https: nor a data: URI")]
    Icon(String),
    /// The schema does not compile.
    #[error("tool {tool:?}: {which}: {source}")]
    Schema {
        /// The tool's name.
        tool: String,
        /// `inputSchema` or `outputSchema`.
        which: &'static str,
        /// What is wrong.
        source: crate::schema::SchemaError,
    },
    /// The input schema must describe an object (checklist T-04).
    #[error("tool {0:?}: inputSchema must have \"type\": \"object\" at its root")]
    NotObject(String),
    /// An `x-mcp-header` annotation that clients would drop the tool for (checklist H-31).
    #[error("tool {tool:?}: x-mcp-header: {reason}")]
    HeaderParam {
        /// The tool's name.
        tool: String,
        /// What is wrong.
        reason: &'static str,
    },
}
