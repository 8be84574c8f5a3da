//! What a schema costs, found out before it is compiled.

use std::collections::HashMap;

use serde_json::Value;

use crate::config::SchemaLimits;

/// Subschemas a schema may have, for each one of the limit, when everything it refers to is put in its place: twenty that each
/// refer twice to the next are a million, and all of them may be applied to a single value.
const UNFOLDING_MAX: usize = 16;

/// Nesting a schema may have, for each level of the limit, when everything it refers to is put in its place.
const UNFOLDED_DEPTH_MAX: usize = 4;

/// The measures of a schema within the limits.
pub(super) struct Bounds {
    /// Objects and booleans.
    pub(super) subschemas: usize,
    /// How deep the schema is before it comes back to itself, if it does.
    pub(super) recursive: Option<usize>,
}

impl Bounds {
    /// Measures a schema; the error says which limit it exceeds.
    pub(super) fn of(schema: &Value, limits: &SchemaLimits) -> Result<Self, String> {
        let subschemas = count(schema, limits)?;
        let mut unfolding = Unfolding::new(schema, limits);
        let unfolded = unfolding.measure(schema, 0);
        if unfolded.subschemas > unfolding.subschemas_max || unfolded.depth > unfolding.depth_max {
            return Err(format!(
                "its references unfold to more than {} subschemas, or deeper than {} levels",
                unfolding.subschemas_max, unfolding.depth_max
            ));
        }
        Ok(Self { subschemas, recursive: unfolding.is_recursive.then_some(unfolded.depth) })
    }
}

/// Counts the objects and booleans of a schema, which are its subschemas and some others, with neither recursion nor more
/// steps than the limits allow.
fn count(schema: &Value, limits: &SchemaLimits) -> Result<usize, String> {
    let mut subschemas: usize = 0;
    let mut left = vec![(schema, 1_usize)];
    while let Some((value, depth)) = left.pop() {
        if matches!(value, Value::Object(_) | Value::Array(_)) && depth > limits.depth_max {
            return Err(format!("nested deeper than {} levels", limits.depth_max));
        }
        subschemas += usize::from(matches!(value, Value::Object(_) | Value::Bool(_)));
        if subschemas > limits.subschemas_max {
            return Err(format!("more than {} subschemas", limits.subschemas_max));
        }
        match value {
            Value::Object(members) => left.extend(members.values().map(|value| (value, depth + 1))),
            Value::Array(elements) => left.extend(elements.iter().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    Ok(subschemas)
}

/// Counts subschemas as [`count`] does, with whatever they refer to in its place, but for what they are part of.
struct Unfolding<'a> {
    root: &'a Value,
    /// What has an anchor or an identifier.
    named: HashMap<&'a str, &'a Value>,
    /// By address. None while it is being measured.
    measured: HashMap<usize, Option<Unfolded>>,
    subschemas_max: usize,
    depth_max: usize,
    /// A reference has led back to where it is part of.
    is_recursive: bool,
}

/// A part of a schema with everything in its place.
#[derive(Clone, Copy)]
struct Unfolded {
    subschemas: usize,
    depth: usize,
}

impl Unfolded {
    fn with(self, part: Self) -> Self {
        Self {
            subschemas: self.subschemas.saturating_add(part.subschemas),
            depth: self.depth.max(part.depth.saturating_add(1)),
        }
    }
}

impl<'a> Unfolding<'a> {
    fn new(root: &'a Value, limits: &SchemaLimits) -> Self {
        let mut named = HashMap::new();
        let mut left = vec![root];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(members) => {
                    let names = ["$id", "id", "$anchor", "$dynamicAnchor"].map(|key| members.get(key));
                    named.extend(
                        names.into_iter().flatten().filter_map(Value::as_str).map(|name| (name, value)),
                    );
                    left.extend(members.values());
                }
                Value::Array(elements) => left.extend(elements),
                _ => {}
            }
        }
        Self {
            root,
            named,
            measured: HashMap::new(),
            subschemas_max: limits.subschemas_max.saturating_mul(UNFOLDING_MAX),
            depth_max: limits.depth_max.saturating_mul(UNFOLDED_DEPTH_MAX),
            is_recursive: false,
        }
    }

    /// Whatever lies too deep counts as too many.
    fn measure(&mut self, value: &'a Value, depth: usize) -> Unfolded {
        if depth > self.depth_max {
            return Unfolded { subschemas: usize::MAX, depth: 0 };
        }
        let members = match value {
            Value::Object(members) => members,
            Value::Array(elements) => {
                return elements.iter().fold(Unfolded { subschemas: 0, depth: 1 }, |sum, element| {
                    sum.with(self.measure(element, depth + 1))
                });
            }
            Value::Bool(_) => return Unfolded { subschemas: 1, depth: 1 },
            _ => return Unfolded { subschemas: 0, depth: 0 },
        };
        let address = std::ptr::from_ref(value).addr();
        if let Some(measured) = self.measured.get(&address) {
            self.is_recursive |= measured.is_none();
            return measured.unwrap_or(Unfolded { subschemas: 1, depth: 0 });
        }
        self.measured.insert(address, None);
        let mut sum = Unfolded { subschemas: 1, depth: 1 };
        for (key, part) in members {
            // Definitions are not applied where they stand.
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

    /// What a reference names, as far as that can be told without resolving identifiers against each other.
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
