//! Options that `serve` and `stdio` have in common.

use std::path::PathBuf;

use clap::Args;

use crate::config::{self, LogFormat, LogLevel};

#[derive(Args)]
pub(super) struct SecretFileOptions {
    /// File with the key that signs session ids, cursors and request states [default: a random key at every start]
    #[arg(long, value_name = "FILE", env = "CORELANE_SECRET_FILE")]
    pub(super) secret_file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct LogOptions {
    /// Least severe lines to log to stderr [default: warn]
    #[arg(long, value_name = "LEVEL", env = "CORELANE_LOG")]
    pub(super) log: Option<LogLevel>,

    /// Format of the log's lines [default: text]
    #[arg(long, value_name = "FORMAT", env = "CORELANE_LOG_FORMAT")]
    pub(super) log_format: Option<LogFormat>,
}

impl LogOptions {
    /// The log settings of `base`, replaced where an option was given.
    pub(super) fn over(self, base: config::Log) -> config::Log {
        config::Log { level: self.log.unwrap_or(base.level), format: self.log_format.unwrap_or(base.format) }
    }
}
