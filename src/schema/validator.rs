//! A compiled schema.

use std::fmt;

use jsonschema::{Draft, PatternOptions, ReferencingError, ValidationError, error::ValidationErrorKind};
use serde_json::Value;

use super::tape::TapeJson;
use crate::{config::Limits, json::Node};

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
    fn at_root(reason: String) -> Self {
        Self { path: String::new(), reason }
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

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", path_for_people(&self.path), self.reason)
    }
}

/// An empty pointer is right, and invisible.
fn path_for_people(path: &str) -> &str {
    if path.is_empty() { "(root)" } else { path }
}

/// A schema, compiled: draft 2020-12 unless its `$schema` names 2019-09, 7, 6 or 4. Patterns match in linear time;
/// references to the network or to files are refused.
pub struct Validator {
    compiled: jsonschema::Validator<TapeJson>,
    subschemas: usize,
}

/// Violations reported at most: the client needs a hint, not a flood.
const VIOLATIONS_MAX: usize = 16;

/// Characters of a violation's path, and of its reason.
const TEXT_CHARS_MAX: usize = 300;

impl Validator {
    /// Compiles a schema.
    ///
    /// # Errors
    /// When the schema is not valid, exceeds a limit, is of an unknown dialect, or refers to something outside itself.
    pub fn compile(schema: &Value, limits: &Limits) -> Result<Self, SchemaError> {
        let subschemas = measure(schema, limits)?;
        if Draft::default().detect(schema) == Draft::Unknown {
            let dialect = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
            return Err(SchemaError {
                path: "/$schema".to_owned(),
                reason: shortened(format!(
                    "unknown dialect {dialect:?}: 2020-12, 2019-09, draft 7, 6 and 4 are known"
                )),
            });
        }
        let compiled = jsonschema::options_for::<TapeJson>()
            .with_pattern_options(PatternOptions::regex().size_limit(limits.schema_pattern_bytes_max))
            .offline()
            .build(schema)
            .map_err(|error| SchemaError {
                path: error.instance_path().as_str().to_owned(),
                reason: shortened(explain(&error)),
            })?;
        Ok(Self { compiled, subschemas })
    }

    /// How many subschemas there are, the whole one included. Counts whatever could be one, so it is no less than there
    /// are; one that is referred to from several places counts once.
    #[must_use]
    pub fn subschemas(&self) -> usize {
        self.subschemas
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

fn explain(error: &ValidationError<'_>) -> String {
    match error.kind() {
        // Checklist J-02.
        ValidationErrorKind::Referencing(ReferencingError::Unretrievable { uri, .. }) => {
            format!("{uri:?} is outside the schema: nothing is read from the network or from files")
        }
        _ => error.to_string(),
    }
}

/// Counts the objects and booleans of a schema, which are its subschemas and some others, with neither recursion nor more
/// steps than the limits allow.
fn measure(schema: &Value, limits: &Limits) -> Result<usize, SchemaError> {
    let mut subschemas: usize = 0;
    let mut left = vec![(schema, 1_usize)];
    while let Some((value, depth)) = left.pop() {
        if matches!(value, Value::Object(_) | Value::Array(_)) && depth > limits.schema_depth_max {
            let reason = format!("nested deeper than {} levels", limits.schema_depth_max);
            return Err(SchemaError::at_root(reason));
        }
        subschemas += usize::from(matches!(value, Value::Object(_) | Value::Bool(_)));
        if subschemas > limits.schema_subschemas_max {
            let reason = format!("more than {} subschemas", limits.schema_subschemas_max);
            return Err(SchemaError::at_root(reason));
        }
        match value {
            Value::Object(members) => left.extend(members.values().map(|value| (value, depth + 1))),
            Value::Array(elements) => left.extend(elements.iter().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    Ok(subschemas)
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
    use crate::json::Decoder;

    fn compile(schema: &Value) -> Result<Validator, SchemaError> {
        Validator::compile(schema, &Limits::default())
    }

    fn violations(schema: &Value, instance: &Value) -> Vec<Violation> {
        let validator = compile(schema).unwrap();
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
    fn j_02_a_reference_to_elsewhere_is_refused_when_compiling_and_says_so() {
        for reference in ["http://169.254.169.254/", "file:///etc/passwd", "other.json", "urn:x:y"] {
            for schema in [
                json!({"$ref": reference}),
                json!({"properties": {"a": {"items": {"$ref": reference}}}}),
                json!({"$dynamicRef": reference}),
            ] {
                let told = compile(&schema).err().unwrap().to_string();
                assert!(told.contains("nothing is read from the network or from files"), "{told}");
            }
        }
        let inside = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$anchor": "b", "type": "string"}}});
        assert!(compile(&inside).is_ok());
        assert!(
            compile(&json!({"$ref": "https://json-schema.org/draft/2020-12/schema"})).is_ok(),
            "built in"
        );
    }

    #[test]
    fn j_01_a_dialect_is_known_or_refused_by_name() {
        let of = |dialect: &str| compile(&json!({"$schema": dialect}));
        for known in [
            "https://json-schema.org/draft/2020-12/schema",
            "https://json-schema.org/draft/2019-09/schema",
            "http://json-schema.org/draft-07/schema#",
            "http://json-schema.org/draft-06/schema#",
            "http://json-schema.org/draft-04/schema",
        ] {
            assert!(of(known).is_ok(), "{known}");
        }
        for unknown in
            ["https://json-schema.org/draft/2099-01/schema", "http://169.254.169.254/x", "nonsense", ""]
        {
            let told = of(unknown).err().unwrap().to_string();
            assert!(told.starts_with("invalid JSON Schema at /$schema: unknown dialect"), "{told}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_schema_is_told_with_its_place() {
        for (schema, told) in [
            (json!({"type": "no such type"}), "/type: "),
            (json!({"properties": {"a": {"pattern": "(a)\\1"}}}), "/properties/a/pattern: "),
            (json!({"properties": {"a": {"minLength": -1}}}), "/properties/a/minLength: "),
            (json!([]), "(root): "),
            (json!({"$ref": "#/$defs/none"}), ": "),
        ] {
            let text = compile(&schema).err().unwrap().to_string();
            assert!(text.starts_with(&format!("invalid JSON Schema at {told}")) || told == ": ", "{text}");
            assert!(text.len() < 500, "{text}");
        }
    }

    #[test]
    fn a_schema_is_bounded_in_depth_in_subschemas_and_in_its_patterns() {
        let limits = Limits {
            schema_depth_max: 5,
            schema_subschemas_max: 4,
            schema_pattern_bytes_max: 10_000,
            ..Limits::default()
        };
        let told = |schema: &Value| Validator::compile(schema, &limits).err().map(|error| error.to_string());
        let deep = |arrays: usize| {
            let nested = (0..arrays).fold(json!(1), |inner, _| json!([inner]));
            json!({"properties": {"a": {"const": nested}}})
        };
        assert_eq!(told(&deep(2)), None);
        assert!(told(&deep(3)).unwrap().contains("(root): nested deeper than 5 levels"));
        assert_eq!(told(&json!({"allOf": [true, true, {}]})), None);
        assert!(told(&json!({"allOf": [true, true, {}, true]})).unwrap().contains("more than 4 subschemas"));
        assert_eq!(told(&json!({"pattern": "^a{100}$"})), None);
        assert!(told(&json!({"pattern": "^a{1000}{1000}$"})).unwrap().contains("/pattern"));
        assert!(told(&json!({"patternProperties": {"^a{1000}{1000}$": 1}})).is_some());
        assert_eq!(Validator::compile(&json!(true), &limits).unwrap().subschemas(), 1);
        assert_eq!(
            Validator::compile(&json!({"not": {"uniqueItems": true}}), &limits).unwrap().subschemas(),
            3
        );

        let limits = Limits::default();
        let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"not": inner}));
        assert!(Validator::compile(&nested(limits.schema_depth_max), &limits).is_ok());
        assert!(Validator::compile(&nested(limits.schema_depth_max + 1), &limits).is_err());
        let wide = |count: usize| json!({"anyOf": vec![json!({}); count - 1]});
        assert!(Validator::compile(&wide(limits.schema_subschemas_max), &limits).is_ok());
        assert!(Validator::compile(&wide(limits.schema_subschemas_max + 1), &limits).is_err());
    }
}
