//! Errors of compiling a schema, and violations of a compiled one.

use std::fmt;

use jsonschema::{ReferencingError, ValidationError, error::ValidationErrorKind};

/// Characters of a violation's path, and of its reason.
pub(super) const TEXT_CHARS_MAX: usize = 300;

/// A tool's schema cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("invalid JSON Schema at {}: {reason}", path_for_people(path))]
pub struct SchemaError {
    /// JSON pointer into the schema; empty for its root.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl SchemaError {
    pub(super) fn at_root(reason: String) -> Self {
        Self { path: String::new(), reason }
    }

    pub(super) fn of_dialect(dialect: &str) -> Self {
        Self {
            path: "/$schema".to_owned(),
            reason: shortened(format!(
                "unknown dialect {dialect:?}: 2020-12, 2019-09, draft 7, 6 and 4 are known"
            )),
        }
    }

    /// The library's error, in words that name the remedy. `backtracking`: such patterns are allowed.
    pub(super) fn of_build(error: &ValidationError<'_>, backtracking: bool) -> Self {
        Self {
            path: error.instance_path().as_str().to_owned(),
            reason: shortened(explain(error, backtracking)),
        }
    }
}

/// One way in which a value does not fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the value; empty for the whole of it.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl Violation {
    /// A violation; what is longer than a reader needs of either text is cut off.
    pub(crate) fn new(path: String, reason: String) -> Self {
        Self { path: shortened(path), reason: shortened(reason) }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", path_for_people(&self.path), self.reason)
    }
}

/// An empty pointer is right, and invisible.
fn path_for_people(path: &str) -> &str {
    if path.is_empty() { "(root)" } else { path }
}

/// Whether a schema was refused for one of its patterns.
pub(super) fn is_about_a_pattern(error: &ValidationError<'_>) -> bool {
    match error.kind() {
        ValidationErrorKind::PropertyNames { error } => is_about_a_pattern(error),
        ValidationErrorKind::Format { format } => format == "regex",
        _ => false,
    }
}

/// The first construct of a pattern that only an engine that backtracks can match.
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

fn explain(error: &ValidationError<'_>, backtracking: bool) -> String {
    match error.kind() {
        // Checklist J-02.
        ValidationErrorKind::Referencing(ReferencingError::Unretrievable { uri, .. }) => {
            format!("{uri:?} is outside the schema: nothing is read from the network or from files")
        }
        ValidationErrorKind::PropertyNames { error } => explain(error, backtracking),
        ValidationErrorKind::Format { format } if format == "regex" => {
            let pattern = error.instance().as_str().unwrap_or_default();
            match backtracking_construct(pattern) {
                Some(construct) if !backtracking => format!(
                    "pattern {:?} uses {construct}: only patterns that match in linear time are supported; remedy: write it \
                     without, or set [schema] backtracking = true",
                    shortened(pattern.to_owned())
                ),
                // The library translates no named reference, unless a lookahead or a lookbehind comes before it.
                Some(_) if pattern.contains("\\k<") => format!(
                    "pattern {:?} uses a named backreference, which is not supported; remedy: refer to the group by its \
                     number, as \\1",
                    shortened(pattern.to_owned())
                ),
                _ => error.to_string(),
            }
        }
        _ => error.to_string(),
    }
}

/// No more of a text than a reader needs: it may repeat what the client sent.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}
