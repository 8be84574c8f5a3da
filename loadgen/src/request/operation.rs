//! What a request asks for, and in which revision of the protocol.

/// A way to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28: no session, everything in the request.
    Modern,
    /// 2025-11-25: a handshake, perhaps a session.
    Legacy,
    /// No MCP: `GET` and a 200.
    Plain,
}

impl Era {
    /// The revision's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Legacy => "2025-11-25",
            Self::Plain => "none",
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// `tools/call`, with arguments as JSON that may have holes.
    Tool {
        /// The tool.
        name: String,
        /// Its arguments.
        arguments: String,
    },
    /// `resources/read`.
    Resource {
        /// Its URI.
        uri: String,
    },
    /// `prompts/get`, with arguments as JSON that may have holes.
    Prompt {
        /// The prompt.
        name: String,
        /// Its arguments.
        arguments: String,
    },
    /// A method without parameters of its own: `tools/list`, `server/discover`, `ping` …
    Method(&'static str),
    /// The handshake of the older revisions.
    Initialize,
    /// `GET` of the target's path, for servers that are no MCP servers.
    Plain,
}

impl Operation {
    /// The canonical request: `tools/call` of `echo` with one string of eleven characters.
    #[must_use]
    pub fn canonical() -> Self {
        let arguments = r#"{"message":"hello world"}"#.to_owned();
        Self::Tool { name: "echo".to_owned(), arguments }
    }

    /// Its name in results.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tool { name, .. } => format!("tools/call {name}"),
            Self::Resource { uri } => format!("resources/read {uri}"),
            Self::Prompt { name, .. } => format!("prompts/get {name}"),
            Self::Method(method) => (*method).to_owned(),
            Self::Initialize => "initialize".to_owned(),
            Self::Plain => "GET".to_owned(),
        }
    }

    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Tool { .. } => "tools/call",
            Self::Resource { .. } => "resources/read",
            Self::Prompt { .. } => "prompts/get",
            Self::Method(method) => method,
            Self::Initialize => "initialize",
            Self::Plain => "GET",
        }
    }
}
