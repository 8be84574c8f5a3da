//! The arguments of `serve`, and the configuration they make.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::options::{LogOptions, SecretFileOptions};
use crate::config::{
    Admin, Config, ConfigError, ControlSocket, Cores, Listen, ShardPlacement, check_host, check_origin,
};

/// Options and environment variables take precedence over the file; all are optional.
#[derive(Args)]
pub(super) struct ServeArguments {
    /// Configuration file [default: none]; corelane.toml in the source shows every key
    #[arg(long, value_name = "FILE", env = "CORELANE_CONFIG")]
    pub(super) config: Option<PathBuf>,

    /// Address to listen on [default: 127.0.0.1:8080]: ADDR:PORT or http+unix:PATH for HTTP, tcp://ADDR:PORT or unix:PATH for
    /// newline-delimited JSON; repeatable; port 0 selects a free port
    #[arg(long, value_name = "ADDRESS", env = "CORELANE_LISTEN", value_delimiter = ',')]
    listen: Vec<Listen>,

    /// Number of shards [default: one per core]; more than cores share them
    #[arg(long, value_name = "N", env = "CORELANE_SHARDS",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(Config::SHARDS_MAX)))]
    shards: Option<u16>,

    /// Cores to pin shards to, as 0,2-5 [default: all available]
    #[arg(long, value_name = "LIST", env = "CORELANE_CPUS")]
    cpus: Option<Cores>,

    /// Whether shards stay on their cores [default: auto, which pins them unless there are fewer shards than cores]
    #[arg(long, value_name = "PLACEMENT", env = "CORELANE_PLACEMENT")]
    placement: Option<ShardPlacement>,

    /// Microseconds a shard polls for work before it sleeps [default: 50, or 0 where shards share a core]
    #[arg(long, value_name = "MICROSECONDS",
        value_parser = clap::value_parser!(u32).range(..=i64::from(Config::SPIN_US_MAX)))]
    spin_us: Option<u32>,

    /// Address of the admin interface, or none [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR:PORT", env = "CORELANE_ADMIN")]
    admin: Option<Admin>,

    /// Control socket for `ctl`: auto, none, or PATH [default: auto, which is $XDG_RUNTIME_DIR/corelane/PID.sock, else
    /// /run/corelane/PID.sock, else /tmp/corelane-UID/PID.sock]
    #[arg(long, value_name = "PATH", env = "CORELANE_CONTROL")]
    control: Option<ControlSocket>,

    /// Hosts to accept besides loopback names: NAME or NAME:PORT [default: none]
    #[arg(long, value_name = "HOST", env = "CORELANE_ALLOWED_HOSTS", value_delimiter = ',', alias = "allowed-host",
        value_parser = host)]
    allowed_hosts: Vec<String>,

    /// Origins of web pages that may call: SCHEME://HOST or SCHEME://HOST:PORT [default: none]
    #[arg(long, value_name = "ORIGIN", env = "CORELANE_ALLOWED_ORIGINS", value_delimiter = ',', alias = "allowed-origin",
        value_parser = origin)]
    allowed_origins: Vec<String>,

    #[command(flatten)]
    pub(super) secret: SecretFileOptions,

    #[command(flatten)]
    pub(super) log: LogOptions,

    /// Print latency histograms by method, and rejections by reason, at exit
    #[arg(long)]
    stats: bool,
}

fn host(text: &str) -> Result<String, String> {
    check_host(text).map(|()| text.to_owned())
}

fn origin(text: &str) -> Result<String, String> {
    check_origin(text).map(|()| text.to_owned())
}

impl ServeArguments {
    /// Merges the sources: options and environment over file over defaults.
    pub(super) fn into_config(self) -> Result<Config, Vec<ConfigError>> {
        let base = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config { admin: Some(Config::ADMIN), control: ControlSocket::Auto, ..Config::default() },
        };
        Ok(Config {
            listen: if self.listen.is_empty() { base.listen } else { self.listen },
            shards: self.shards.map(usize::from).or(base.shards),
            cpus: self.cpus.map(|Cores(cpus)| cpus).or(base.cpus),
            placement: self.placement.unwrap_or(base.placement),
            spin_before_park: self
                .spin_us
                .map(|spin| Duration::from_micros(spin.into()))
                .or(base.spin_before_park),
            stats: self.stats || base.stats,
            allowed_hosts: if self.allowed_hosts.is_empty() {
                base.allowed_hosts
            } else {
                self.allowed_hosts
            },
            allowed_origins: if self.allowed_origins.is_empty() {
                base.allowed_origins
            } else {
                self.allowed_origins
            },
            secret_file: self.secret.secret_file.or(base.secret_file),
            admin: self.admin.map_or(base.admin, |Admin(address)| address),
            control: self.control.unwrap_or(base.control),
            log: self.log.over(base.log),
            ..base
        })
    }
}
