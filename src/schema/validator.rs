//! A compiled schema.

use jsonschema::PatternOptions;
use serde_json::Value;

use super::tape::TapeJson;
use crate::json::Node;

/// A tool's schema cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("invalid JSON Schema at {path}: {reason}")]
pub struct SchemaError {
    /// JSON pointer into the schema; `/` for its root.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// One way in which a value does not fit.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the value; empty for the whole of it.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

/// A schema, compiled: draft 2020-12 unless its `$schema` says otherwise. Patterns match in linear time; references
/// to the network or to files are refused.
pub struct Validator {
    compiled: jsonschema::Validator<TapeJson>,
}

/// Violations reported at most: the client needs a hint, not a flood.
const VIOLATIONS_MAX: usize = 16;

/// Characters of a violation's path, and of its reason.
const TEXT_CHARS_MAX: usize = 300;

/// A compiled pattern may take this much memory, in bytes.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

impl Validator {
    /// Compiles a schema.
    ///
    /// # Errors
    /// When the schema is not valid, or refers to something outside itself.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let compiled = jsonschema::options_for::<TapeJson>()
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
            .build(schema)
            .map_err(|error| SchemaError {
                path: format!("/{}", error.instance_path().as_str().trim_start_matches('/')),
                reason: error.to_string(),
            })?;
        Ok(Self { compiled })
    }

    /// Whether the value fits; stops at the first violation.
    #[must_use]
    pub fn is_valid(&self, value: Node<'_>) -> bool {
        self.compiled.is_valid(value)
    }

    /// What does not fit, sixteen violations at most. Slower than [`Validator::is_valid`].
    #[must_use]
    pub fn violations(&self, value: Node<'_>) -> Vec<Violation> {
        self.compiled
            .iter_errors(value)
            .take(VIOLATIONS_MAX)
            .map(|error| Violation {
                path: shortened(error.instance_path().as_str().to_owned()),
                reason: shortened(error.masked_with("the value").to_string()),
            })
            .collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{config::Limits, json::Decoder};

    fn violations(schema: &Value, instance: &Value) -> Vec<Violation> {
        let validator = Validator::compile(schema).unwrap();
        let mut bytes = serde_json::to_vec(instance).unwrap();
        let length = bytes.len();
        bytes.resize(length + 64, 0);
        let mut decoder = Decoder::new(&Limits::default());
        let document = decoder.decode(&mut bytes, length).unwrap();
        let violations = validator.violations(document.root());
        assert_eq!(validator.is_valid(document.root()), violations.is_empty());
        violations
    }

    #[test]
    fn each_violation_names_its_path() {
        let schema = json!({
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"items": {"maxLength": 2}}, "c": true},
            "required": ["c"],
            "additionalProperties": false
        });
        let found = violations(&schema, &json!({"a": "x", "b": ["ok", "long"], "d": 1}));
        let paths: Vec<_> = found.iter().map(|violation| violation.path.as_str()).collect();
        assert!(paths.contains(&"/a") && paths.contains(&"/b/1") && paths.contains(&""), "{found:?}");
        assert!(violations(&schema, &json!({"a": 1, "c": null})).is_empty());
    }

    #[test]
    fn a_reference_to_elsewhere_is_refused_when_compiling() {
        for reference in ["http://169.254.169.254/", "file:///etc/passwd", "other.json"] {
            assert!(Validator::compile(&json!({"$ref": reference})).is_err(), "{reference}");
        }
        assert!(Validator::compile(&json!({"type": "no such type"})).is_err());
        assert!(Validator::compile(&json!({"pattern": "(a)\\1"})).is_err(), "backtracking patterns");
    }
}
