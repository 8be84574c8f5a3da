//! Digits of integers beyond 64 bits, for `u128` and `i128`.
//!
//! The tape holds such an integer as the nearest double, because a tape with 128 bits per number takes more memory and time for
//! every document. A document is therefore decoded a second time if a type needs the digits:
//!
//! 1. Deserializing a `u128` or `i128` from a double that may be such an integer fails, and sets a flag of the thread.
//! 2. The reader of the arguments aborts the call ([`retry_with_digits`]), and no reply is sent.
//! 3. [`Places`] finds the digits in the bytes that the document was decoded from.
//! 4. The document is handled again with the digits installed ([`Digits::install`]).

use std::cell::{Cell, RefCell};

use simd_json::{StaticNode, tape};

use super::node::Node;

/// Texts of numbers, each with its key.
type Texts = Vec<(usize, Box<str>)>;

/// The thread's state for the document it handles.
struct Known {
    /// A type needs the digits of a number.
    missing: Cell<bool>,
    /// Arguments were not read for that reason.
    is_retry: Cell<bool>,
    /// The digits by the address of the tape node, ascending; `None` if they have not been extracted.
    digits: RefCell<Option<Texts>>,
}

thread_local! {
    static KNOWN: Known = const {
        Known { missing: Cell::new(false), is_retry: Cell::new(false), digits: RefCell::new(None) }
    };
}

/// Whether a double may be the nearest to an integer of 128 bits that is not one of 64.
pub(super) fn may_be_wide(value: f64) -> bool {
    const SIGNED_MIN: f64 = -9_223_372_036_854_775_808.0;
    const UNSIGNED_END: f64 = 18_446_744_073_709_551_616.0;
    const WIDE_SIGNED_MIN: f64 = -170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    const WIDE_UNSIGNED_END: f64 = 340_282_366_920_938_463_463_374_607_431_768_211_456.0;
    (UNSIGNED_END..=WIDE_UNSIGNED_END).contains(&value) || (WIDE_SIGNED_MIN..=SIGNED_MIN).contains(&value)
}

/// Calls `read` with the digits of a number that [`may_be_wide`]. Without them it returns `None`, and sets the thread's flag.
#[cold]
pub(super) fn with_digits<T>(number: Node<'_>, read: impl FnOnce(&str) -> T) -> Option<T> {
    KNOWN.with(|known| match &*known.digits.borrow() {
        Some(digits) => {
            let index = digits.binary_search_by_key(&number.address(), |(address, _)| *address).ok()?;
            digits.get(index).map(|(_, digits)| read(digits))
        }
        None => {
            known.missing.set(true);
            None
        }
    })
}

/// Whether arguments that could not be read must be read again with the digits of their numbers. The result is stored for
/// [`take_retry_with_digits`].
#[cold]
pub(crate) fn retry_with_digits() -> bool {
    KNOWN.with(|known| {
        // Digits that were not found once are not searched for again.
        let is_missing = known.missing.take() && known.digits.borrow().is_none();
        known.is_retry.set(is_missing);
        is_missing
    })
}

/// Whether [`retry_with_digits`] has returned `true` since the last call.
pub(crate) fn take_retry_with_digits() -> bool {
    KNOWN.with(|known| known.is_retry.take())
}

/// Whether a value has numbers whose digits a type may need, and no digits are installed.
#[must_use]
pub fn lacks_digits(value: Node<'_>) -> bool {
    KNOWN.with(|known| known.digits.borrow().is_none())
        && value.tape().iter().any(|node| number(node) == Some(true))
}

/// Whether a tape node is a number, and one that [`may_be_wide`].
fn number(node: &tape::Node<'_>) -> Option<bool> {
    match node {
        tape::Node::Static(StaticNode::F64(value)) => Some(may_be_wide(*value)),
        tape::Node::Static(StaticNode::I64(_) | StaticNode::U64(_)) => Some(false),
        _ => None,
    }
}

/// Positions of a document's strings and numbers, with which [`Places::find`] finds the digits in its bytes.
#[derive(Debug)]
pub struct Places {
    /// Addresses of the strings, ascending.
    strings: Vec<usize>,
    /// Number of numbers.
    numbers: usize,
    /// Indices of the numbers that may be wide, ascending.
    wide: Vec<usize>,
}

impl Places {
    /// Collects the positions in a document.
    #[must_use]
    pub fn of(root: Node<'_>) -> Self {
        let mut places = Self { strings: Vec::new(), numbers: 0, wide: Vec::new() };
        if !root.tape().iter().any(|node| number(node) == Some(true)) {
            return places;
        }
        for node in root.tape() {
            if let tape::Node::String(text) = node {
                places.strings.push(text.as_ptr().addr());
            } else if let Some(is_wide) = number(node) {
                if is_wide {
                    places.wide.push(places.numbers);
                }
                places.numbers += 1;
            }
        }
        places
    }

    /// Finds the digits in the bytes that the document was decoded from. Scans from the end to the start: the strings were unescaped
    /// in place, which leaves the end of a string unknown, but its start is on the tape.
    #[must_use]
    pub fn find(mut self, source: &[u8]) -> Digits {
        let mut digits = Digits::default();
        let start = source.as_ptr().addr();
        let mut rest = source;
        while let (Some(wide), Some((&byte, before))) = (self.wide.last(), rest.split_last()) {
            if byte == b'"' {
                // Continue before the opening quote, which precedes the string's first byte.
                let offset = self.strings.pop().and_then(|address| address.checked_sub(start + 1));
                let Some(before) = offset.and_then(|offset| source.get(..offset)) else { break };
                rest = before;
                continue;
            }
            let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
            let length = rest.iter().rev().take_while(|byte| is_token(byte)).count();
            if length == 0 {
                rest = before;
                continue;
            }
            let (before, token) = rest.split_at(rest.len() - length);
            rest = before;
            if token.first().is_some_and(|byte| *byte == b'-' || byte.is_ascii_digit()) {
                let Some(number) = self.numbers.checked_sub(1) else { break };
                self.numbers = number;
                if number == *wide {
                    self.wide.pop();
                    digits.0.push((number, String::from_utf8_lossy(token).into()));
                }
            }
        }
        digits
    }
}

/// Texts of a document's numbers that may be integers beyond 64 bits, each with its index among all numbers, descending.
#[derive(Clone, Debug, Default)]
pub struct Digits(Texts);

/// Guard that removes the installed digits when it is dropped.
#[derive(Debug)]
pub struct Installed(());

impl Digits {
    /// Makes the digits available to this thread until the guard is dropped. `root` is the root of a document with the same numbers.
    #[must_use]
    pub fn install(mut self, root: Node<'_>) -> Installed {
        let numbers = root.tape().iter().enumerate().filter(|(_, node)| number(node).is_some());
        let mut known = Vec::with_capacity(self.0.len());
        for (position, (index, _)) in numbers.enumerate() {
            let Some((wide, _)) = self.0.last() else { break };
            if *wide == position
                && let Some((_, digits)) = self.0.pop()
            {
                known.push((root.address() + index * size_of::<tape::Node<'_>>(), digits));
            }
        }
        KNOWN.with(|thread| thread.digits.replace(Some(known)));
        Installed(())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        KNOWN.with(|known| known.digits.replace(None));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::{config::Limits, json::Decoder};

    /// The digits of a document.
    pub(in crate::json) fn digits(text: &str) -> Digits {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() + 64, 0);
        let mut decoder = Decoder::new(&Limits::default());
        let places = Places::of(decoder.decode(&mut bytes, text.len()).unwrap().root());
        places.find(&bytes[..text.len()])
    }

    /// The digits of the wide numbers of a document, by position.
    fn digits_of(text: &str) -> Vec<(usize, String)> {
        digits(text).0.into_iter().rev().map(|(position, digits)| (position, digits.into())).collect()
    }

    #[test]
    fn digits_are_found_between_any_strings() {
        let wide = "340282366920938463463374607431768211455";
        for (text, position) in [
            (wide.to_owned(), 0),
            (format!("[{wide}]"), 0),
            (format!(r#"{{"a":1,"b":[true,false,null,-1.5e3, {wide} ],"c":"1"}}"#), 2),
            (format!(r#"["\"\",5\"",{wide},"\"",""]"#), 0),
            (format!(r#"["","\\",7,{{"\u0022:9,\"":{wide}}},"é\u00e9"]"#), 1),
        ] {
            assert_eq!(digits_of(&text), [(position, wide.to_owned())], "{text}");
        }
        assert_eq!(digits_of("[1,18446744073709551615,-9223372036854775808,1.5,1e300]"), []);
    }

    #[test]
    fn wide_integers_are_read_only_while_their_digits_are_installed() {
        let text = r#"{"a":[1,-170141183460469231731687303715884105728],"b":18446744073709551616}"#;
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() + 64, 0);
        let digits = digits(text);
        let mut decoder = Decoder::new(&Limits::default());
        let document = decoder.decode(&mut bytes, text.len()).unwrap();
        let (a, b) = (document.root().get("a").unwrap(), document.root().get("b").unwrap());
        assert!(
            u128::deserialize(b).is_err()
                && retry_with_digits()
                && take_retry_with_digits()
                && !take_retry_with_digits()
        );
        assert!(lacks_digits(a));
        let installed = digits.install(document.root());
        assert!(!lacks_digits(a));
        assert_eq!(Vec::<i128>::deserialize(a).unwrap(), [1, i128::MIN]);
        assert_eq!(u128::deserialize(b).unwrap(), 1 << 64);
        assert!(u64::deserialize(b).is_err() && Vec::<u128>::deserialize(a).is_err());
        assert!(!retry_with_digits(), "the digits were installed");
        drop(installed);
        assert!(u128::deserialize(b).is_err() && retry_with_digits());
    }

    fn any_json() -> impl Strategy<Value = String> {
        let string = prop::collection::vec(
            prop::sample::select(vec!["\\\"", "\\\\", "\\u0022", "\\n", "1", ",", ":", "[", "]", "é", "-"]),
            0..6,
        )
        .prop_map(|parts| format!("\"{}\"", parts.concat()));
        let number = prop_oneof![
            Just("0".to_owned()),
            Just("-1.5e+3".to_owned()),
            any::<u64>().prop_map(|number| number.to_string()),
            any::<u128>().prop_map(|number| number.to_string()),
            any::<i128>().prop_map(|number| number.to_string()),
        ];
        let word = prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned);
        prop_oneof![string.clone(), number, word].prop_recursive(4, 40, 5, move |inner| {
            let members = prop::collection::vec((string.clone(), inner.clone()), 0..5).prop_map(|members| {
                let numbered = members.iter().enumerate();
                let members: Vec<_> = numbered
                    .map(|(number, (key, value))| format!("\"{number}{} : {value}", &key[1..]))
                    .collect();
                format!("{{ {} }}", members.join(" ,"))
            });
            let elements =
                prop::collection::vec(inner, 0..5).prop_map(|list| format!("[{}]", list.join(", ")));
            prop_oneof![members, elements]
        })
    }

    /// The numbers of a text, in order.
    fn numbers_of(text: &str) -> Vec<String> {
        let mut numbers = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let is_part = |character: char| character.is_ascii_alphanumeric() || "+-.".contains(character);
            let mut length = first.len_utf8();
            if first == '"' {
                let mut is_escaped = true;
                let end = rest.find(|character: char| {
                    let is_end = character == '"' && !is_escaped;
                    is_escaped = character == '\\' && !is_escaped;
                    is_end
                });
                length = end.unwrap() + 1;
            } else if is_part(first) {
                length = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
                if first == '-' || first.is_ascii_digit() {
                    numbers.push(rest[..length].to_owned());
                }
            }
            rest = &rest[length..];
        }
        numbers
    }

    proptest! {
        #[test]
        fn digits_equal_those_in_the_text(text in any_json()) {
            let expected: Vec<(usize, String)> = numbers_of(&text)
                .into_iter()
                .enumerate()
                .filter(|(_, number)| may_be_wide(number.parse().unwrap()) && number.parse::<i64>().is_err())
                .collect();
            prop_assert_eq!(digits_of(&text), expected);
        }
    }
}
