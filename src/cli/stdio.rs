//! The arguments of `stdio`, and the configuration they make.

use std::path::PathBuf;

use clap::Args;

use super::options::{LogOptions, SecretFileOptions};
use crate::config::{Admin, Config, ConfigError, ControlSocket};

/// Options and environment variables take precedence over the file. A client may start many servers this way, so what only one
/// process can have, such as an admin address, comes from options alone.
#[derive(Args)]
pub(super) struct StdioArguments {
    /// Configuration file [default: none]; its listen and admin addresses and its control socket are not used
    #[arg(long, value_name = "FILE", env = "CORELANE_CONFIG")]
    pub(super) config: Option<PathBuf>,

    /// Address of the admin interface, or none [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<Admin>,

    #[command(flatten)]
    pub(super) secret: SecretFileOptions,

    #[command(flatten)]
    pub(super) log: LogOptions,
}

impl StdioArguments {
    pub(super) fn into_config(self) -> Result<Config, Vec<ConfigError>> {
        let base = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        let admin = self.admin.and_then(|Admin(address)| address);
        let secret_file = self.secret.secret_file.or(base.secret_file);
        Ok(Config { admin, control: ControlSocket::None, secret_file, log: self.log.over(base.log), ..base })
    }
}
