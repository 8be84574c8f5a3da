//! Work of the keywords of one subschema, without the subschemas in it.
//!
//! The constants are measured; see `benches/validation_work.rs`.

use serde_json::{Map, Value};

use super::{
    pattern::MatchWork,
    units::{BLOCK_BYTES, work_of_bytes},
};
use crate::json::{Elements, Node};

/// A visit of a value by a subschema, and the computation of this work.
const VISIT: u64 = 8;
/// A keyword that compares the value, or its size, with a constant.
const COMPARE: u64 = 3;
/// A reference from an object or array, whose result the library may remember.
const REFERENCE: u64 = 40;
/// A lookup of the result of a recursive subschema.
pub(super) const REMEMBERED: u64 = 50;
/// A member or element in an iteration.
const ITERATE: u64 = 4;
/// A comparison of two names, for each 64 bytes of the declared one.
const COMPARE_NAMES: u64 = 2;
/// A lookup of a name in a table.
const LOOKUP: u64 = 16;
/// A copy of a value, which the library makes to compare it.
const COPY: u64 = 40;
/// 64 bytes of a string that is copied, compared or hashed.
const COPY_BLOCK: u64 = 4;
/// 64 bytes of a string whose characters are counted.
const COUNT_BLOCK: u64 = 3;
/// A value in an array whose elements are compared with each other, with the copy.
const UNIQUE: u64 = 50;
/// A comparison of two elements that are arrays or objects, for each value in them. The hash of the library is equal for many
/// such values, for example for all nested empty arrays, so that each may be compared with each.
const UNIQUE_PAIR: u64 = 3;
/// A division by a fraction.
const MULTIPLE_OF: u64 = 5000;
/// A division by an integer.
const MULTIPLE_OF_WHOLE: u64 = 100;
/// 64 bytes of a string that is checked for a format.
const FORMAT_BLOCK: u64 = 150;
/// A check of a format.
const FORMAT: u64 = 200;
/// 64 bytes of a string that is parsed as a regular expression.
const FORMAT_REGEX_BLOCK: u64 = 1000;
/// 64 bytes of a string that is decoded and parsed as JSON.
const CONTENT_BLOCK: u64 = 2000;

/// Work of the keywords of a subschema, by what is known of a value. Each `block` is 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weights {
    /// Any value.
    pub(super) value: u64,
    /// A number.
    pub(super) number: u64,
    /// A string.
    pub(super) string: u64,
    pub(super) string_block: u64,
    /// An object.
    pub(super) object: u64,
    /// Each member of an object, and its name.
    pub(super) member: u64,
    pub(super) name_block: u64,
    /// An array.
    pub(super) array: u64,
    /// Each value within an object or array, at any depth, and its strings.
    pub(super) inner: u64,
    pub(super) inner_block: u64,
    /// Each pair of a value in an array and an element that is an array or object.
    pub(super) pair: u64,
}

/// Calls a function with each field of two sets of weights.
macro_rules! for_each_weight {
    ($one:expr, $function:expr, $($other:tt)*) => {
        for_each_weight!(@fields $one, $function, [$($other)*], value, number, string, string_block, object, member, name_block, array,
            inner, inner_block, pair)
    };
    (@fields $one:expr, $function:expr, [$other:expr], $($field:ident),*) => {
        $($function(&mut $one.$field, $other.$field);)*
    };
}

impl Weights {
    /// Adds the weights of a subschema that is evaluated `times` times.
    pub(super) fn add(&mut self, other: &Self, times: u64) {
        for_each_weight!(
            self,
            |sum: &mut u64, weight: u64| *sum = sum.saturating_add(weight.saturating_mul(times)),
            other
        );
    }

    /// The work of evaluating the keywords for one value.
    pub(super) fn work(&self, value: Node<'_>) -> u64 {
        if let Some(text) = value.as_str() {
            let bytes = work_of_bytes(text.len(), self.string_block);
            return self.value.saturating_add(self.string).saturating_add(bytes);
        }
        let own = if let Some(members) = value.members() {
            let count = members.len() as u64;
            let names =
                if self.name_block == 0 { 0 } else { members.map(|(name, _)| name.len()).sum::<usize>() };
            self.object
                .saturating_add(self.member.saturating_mul(count))
                .saturating_add(work_of_bytes(names, self.name_block))
        } else if let Some(elements) = value.elements() {
            self.array.saturating_add(self.pairs(value, elements))
        } else if value.as_number().is_some() {
            return self.value.saturating_add(self.number);
        } else {
            return self.value;
        };
        let inner = self.inner.saturating_mul(value.node_count() as u64);
        let bytes =
            if self.inner_block == 0 { 0 } else { work_of_bytes(value.string_bytes(), self.inner_block) };
        self.value.saturating_add(own).saturating_add(inner).saturating_add(bytes)
    }

    fn pairs(&self, array: Node<'_>, elements: Elements<'_>) -> u64 {
        if self.pair == 0 {
            return 0;
        }
        let containers = elements.filter(|element| element.is_array() || element.is_object()).count() as u64;
        let pairs = containers.saturating_mul(array.node_count() as u64) / 2;
        self.pair.saturating_mul(pairs)
    }

    /// Upper bound of the work for one value, per JSON value in it; `None` if the work grows faster than their number.
    pub(super) fn per_value(&self) -> Option<u64> {
        if self.pair > 0 {
            return None;
        }
        let scalar = self.number.max(self.string);
        let container = self.object.max(self.array).saturating_add(self.member);
        Some(self.value.saturating_add(scalar.max(container)).saturating_add(self.inner))
    }

    /// Upper bound of the work for one value, per 64 bytes of the strings in it.
    pub(super) fn per_block(&self) -> u64 {
        self.string_block.max(self.name_block.saturating_add(self.inner_block))
    }

    /// The weights of the keywords of a subschema. `matched`: the work of matching a pattern.
    pub(super) fn of(members: &Map<String, Value>, mut matched: impl FnMut(&str) -> MatchWork) -> Self {
        let mut weights = Self { value: VISIT, ..Self::default() };
        let mut names = Names::default();
        for (key, value) in members {
            weights.add_keyword(key, value, &mut names, &mut matched);
        }
        names.weigh(&mut weights);
        weights
    }

    // Long: one arm for each keyword.
    fn add_keyword(
        &mut self,
        key: &str,
        value: &Value,
        names: &mut Names,
        matched: &mut impl FnMut(&str) -> MatchWork,
    ) {
        match (key, value) {
            ("$ref" | "$dynamicRef" | "$recursiveRef", _) => {
                self.value += COMPARE;
                self.object += REFERENCE;
                self.array += REFERENCE;
            }
            ("const", option) => self.add_options(std::slice::from_ref(option)),
            ("enum", Value::Array(options)) => self.add_options(options),
            ("multipleOf", multiple) => {
                let is_whole = multiple.as_f64().is_some_and(|multiple| multiple.fract() == 0.0);
                self.number += if is_whole { MULTIPLE_OF_WHOLE } else { MULTIPLE_OF };
            }
            ("minLength" | "maxLength", _) => {
                self.string += COMPARE;
                self.string_block += COUNT_BLOCK;
            }
            ("pattern", Value::String(pattern)) => {
                let work = matched(pattern);
                self.string = self.string.saturating_add(work.fixed);
                self.string_block = self.string_block.saturating_add(work.per_block);
            }
            ("format", Value::String(format)) => {
                self.string += FORMAT;
                self.string_block += if format == "regex" { FORMAT_REGEX_BLOCK } else { FORMAT_BLOCK };
            }
            ("contentMediaType" | "contentEncoding" | "contentSchema", _) => {
                self.string += COPY;
                self.string_block += CONTENT_BLOCK;
            }
            ("patternProperties", Value::Object(patterns)) => {
                self.member = self.member.saturating_add(ITERATE);
                for pattern in patterns.keys() {
                    let work = matched(pattern);
                    names.matched = names.matched.saturating_add(work.fixed);
                    names.matched_block = names.matched_block.saturating_add(work.per_block);
                }
            }
            ("properties", Value::Object(properties)) => {
                names.properties = properties.keys().map(|name| comparison(name)).sum();
            }
            ("required", Value::Array(required)) => {
                names.required += required.iter().filter_map(Value::as_str).map(comparison).sum::<u64>();
            }
            ("dependencies" | "dependentRequired" | "dependentSchemas", Value::Object(dependents)) => {
                let inner = dependents.values().flat_map(|names| names.as_array().into_iter().flatten());
                let inner = inner.filter_map(Value::as_str).chain(dependents.keys().map(String::as_str));
                names.required += inner.map(comparison).sum::<u64>();
            }
            ("additionalProperties", _) => names.additional = true,
            ("unevaluatedProperties", _) => names.unevaluated = true,
            ("propertyNames", _) => self.member += ITERATE + VISIT,
            ("items" | "prefixItems" | "additionalItems" | "contains" | "unevaluatedItems", _) => {
                self.inner += ITERATE;
                self.array += COMPARE;
            }
            ("uniqueItems", Value::Bool(true)) => {
                self.inner += UNIQUE;
                self.inner_block += COPY_BLOCK * 2;
                self.pair += UNIQUE_PAIR;
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(branches)) => {
                self.value += COMPARE * branches.len() as u64;
            }
            _ => self.value += COMPARE,
        }
    }

    /// Adds the comparison with each of several values. The library copies the value for each.
    fn add_options(&mut self, options: &[Value]) {
        let count = options.len() as u64;
        let has = |is: fn(&Value) -> bool| options.iter().any(is);
        let is_strings = options.iter().all(Value::is_string);
        self.value += COMPARE;
        if has(Value::is_string) {
            let copies = if is_strings { 1 } else { count };
            self.string += COPY.saturating_mul(copies).saturating_add(count * COMPARE);
            self.string_block += COPY_BLOCK.saturating_mul(copies).saturating_add(count);
        }
        if has(Value::is_number) {
            self.number += COPY.saturating_mul(count);
        }
        if has(|option| option.is_object() || option.is_array()) {
            self.inner += COPY.saturating_mul(count);
            self.inner_block += COPY_BLOCK.saturating_mul(count);
        }
    }
}

/// Work of comparing a declared name with another one.
fn comparison(name: &str) -> u64 {
    COMPARE_NAMES * (1 + name.len() as u64 / BLOCK_BYTES)
}

/// Keywords of an object whose work depends on each other.
#[derive(Default)]
struct Names {
    /// Work of comparing a name with each declared one.
    properties: u64,
    /// Work of comparing a name with each required one.
    required: u64,
    additional: bool,
    unevaluated: bool,
    /// Work of matching a name against each pattern.
    matched: u64,
    matched_block: u64,
}

impl Names {
    fn weigh(&self, weights: &mut Weights) {
        // A name is compared with the few declared ones, or looked up among many.
        let lookup = self.properties.min(LOOKUP);
        if self.properties > 0 {
            weights.object += ITERATE;
            weights.member += ITERATE + lookup;
        }
        // A required name is looked for among all members.
        weights.object += self.required;
        weights.member += self.required;
        let passes = 1 + u64::from(self.additional) + 2 * u64::from(self.unevaluated);
        weights.member += (ITERATE + lookup) * (passes - 1);
        weights.object += COPY * u64::from(self.unevaluated);
        weights.member = weights.member.saturating_add(self.matched.saturating_mul(passes));
        weights.name_block = weights.name_block.saturating_add(self.matched_block.saturating_mul(passes));
    }
}
