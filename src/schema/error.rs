//! Errors of compiling a schema, and violations of a schema.

use std::fmt;

use jsonschema::{ReferencingError, ValidationError, error::ValidationErrorKind};

/// Maximum length of a violation's path, and of its reason, in characters.
pub(super) const TEXT_CHARS_MAX: usize = 300;

/// Why a schema is rejected.
#[derive(Debug, thiserror::Error)]
#[error("invalid JSON Schema at {}: {reason}", display_path(path))]
pub struct SchemaError {
    /// JSON pointer into the schema; empty for its root.
    pub path: String,
    /// The fault at `path`.
    pub reason: String,
}

impl SchemaError {
    pub(super) fn at_root(reason: String) -> Self {
        Self { path: String::new(), reason }
    }

    pub(super) fn unknown_dialect(dialect: &str) -> Self {
        Self {
            path: "/$schema".to_owned(),
            reason: truncate(format!(
                "unknown dialect {dialect:?}: 2020-12, 2019-09, draft 7, 6 and 4 are supported"
            )),
        }
    }

    /// Converts an error of the library and adds the remedy. `backtracking`: patterns that backtrack are supported.
    pub(super) fn from_library(error: &ValidationError<'_>, backtracking: bool) -> Self {
        Self {
            path: error.instance_path().as_str().to_owned(),
            reason: truncate(describe(error, backtracking)),
        }
    }
}

/// One violation of a schema by a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the value; empty for its root.
    pub path: String,
    /// The fault at `path`.
    pub reason: String,
}

impl Violation {
    /// Creates a violation; both texts are truncated to [`TEXT_CHARS_MAX`].
    pub(crate) fn new(path: String, reason: String) -> Self {
        Self { path: truncate(path), reason: truncate(reason) }
    }

    /// Formats violations in one line.
    pub(crate) fn join(violations: &[Self]) -> String {
        violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", display_path(&self.path), self.reason)
    }
}

/// A JSON pointer for a message; `(root)` for the empty one.
fn display_path(path: &str) -> &str {
    if path.is_empty() { "(root)" } else { path }
}

/// Whether the error concerns a pattern of the schema.
pub(super) fn is_about_a_pattern(error: &ValidationError<'_>) -> bool {
    match error.kind() {
        ValidationErrorKind::PropertyNames { error } => is_about_a_pattern(error),
        ValidationErrorKind::Format { format } => format == "regex",
        _ => false,
    }
}

/// The first construct of a pattern that requires backtracking.
pub(super) fn backtracking_construct(pattern: &str) -> Option<&'static str> {
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..).unwrap_or_default();
        rest = match character {
            '\\' => {
                let escaped = after.chars().next();
                if !in_class && (matches!(escaped, Some('1'..='9')) || after.starts_with("k<")) {
                    return Some("a backreference");
                }
                after.get(escaped.map_or(0, char::len_utf8)..).unwrap_or_default()
            }
            '[' => {
                in_class = true;
                after
            }
            ']' => {
                in_class = false;
                after
            }
            '(' if !in_class && (after.starts_with("?=") || after.starts_with("?!")) => {
                return Some("a lookahead");
            }
            '(' if !in_class && (after.starts_with("?<=") || after.starts_with("?<!")) => {
                return Some("a lookbehind");
            }
            _ => after,
        };
    }
    None
}

fn describe(error: &ValidationError<'_>, backtracking: bool) -> String {
    match error.kind() {
        // Nothing is fetched: <https://modelcontextprotocol.io/specification/2026-07-28/basic#json-schema-usage>, "$ref Resolution".
        ValidationErrorKind::Referencing(ReferencingError::Unretrievable { uri, .. }) => {
            format!("{uri:?} is outside the schema: nothing is read from the network or from files")
        }
        ValidationErrorKind::PropertyNames { error } => describe(error, backtracking),
        ValidationErrorKind::Format { format } if format == "regex" => {
            let pattern = error.instance().as_str().unwrap_or_default();
            match backtracking_construct(pattern) {
                Some(construct) if !backtracking => format!(
                    "pattern {:?} uses {construct}: only patterns that match in linear time are supported; remedy: write it \
                     without, or set [schema] backtracking = true",
                    truncate(pattern.to_owned())
                ),
                // The library supports a named backreference only after a lookahead or a lookbehind.
                Some(_) if pattern.contains("\\k<") => format!(
                    "pattern {:?} uses a named backreference, which is not supported; remedy: refer to the group by its \
                     number, as \\1",
                    truncate(pattern.to_owned())
                ),
                _ => error.to_string(),
            }
        }
        _ => error.to_string(),
    }
}

/// Truncates a text, which may repeat input of the client, to [`TEXT_CHARS_MAX`] characters.
fn truncate(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}
