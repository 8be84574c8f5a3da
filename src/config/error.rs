//! Errors of reading and writing a configuration file.

use std::io;

/// One error of a configuration file; its message is one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not exist or cannot be read.
    #[error("cannot be read: {0}; remedy: name another file, or start without one")]
    Unreadable(#[from] io::Error),
    /// The file is not TOML.
    #[error("line {line} is not TOML: {reason}")]
    Syntax {
        /// Line number, from 1.
        line: usize,
        /// Description of the error.
        reason: String,
    },
    /// A key that does not exist.
    #[error("unknown key {key} (line {line}){}", .nearest.as_ref().map_or(String::new(), |name| format!("; did you mean {name}?")))]
    UnknownKey {
        /// The key, preceded by its table.
        key: String,
        /// Line number, from 1.
        line: usize,
        /// The most similar key.
        nearest: Option<String>,
    },
    /// A value of the wrong type or form.
    #[error("{key} (line {line}): {reason}")]
    WrongValue {
        /// The key, preceded by its table.
        key: String,
        /// Line number, from 1.
        line: usize,
        /// Description of the error.
        reason: String,
    },
    /// A value outside its range.
    #[error("{key} = {value} (line {line}) is out of range: {range}")]
    OutOfRange {
        /// The key, preceded by its table.
        key: String,
        /// Line number, from 1.
        line: usize,
        /// The value.
        value: String,
        /// The valid range.
        range: String,
    },
    /// A configuration that has no form in TOML.
    #[error("cannot be written: {0}")]
    Unwritable(#[from] toml::ser::Error),
}

impl ConfigError {
    /// Line of the error; `None` for errors of the whole file.
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
