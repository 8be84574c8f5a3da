//! Ids and progress tokens that are integers in another notation than plain digits (`1.0`, `1e3`, `-0`): they are compared by value
//! and echoed byte for byte. The tape has a number's value but not its text, so a document with such a number is decoded twice:
//! [`Rewritten`] is the document with the text of each such number in an additional member. Other documents are not affected.

use crate::json::{Digits, Node, Number, Places, write_string};

/// Padding that the decoder needs after a document, in bytes.
const PADDING_BYTES: usize = 64;

/// Minimum of an integer id.
const ID_MIN: i128 = i64::MIN as i128;
/// Maximum of an integer id.
const ID_MAX: i128 = u64::MAX as i128;

/// Object of a message whose members may be ids or tokens, from the outside to the inside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// A message, or an array of messages.
    Message,
    /// The `params` of a message.
    Params,
    /// The `_meta` of the params.
    Meta,
    /// Any other object.
    Other,
}

impl Scope {
    /// Key of the member that may be an id or a token.
    fn key(self) -> Option<&'static str> {
        match self {
            Self::Message => Some("id"),
            Self::Params => Some("requestId"),
            Self::Meta => Some("progressToken"),
            Self::Other => None,
        }
    }

    /// The scope of a member's value.
    fn of_member(self, key: &str) -> Self {
        match (self, key) {
            (Self::Message, "params") => Self::Params,
            (Self::Params, "_meta") => Self::Meta,
            _ => Self::Other,
        }
    }
}

/// Key of the member that holds the text of the member `key`. A received document may contain it too; its value is then validated
/// like that of `key`, so a client gains nothing from it.
fn text_key(key: &str) -> &'static str {
    match key {
        "id" => "\0id",
        "requestId" => "\0requestId",
        _ => "\0progressToken",
    }
}

/// The text of the number `object[key]`, if the document has been rewritten.
pub(super) fn as_written<'a>(object: Node<'a>, key: &str) -> Option<&'a str> {
    object.get(text_key(key))?.as_str()
}

/// Whether a message has an id, a request id or a progress token whose text is needed and missing.
#[cold]
#[must_use]
pub fn needs_text(message: Node<'_>) -> bool {
    let lacks = |object: Option<Node<'_>>, scope: Scope| {
        let (Some(object), Some(key)) = (object, scope.key()) else { return false };
        object.get(key).is_some_and(may_be_integer) && as_written(object, key).is_none()
    };
    let params = message.get("params");
    let meta = params.and_then(|params| params.get("_meta"));
    lacks(Some(message), Scope::Message) || lacks(params, Scope::Params) || lacks(meta, Scope::Meta)
}

/// Whether a number may be an integer of 64 bits whose text does not follow from its value.
fn may_be_integer(node: Node<'_>) -> bool {
    match node.as_number() {
        Some(Number::Float(value)) => value.fract() == 0.0 && value.abs() <= ID_MAX as f64,
        // `-0` is the only integer below 1 that the parser reads as signed and that is not negative.
        Some(Number::Signed(0)) => true,
        _ => false,
    }
}

/// The exact value of a JSON number, if it is an integer of 64 bits.
#[must_use]
pub(super) fn integer(text: &str) -> Option<i128> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    if digits().all(|digit| digit == b'0') {
        return exponent_of(exponent).map(|_| 0);
    }
    // Number of digits before the decimal point after applying the exponent.
    let before = i64::try_from(whole.len()).ok()?.checked_add(exponent_of(exponent)?)?;
    let leading = digits().take_while(|digit| *digit == b'0').count();
    let significant = before.checked_sub(i64::try_from(leading).ok()?)?;
    // An integer of 64 bits has at most 20 digits.
    if !(1..=20).contains(&significant) {
        return None;
    }
    let (before, significant) = (usize::try_from(before).ok()?, usize::try_from(significant).ok()?);
    if digits().skip(before).any(|digit| digit != b'0') {
        return None;
    }
    let padded = digits().skip(leading).chain(std::iter::repeat(b'0')).take(significant);
    let value = padded.fold(0_i128, |value, digit| value * 10 + i128::from(digit - b'0'));
    let value = if is_negative { -value } else { value };
    (ID_MIN..=ID_MAX).contains(&value).then_some(value)
}

/// Parses an exponent. One beyond `i64` is replaced by a very large one.
fn exponent_of(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(i64::MAX / 2);
    Some(if text.starts_with('-') { -size } else { size })
}

/// A document encoded again, for a second decoding.
#[derive(Debug)]
pub struct Rewritten {
    json: Vec<u8>,
    /// Texts to insert: the offset in `json`, and the address after the key in the source.
    missing: Vec<(usize, usize)>,
    places: Places,
}

impl Rewritten {
    /// Encodes the document again.
    #[cold]
    #[must_use]
    pub fn new(root: Node<'_>) -> Self {
        let mut rewritten = Self { json: Vec::new(), missing: Vec::new(), places: Places::of(root) };
        rewritten.write(root, Scope::Message);
        rewritten
    }

    fn write(&mut self, node: Node<'_>, scope: Scope) {
        if let Some(members) = node.members() {
            self.write_all(b'{', b'}', members, |rewritten, (key, value)| {
                rewritten.write_member(key, value, scope);
            });
        } else if let Some(elements) = node.elements() {
            let scope = if scope == Scope::Message { scope } else { Scope::Other };
            self.write_all(b'[', b']', elements, |rewritten, element| rewritten.write(element, scope));
        } else if let Some(text) = node.as_str() {
            write_string(&mut self.json, text);
        } else if node.as_number() == Some(Number::Signed(0)) {
            self.json.extend_from_slice(b"-0");
        } else {
            // Encoding numbers, booleans and null into a vector does not fail.
            let _ = match node.as_number() {
                Some(Number::Signed(value)) => serde_json::to_writer(&mut self.json, &value),
                Some(Number::Unsigned(value)) => serde_json::to_writer(&mut self.json, &value),
                Some(Number::Float(value)) => serde_json::to_writer(&mut self.json, &value),
                None => serde_json::to_writer(&mut self.json, &node.as_bool()),
            };
        }
    }

    fn write_all<T>(
        &mut self,
        open: u8,
        close: u8,
        parts: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.json.push(open);
        for part in parts {
            if self.json.last() != Some(&open) {
                self.json.push(b',');
            }
            write(self, part);
        }
        self.json.push(close);
    }

    fn write_member(&mut self, key: &str, value: Node<'_>, scope: Scope) {
        write_string(&mut self.json, key);
        self.json.push(b':');
        self.write(value, scope.of_member(key));
        if scope.key() == Some(key) && may_be_integer(value) {
            self.json.push(b',');
            write_string(&mut self.json, text_key(key));
            self.json.extend_from_slice(b":\"");
            self.missing.push((self.json.len(), key.as_ptr().addr() + key.len()));
            self.json.push(b'"');
        }
    }

    /// Inserts the texts. Returns the document with its padding, its length in bytes, and the digits of its wide numbers. `source`
    /// holds the bytes that the document was decoded from.
    #[must_use]
    pub fn finish(mut self, source: &[u8]) -> (Vec<u8>, usize, Digits) {
        let digits = self.places.find(source);
        let start = source.as_ptr().addr();
        // From the last to the first, so that the earlier offsets remain valid.
        for (position, key_end) in self.missing.into_iter().rev() {
            let rest = key_end.checked_sub(start).and_then(|offset| source.get(offset..));
            let text = number_after_key(rest.unwrap_or_default());
            let rest = self.json.split_off(position);
            self.json.extend_from_slice(text);
            self.json.extend_from_slice(&rest);
        }
        let length = self.json.len();
        self.json.resize(length + PADDING_BYTES, 0);
        (self.json, length, digits)
    }
}

/// The text of a member's number; empty if there is none. `source` begins after the characters of the key.
fn number_after_key(source: &[u8]) -> &[u8] {
    let colon = source.iter().position(|&byte| byte == b':').unwrap_or(source.len());
    let value = source.get(colon + 1..).unwrap_or_default().trim_ascii_start();
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let end = value.iter().position(|byte| !is_part(byte)).unwrap_or(value.len());
    value.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::Limits, json::Decoder};

    #[test]
    fn integer_has_the_exact_value_of_any_notation() {
        for (text, value) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0e5", 0),
            ("0e99999999999999999999", 0),
            ("1.0", 1),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("10e-1", 1),
            ("1.50e2", 150),
            ("0.001e3", 1),
            ("-12.5e1", -125),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("18446744073709551615.0", ID_MAX),
            ("1844674407370955161.5e1", ID_MAX),
            ("-9223372036854775808", ID_MIN),
            ("-9.223372036854775808e18", ID_MIN),
        ] {
            assert_eq!(integer(text), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "1.5",
            "15e-1",
            "1e-1",
            "18446744073709551616",
            "18446744073709551616.0",
            "-9223372036854775809.0",
            "1e20",
            "1e400",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "9007199254740993.5",
            "1e",
            "e1",
            ".5",
            "x",
            "1e1.0",
            "0x1",
            "1 ",
            "\"1\"",
            "0.0000000000000000000001",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    /// The rewritten document, as text.
    fn rewritten(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() + 64, 0xff);
        let mut decoder = Decoder::new(&Limits::default());
        let rewritten = Rewritten::new(decoder.decode(&mut bytes, text.len()).unwrap().root());
        let (json, length, _) = rewritten.finish(&bytes[..text.len()]);
        String::from_utf8(json[..length].to_vec()).unwrap()
    }

    #[test]
    fn rewritten_document_has_the_texts_of_its_ids() {
        for (text, expected) in [
            (r#"{"id" : 1.50e2 ,"method":"m"}"#, r#"{"id":150.0,"\u0000id":"1.50e2","method":"m"}"#),
            (
                r#"{"\u0069d":1E3,"a":"\n\u00e9\"","id2":1.0}"#,
                "{\"id\":1000.0,\"\\u0000id\":\"1E3\",\"a\":\"\\né\\\"\",\"id2\":1.0}",
            ),
            (
                r#"[{"id":-0},{"id":2},{"params":{"id":1.0}}]"#,
                r#"[{"id":-0,"\u0000id":"-0"},{"id":2},{"params":{"id":1.0}}]"#,
            ),
            (
                r#"{"a":"\\\\\\","params":{"requestId":1e0,"arguments":{"id":1.0,"requestId":1.0},"_meta":{"progressToken":1e1}}}"#,
                r#"{"a":"\\\\\\","params":{"requestId":1.0,"\u0000requestId":"1e0","arguments":{"id":1.0,"requestId":1.0},"_meta":{"progressToken":10.0,"\u0000progressToken":"1e1"}}}"#,
            ),
            (
                r#"{"id":1.5,"x":[null,true,-3,18446744073709551615]}"#,
                r#"{"id":1.5,"x":[null,true,-3,18446744073709551615]}"#,
            ),
        ] {
            assert_eq!(rewritten(text), expected);
        }
    }

    proptest! {
        #[test]
        fn every_notation_of_an_integer_has_its_value(value in any::<i64>(), shift in 0..30_usize) {
            let digits = value.unsigned_abs().to_string();
            let sign = if value < 0 { "-" } else { "" };
            let padded = format!("{digits:0>31}");
            let (whole, fraction) = padded.split_at(31 - shift);
            let text = format!("{sign}{}.{fraction}0e{shift}", whole.trim_start_matches('0'));
            let text = text.replace("-.", "-0.");
            let text = if text.starts_with('.') { format!("0{text}") } else { text };
            prop_assert_eq!(integer(&text), Some(i128::from(value)), "{}", text);
            prop_assert_eq!(integer(&format!("{sign}{digits}{}e-{shift}", "0".repeat(shift))), Some(i128::from(value)));
        }

        #[test]
        fn integer_agrees_with_serde_json_for_any_text(text in "[-+0-9.eE]{0,12}") {
            let parsed: Result<serde_json::Number, _> = serde_json::from_str(&text);
            if let (Ok(number), Some(value)) = (parsed, integer(&text)) {
                prop_assert_eq!(number.as_f64(), Some(value as f64));
            }
        }
    }
}
