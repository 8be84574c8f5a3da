//! Bytes → tape, in place, with every allocation reused.

use simd_json::{Buffers, tape, tape::Tape};

use super::node::Node;
use crate::config::Limits;

/// Tapes and scratch larger than this are not kept between documents, in nodes (24 bytes each).
const KEPT_NODES_MAX: usize = 16 * 1024;

/// The most keys that are compared each with each; of more, references are sorted.
const PAIRED_KEYS_MAX: usize = 16;

/// Why bytes are not a document this server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotJson {
    /// Not JSON, or nested deeper than the limit.
    #[error("Parse error")]
    Malformed,
    /// More values than the limit.
    #[error("Too many JSON values")]
    TooManyNodes,
    /// A number of more characters than the limit.
    #[error("A JSON number is too long")]
    NumberTooLong,
    /// A key longer than the limit.
    #[error("A JSON key is too long")]
    KeyTooLong,
    /// An object has two members of one name: two readers could take different ones for the truth.
    #[error("Repeated member in a JSON object")]
    RepeatedKey,
}

impl NotJson {
    /// The metric it is counted under.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "not_json",
            Self::TooManyNodes => "json_too_many_nodes",
            Self::NumberTooLong => "json_number_too_long",
            Self::KeyTooLong => "json_key_too_long",
            Self::RepeatedKey => "json_repeated_key",
        }
    }
}

/// Parses one document after the other, reusing its memory.
pub struct Decoder {
    buffers: Buffers,
    tape: Vec<tape::Node<'static>>,
    depth_max: usize,
    nodes_max: usize,
    number_digits_max: usize,
    key_bytes_max: usize,
}

/// A parsed document: the tape over the bytes it was parsed from. No object in it has two members of one name.
pub struct Document<'decoder, 'input> {
    decoder: &'decoder mut Decoder,
    tape: Tape<'input>,
}

/// Bytes that were refused.
pub struct Refused<'decoder, 'input> {
    /// Why.
    pub reason: NotJson,
    document: Option<Document<'decoder, 'input>>,
}

impl Refused<'_, '_> {
    /// The outermost value, if the bytes were JSON at all: good for finding out whom to answer, not for more.
    #[must_use]
    pub fn root(&self) -> Option<Node<'_>> {
        self.document.as_ref().map(Document::root)
    }
}

impl std::fmt::Debug for Refused<'_, '_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reason.fmt(formatter)
    }
}

impl Decoder {
    /// A decoder that refuses what exceeds the limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            buffers: Buffers::with_max_depth(4096, limits.json_depth_max),
            tape: Vec::with_capacity(64),
            depth_max: limits.json_depth_max,
            nodes_max: limits.json_nodes_max,
            number_digits_max: limits.json_number_digits_max,
            key_bytes_max: limits.json_key_bytes_max,
        }
    }

    /// Parses `padded[..length]`. Escapes are undone in place, so the bytes are not JSON any more afterwards. The
    /// padding, 64 bytes or more behind the document, may hold anything and is left as it was.
    ///
    /// # Errors
    /// [`Refused`], also when the padding is too short.
    pub fn decode<'decoder, 'input>(
        &'decoder mut self,
        padded: &'input mut [u8],
        length: usize,
    ) -> Result<Document<'decoder, 'input>, Refused<'decoder, 'input>> {
        // The tape does not tell how a number was written, so this comes first; it also spares converting it.
        if has_long_number(padded.get(..length).unwrap_or_default(), self.number_digits_max) {
            return Err(Refused { reason: NotJson::NumberTooLong, document: None });
        }
        let mut tape: Tape<'input> = Tape(std::mem::take(&mut self.tape)).reset();
        let filled = simd_json::fill_tape_padded(padded, length, &mut self.buffers, &mut tape);
        let document = Document { decoder: self, tape };
        match filled.map_err(|_| NotJson::Malformed).and_then(|()| document.check()) {
            Ok(()) => Ok(document),
            // What was read before the fault is of no use to anybody.
            Err(reason @ NotJson::Malformed) => Err(Refused { reason, document: None }),
            Err(reason) => Err(Refused { reason, document: Some(document) }),
        }
    }
}

impl Document<'_, '_> {
    /// The outermost value.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node::root(&self.tape.0)
    }

    /// What the parser does not check. Every member belongs to one object, so this is one pass, however deep.
    fn check(&self) -> Result<(), NotJson> {
        let nodes = self.tape.0.as_slice();
        if nodes.len() > self.decoder.nodes_max {
            return Err(NotJson::TooManyNodes);
        }
        let mut rest = nodes;
        while let Some((node, behind)) = rest.split_first() {
            if let tape::Node::Object { len: 1.., .. } = node {
                self.check_keys(rest)?;
            }
            rest = behind;
        }
        Ok(())
    }

    fn check_keys(&self, nodes: &[tape::Node<'_>]) -> Result<(), NotJson> {
        let Some((tape::Node::Object { len, .. }, mut rest)) = nodes.split_first() else { return Ok(()) };
        let mut seen = 0_u64;
        let mut suspicious = false;
        let mut longest = 0;
        for _ in 0..*len {
            let [tape::Node::String(key), value, ..] = rest else { break };
            let span = match value {
                tape::Node::Object { count, .. } | tape::Node::Array { count, .. } => count + 2,
                _ => 2,
            };
            longest = longest.max(key.len());
            let bit = 1 << fingerprint(key.as_bytes());
            suspicious |= seen & bit != 0;
            seen |= bit;
            rest = rest.get(span..).unwrap_or_default();
        }
        if longest > self.decoder.key_bytes_max {
            return Err(NotJson::KeyTooLong);
        }
        if suspicious && has_repeated_key(Node::root(nodes)) { Err(NotJson::RepeatedKey) } else { Ok(()) }
    }
}

/// A number below 64, cheap, and different for most of the keys people put into one object: of both ends and the length, mixed by
/// the golden ratio (Knuth, The Art of Computer Programming, section 6.4).
fn fingerprint(key: &[u8]) -> u32 {
    let [length, ..] = key.len().to_le_bytes();
    let ends = match (key.first_chunk(), key.last_chunk()) {
        (Some(first), Some(last)) => u32::from_le_bytes(*first) ^ u32::from_le_bytes(*last).rotate_left(9),
        _ => key.iter().fold(0, |ends, byte| ends << 8 | u32::from(*byte)),
    };
    (ends ^ u32::from(length)).wrapping_mul(0x9E37_79B1) >> 26
}

/// The exact answer. Pairs for few keys, order for many: neither is slow, however the keys were chosen.
#[cold]
fn has_repeated_key(object: Node<'_>) -> bool {
    let Some(members) = object.members() else { return false };
    if members.len() <= PAIRED_KEYS_MAX {
        let is_repeated = |number, key| members.clone().take(number).any(|(other, _)| other == key);
        return members.clone().enumerate().any(|(number, (key, _))| is_repeated(number, key));
    }
    let mut keys: Vec<&str> = members.map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair.first() == pair.last())
}

fn is_number_part(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

/// Whether a number is written with more than `digits_max` characters. So long a run of a number's characters covers one of
/// any `digits_max + 1` places, so that only those are looked at, until one of them is part of such a run.
fn has_long_number(json: &[u8], digits_max: usize) -> bool {
    if json.len() <= digits_max {
        return false;
    }
    let in_long_run = |place: usize| {
        let (before, behind) = json.split_at(place);
        let ahead = behind.iter().take(digits_max + 1).take_while(|byte| is_number_part(**byte)).count();
        // A place without a number's character is no part of a run.
        let back = before.iter().rev().take(digits_max + 1).take_while(|byte| is_number_part(**byte)).count();
        ahead > 0 && ahead + back > digits_max
    };
    (0..json.len()).step_by(digits_max + 1).any(in_long_run)
        && has_long_number_outside_strings(json, digits_max)
}

/// The exact answer: the run may be part of a string.
#[cold]
fn has_long_number_outside_strings(json: &[u8], digits_max: usize) -> bool {
    let mut rest = json;
    while let Some((&byte, behind)) = rest.split_first() {
        if byte == b'"' {
            rest = behind_string(behind);
        } else if byte == b'-' || byte.is_ascii_digit() {
            let length = rest.iter().take_while(|byte| is_number_part(**byte)).count();
            if length > digits_max {
                return true;
            }
            rest = rest.get(length..).unwrap_or_default();
        } else {
            rest = behind;
        }
    }
    false
}

/// What follows a string whose opening quote has been read.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    while let Some(position) = memchr::memchr2(b'"', b'\\', rest) {
        let is_end = rest.get(position) == Some(&b'"');
        rest = rest.get(position + if is_end { 1 } else { 2 }..).unwrap_or_default();
        if is_end {
            return rest;
        }
    }
    &[]
}

impl Drop for Document<'_, '_> {
    fn drop(&mut self) {
        let mut nodes = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset().0;
        if nodes.capacity() > KEPT_NODES_MAX {
            nodes = Vec::with_capacity(64);
            self.decoder.buffers = Buffers::with_max_depth(4096, self.decoder.depth_max);
        }
        self.decoder.tape = nodes;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// The bytes as a receive buffer holds them: something behind them.
    fn padded(text: &str) -> (Vec<u8>, usize) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() + 64, b'x');
        (bytes, text.len())
    }

    /// Runs `check` over the tape of `text`.
    pub(crate) fn with_node<T>(text: &str, check: impl FnOnce(Node<'_>) -> T) -> T {
        let (mut bytes, length) = padded(text);
        let mut decoder = Decoder::new(&Limits::default());
        let document = decoder.decode(&mut bytes, length).unwrap();
        check(document.root())
    }

    fn refused(decoder: &mut Decoder, text: &str) -> Option<NotJson> {
        let (mut bytes, length) = padded(text);
        decoder.decode(&mut bytes, length).err().map(|refused| refused.reason)
    }

    fn small() -> Decoder {
        Decoder::new(&Limits {
            json_depth_max: 8,
            json_nodes_max: 10,
            json_number_digits_max: 6,
            json_key_bytes_max: 4,
            ..Limits::default()
        })
    }

    #[test]
    fn a_decoder_recovers_from_refusals() {
        let mut decoder = small();
        assert_eq!(refused(&mut decoder, "{\"a\":"), Some(NotJson::Malformed));
        assert_eq!(refused(&mut decoder, ""), Some(NotJson::Malformed));
        assert_eq!(refused(&mut decoder, &"[".repeat(100_000)), Some(NotJson::Malformed));
        assert_eq!(refused(&mut decoder, "[1,2,3,4,5,6,7,8,9]"), None);
        assert_eq!(refused(&mut decoder, "[1,2,3,4,5,6,7,8,9,10]"), Some(NotJson::TooManyNodes));
        assert_eq!(refused(&mut decoder, &format!("{}{}", "[".repeat(8), "]".repeat(8))), None);
        let deeper = format!("{}{}", "[".repeat(9), "]".repeat(9));
        assert_eq!(refused(&mut decoder, &deeper), Some(NotJson::Malformed));
        assert_eq!(refused(&mut decoder, "1"), None);
    }

    #[test]
    fn a_number_is_bounded_wherever_it_stands_and_a_string_is_not() {
        let mut decoder = small();
        for before in 0..20 {
            let at = |value: &str| format!("{}[\"{}\",{value} ]", " ".repeat(before), "1\\\"".repeat(4));
            for fits in
                ["123456", "-12345", "1.5e+2", "\"1234567890\"", "\"1\\\"34567890\"", "\"eeeeeeeeeee\""]
            {
                assert_eq!(refused(&mut decoder, &at(fits)), None, "{fits} behind {before}");
            }
            for long in ["1234567", "-123456", "1.5e+20", "0.00000", "12345678901234567890"] {
                assert_eq!(
                    refused(&mut decoder, &at(long)),
                    Some(NotJson::NumberTooLong),
                    "{long} behind {before}"
                );
            }
        }
        assert_eq!(refused(&mut decoder, "1234567"), Some(NotJson::NumberTooLong));
        // So large that it is no double either.
        let limits = Limits::default();
        let digits = |count| "9".repeat(count);
        let mut decoder = Decoder::new(&limits);
        let fraction = |count: usize| format!("0.{}", digits(count - 2));
        assert_eq!(refused(&mut decoder, &fraction(limits.json_number_digits_max)), None);
        for text in [fraction(limits.json_number_digits_max + 1), digits(limits.json_number_digits_max + 1)] {
            assert_eq!(refused(&mut decoder, &text), Some(NotJson::NumberTooLong));
        }
    }

    #[test]
    fn a_key_is_bounded_as_it_reads_not_as_it_is_written() {
        let mut decoder = small();
        for fits in [r#"{"abcd":"abcde"}"#, r#"[{"x":{"\u0061bcd":1}}]"#, r#"{"ab\u00e9":1}"#] {
            assert_eq!(refused(&mut decoder, fits), None, "{fits}");
        }
        for long in [r#"{"abcde":1}"#, r#"[{"x":{"abcde":1}}]"#, r#"{"abc\u00e9":1}"#] {
            assert_eq!(refused(&mut decoder, long), Some(NotJson::KeyTooLong), "{long}");
        }
        let limits = Limits::default();
        let mut decoder = Decoder::new(&limits);
        let key = |count: usize| format!(r#"{{"{}":1}}"#, "k".repeat(count));
        assert_eq!(refused(&mut decoder, &key(limits.json_key_bytes_max)), None);
        assert_eq!(refused(&mut decoder, &key(limits.json_key_bytes_max + 1)), Some(NotJson::KeyTooLong));
    }

    #[test]
    fn a_repeated_key_is_found_at_any_place_and_depth() {
        let mut decoder = Decoder::new(&Limits::default());
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":[]},"c":1,"a":2}"#,
            r#"[0,[{"x":[{"a":1,"b":{},"a":1}]}]]"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(refused(&mut decoder, text), Some(NotJson::RepeatedKey), "{text}");
        }
        for text in [r#"{"a":{"a":{"a":"a"}},"A":1}"#, r#"[{"a":1},{"a":1}]"#, "{}", r#"{"a":"b","b":"a"}"#] {
            assert_eq!(refused(&mut decoder, text), None, "{text}");
        }
    }

    #[test]
    fn what_was_json_can_still_be_looked_at() {
        let mut decoder = small();
        for (text, is_readable) in [(r#"{"a":1,"a":2}"#, true), (r#"{"abcde":2}"#, true), ("{", false)] {
            let (mut bytes, length) = padded(text);
            let refused = decoder.decode(&mut bytes, length).err().unwrap();
            assert_eq!(refused.root().is_some_and(Node::is_object), is_readable, "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_are_told_apart_as_a_set_does(keys in prop::collection::vec("[a-c]{0,5}", 0..40)) {
            let members: Vec<_> = keys.iter().map(|key| format!("\"{key}\":[{{}}]")).collect();
            let repeated = keys.iter().collect::<HashSet<_>>().len() < keys.len();
            let text = format!("[1,{{{}}}]", members.join(","));
            let mut decoder = Decoder::new(&Limits::default());
            prop_assert_eq!(refused(&mut decoder, &text), repeated.then_some(NotJson::RepeatedKey));
        }
    }
}
