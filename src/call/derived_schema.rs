//! Prepares schemas derived from types for lists.

use serde_json::Value;

/// Formats that schemars derives and JSON Schema does not define. The schema has the range of these types as well.
const DERIVED_FORMATS: [&str; 15] = [
    "int8", "int16", "int32", "int64", "int128", "int", "uint8", "uint16", "uint32", "uint64", "uint128",
    "uint", "float", "double", "char",
];

/// A derived schema without the members that clients do not need: the type's name, the default dialect, and formats that
/// clients may reject.
pub(crate) fn listable(mut schema: Value) -> Value {
    if let Value::Object(members) = &mut schema {
        members.shift_remove("title");
        members.shift_remove("$schema");
    }
    remove_derived_formats(&mut schema);
    schema
}

fn remove_derived_formats(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| DERIVED_FORMATS.contains(&format))
            {
                members.shift_remove("format");
            }
            for (key, value) in members.iter_mut() {
                // The values of these keywords are not schemas.
                if !matches!(key.as_str(), "const" | "default" | "enum" | "examples") {
                    remove_derived_formats(value);
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(remove_derived_formats),
        _ => {}
    }
}
