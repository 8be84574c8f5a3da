//! The command line: the same for the bare binary and for every server built on the library.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use clap::builder::Resettable;
use humantime_serde::re::humantime::format_rfc3339_micros;

use crate::{
    config::{
        Admin, Config, ConfigError, Cores, Listen, LogFormat, LogLevel, ShardPlacement, check_host,
        check_origin,
    },
    server::{Server, ServerBuilder, StartError},
    telemetry::log,
};

#[derive(Parser)]
#[command(about = "Serves the Model Context Protocol")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Serve MCP over HTTP, or as newline-delimited JSON over sockets, until Ctrl-C or SIGTERM
    Serve(Serve),
    /// Serve the one client at standard input and output until it closes its end
    Stdio(Stdio),
    /// Check a configuration file and print what it comes to, defaults included
    Check {
        /// The file
        config: PathBuf,
    },
}

/// What is given here or in the environment wins over the file; all of it may be left out.
#[derive(Args)]
struct Serve {
    /// Configuration file [default: none]; corelane.toml in the source shows every key
    #[arg(long, value_name = "FILE", env = "CORELANE_CONFIG")]
    config: Option<PathBuf>,

    /// Where to listen [default: 127.0.0.1:8080]: ADDR:PORT or http+unix:PATH for HTTP, tcp://ADDR:PORT or unix:PATH for
    /// newline-delimited JSON; may be given more than once, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", env = "CORELANE_LISTEN", value_delimiter = ',')]
    listen: Vec<Listen>,

    /// Number of shards [default: one per core]; more than cores share them
    #[arg(long, value_name = "N", env = "CORELANE_SHARDS",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(Config::SHARDS_MAX)))]
    shards: Option<u16>,

    /// Cores to pin shards to, as 0,2-5 [default: all available]
    #[arg(long, value_name = "LIST", env = "CORELANE_CPUS")]
    cpus: Option<Cores>,

    /// Whether shards stay on their cores [default: auto, which pins them unless there are fewer than cores]
    #[arg(long, value_name = "PLACEMENT", env = "CORELANE_PLACEMENT")]
    placement: Option<ShardPlacement>,

    /// Microseconds a shard looks for work before it sleeps [default: 50, or 0 where shards share a core]
    #[arg(long, value_name = "MICROSECONDS",
        value_parser = clap::value_parser!(u32).range(..=i64::from(Config::SPIN_US_MAX)))]
    spin_us: Option<u32>,

    /// Address of the admin interface, or none [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR:PORT", env = "CORELANE_ADMIN")]
    admin: Option<Admin>,

    /// Hosts to answer to besides loopback names: NAME or NAME:PORT [default: none]
    #[arg(long, value_name = "HOST", env = "CORELANE_ALLOWED_HOSTS", value_delimiter = ',', alias = "allowed-host",
        value_parser = host)]
    allowed_hosts: Vec<String>,

    /// Origins whose pages may call: SCHEME://HOST or SCHEME://HOST:PORT [default: none]
    #[arg(long, value_name = "ORIGIN", env = "CORELANE_ALLOWED_ORIGINS", value_delimiter = ',', alias = "allowed-origin",
        value_parser = origin)]
    allowed_origins: Vec<String>,

    #[command(flatten)]
    secret: SecretFile,

    #[command(flatten)]
    log: Log,

    /// Print latency histograms when the server ends
    #[arg(long)]
    stats: bool,
}

/// Likewise. Who starts a server this way may start many: what there can be only one of, it does not take from anywhere else.
#[derive(Args)]
struct Stdio {
    /// Configuration file [default: none]; where to listen, and the admin interface, are not taken from it
    #[arg(long, value_name = "FILE", env = "CORELANE_CONFIG")]
    config: Option<PathBuf>,

    /// Address of the admin interface, or none [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<Admin>,

    #[command(flatten)]
    secret: SecretFile,

    #[command(flatten)]
    log: Log,
}

#[derive(Args)]
struct SecretFile {
    /// File with the key that signs session ids, cursors and request states [default: a key of its own at every start]
    #[arg(long, value_name = "FILE", env = "CORELANE_SECRET_FILE")]
    secret_file: Option<PathBuf>,
}

fn host(text: &str) -> Result<String, String> {
    check_host(text).map(|()| text.to_owned())
}

fn origin(text: &str) -> Result<String, String> {
    check_origin(text).map(|()| text.to_owned())
}

/// Environment variables that are set and empty count as unset.
fn without_empty_variables(command: Command) -> Command {
    let is_empty =
        |variable: Option<&OsStr>| variable.and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    ["serve", "stdio"].into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| {
            subcommand.mut_args(|argument| {
                if is_empty(argument.get_env()) { argument.env(Resettable::Reset) } else { argument }
            })
        })
    })
}

#[derive(Args)]
struct Log {
    /// Least severe lines to log to stderr [default: warn]
    #[arg(long, value_name = "LEVEL", env = "CORELANE_LOG")]
    log: Option<LogLevel>,

    /// What a line of the log looks like [default: text]
    #[arg(long, value_name = "FORMAT", env = "CORELANE_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

impl Log {
    fn over(self, base: crate::config::Log) -> crate::config::Log {
        crate::config::Log {
            level: self.log.unwrap_or(base.level),
            format: self.log_format.unwrap_or(base.format),
        }
    }
}

impl Stdio {
    fn into_config(self) -> Result<Config, Vec<ConfigError>> {
        let base = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        let admin = self.admin.and_then(|Admin(address)| address);
        let secret_file = self.secret.secret_file.or(base.secret_file);
        Ok(Config { admin, secret_file, log: self.log.over(base.log), ..base })
    }
}

impl Serve {
    /// Flags and environment over file over defaults.
    fn into_config(self) -> Result<Config, Vec<ConfigError>> {
        let base = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config { admin: Some(Config::ADMIN), ..Config::default() },
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
            log: self.log.over(base.log),
            ..base
        })
    }
}

impl ServerBuilder {
    /// [`Server::main`] of the server that was declared.
    #[must_use]
    pub fn main(self) -> ExitCode {
        self.build().main()
    }
}

impl Server {
    /// Does what the process's arguments say: the command line of the `corelane` binary, for this server.
    #[must_use]
    pub fn main(&self) -> ExitCode {
        let info = self.registry().read(|registry| registry.info.clone());
        let command = without_empty_variables(Arguments::command().name(info.name).version(info.version));
        let arguments =
            Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
        let mut format = LogFormat::Text;
        let told = match arguments.action {
            Action::Serve(arguments) => {
                let path = arguments.config.clone();
                format = arguments.log.log_format.unwrap_or_default();
                serve(path, arguments.into_config(), |config| {
                    format = config.log.format;
                    self.serve(config)
                })
            }
            Action::Stdio(arguments) => {
                let path = arguments.config.clone();
                format = arguments.log.log_format.unwrap_or_default();
                serve(path, arguments.into_config(), |config| {
                    format = config.log.format;
                    self.serve_stdio(config)
                })
            }
            Action::Check { config } => check(self, &config),
        };
        match told {
            Ok(()) => ExitCode::SUCCESS,
            Err(lines) => {
                for line in lines {
                    match format {
                        LogFormat::Text => eprintln!("error: {line}"),
                        LogFormat::Json => eprintln!("{}", json_line(&line)),
                    }
                }
                ExitCode::FAILURE
            }
        }
    }
}

fn serve(
    path: Option<PathBuf>,
    config: Result<Config, Vec<ConfigError>>,
    serve: impl FnOnce(&Config) -> Result<(), StartError>,
) -> Result<(), Vec<String>> {
    let path = path.unwrap_or_default();
    let config = config.map_err(|errors| {
        // Whoever starts a server is told one line, whatever the number of mistakes.
        let more = match errors.len().saturating_sub(1) {
            0 => String::new(),
            more => format!(" (and {more} more: check {} lists them)", path.display()),
        };
        in_file(&path, &errors).into_iter().take(1).map(|line| line + &more).collect::<Vec<_>>()
    })?;
    // Until the end of the server, so that its last lines are written.
    let _log = log::start(config.log, config.limits.log_lines_queued_max);
    serve(&config).map_err(|error| vec![error.to_string()])
}

/// An error line as the log writes it in JSON.
fn json_line(message: &str) -> String {
    let now = format_rfc3339_micros(SystemTime::now()).to_string();
    serde_json::json!({"timestamp": now, "level": "ERROR", "message": message}).to_string()
}

fn check(server: &Server, path: &Path) -> Result<(), Vec<String>> {
    let source = fs::read_to_string(path).map_err(|error| in_file(path, &[error.into()]))?;
    let config = Config::from_toml(&source).map_err(|errors| in_file(path, &errors))?;
    let mistakes: Vec<String> = server
        .check(&config)
        .into_iter()
        .map(|error| {
            let line = error.key().and_then(|key| Some((key, Config::line_of_key(&source, key)?)));
            let place = line.map(|(key, line)| format!("{key} (line {line}): ")).unwrap_or_default();
            format!("{}: {place}{error}", path.display())
        })
        .collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let text = config.to_toml().map_err(|error| in_file(path, &[error]))?;
    io::stdout().write_all(text.as_bytes()).map_err(|error| vec![format!("cannot print: {error}")])
}

fn in_file(path: &Path, errors: &[ConfigError]) -> Vec<String> {
    errors.iter().map(|error| format!("{}: {error}", path.display())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_admin_address_has_a_default_and_can_be_turned_off() {
        for (arguments, admin) in [
            (&["", "serve"][..], Some(Config::ADMIN)),
            (&["", "serve", "--admin", "none"], None),
            (&["", "serve", "--admin", "[::1]:1"], Some("[::1]:1".parse().unwrap())),
        ] {
            // Not what the environment of whoever runs the tests says.
            let command = Arguments::command().mut_subcommand("serve", |serve| {
                serve.mut_args(|argument| argument.env(clap::builder::Resettable::Reset))
            });
            let matches = command.get_matches_from(arguments);
            let Action::Serve(serve) = Arguments::from_arg_matches(&matches).unwrap().action else {
                panic!("serve was asked for");
            };
            assert_eq!(serve.into_config().unwrap().admin, admin, "{arguments:?}");
        }
    }
}
