//! Arguments and schemas of 1 to 100 fields, for the workloads that measure the cost of fields and for the fixture
//! server.

use serde_json::{Map, Value, json};

/// A JSON object with `count` strings.
#[must_use]
pub fn strings(count: usize) -> String {
    object(count, |index| json!(format!("value number {index}")))
}

/// A JSON object with `count` fields of five types.
#[must_use]
pub fn mixed(count: usize) -> String {
    object(count, |index| match index % 5 {
        0 => json!(format!("name-{index}")),
        1 => json!(index),
        2 => json!(index as f64 + 0.5),
        3 => json!(index.is_multiple_of(2)),
        _ => json!(["one", "two", "three"]),
    })
}

/// The JSON Schema of [`strings`].
#[must_use]
pub fn strings_schema(count: usize) -> Value {
    schema(count, |_| json!({"type": "string"}))
}

/// The JSON Schema of [`mixed`], with constraints on every field.
#[must_use]
pub fn mixed_schema(count: usize) -> Value {
    schema(count, |index| match index % 5 {
        0 => json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-z]+-[0-9]+$"}),
        1 => json!({"type": "integer", "minimum": 0, "maximum": 1000}),
        2 => json!({"type": "number", "exclusiveMinimum": 0}),
        3 => json!({"type": "boolean"}),
        _ => json!({"type": "array", "items": {"enum": ["one", "two", "three"]}, "maxItems": 8}),
    })
}

fn object(count: usize, value: impl Fn(usize) -> Value) -> String {
    Value::Object((0..count).map(|index| (name(index), value(index))).collect()).to_string()
}

fn schema(count: usize, field: impl Fn(usize) -> Value) -> Value {
    let properties: Map<String, Value> = (0..count).map(|index| (name(index), field(index))).collect();
    let required: Vec<String> = (0..count).map(name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn name(index: usize) -> String {
    format!("field_{index:02}")
}
