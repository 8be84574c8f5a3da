//! Why a command could not do what it was asked: one line each, exit code 2.

use std::path::PathBuf;

/// What went wrong before or besides measuring. A result that falls short is no error.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Words that make no sense together.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C, before there was anything to report. No failure.
    #[error("interrupted before anything was measured")]
    Interrupted,
    /// Nobody answers there.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// What the system said.
        reason: String,
    },
    /// Somebody answers, but not as an MCP server does.
    #[error("{url} is not an MCP server: {reason}")]
    NotMcp {
        /// Where.
        url: String,
        /// What it answered.
        reason: String,
    },
    /// The server does not have what the workload needs.
    #[error("{0}")]
    Unsupported(String),
    /// A result file that is none.
    #[error("{path}: not a usable result: {reason}", path = path.display())]
    ResultBroken {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that cannot be written.
    #[error("{path} cannot be written: {reason}", path = path.display())]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Results that say nothing about each other.
    #[error("these results cannot be compared: {0}")]
    Incomparable(String),
    /// A result that cannot be shown: it was tampered with.
    #[error("the report cannot be made: {0}")]
    Report(String),
    /// This machine does not let the generator do its work.
    #[error("the generator cannot run here: {0}")]
    Resource(String),
}
