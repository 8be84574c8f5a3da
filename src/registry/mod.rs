//! What a server offers: tools as they are declared, and the snapshot a shard serves from.

mod reply;
mod revision;
mod snapshot;
mod tool;

pub use reply::{IntoReply, Reply, Structured};
pub use revision::Revision;
pub use snapshot::{RegisteredTool, Snapshot};
pub use tool::{
    AsyncHandler, BlockingHandler, BlockingJob, BorrowedArguments, Context, Handler, InlineHandler,
    LocalReply, NoArguments, Tool, ToolBuilder,
};

/// The server's name and version, as clients see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// How to use this server, for the model; optional.
    pub instructions: Option<String>,
}

/// Everything a server offers, before it is compiled.
#[derive(Clone, Debug)]
pub struct Registry {
    /// Who we are.
    pub info: ServerInfo,
    /// The tools, in the order they are listed.
    pub tools: Vec<Tool>,
}

/// A registry that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Names are 1 to 64 of `A-Z a-z 0-9 _ - .` (checklist T-06).
    #[error("tool name {0:?} is not 1 to 64 of A-Z a-z 0-9 _ - .")]
    Name(String),
    /// Two tools share a name.
    #[error("two tools are called {0:?}")]
    Duplicate(String),
    /// Control characters would reach the model.
    #[error("the description of tool {0:?} holds control characters")]
    Description(String),
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
}
