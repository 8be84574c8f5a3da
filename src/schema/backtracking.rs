//! Patterns that require backtracking, and the strings they may be matched against.

use std::collections::BTreeMap;

use jsonschema::{PatternCache, PatternOptions};
use jsonschema_regex::{Sequence, split_leading_lookaheads, to_rust_regex};
use serde_json::{Value, json};

use super::tape::{MatchCosts, match_cost};
use crate::{config::SchemaLimits, json::Node};

/// Numbers of backtracking patterns of a schema, by the strings they are matched against. A pattern counts once, however often it
/// is referred to.
pub(super) struct Backtracking {
    steps_max: usize,
    /// Patterns for keys: `patternProperties`.
    of_keys: usize,
    /// Patterns for names: `propertyNames`.
    of_names: usize,
    /// Patterns for any string of the value.
    of_strings: usize,
    /// Patterns for strings that are the property of this name, or are in an array that is.
    of_properties: BTreeMap<Box<str>, usize>,
}

/// Strings that the patterns of a subschema are matched against.
#[derive(Clone, Copy)]
enum Target<'a> {
    Names,
    Strings,
    Property(&'a str),
}

impl Backtracking {
    /// Counts the patterns. Recursive: the schema's depth has been checked before.
    pub(super) fn of(schema: &Value, limits: &SchemaLimits) -> Self {
        let mut found = Self {
            steps_max: limits.backtrack_steps_max,
            of_keys: 0,
            of_names: 0,
            of_strings: 0,
            of_properties: BTreeMap::new(),
        };
        found.collect(schema, Target::Strings, has_plain_references(schema), limits);
        // A definition may be applied to names through a reference.
        if has_key(schema, "propertyNames") {
            found.of_names = found.of_names.saturating_add(found.of_strings);
        }
        found
    }

    fn collect<'a>(&mut self, schema: &'a Value, target: Target<'a>, is_plain: bool, limits: &SchemaLimits) {
        match schema {
            Value::Object(members) => {
                for (key, value) in members {
                    match (key.as_str(), value) {
                        ("pattern", Value::String(pattern)) if backtracks(pattern, limits) => match target {
                            Target::Names => self.of_names += 1,
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
                        ("propertyNames", value) => self.collect(value, Target::Names, is_plain, limits),
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

    /// Costs of matching the strings of a value; `None` if one match of each pattern against each of them may cost `cost_max` or
    /// more. The unit is one visited value.
    pub(super) fn costs(&self, value: Node<'_>, cost_max: usize) -> Option<MatchCosts> {
        let mut costs = MatchCosts {
            steps_max: self.steps_max,
            of_all: self.of_strings > 0,
            candidates: Vec::new(),
            of_keys: self.of_keys,
            of_names: self.of_names > 0,
        };
        let of_names = self.of_keys.saturating_add(self.of_names);
        let mut cost: usize = 0;
        let mut stack = vec![(value, None)];
        while let Some((value, property)) = stack.pop() {
            if let Some(text) = value.as_str() {
                let own = property.and_then(|name: &str| self.of_properties.get(name)).copied();
                if own.is_some() && !costs.of_all {
                    costs.candidates.push(value.address());
                }
                let patterns = self.of_strings.saturating_add(own.unwrap_or_default());
                cost = cost.saturating_add(match_cost(self.steps_max, text).saturating_mul(patterns));
            }
            for (key, member) in value.members().into_iter().flatten() {
                cost = cost.saturating_add(match_cost(self.steps_max, key).saturating_mul(of_names));
                stack.push((member, Some(key)));
            }
            if cost >= cost_max {
                return None;
            }
            stack.extend(value.elements().into_iter().flatten().map(|element| (element, property)));
        }
        costs.candidates.sort_unstable();
        Some(costs)
    }
}

/// A character and a count of a string that no [`Sequence`] decides without an engine.
const UNDECIDED: (&str, usize) = ("é", 1001);

/// Compiles the engines that the library would otherwise compile on a shard, at the first match of a string that is not ASCII. The
/// library splits a pattern that begins with lookaheads into parts, some of which need no engine for ASCII. Schemas that are
/// built with the returned cache share the engines.
pub(super) fn compile_ahead(schema: &Value) -> PatternCache {
    let cache = PatternCache::new();
    compile_parts(schema, &cache);
    cache
}

fn compile_parts(schema: &Value, cache: &PatternCache) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(pattern) if key == "pattern" => {
                        let parts = split_leading_lookaheads(pattern).unwrap_or_default();
                        parts
                            .iter()
                            .filter(|part| is_sequence(part))
                            .for_each(|part| compile_part(part, cache));
                    }
                    _ => compile_parts(value, cache),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| compile_parts(element, cache)),
        _ => {}
    }
}

fn is_sequence(pattern: &str) -> bool {
    to_rust_regex(pattern).is_ok_and(|pattern| Sequence::compile(&pattern).is_some())
}

fn compile_part(part: &str, cache: &PatternCache) {
    let options = jsonschema::options().with_pattern_cache(cache.clone());
    if let Ok(validator) = options.build(&json!({"pattern": part})) {
        // The result does not matter: the match compiles the engine.
        let _ = validator.is_valid(&Value::String(UNDECIDED.0.repeat(UNDECIDED.1)));
    }
}

/// Whether the linear-time engine does not support a pattern.
fn backtracks(pattern: &str, limits: &SchemaLimits) -> bool {
    let options = PatternOptions::regex().size_limit(limits.pattern_bytes_max);
    jsonschema::options().with_pattern_options(options).build(&json!({"pattern": pattern})).is_err()
}

/// Whether every reference names the root or a whole definition, and none a part of one.
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
