//! Errors of a configuration file.

use std::io;

/// What is wrong with a configuration file, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file, or it may not be read.
    #[error("cannot be read: {0}; remedy: name another file, or start without one")]
    Unreadable(#[from] io::Error),
    /// It is not TOML.
    #[error("line {line} is not TOML: {reason}")]
    Syntax {
        /// Where.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A key nobody reads.
    #[error("unknown key {key} (line {line}){}", .nearest.as_ref().map_or(String::new(), |name| format!("; did you mean {name}?")))]
    UnknownKey {
        /// The key with its table.
        key: String,
        /// Where.
        line: usize,
        /// The known key most like it.
        nearest: Option<String>,
    },
    /// A value that is not what the key asks for.
    #[error("{key} (line {line}): {reason}")]
    WrongValue {
        /// The key with its table.
        key: String,
        /// Where.
        line: usize,
        /// What is wrong with the value.
        reason: String,
    },
    /// A value the server could not run with.
    #[error("{key} = {value} (line {line}) is out of range: {range}")]
    OutOfRange {
        /// The key with its table.
        key: String,
        /// Where.
        line: usize,
        /// The value.
        value: String,
        /// What it may be.
        range: String,
    },
    /// A configuration no file can hold.
    #[error("cannot be written: {0}")]
    Unwritable(#[from] toml::ser::Error),
}

impl ConfigError {
    /// The line it is about; none for what is about the whole file.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { line, .. }
            | Self::UnknownKey { line, .. }
            | Self::WrongValue { line, .. }
            | Self::OutOfRange { line, .. } => Some(*line),
            Self::Unreadable(_) | Self::Unwritable(_) => None,
        }
    }
}
