//! Errors of the commands: one line each, exit code 2.

use std::path::PathBuf;

/// An error before or beside the measurement. A result that misses a demand is not an error.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Arguments that are invalid, or contradict each other.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C before anything was measured. Not a failure: the exit code is 0.
    #[error("interrupted before anything was measured")]
    Interrupted,
    /// The server does not accept connections, or does not reply.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// The URL.
        url: String,
        /// The system's error message.
        reason: String,
    },
    /// The server replies, but not as an MCP server does.
    #[error("{url} is not an MCP server: {reason}")]
    NotMcp {
        /// The URL.
        url: String,
        /// A description of the reply.
        reason: String,
    },
    /// The server lacks a tool or a capability that the workload needs.
    #[error("{0}")]
    Unsupported(String),
    /// A file that is not a result of this program.
    #[error("{path}: not a usable result: {reason}", path = path.display())]
    ResultBroken {
        /// The file.
        path: PathBuf,
        /// The reason why it cannot be read.
        reason: String,
    },
    /// A file that cannot be written.
    #[error("{path} cannot be written: {reason}", path = path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's error message.
        reason: String,
    },
    /// Results that differ in machine, build or parameters.
    #[error("these results cannot be compared: {0}")]
    Incomparable(String),
    /// A result that contains an invalid histogram or time.
    #[error("the report cannot be made: {0}")]
    Report(String),
    /// The machine lacks a resource that the generator needs.
    #[error("the generator cannot run here: {0}")]
    Resource(String),
}
