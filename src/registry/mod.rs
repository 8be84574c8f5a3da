//! What a server offers: tools as they are declared, and the snapshot a shard serves from.

mod capability;
mod content;
mod context;
mod header_params;
mod info;
mod reply;
mod revision;
mod snapshot;
mod tool;

pub use capability::{Capabilities, Capability};
pub use content::{Annotations, Content, Role};
pub use context::{Caller, Context, RemoteContext, ShardState};
pub use header_params::HeaderParam;
pub use info::{Icon, ServerInfo, Theme};
pub use reply::{IntoReply, ProtocolError, Reply, Structured};
pub use revision::Revision;
pub use snapshot::{RegisteredTool, Snapshot};
pub use tool::{
    AsyncHandler, BlockingHandler, BlockingJob, BorrowedArguments, Handler, InlineHandler, LocalReply,
    NoArguments, Tool, ToolAnnotations, ToolBuilder,
};
#[cfg(feature = "tokio")]
pub use tool::{RemoteReply, TokioHandler};

/// Everything a server offers, before it is compiled.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// Who we are.
    pub info: ServerInfo,
    tools: Vec<Tool>,
}

impl Registry {
    /// Of a server that offers nothing yet.
    #[must_use]
    pub fn new(info: ServerInfo) -> Self {
        Self { info, tools: Vec::new() }
    }

    /// The tools, in the order they are listed.
    #[must_use]
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// Adds a tool behind the others. Two of one name are refused when the registry is compiled.
    pub fn add(&mut self, tool: Tool) {
        self.tools.push(tool);
    }

    /// Puts a tool in the place of the one with its name, or behind the others. Returns the one it replaced.
    pub fn replace(&mut self, tool: Tool) -> Option<Tool> {
        match self.tools.iter_mut().find(|other| other.name() == tool.name()) {
            Some(place) => Some(std::mem::replace(place, tool)),
            None => {
                self.tools.push(tool);
                None
            }
        }
    }

    /// Takes a tool out.
    pub fn remove(&mut self, name: &str) -> Option<Tool> {
        let position = self.tools.iter().position(|tool| tool.name() == name)?;
        Some(self.tools.remove(position))
    }
}

/// A registry that cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Names are 1 to 64 of `A-Z a-z 0-9 _ - .` (checklist T-06).
    #[error("tool name {0:?} is not 1 to 64 of A-Z a-z 0-9 _ - .")]
    Name(String),
    /// Two tools share a name.
    #[error("two tools are called {0:?}")]
    Duplicate(String),
    /// Control characters would reach the model.
    #[error("the title or description of tool {0:?} holds control characters")]
    Text(String),
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
