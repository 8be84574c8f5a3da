//! Measures of a schema, checked against the limits before it is compiled.

use std::collections::HashMap;

use serde_json::Value;

use crate::config::SchemaLimits;

/// Maximum number of subschemas after all references are expanded, as a multiple of the limit. Twenty subschemas of which each refers
/// twice to the next expand to a million, all of which may apply to a single value.
const EXPANSION_FACTOR_MAX: usize = 16;

/// Maximum depth after all references are expanded, as a multiple of the limit.
const EXPANDED_DEPTH_FACTOR_MAX: usize = 4;

/// Measures of a schema that is within the limits.
pub(super) struct Bounds {
    /// Number of objects and booleans.
    pub(super) subschemas: usize,
    /// Depth of the schema up to its recursive references, if it has any.
    pub(super) recursive: Option<usize>,
}

impl Bounds {
    /// Measures a schema. The error names the exceeded limit.
    pub(super) fn of(schema: &Value, limits: &SchemaLimits) -> Result<Self, String> {
        let subschemas = count(schema, limits)?;
        let mut expansion = Expansion::new(schema, limits);
        let expanded = expansion.measure(schema, 0);
        if expanded.subschemas > expansion.subschemas_max || expanded.depth > expansion.depth_max {
            return Err(format!(
                "its references expand to more than {} subschemas, or deeper than {} levels",
                expansion.subschemas_max, expansion.depth_max
            ));
        }
        Ok(Self { subschemas, recursive: expansion.is_recursive.then_some(expanded.depth) })
    }
}

/// Counts the objects and booleans of a schema, a superset of its subschemas. Iterative, with a number of steps bounded by the
/// limits.
fn count(schema: &Value, limits: &SchemaLimits) -> Result<usize, String> {
    let mut subschemas: usize = 0;
    let mut stack = vec![(schema, 1_usize)];
    while let Some((value, depth)) = stack.pop() {
        if matches!(value, Value::Object(_) | Value::Array(_)) && depth > limits.depth_max {
            return Err(format!("nested deeper than {} levels", limits.depth_max));
        }
        subschemas += usize::from(matches!(value, Value::Object(_) | Value::Bool(_)));
        if subschemas > limits.subschemas_max {
            return Err(format!("more than {} subschemas", limits.subschemas_max));
        }
        match value {
            Value::Object(members) => stack.extend(members.values().map(|value| (value, depth + 1))),
            Value::Array(elements) => stack.extend(elements.iter().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    Ok(subschemas)
}

/// Measures a schema with its references expanded, except those to an enclosing subschema.
struct Expansion<'a> {
    root: &'a Value,
    /// Subschemas by their anchors and identifiers.
    named: HashMap<&'a str, &'a Value>,
    /// Measures by address; `None` while the subschema is being measured.
    measured: HashMap<usize, Option<Expanded>>,
    subschemas_max: usize,
    depth_max: usize,
    /// A reference leads to an enclosing subschema.
    is_recursive: bool,
}

/// Measures of a subschema with its references expanded.
#[derive(Clone, Copy)]
struct Expanded {
    subschemas: usize,
    depth: usize,
}

impl Expanded {
    fn with(self, part: Self) -> Self {
        Self {
            subschemas: self.subschemas.saturating_add(part.subschemas),
            depth: self.depth.max(part.depth.saturating_add(1)),
        }
    }
}

impl<'a> Expansion<'a> {
    fn new(root: &'a Value, limits: &SchemaLimits) -> Self {
        let mut named = HashMap::new();
        let mut stack = vec![root];
        while let Some(value) = stack.pop() {
            match value {
                Value::Object(members) => {
                    let names = ["$id", "id", "$anchor", "$dynamicAnchor"].map(|key| members.get(key));
                    named.extend(
                        names.into_iter().flatten().filter_map(Value::as_str).map(|name| (name, value)),
                    );
                    stack.extend(members.values());
                }
                Value::Array(elements) => stack.extend(elements),
                _ => {}
            }
        }
        Self {
            root,
            named,
            measured: HashMap::new(),
            subschemas_max: limits.subschemas_max.saturating_mul(EXPANSION_FACTOR_MAX),
            depth_max: limits.depth_max.saturating_mul(EXPANDED_DEPTH_FACTOR_MAX),
            is_recursive: false,
        }
    }

    /// Measures a subschema. Beyond the maximum depth it returns the maximum count.
    fn measure(&mut self, value: &'a Value, depth: usize) -> Expanded {
        if depth > self.depth_max {
            return Expanded { subschemas: usize::MAX, depth: 0 };
        }
        let members = match value {
            Value::Object(members) => members,
            Value::Array(elements) => {
                return elements.iter().fold(Expanded { subschemas: 0, depth: 1 }, |sum, element| {
                    sum.with(self.measure(element, depth + 1))
                });
            }
            Value::Bool(_) => return Expanded { subschemas: 1, depth: 1 },
            _ => return Expanded { subschemas: 0, depth: 0 },
        };
        let address = std::ptr::from_ref(value).addr();
        if let Some(measured) = self.measured.get(&address) {
            self.is_recursive |= measured.is_none();
            return measured.unwrap_or(Expanded { subschemas: 1, depth: 0 });
        }
        self.measured.insert(address, None);
        let mut sum = Expanded { subschemas: 1, depth: 1 };
        for (key, part) in members {
            // Definitions apply only where they are referred to.
            if !matches!(key.as_str(), "$defs" | "definitions") {
                sum = sum.with(self.measure(part, depth + 1));
            }
            if matches!(key.as_str(), "$ref" | "$dynamicRef")
                && let Some(target) = part.as_str().and_then(|reference| self.target(reference))
            {
                sum = sum.with(self.measure(target, depth + 1));
            }
        }
        self.measured.insert(address, Some(sum));
        sum
    }

    /// The subschema that a reference names. Relative identifiers are not resolved.
    fn target(&self, reference: &str) -> Option<&'a Value> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = if base.is_empty() { self.root } else { self.named.get(base).copied()? };
        if fragment.is_empty() || fragment.starts_with('/') {
            base.pointer(fragment)
        } else {
            self.named.get(fragment).copied()
        }
    }
}
