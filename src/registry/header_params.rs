//! `x-mcp-header`: arguments that a client mirrors in a header
//! (<https://modelcontextprotocol.io/specification/2026-07-28/server/tools#x-mcp-header>).

use serde_json::{Map, Value};

use super::RegistryError;

/// An argument that is mirrored in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderParam {
    /// The full name of the header, for example `Mcp-Param-Region`.
    pub header: String,
    /// Path of the argument: a key for each level.
    pub path: Vec<String>,
}

/// Keywords whose value is a schema.
const SCHEMAS: [&str; 11] = [
    "items",
    "additionalItems",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
];

/// Keywords whose value is a list of schemas.
const LISTS: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];

/// Keywords whose value is a map of schemas.
const MAPS: [&str; 5] = ["$defs", "definitions", "patternProperties", "dependentSchemas", "dependencies"];

/// Finds the annotated properties of a tool's input schema. The caller has checked the depth of the schema.
///
/// # Errors
/// [`RegistryError::HeaderParam`]: an annotation is invalid; clients would drop the tool.
pub(super) fn find(tool: &str, schema: &Value) -> Result<Vec<HeaderParam>, RegistryError> {
    let mut found = Vec::new();
    let invalid = |reason| RegistryError::HeaderParam { tool: tool.to_owned(), reason };
    walk(schema, Some(&mut Vec::new()), &mut found).map_err(invalid)?;
    for (number, param) in found.iter().enumerate() {
        if found.iter().take(number).any(|other| other.header.eq_ignore_ascii_case(&param.header)) {
            return Err(invalid("two properties name the same header"));
        }
    }
    Ok(found)
}

/// Collects the annotations of `schema` and of its subschemas. `path`: the path of `schema`, if `properties` alone lead to it.
fn walk(
    schema: &Value,
    mut path: Option<&mut Vec<String>>,
    found: &mut Vec<HeaderParam>,
) -> Result<(), &'static str> {
    let Some(schema) = schema.as_object() else { return Ok(()) };
    if let Some(name) = schema.get("x-mcp-header") {
        match path.as_deref() {
            Some(path) if !path.is_empty() => found.push(read(schema, name, path)?),
            _ => return Err("only properties reachable by `properties` alone may name a header"),
        }
    }
    for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        match path.as_deref_mut() {
            Some(path) => {
                path.push(key.clone());
                walk(property, Some(path), found)?;
                path.pop();
            }
            None => walk(property, None, found)?,
        }
    }
    let one = SCHEMAS.iter().filter_map(|key| schema.get(*key));
    let listed = LISTS.iter().filter_map(|key| schema.get(*key)?.as_array()).flatten();
    let named = MAPS.iter().filter_map(|key| schema.get(*key)?.as_object()).flat_map(Map::values);
    one.chain(listed).chain(named).try_for_each(|inner| walk(inner, None, found))
}

fn read(schema: &Map<String, Value>, name: &Value, path: &[String]) -> Result<HeaderParam, &'static str> {
    let name = name.as_str().ok_or("a header's name must be a string")?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("a header's name must be a token (RFC 9110, section 5.6.2)");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "boolean") => {}
        _ => return Err("only strings, integers and booleans may name a header"),
    }
    Ok(HeaderParam { header: format!("Mcp-Param-{name}"), path: path.to_vec() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotated_properties_are_found_at_any_depth() {
        let schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "x-mcp-header": {"type": "string"},
            "inner": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "plain": {"default": {"x-mcp-header": "not a schema"}}
        }});
        let param = |header: &str, path: &[&str]| HeaderParam {
            header: header.to_owned(),
            path: path.iter().map(|key| (*key).to_owned()).collect(),
        };
        assert_eq!(
            find("t", &schema).unwrap(),
            [param("Mcp-Param-Region", &["region"]), param("Mcp-Param-N", &["inner", "n"])]
        );
    }

    #[test]
    fn invalid_annotations_are_rejected_at_registration() {
        let property = |property: Value| json!({"type": "object", "properties": {"a": property}});
        for (schema, part) in [
            (property(json!({"type": "string", "x-mcp-header": ""})), "token"),
            (property(json!({"type": "string", "x-mcp-header": "a b"})), "token"),
            (property(json!({"type": "string", "x-mcp-header": "a\r\nb"})), "token"),
            (property(json!({"type": "string", "x-mcp-header": 1})), "string"),
            (property(json!({"type": "number", "x-mcp-header": "A"})), "integers"),
            (property(json!({"x-mcp-header": "A"})), "integers"),
            (property(json!({"items": {"type": "string", "x-mcp-header": "A"}})), "alone"),
            (property(json!({"anyOf": [{"type": "string", "x-mcp-header": "A"}]})), "alone"),
            (json!({"$defs": {"a": {"type": "string", "x-mcp-header": "A"}}}), "alone"),
            (json!({"type": "object", "x-mcp-header": "A"}), "alone"),
            (
                json!({"properties": {
                    "a": {"type": "string", "x-mcp-header": "A"},
                    "b": {"type": "string", "x-mcp-header": "a"}
                }}),
                "same header",
            ),
        ] {
            let error = find("t", &schema).unwrap_err().to_string();
            assert!(error.contains(part), "{schema}: {error}");
        }
    }
}
