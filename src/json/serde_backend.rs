//! The fallback parser: serde_json, which fills the same tape as simd-json. Strings are unescaped in place too, so that everything
//! behind the decoder is the same code, including what finds the text of a number by the addresses of strings.

use std::{fmt, str};

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use simd_json::{StaticNode, tape::Node};

use super::token_count::after_string;

/// The bytes are not JSON, or are nested too deep.
#[derive(Debug)]
pub(super) struct Malformed;

/// Fills an empty tape with the document in the first `length` bytes, nested at most `depth_max` levels deep.
///
/// # Errors
/// The tape is then incomplete.
#[cold]
pub(super) fn fill<'input>(
    padded: &'input mut [u8],
    length: usize,
    depth_max: usize,
    tape: &mut Vec<Node<'input>>,
) -> Result<(), Malformed> {
    let json = padded.get_mut(..length).ok_or(Malformed)?;
    let mut filler = Filler { tape, texts: Vec::new(), depth_left: depth_max, has_negative_zero: false };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    // The depth is bounded by the visitor.
    deserializer.disable_recursion_limit();
    filler.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|_| Malformed)?;
    let Filler { texts, has_negative_zero, .. } = filler;
    let zeros = if has_negative_zero { negative_zeros(json) } else { Vec::new() };
    let places = unescape(json, &texts).ok_or(Malformed)?;
    let json: &'input [u8] = json;
    let (mut places, mut zeros) = (places.into_iter(), zeros.into_iter().peekable());
    let mut numbers = 0;
    for node in tape {
        match node {
            Node::String(text) => {
                let (start, length) = places.next().ok_or(Malformed)?;
                let bytes = json.get(start..).and_then(|rest| rest.get(..length)).ok_or(Malformed)?;
                *text = str::from_utf8(bytes).map_err(|_| Malformed)?;
            }
            Node::Static(number @ (StaticNode::I64(_) | StaticNode::U64(_) | StaticNode::F64(_))) => {
                if zeros.next_if_eq(&numbers).is_some() {
                    *number = StaticNode::I64(0);
                }
                numbers += 1;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A string of the document, in the order of the text.
enum Text {
    /// Has no escapes. Its length in bytes.
    Plain(usize),
    Unescaped(Box<str>),
}

/// Writes the unescaped strings over the escaped ones, which are longer. Returns the start and the length of each string.
fn unescape(json: &mut [u8], texts: &[Text]) -> Option<Vec<(usize, usize)>> {
    let mut places = Vec::with_capacity(texts.len());
    let mut position = 0;
    for text in texts {
        let rest = json.get(position..)?;
        let start = position + memchr::memchr(b'"', rest)? + 1;
        position = json.len() - after_string(json.get(start..)?).len();
        let length = match text {
            Text::Plain(length) => *length,
            Text::Unescaped(text) => {
                json.get_mut(start..)?.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
                text.len()
            }
        };
        places.push((start, length));
    }
    Some(places)
}

/// The numbers that are written `-0`, by their position among all numbers. serde_json reads them as a double, simd-json as an
/// integer.
fn negative_zeros(json: &[u8]) -> Vec<usize> {
    let (mut zeros, mut numbers, mut rest) = (Vec::new(), 0, json);
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'"' {
            rest = after_string(after);
        } else if byte == b'-' || byte.is_ascii_digit() {
            let is_part = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(*byte);
            let (number, after) = rest.split_at(rest.iter().take_while(is_part).count());
            if number == b"-0" {
                zeros.push(numbers);
            }
            numbers += 1;
            rest = after;
        } else {
            rest = after;
        }
    }
    zeros
}

/// Pushes one value, and what it contains, onto a tape. Strings are empty at first.
struct Filler<'tape, 'input> {
    tape: &'tape mut Vec<Node<'input>>,
    texts: Vec<Text>,
    depth_left: usize,
    has_negative_zero: bool,
}

impl Filler<'_, '_> {
    fn push_text(&mut self, text: Text) {
        self.tape.push(Node::String(""));
        self.texts.push(text);
    }

    /// Pushes the node of a container, and enters it. Returns the position of the node.
    fn enter<E: Error>(&mut self) -> Result<usize, E> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))?;
        self.tape.push(Node::Array { len: 0, count: 0 });
        Ok(self.tape.len() - 1)
    }

    /// Leaves a container and completes its node.
    fn leave(&mut self, position: usize, node: impl FnOnce(usize) -> Node<'static>) {
        self.depth_left += 1;
        let count = self.tape.len() - position - 1;
        if let Some(slot) = self.tape.get_mut(position) {
            *slot = node(count);
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Filler<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Filler<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.tape.push(Node::Static(StaticNode::Null));
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.tape.push(Node::Static(StaticNode::Bool(value)));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.tape.push(Node::Static(StaticNode::I64(value)));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.tape.push(Node::Static(StaticNode::U64(value)));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.has_negative_zero |= value == 0.0 && value.is_sign_negative();
        self.tape.push(Node::Static(StaticNode::F64(value)));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.push_text(Text::Plain(text.len()));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.push_text(Text::Unescaped(text.into()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let position = self.enter()?;
        let mut len = 0;
        while elements.next_element_seed(&mut *self)?.is_some() {
            len += 1;
        }
        self.leave(position, |count| Node::Array { len, count });
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let position = self.enter()?;
        let mut len = 0;
        while members.next_key_seed(&mut *self)?.is_some() {
            members.next_value_seed(&mut *self)?;
            len += 1;
        }
        self.leave(position, |count| Node::Object { len, count });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{JsonBackend, Limits},
        json::Decoder,
    };

    /// The tape that a backend makes of `text`, with the offset of each string, or why it rejects the text.
    fn decoded(text: &[u8], backend: JsonBackend, limits: &Limits) -> String {
        let mut padded = text.to_vec();
        padded.resize(text.len() + 64, b'x');
        let start = padded.as_ptr().addr();
        let mut decoder = Decoder::new(limits);
        decoder.set_backend(backend);
        let decoded = decoder.decode(&mut padded, text.len());
        match decoded {
            Ok(document) => {
                let nodes = document.root().tape().iter().map(|node| match node {
                    Node::String(text) => format!("{text:?} at {}", text.as_ptr().addr() - start),
                    Node::Static(StaticNode::F64(value)) => format!("{:x}", value.to_bits()),
                    other => format!("{other:?}"),
                });
                nodes.collect::<Vec<_>>().join("\n")
            }
            Err(rejected) => format!("{:?}", rejected.reason),
        }
    }

    fn check(text: &[u8], limits: &Limits) {
        let (simd, serde) =
            (decoded(text, JsonBackend::Simd, limits), decoded(text, JsonBackend::Serde, limits));
        assert_eq!(simd, serde, "{}", String::from_utf8_lossy(text));
    }

    #[test]
    fn both_backends_make_the_same_tape() {
        for text in [
            "",
            " ",
            "1 2",
            "[1,]",
            "{\"a\":}",
            "nul",
            "\u{feff}1",
            "-0",
            "[-0,-0.0,\"-0\",-0e1,-0]",
            "{\"a\\u0062\":[\"\\\"\\\\\\n\\u00e9\\ud83d\\ude00\",\"\",\"plain\"],\"c\":-0,\"\\u0022\":{}}",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\\x\"",
            "\"\n\"",
            "\"\u{7f}\"",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775808",
            "-9223372036854775809",
            "340282366920938463463374607431768211455",
            "123456789012345678901234567890.5e-3",
            "0.1",
            "2.2250738585072011e-308",
            "1e-400",
            "1.7976931348623157e308",
            "1e400",
            "-1e400",
            "1e23",
            "9007199254740993.0",
            "01",
            "+1",
            ".5",
            "1.",
            "1e",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1,\"\\u0061\":2}",
            "[null,true,false]",
            "[[],{},[{}]]",
        ] {
            check(text.as_bytes(), &Limits::default());
        }
        for bytes in [&b"\"\xff\""[..], b"\"\xc3\x28\"", b"\"\xed\xa0\x80\"", b"[1\0]", b"\xff"] {
            check(bytes, &Limits::default());
        }
    }

    #[test]
    fn limits_hold_for_both_backends() {
        let limits = Limits {
            json_depth_max: 8,
            json_nodes_max: 10,
            json_number_digits_max: 6,
            json_key_bytes_max: 4,
            ..Limits::default()
        };
        let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let objects = |levels| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        for (text, is_accepted) in [
            (nested(8), true),
            (nested(9), false),
            ("[".repeat(100_000), false),
            (objects(4), true),
            (objects(9), false),
            ("[1,2,3,4,5,6,7,8,9]".to_owned(), true),
            ("[1,2,3,4,5,6,7,8,9,10]".to_owned(), false),
            ("{\"abcd\":123456}".to_owned(), true),
            ("{\"abcde\":1}".to_owned(), false),
            ("1234567".to_owned(), false),
        ] {
            check(text.as_bytes(), &limits);
            let mut decoder = Decoder::new(&limits);
            decoder.set_backend(JsonBackend::Serde);
            let mut padded = [text.as_bytes(), &[0; 64]].concat();
            assert_eq!(decoder.decode(&mut padded, text.len()).is_ok(), is_accepted, "{text:.40}");
        }
        // The maximum of the limit.
        let deepest = Limits { json_depth_max: 128, ..Limits::default() };
        for levels in [127, 128, 129] {
            check(nested(levels).as_bytes(), &deepest);
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        let string = prop::collection::vec(
            prop::sample::select(vec![
                "\\\"",
                "\\\\",
                "\\u0022",
                "\\n",
                "\\ud83d\\ude00",
                "\\ud83d",
                "1",
                ",",
                ":",
                "[",
                "}",
                "é",
                "-0",
            ]),
            0..6,
        )
        .prop_map(|parts| format!("\"{}\"", parts.concat()));
        let number = prop_oneof![
            Just("-0".to_owned()),
            Just("-0.0".to_owned()),
            any::<f64>().prop_map(|number| format!("{number:e}")),
            any::<f64>()
                .prop_filter("finite", |number| number.is_finite())
                .prop_map(|number| number.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<u64>().prop_map(|number| number.to_string()),
            any::<i128>().prop_map(|number| number.to_string()),
        ];
        let word = prop::sample::select(vec!["true", "false", "null", "nul", ""]).prop_map(str::to_owned);
        prop_oneof![4 => string.clone(), 4 => number, 1 => word].prop_recursive(4, 40, 5, move |inner| {
            let members = prop::collection::vec((string.clone(), inner.clone()), 0..5).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("{key} : {value}")).collect();
                format!("{{ {} }}", members.join(" ,"))
            });
            let elements =
                prop::collection::vec(inner, 0..5).prop_map(|list| format!("[{}]", list.join(", ")));
            prop_oneof![members, elements]
        })
    }

    proptest! {
        #[test]
        fn generated_documents_have_the_same_tape(text in any_text()) {
            check(text.as_bytes(), &Limits { json_number_digits_max: 4096, ..Limits::default() });
        }

        #[test]
        fn damaged_documents_have_the_same_verdict(text in any_text(), position: prop::sample::Index, byte: u8) {
            let mut bytes = text.into_bytes();
            if !bytes.is_empty() {
                let position = position.index(bytes.len());
                bytes[position] = byte;
            }
            check(&bytes, &Limits::default());
        }
    }
}
