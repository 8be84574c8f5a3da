//! Subschemas of a schema, and which of them apply to which part of a value.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{pattern::MatchWork, weights::Weights};
use crate::config::SchemaLimits;

/// A subschema before its combinators are resolved. Each list has indices of subschemas.
#[derive(Default)]
pub(super) struct Part<'a> {
    pub(super) weights: Weights,
    /// Those that apply to the same value.
    pub(super) same: Vec<usize>,
    /// Those that apply to the member of a name.
    pub(super) properties: Vec<(&'a str, usize)>,
    /// Those that may apply to any member.
    pub(super) members: Vec<usize>,
    /// Those that apply to each name.
    pub(super) names: Vec<usize>,
    /// Those that apply to the element at a position.
    pub(super) positions: Vec<usize>,
    /// Those that may apply to any element.
    pub(super) elements: Vec<usize>,
    /// How often the subschemas of `same` may be evaluated: more than once to find unevaluated members.
    pub(super) times: u64,
}

/// Upper bound of the evaluations of a branch of a subschema with `unevaluatedProperties` or `unevaluatedItems`.
const UNEVALUATED_TIMES: u64 = 3;

/// Maximum length of a chain of references; a longer one is a cycle.
const FORWARDED_MAX: usize = 128;

/// All subschemas. The root has index 0.
pub(super) struct Graph<'a> {
    pub(super) parts: Vec<Part<'a>>,
    root: &'a Value,
    limits: &'a SchemaLimits,
    indices: HashMap<usize, usize>,
    unvisited: Vec<(usize, &'a Value)>,
    matched: HashMap<&'a str, MatchWork>,
    /// Subschemas by their anchors and identifiers.
    named: HashMap<&'a str, Vec<&'a Value>>,
    /// The root, and subschemas with an identifier: any of them may be the one that a reference without a base begins at.
    resources: Vec<&'a Value>,
    /// Subschemas that a dynamic reference may lead to.
    dynamic: Vec<&'a Value>,
    /// The index of a subschema that stands for all, for references that cannot be resolved.
    any: Option<usize>,
}

impl<'a> Graph<'a> {
    pub(super) fn of(root: &'a Value, limits: &'a SchemaLimits) -> Self {
        let mut graph = Self {
            parts: Vec::new(),
            root,
            limits,
            indices: HashMap::new(),
            unvisited: Vec::new(),
            matched: HashMap::new(),
            named: HashMap::new(),
            resources: vec![root],
            dynamic: Vec::new(),
            any: None,
        };
        graph.find_names();
        graph.index(root);
        while let Some((index, value)) = graph.unvisited.pop() {
            let part = value.as_object().map_or_else(Part::default, |members| graph.part(members));
            if let Some(slot) = graph.parts.get_mut(index) {
                *slot = part;
            }
        }
        graph.complete_any();
        graph
    }

    fn find_names(&mut self) {
        let mut stack = vec![self.root];
        while let Some(value) = stack.pop() {
            match value {
                Value::Object(members) => {
                    for key in ["$id", "id", "$anchor", "$dynamicAnchor"] {
                        if let Some(name) = members.get(key).and_then(Value::as_str) {
                            self.named.entry(name).or_default().push(value);
                        }
                    }
                    let has_id =
                        ["$id", "id"].iter().any(|key| members.get(*key).is_some_and(Value::is_string));
                    if has_id && !std::ptr::eq(value, self.root) {
                        self.resources.push(value);
                    }
                    if members.contains_key("$dynamicAnchor") || members.contains_key("$recursiveAnchor") {
                        self.dynamic.push(value);
                    }
                    stack.extend(members.values());
                }
                Value::Array(elements) => stack.extend(elements),
                _ => {}
            }
        }
    }

    /// The index of a subschema, which is visited later; of one that only refers to another, the index of that.
    fn index(&mut self, value: &'a Value) -> usize {
        let mut value = value;
        for _ in 0..FORWARDED_MAX {
            let Some(target) = self.only_reference(value) else { break };
            value = target;
        }
        let next = self.parts.len();
        let index = *self.indices.entry(std::ptr::from_ref(value).addr()).or_insert(next);
        if index == next {
            self.parts.push(Part::default());
            self.unvisited.push((index, value));
        }
        index
    }

    /// The subschema that `value` refers to, if it has no other keyword than annotations.
    fn only_reference(&self, value: &Value) -> Option<&'a Value> {
        let members = value.as_object()?;
        let is_annotation =
            |key: &str| matches!(key, "title" | "description" | "$comment" | "default" | "examples");
        if members.keys().any(|key| key != "$ref" && !is_annotation(key)) {
            return None;
        }
        match self.found(members.get("$ref")?.as_str()?).as_slice() {
            [target] => Some(target),
            _ => None,
        }
    }

    fn any(&mut self) -> usize {
        *self.any.get_or_insert_with(|| {
            self.parts.push(Part::default());
            self.parts.len() - 1
        })
    }

    // Long: one arm for each keyword with subschemas.
    fn part(&mut self, members: &'a Map<String, Value>) -> Part<'a> {
        let (limits, matched) = (self.limits, &mut self.matched);
        let mut part = Part { times: 1, ..Part::default() };
        let mut patterns: Vec<&'a str> = Vec::new();
        patterns.extend(members.get("pattern").and_then(Value::as_str));
        let properties = members.get("patternProperties").and_then(Value::as_object);
        patterns.extend(properties.into_iter().flat_map(Map::keys).map(String::as_str));
        for pattern in patterns {
            matched.entry(pattern).or_insert_with(|| MatchWork::of(pattern, limits));
        }
        part.weights = Weights::of(members, |pattern| matched.get(pattern).copied().unwrap_or_default());
        for (key, value) in members {
            match (key.as_str(), value) {
                ("allOf" | "anyOf" | "oneOf", Value::Array(branches)) => {
                    part.same.extend(branches.iter().map(|branch| self.index(branch)));
                }
                ("not" | "if" | "then" | "else", value) => part.same.push(self.index(value)),
                ("dependentSchemas" | "dependencies", Value::Object(dependents)) => {
                    let schemas = dependents.values().filter(|value| !value.is_array());
                    part.same.extend(schemas.map(|value| self.index(value)));
                }
                ("$ref", Value::String(reference)) => {
                    let targets = self.targets(reference);
                    part.same.extend(targets);
                }
                ("$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                    let mut targets = self.targets(reference);
                    targets.extend(self.dynamic.clone().into_iter().map(|value| self.index(value)));
                    targets.sort_unstable();
                    targets.dedup();
                    part.same.extend(targets);
                }
                ("properties", Value::Object(inner)) => {
                    part.properties
                        .extend(inner.iter().map(|(name, value)| (name.as_str(), self.index(value))));
                }
                ("patternProperties", Value::Object(inner)) => {
                    part.members.extend(inner.values().map(|value| self.index(value)));
                }
                ("additionalProperties", value) => part.members.push(self.index(value)),
                ("unevaluatedProperties", value) => {
                    part.members.push(self.index(value));
                    part.times = UNEVALUATED_TIMES;
                }
                ("propertyNames", value) => part.names.push(self.index(value)),
                ("prefixItems" | "items", Value::Array(elements)) => {
                    part.positions.extend(elements.iter().map(|value| self.index(value)));
                }
                ("items" | "additionalItems" | "contains", value) => part.elements.push(self.index(value)),
                ("unevaluatedItems", value) => {
                    part.elements.push(self.index(value));
                    // Those of `contains` are searched for again.
                    part.elements.extend(members.get("contains").map(|value| self.index(value)));
                    part.times = UNEVALUATED_TIMES;
                }
                _ => {}
            }
        }
        part
    }

    /// The indices of the subschemas that a reference may name.
    fn targets(&mut self, reference: &str) -> Vec<usize> {
        let found = self.found(reference);
        if found.is_empty() {
            return vec![self.any()];
        }
        found.into_iter().map(|value| self.index(value)).collect()
    }

    /// The subschemas that a reference may name; none if it cannot be resolved.
    fn found(&self, reference: &str) -> Vec<&'a Value> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let bases = match base {
            "" => self.resources.clone(),
            base => self.named.get(base).cloned().unwrap_or_default(),
        };
        if fragment.is_empty() || fragment.starts_with('/') {
            let fragment = percent_decoded(fragment);
            bases.iter().filter_map(|base| base.pointer(&fragment)).collect()
        } else {
            self.named.get(fragment).cloned().unwrap_or_default()
        }
    }

    /// Makes the subschema that stands for all evaluate all of them for each value, at each depth.
    fn complete_any(&mut self) {
        let Some(any) = self.any else { return };
        let mut weights = Weights::default();
        self.parts.iter().for_each(|part| weights.add(&part.weights, 1));
        if let Some(part) = self.parts.get_mut(any) {
            *part = Part { weights, members: vec![any], elements: vec![any], times: 1, ..Part::default() };
        }
    }
}

/// A JSON pointer in a fragment, decoded (<https://www.rfc-editor.org/rfc/rfc6901#section-6>).
fn percent_decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.filter(|_| *byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
