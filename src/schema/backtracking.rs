//! Patterns that only an engine that backtracks can match, and what matching them costs.

use std::collections::BTreeMap;

use jsonschema::PatternOptions;
use serde_json::{Value, json};

use crate::{config::Limits, json::Node};

/// Steps of the backtracking engine that count as one value looked at.
const STEPS_PER_VALUE: usize = 2;

/// A step may scan the rest of the string with the linear engine: this many bytes count as one more step.
const BYTES_PER_STEP: usize = 256;

/// The patterns of a schema that backtrack, by the strings they are matched against. A pattern counts once, whatever
/// refers to it. Where matches exceed their steps, the library validates again for each outcome they might have had, 63 times at most;
/// that is not counted.
pub(super) struct Backtracking {
    steps_max: usize,
    /// For keys: `patternProperties`, `propertyNames`.
    of_keys: usize,
    /// For any string of the value.
    of_strings: usize,
    /// For strings that are, or are in an array that is, the property of this name.
    of_properties: BTreeMap<Box<str>, usize>,
}

/// What the patterns of a subschema are matched against.
#[derive(Clone, Copy)]
enum Target<'a> {
    Keys,
    Strings,
    Property(&'a str),
}

impl Backtracking {
    /// Finds the patterns. The schema's depth has been checked before.
    pub(super) fn of(schema: &Value, limits: &Limits) -> Self {
        let mut found = Self {
            steps_max: limits.schema_backtrack_steps_max,
            of_keys: 0,
            of_strings: 0,
            of_properties: BTreeMap::new(),
        };
        found.collect(schema, Target::Strings, has_plain_references(schema), limits);
        // A reference may apply a definition to keys.
        if has_key(schema, "propertyNames") {
            found.of_keys = found.of_keys.saturating_add(found.of_strings);
        }
        found
    }

    fn collect<'a>(&mut self, schema: &'a Value, target: Target<'a>, is_plain: bool, limits: &Limits) {
        match schema {
            Value::Object(members) => {
                for (key, value) in members {
                    match (key.as_str(), value) {
                        ("pattern", Value::String(pattern)) if backtracks(pattern, limits) => match target {
                            Target::Keys => self.of_keys += 1,
                            Target::Property(name) if is_plain => {
                                *self.of_properties.entry(name.into()).or_default() += 1;
                            }
                            Target::Strings | Target::Property(_) => self.of_strings += 1,
                        },
                        ("properties", Value::Object(inner)) => {
                            for (name, inner) in inner {
                                self.collect(inner, Target::Property(name), is_plain, limits);
                            }
                        }
                        ("patternProperties", Value::Object(inner)) => {
                            self.of_keys += inner.keys().filter(|key| backtracks(key, limits)).count();
                            for inner in inner.values() {
                                self.collect(inner, Target::Strings, is_plain, limits);
                            }
                        }
                        ("propertyNames", value) => self.collect(value, Target::Keys, is_plain, limits),
                        (
                            "$defs" | "definitions" | "additionalProperties" | "unevaluatedProperties",
                            value,
                        ) => self.collect(value, Target::Strings, is_plain, limits),
                        (_, value) => self.collect(value, target, is_plain, limits),
                    }
                }
            }
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.collect(element, target, is_plain, limits));
            }
            _ => {}
        }
    }

    /// What matching the strings of a value costs at most, in values looked at; at least `cost_max` where it is more than that.
    pub(super) fn cost(&self, value: Node<'_>, cost_max: usize) -> usize {
        let mut cost: usize = 0;
        let mut left = vec![(value, None)];
        while let Some((value, property)) = left.pop() {
            if cost >= cost_max {
                break;
            }
            if let Some(text) = value.as_str() {
                let own = property.and_then(|name: &str| self.of_properties.get(name)).copied();
                cost = cost.saturating_add(
                    self.cost_of(text, self.of_strings.saturating_add(own.unwrap_or_default())),
                );
            }
            for (key, member) in value.members().into_iter().flatten() {
                cost = cost.saturating_add(self.cost_of(key, self.of_keys));
                left.push((member, Some(key)));
            }
            left.extend(value.elements().into_iter().flatten().map(|element| (element, property)));
        }
        cost
    }

    fn cost_of(&self, text: &str, patterns: usize) -> usize {
        let steps = self.steps_max.saturating_mul(1 + text.len() / BYTES_PER_STEP);
        patterns.saturating_mul(steps / STEPS_PER_VALUE)
    }
}

/// Whether the linear engine cannot match a pattern.
fn backtracks(pattern: &str, limits: &Limits) -> bool {
    let options = PatternOptions::regex().size_limit(limits.schema_pattern_bytes_max);
    jsonschema::options().with_pattern_options(options).build(&json!({"pattern": pattern})).is_err()
}

/// Whether every reference leads to the root or to a definition as a whole, never into a property.
fn has_plain_references(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().all(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(reference)) => {
                let name =
                    ["#/$defs/", "#/definitions/"].iter().find_map(|part| reference.strip_prefix(part));
                reference == "#" || name.is_some_and(|name| !name.contains('/'))
            }
            ("$dynamicRef" | "$recursiveRef", Value::String(_)) => false,
            _ => has_plain_references(value),
        }),
        Value::Array(elements) => elements.iter().all(has_plain_references),
        _ => true,
    }
}

fn has_key(schema: &Value, key: &str) -> bool {
    match schema {
        Value::Object(members) => {
            members.contains_key(key) || members.values().any(|value| has_key(value, key))
        }
        Value::Array(elements) => elements.iter().any(|element| has_key(element, key)),
        _ => false,
    }
}
