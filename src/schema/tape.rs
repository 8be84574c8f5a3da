//! Implementation of `jsonschema`'s representation traits for the tape.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
};

use jsonschema::{
    JsonType,
    json::{Array, Json, JsonNumber, Node as JsonNode, NodeIdentity, Object},
};
use serde_json::Value;

use super::cost::{BYTES_PER_STEP, VALUES_PER_STEP};
use crate::json::{Elements, Members, Node, Number};

/// The tape as a representation of JSON for `jsonschema`.
pub struct TapeJson;

thread_local! {
    /// Remaining work, in visited values. Bounds a validation: the library passes no context to nodes and cannot be interrupted.
    static WORK_LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    /// See [`with_whole_copies`].
    static COPIES_WHOLE: Cell<bool> = const { Cell::new(false) };
    /// See [`with_match_costs`].
    static COUNTS_MATCHES: Cell<bool> = const { Cell::new(false) };
    static MATCH_COSTS: RefCell<Option<MatchCosts>> = const { RefCell::new(None) };
    /// The current node is the name of a member.
    static IS_NAME: Cell<bool> = const { Cell::new(false) };
    /// Number of strings that keywords have read.
    #[cfg(test)]
    pub(super) static STRINGS: Cell<usize> = const { Cell::new(0) };
}

/// Costs of the strings of one value, charged each time a keyword reads one, because a pattern may be matched against it.
pub(super) struct MatchCosts {
    /// Maximum steps of one match.
    pub(super) steps_max: usize,
    /// Whether every string may be matched.
    pub(super) of_all: bool,
    /// Addresses of the strings that may be matched, ascending; unused with `of_all`.
    pub(super) candidates: Vec<usize>,
    /// Number of patterns of `patternProperties`, which are matched against each name of an iteration over the members.
    pub(super) of_keys: usize,
    /// Whether a member's name may be matched because of `propertyNames`.
    pub(super) of_names: bool,
}

/// Maximum cost of one match of a pattern against `text`, in visited values.
pub(super) fn match_cost(steps_max: usize, text: &str) -> usize {
    steps_max.saturating_mul(1 + text.len() / BYTES_PER_STEP).saturating_mul(VALUES_PER_STEP)
}

impl MatchCosts {
    /// Charges a match against this string, if it may be matched. Returns whether work remains.
    fn charge_match(&self, node: Node<'_>, text: &str) -> bool {
        let is_candidate = if IS_NAME.get() {
            self.of_names
        } else {
            self.of_all || self.candidates.binary_search(&node.address()).is_ok()
        };
        !is_candidate || charge(match_cost(self.steps_max, text))
    }

    /// Charges the matches against all names of an object. Returns whether work remains.
    fn charge_keys(&self, members: &Members<'_>) -> bool {
        self.of_keys == 0
            || members
                .clone()
                .all(|(key, _)| charge(match_cost(self.steps_max, key).saturating_mul(self.of_keys)))
    }
}

/// Calls `validate`, and charges `costs` for each read of a string and of an object's names. The library matches a pattern each time
/// it reads a string, and validates a value again up to 63 times after a match that exceeded its steps, so the work cannot be
/// bounded in advance.
pub(super) fn with_match_costs<T>(costs: MatchCosts, validate: impl FnOnce() -> T) -> T {
    /// Resets the thread's state, also if `validate` panics.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            COUNTS_MATCHES.set(false);
            IS_NAME.set(false);
            MATCH_COSTS.set(None);
        }
    }
    MATCH_COSTS.set(Some(costs));
    COUNTS_MATCHES.set(true);
    let _reset = Reset;
    validate()
}

/// Charges the installed costs through `charge`. Returns whether work remains.
fn charge_matches(charge: impl FnOnce(&MatchCosts) -> bool) -> bool {
    MATCH_COSTS.with_borrow(|found| found.as_ref().is_none_or(charge))
}

/// Calls `validate` with work for `work_max` visited values. Further values appear to be empty, which ends the validation soon; its
/// result is then invalid, see [`is_exhausted`].
pub(super) fn with_work<T>(work_max: usize, validate: impl FnOnce() -> T) -> T {
    WORK_LEFT.set(work_max);
    let validated = validate();
    WORK_LEFT.set(usize::MAX);
    validated
}

/// Calls `explain`, for which copies of values are complete even without remaining work. The library looks up the position of an
/// unfinished match in such a copy, and panics if the copy lacks it.
pub(super) fn with_whole_copies<T>(explain: impl FnOnce() -> T) -> T {
    COPIES_WHOLE.set(true);
    let explained = explain();
    COPIES_WHOLE.set(false);
    explained
}

/// Whether the current validation has no work left.
pub(super) fn is_exhausted() -> bool {
    WORK_LEFT.get() == 0
}

/// Charges visited values. Returns whether work remains.
fn charge(values: usize) -> bool {
    let left = WORK_LEFT.get().saturating_sub(values);
    WORK_LEFT.set(left);
    left > 0
}

/// The string of a node; empty without remaining work.
#[cold]
#[inline(never)]
fn counted_string<'a>(node: Node<'_>, text: &'a str) -> &'a str {
    if charge_matches(|costs| costs.charge_match(node, text)) { text } else { "" }
}

/// The members of an object; none without remaining work.
#[cold]
#[inline(never)]
fn counted_members<'a>(members: &Members<'a>) -> Members<'a> {
    if charge_matches(|costs| costs.charge_keys(members)) { members.clone() } else { Members::default() }
}

impl Json for TapeJson {
    type Node<'a> = Node<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = ();

    /// A lookup scans the members, so the library should prefer one pass over them to a few lookups.
    const KEYS_PER_LOOKUP: usize = 8;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(Node<'_>) -> T) -> T {
        IS_NAME.set(true);
        let result = Node::with_string(string, f);
        IS_NAME.set(false);
        result
    }
}

impl JsonNumber for Number {
    fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => value.try_into().ok(),
            Self::Float(_) => None,
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Signed(value) => Some(value),
            Self::Unsigned(value) => value.try_into().ok(),
            Self::Float(_) => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        self.to_number().as_f64()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_number().to_string())
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        Cow::Owned(match *self {
            Self::Signed(value) => value.into(),
            Self::Unsigned(value) => value.into(),
            // The parser rejects numbers that are not finite.
            Self::Float(value) => serde_json::Number::from_f64(value).unwrap_or_else(|| 0.into()),
        })
    }

    fn is_integer(&self) -> bool {
        match *self {
            Self::Float(value) => value.fract() == 0.0,
            Self::Signed(_) | Self::Unsigned(_) => true,
        }
    }

    fn is_written_as_integer(&self) -> bool {
        !matches!(self, Self::Float(_))
    }
}

impl<'a> JsonNode<'a, TapeJson> for Node<'a> {
    type Object = TapeObject<'a>;
    type Array = TapeArray<'a>;
    type Number = Number;

    fn as_object(&self) -> Option<TapeObject<'a>> {
        self.members().filter(|members| charge(members.len() + 1)).map(TapeObject)
    }

    fn as_array(&self) -> Option<TapeArray<'a>> {
        self.elements().filter(|elements| charge(elements.len() + 1)).map(TapeArray)
    }

    /// Charges a match: the library calls this mainly for patterns. Lengths and equality do not use it.
    fn as_string(&self) -> Option<Cow<'a, str>> {
        let text = self.as_str()?;
        #[cfg(test)]
        STRINGS.set(STRINGS.get() + usize::from(!is_exhausted()));
        Some(Cow::Borrowed(if COUNTS_MATCHES.get() { counted_string(*self, text) } else { text }))
    }

    fn string_length(&self) -> Option<u64> {
        self.as_str().map(|text| text.chars().count() as u64)
    }

    fn as_number(&self) -> Option<Number> {
        (*self).as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.as_bool()
    }

    fn is_null(&self) -> bool {
        (*self).is_null()
    }

    fn json_type(&self) -> JsonType {
        if self.as_str().is_some() {
            JsonType::String
        } else if (*self).as_number().is_some() {
            JsonType::Number
        } else if self.is_object() {
            JsonType::Object
        } else if self.is_array() {
            JsonType::Array
        } else if self.as_bool().is_some() {
            JsonType::Boolean
        } else {
            JsonType::Null
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        if !charge(self.node_count()) && !COPIES_WHOLE.get() {
            return Cow::Owned(Value::Null);
        }
        Cow::Owned(copy(*self))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(self.address()))
    }
}

fn copy(node: Node<'_>) -> Value {
    if let Some(text) = node.as_str() {
        Value::String(text.to_owned())
    } else if let Some(number) = node.as_number() {
        Value::Number(number.to_number().into_owned())
    } else if let Some(members) = node.members() {
        Value::Object(members.map(|(key, value)| (key.to_owned(), copy(value))).collect())
    } else if let Some(elements) = node.elements() {
        Value::Array(elements.map(copy).collect())
    } else {
        node.as_bool().map_or(Value::Null, Value::Bool)
    }
}

/// An object of the tape.
pub struct TapeObject<'a>(Members<'a>);

/// An array of the tape.
pub struct TapeArray<'a>(Elements<'a>);

impl<'a> Object<'a, TapeJson> for TapeObject<'a> {
    type Node = Node<'a>;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &Box<str>) -> Option<Node<'a>> {
        self.0.clone().find(|(name, _)| *name == &**key).map(|(_, value)| value)
    }

    fn members(&self) -> Members<'a> {
        if COUNTS_MATCHES.get() { counted_members(&self.0) } else { self.0.clone() }
    }
}

impl<'a> Array<'a, TapeJson> for TapeArray<'a> {
    type Node = Node<'a>;
    type ElementsIter = Elements<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> Elements<'a> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use jsonschema::json::conformance;

    use super::*;
    use crate::{config::Limits, json::Decoder};

    #[test]
    fn tape_conforms_to_jsonschemas_contract() {
        let mut bytes = serde_json::to_vec(&conformance::document()).unwrap();
        let length = bytes.len();
        bytes.resize(length + 64, 0);
        let mut decoder = Decoder::new(&Limits::default());
        let document = decoder.decode(&mut bytes, length).unwrap();
        conformance::assert_conformance::<TapeJson>(&document.root());
    }
}
