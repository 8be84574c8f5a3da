//! `check`: validates a configuration file without opening a socket.

use std::{fs, path::Path};

use super::print::print;
use crate::{
    config::{Config, ConfigError},
    server::Server,
};

/// Prints the effective configuration of the file at `path`.
///
/// # Errors
/// A line for each mistake, with its key and its line in the file where they are known.
pub(super) fn check(server: &Server, path: &Path) -> Result<(), Vec<String>> {
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
    print(text.as_bytes())
}

/// A line for each error, with the path in front.
pub(super) fn in_file(path: &Path, errors: &[ConfigError]) -> Vec<String> {
    errors.iter().map(|error| format!("{}: {error}", path.display())).collect()
}
