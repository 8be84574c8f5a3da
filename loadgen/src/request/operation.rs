//! The operation of a request, and the protocol revision.

/// A protocol revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2026-07-28: no session, each request is self-contained.
    Modern,
    /// 2025-11-25: a handshake, and optionally a session.
    Legacy,
    /// No MCP: `GET`, and a reply with status 200.
    Plain,
}

impl Era {
    /// Name of the revision.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Legacy => "2025-11-25",
            Self::Plain => "none",
        }
    }
}

/// The operation of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// `tools/call`. The arguments are JSON and may contain placeholders.
    Tool {
        /// Name of the tool.
        name: String,
        /// Arguments.
        arguments: String,
    },
    /// `tools/call` of a tool that becomes a task; the reply is the created task. The arguments are as those of a tool.
    Task {
        /// Name of the tool.
        name: String,
        /// Arguments.
        arguments: String,
    },
    /// `resources/read`.
    Resource {
        /// URI of the resource.
        uri: String,
    },
    /// `prompts/get`. The arguments are JSON and may contain placeholders.
    Prompt {
        /// Name of the prompt.
        name: String,
        /// Arguments.
        arguments: String,
    },
    /// A method without parameters: `tools/list`, `server/discover`, `ping` …
    Method(&'static str),
    /// `initialize` of 2025-11-25.
    Initialize,
    /// `GET` of the target's path, for plain HTTP servers.
    Plain,
}

impl Operation {
    /// The canonical request: `tools/call` of `echo` with one string of eleven characters.
    #[must_use]
    pub fn canonical() -> Self {
        let arguments = r#"{"message":"hello world"}"#.to_owned();
        Self::Tool { name: "echo".to_owned(), arguments }
    }

    /// The operation's name in results.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tool { name, .. } => format!("tools/call {name}"),
            Self::Task { name, .. } => format!("task {name}"),
            Self::Resource { uri } => format!("resources/read {uri}"),
            Self::Prompt { name, .. } => format!("prompts/get {name}"),
            Self::Method(method) => (*method).to_owned(),
            Self::Initialize => "initialize".to_owned(),
            Self::Plain => "GET".to_owned(),
        }
    }

    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Tool { .. } | Self::Task { .. } => "tools/call",
            Self::Resource { .. } => "resources/read",
            Self::Prompt { .. } => "prompts/get",
            Self::Method(method) => method,
            Self::Initialize => "initialize",
            Self::Plain => "GET",
        }
    }
}
