//! The command line: the same for the bare binary and for every server built on the library.

mod check;
mod ctl;
mod options;
mod print;
mod serve;
mod stdio;

use std::{ffi::OsStr, io, path::PathBuf, process::ExitCode, time::SystemTime};

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand, builder::Resettable};
use clap_complete::{Shell, generate};
use humantime_serde::re::humantime::format_rfc3339_micros;

use self::{
    check::{check, in_file},
    ctl::{CtlArguments, ctl},
    print::print,
    serve::ServeArguments,
    stdio::StdioArguments,
};
use crate::{
    config::{Config, ConfigError, LogFormat},
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
    Serve(ServeArguments),
    /// Serve one client on standard input and output until end of input
    Stdio(StdioArguments),
    /// Check a configuration file and print the effective configuration, defaults included
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Inspect a running server and control it
    Ctl(CtlArguments),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  corelane completions bash > /etc/bash_completion.d/corelane")]
    Completions {
        /// The shell
        shell: Shell,
    },
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

impl ServerBuilder {
    /// Builds the server and runs [`Server::main`].
    #[must_use]
    pub fn main(self) -> ExitCode {
        self.build().main()
    }
}

impl Server {
    /// Runs the command line of the `corelane` binary for this server: parses the process's arguments, and serves or checks.
    /// Errors go to stderr, one a line; wrong usage exits with 2.
    #[must_use]
    pub fn main(&self) -> ExitCode {
        let info = self.registry().read(|registry| registry.info.clone());
        let name = info.name.clone();
        let mut command = without_empty_variables(Arguments::command().name(info.name).version(info.version));
        let arguments =
            Arguments::from_arg_matches(&command.get_matches_mut()).unwrap_or_else(|error| error.exit());
        let (mut format, mut code) = (LogFormat::Text, ExitCode::FAILURE);
        let result = match arguments.action {
            Action::Serve(arguments) => {
                let path = arguments.config.clone();
                format = arguments.log.log_format.unwrap_or_default();
                run(path, arguments.into_config(), |config| {
                    format = config.log.format;
                    self.serve(config).inspect_err(|error| code = exit_code(error))
                })
            }
            Action::Stdio(arguments) => {
                let path = arguments.config.clone();
                format = arguments.log.log_format.unwrap_or_default();
                run(path, arguments.into_config(), |config| {
                    format = config.log.format;
                    self.serve_stdio(config).inspect_err(|error| code = exit_code(error))
                })
            }
            Action::Check { config } => check(self, &config),
            Action::Ctl(arguments) => ctl(&arguments),
            Action::Completions { shell } => {
                let mut text = Vec::new();
                generate(shell, &mut command, name, &mut text);
                print(&text)
            }
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(lines) => {
                for line in lines {
                    let line = match format {
                        LogFormat::Text => format!("error: {line}\n"),
                        LogFormat::Json => json_line(&line) + "\n",
                    };
                    log::print(io::stderr(), line);
                }
                code
            }
        }
    }
}

/// Exit code of a server that has stopped after calls were abandoned.
const CALLS_ABANDONED: u8 = 3;

fn exit_code(error: &StartError) -> ExitCode {
    match error {
        StartError::CallsAbandoned { .. } => ExitCode::from(CALLS_ABANDONED),
        _ => ExitCode::FAILURE,
    }
}

/// Runs `serve` with the configuration, while the log is written to stderr.
///
/// # Errors
/// One line: the first mistake of the configuration, or why the server failed.
fn run(
    path: Option<PathBuf>,
    config: Result<Config, Vec<ConfigError>>,
    serve: impl FnOnce(&Config) -> Result<(), StartError>,
) -> Result<(), Vec<String>> {
    let path = path.unwrap_or_default();
    let config = config.map_err(|errors| {
        // A failed start is one line, whatever the number of mistakes.
        let more = match errors.len().saturating_sub(1) {
            0 => String::new(),
            more => format!(" (and {more} more: check {} lists them)", path.display()),
        };
        in_file(&path, &errors).into_iter().take(1).map(|line| line + &more).collect::<Vec<_>>()
    })?;
    // Dropped last: flushes the log.
    let _log = log::start(config.log, &config.limits);
    serve(&config).map_err(|error| vec![error.to_string()])
}

/// An error in the format of the JSON log.
fn json_line(message: &str) -> String {
    let now = format_rfc3339_micros(SystemTime::now()).to_string();
    serde_json::json!({"timestamp": now, "level": "ERROR", "message": message}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn admin_address_has_a_default_and_can_be_turned_off() {
        for (arguments, admin) in [
            (&["", "serve"][..], Some(Config::ADMIN)),
            (&["", "serve", "--admin", "none"], None),
            (&["", "serve", "--admin", "[::1]:1"], Some("[::1]:1".parse().unwrap())),
        ] {
            // The environment of the test run must not count.
            let command = Arguments::command().mut_subcommand("serve", |serve| {
                serve.mut_args(|argument| argument.env(clap::builder::Resettable::Reset))
            });
            let matches = command.get_matches_from(arguments);
            let Action::Serve(serve) = Arguments::from_arg_matches(&matches).unwrap().action else {
                panic!("not parsed as serve");
            };
            assert_eq!(serve.into_config().unwrap().admin, admin, "{arguments:?}");
        }
    }
}
