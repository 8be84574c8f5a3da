//! How the server of an attack or of a fault is started.

use std::{path::Path, process::Command};

/// What differs between the command lines of two servers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Launch<'a> {
    /// Number of shards, all on one core; 0 for one.
    pub(crate) shards: u32,
    /// Additional environment variables.
    pub(crate) variables: &'a [(&'a str, &'a str)],
    /// A script of `sh` in a mount namespace of its own, which runs the server with `exec "$@"`, and its `$0`.
    pub(crate) mounting: Option<(&'a str, &'a Path)>,
}

impl Launch<'_> {
    /// The command that starts `inner`, the server.
    pub(super) fn apply(&self, mut inner: Command) -> Command {
        inner.envs(self.variables.iter().copied());
        let Some((script, argument)) = self.mounting else { return inner };
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh"]);
        in_shell(command, script, argument, &inner)
    }
}

/// Completes `shell`, a command that runs `sh`, with a script, its `$0`, and a command with its environment as the `$@`.
pub(super) fn in_shell(mut shell: Command, script: &str, argument: &Path, inner: &Command) -> Command {
    shell.args(["-c", script]).arg(argument);
    shell.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}
