//! Tools, resources, templates and prompts: as they are declared, and compiled into the snapshot that a shard serves from.

mod compile;
mod compiled_tool;
mod completion;
mod declare;
mod describe;
mod header_params;
mod info;
mod list;
mod mismatch;
mod prompt;
mod registered;
mod resource;
mod snapshot;
mod text;
mod tool;

pub use completion::{Completer, Completing, Completion, IntoCompletion};
pub use header_params::HeaderParam;
pub use info::ServerInfo;
pub use list::{List, Lists};
pub use prompt::{IntoMessages, Messages, Prompt, PromptArgument, PromptBuilder};
pub use registered::{Completers, RegisteredPrompt, RegisteredTool};
pub use resource::{
    Contents, IntoContents, Read, Resource, ResourceBuilder, ResourceTemplate, ResourceTemplateBuilder,
};
pub use snapshot::{EncodedLists, Entries, Snapshot};
pub use tool::{BorrowedArguments, NoArguments, Tool, ToolAnnotations, ToolBuilder};

/// Everything a server offers, as declared.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Name, version and description of the server.
    pub info: ServerInfo,
    tools: Vec<Tool>,
    resources: Vec<Resource>,
    templates: Vec<ResourceTemplate>,
    prompts: Vec<Prompt>,
    /// Extensions the server declares, with their settings.
    extensions: serde_json::Map<String, serde_json::Value>,
}

/// A kind of registry entry, identified by a key that is unique within the kind.
pub trait Entry: Sized {
    /// The key: a name, a URI or a URI template.
    fn key(&self) -> &str;

    /// The entries of this kind.
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
    /// An empty registry.
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

    /// Adds a tool, a resource, a template or a prompt behind the others of its kind. Two entries with one key are rejected
    /// when the registry is compiled ([`RegistryError::Duplicate`]).
    pub fn add<E: Entry>(&mut self, entry: E) {
        E::entries(self).push(entry);
    }

    /// Replaces the entry with the same key, at its position, or adds the entry behind the others. Returns the replaced entry.
    pub fn replace<E: Entry>(&mut self, entry: E) -> Option<E> {
        let entries = E::entries(self);
        match entries.iter_mut().find(|other| other.key() == entry.key()) {
            Some(slot) => Some(std::mem::replace(slot, entry)),
            None => {
                entries.push(entry);
                None
            }
        }
    }

    /// Removes the entry with this key, for example `registry.remove::<Tool>("old")`.
    pub fn remove<E: Entry>(&mut self, key: &str) -> Option<E> {
        let entries = E::entries(self);
        let position = entries.iter().position(|entry| entry.key() == key)?;
        Some(entries.remove(position))
    }

    /// Declares an extension by its id, which has a prefix as in `com.example/foo`, with its settings
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/versioning#extension-negotiation>).
    pub fn declare_extension(&mut self, id: impl Into<String>, settings: serde_json::Value) {
        self.extensions.insert(id.into(), settings);
    }
}

/// Why a registry cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A name is not 1 to 128 of `A-Z a-z 0-9 _ - .`
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#tool-names>).
    #[error("name {0:?} is not 1 to 128 of A-Z a-z 0-9 _ - .")]
    Name(String),
    /// Two tools, resources, templates or prompts have the same key.
    #[error("two of a kind are called {0:?}")]
    Duplicate(String),
    /// A title or a description has control characters, which would reach the model.
    #[error("the title or description of {0:?} holds control characters")]
    Text(String),
    /// The URI of a resource is not valid (RFC 3986).
    #[error("{0:?} is not a URI with a scheme")]
    Uri(String),
    /// A URI template does not compile (RFC 6570).
    #[error("template {template:?}: {source}")]
    Template {
        /// The template.
        template: String,
        /// The error.
        source: crate::uri_template::UriTemplateError,
    },
    /// A duration is too short or too long.
    #[error("{of:?}: {what} is {value:?}; it must be from {min:?} to {max:?}")]
    OutOfRange {
        /// Key of the tool, resource, template or prompt.
        of: String,
        /// Name of the setting.
        what: &'static str,
        /// Value of the setting.
        value: std::time::Duration,
        /// Minimum.
        min: std::time::Duration,
        /// Maximum.
        max: std::time::Duration,
    },
    /// The handler of a prompt or of a template takes a type that cannot be deserialized from strings.
    #[error("{of:?} takes texts, and its type cannot be read from them: {reason}")]
    Arguments {
        /// Name of the prompt, or the template.
        of: String,
        /// The reason.
        reason: String,
    },
    /// A completer names an argument that does not exist.
    #[error("{of:?} has no argument {argument:?} that could be completed")]
    Completer {
        /// Name of the prompt, or the template.
        of: String,
        /// The argument.
        argument: String,
    },
    /// An inline tool is declared as a task.
    #[error("tool {0:?} runs inline, so it cannot be a task")]
    InlineTask(String),
    /// An extension's id has no prefix
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/versioning#extension-negotiation>).
    #[error("extension {0:?} has no prefix, as com.example/ would be")]
    Extension(String),
    /// An icon's source is neither an `https:` nor a `data:` URI.
    #[error("an icon of {0:?} is neither an https: nor a data: URI")]
    Icon(String),
    /// A schema does not compile.
    #[error("tool {tool:?}: {which}: {source}")]
    Schema {
        /// The tool's name.
        tool: String,
        /// `inputSchema` or `outputSchema`.
        which: &'static str,
        /// The error.
        source: crate::schema::SchemaError,
    },
    /// The root of an input schema does not have `"type": "object"`
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#tool>).
    #[error("tool {0:?}: inputSchema must have \"type\": \"object\" at its root")]
    NotObject(String),
    /// An `x-mcp-header` annotation is invalid; clients would drop the tool
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#x-mcp-header>).
    #[error("tool {tool:?}: x-mcp-header: {reason}")]
    HeaderParam {
        /// The tool's name.
        tool: String,
        /// The reason.
        reason: &'static str,
    },
    /// A header that a handler reads must have a name that can be one.
    #[error("{of:?} reads the header {header:?}, which is no header name (RFC 9110, section 5.1)")]
    HeaderName {
        /// The tool, resource, template or prompt, or that of the completer.
        of: String,
        /// The name.
        header: String,
    },
}
