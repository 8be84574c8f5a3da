//! Number of values of a document, bounded before the parser indexes it.
//!
//! The parser builds its index and the tape of a whole document, 28 bytes for a value of two bytes, before their number can be compared
//! with a limit.

use std::ops::Range;

/// Why a document is refused before it is parsed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Excess {
    /// Nested deeper than allowed; otherwise it has too many values.
    pub(super) is_too_deep: bool,
    /// The string or number that is the member `id` of the root, if that was found.
    pub(super) id: Option<Range<usize>>,
}

/// The excess of a document of more than `max` values, keys included, or closing brackets. Exact for JSON; for other bytes either result is
/// possible. A document of at most `2 * max` bytes has none: each value but the last is followed by a byte that belongs to none.
#[inline]
pub(super) fn excess(json: &[u8], max: usize, depth_max: usize) -> Option<Excess> {
    if json.len() <= max.saturating_mul(2) || !may_have_more(json, max) {
        return None;
    }
    find_excess(json, max, depth_max)
}

/// Upper bound, with the bytes in strings. The compiler vectorises each count.
#[cold]
#[inline(never)]
fn may_have_more(json: &[u8], max: usize) -> bool {
    // A chunk's counts fit into a byte, so that one instruction adds those of many bytes.
    const CHUNK: usize = 255;
    let (mut values, mut quotes, mut closing) = (1_usize, 0_usize, 0_usize);
    for chunk in json.chunks(CHUNK) {
        let count =
            |is: fn(u8) -> bool| usize::from(chunk.iter().fold(0_u8, |sum, byte| sum + u8::from(is(*byte))));
        values += count(|byte| byte == b',' || byte == b':' || byte | 0x20 == b'{');
        quotes += count(|byte| byte == b'"');
        closing += count(|byte| byte | 0x20 == b'}');
        if values > max || quotes / 2 > max || closing > max {
            return true;
        }
    }
    false
}

/// Counts outside strings, up to the limit. Every value but the first follows a comma, a colon or an opening bracket.
#[cold]
#[inline(never)]
fn find_excess(json: &[u8], max: usize, depth_max: usize) -> Option<Excess> {
    let (mut values, mut strings, mut closing, mut depth) = (1_usize, 0_usize, 0_usize, 0_usize);
    let mut id = None;
    let mut rest = json;
    while let Some((byte, mut after)) = rest.split_first() {
        match byte {
            b',' | b':' => values += 1,
            b'[' | b'{' => {
                // An empty container contains no value.
                values += usize::from(!matches!(after.trim_ascii_start().first(), Some(b']' | b'}')));
                depth += 1;
            }
            b']' | b'}' => {
                closing += 1;
                depth = depth.saturating_sub(1);
            }
            b'"' => {
                strings += 1;
                let text = after;
                after = after_string(after);
                if depth == 1 && text.starts_with(b"id\"") && json.trim_ascii_start().first() == Some(&b'{') {
                    id = id.or_else(|| scalar_after_colon(after).map(|scalar| range_within(json, scalar)));
                }
            }
            _ => {}
        }
        if depth > depth_max {
            return Some(Excess { is_too_deep: true, id });
        }
        if values > max || strings > max || closing > max {
            return Some(Excess { is_too_deep: false, id });
        }
        rest = after;
    }
    None
}

/// The bytes after a string; `rest` begins after its opening quote.
pub(super) fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(position) = memchr::memchr2(b'"', b'\\', rest) {
        let is_end = rest.get(position) == Some(&b'"');
        rest = rest.get(position + if is_end { 1 } else { 2 }..).unwrap_or_default();
        if is_end {
            return rest;
        }
    }
    &[]
}

/// The string or number after a colon.
fn scalar_after_colon(rest: &[u8]) -> Option<&[u8]> {
    let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let length = match value.strip_prefix(b"\"") {
        Some(text) => value.len() - after_string(text).len(),
        None => value.iter().take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)).count(),
    };
    value.get(..length).filter(|scalar| !scalar.is_empty())
}

/// The position of `part`, which is a part of `whole`.
fn range_within(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn nodes(value: &Value) -> usize {
        1 + match value {
            Value::Array(elements) => elements.iter().map(nodes).sum(),
            Value::Object(members) => members.values().map(|value| 1 + nodes(value)).sum(),
            _ => 0,
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[\\[\\]{}:,\"\\\\a\u{e9}]{0,6}".prop_map(Value::from)
        ];
        scalar.prop_recursive(4, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec(("[\\[{:,\"]{0,3}", inner), 0..6)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    #[test]
    fn id_of_a_document_with_too_many_values_is_found() {
        for (head, id) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"id","params":"#, Some("7")),
            (r#" { "method" : "id" , "id" : "a\"b" , "params":"#, Some(r#""a\"b""#)),
            (r#"{"x":{"id":1},"id":-1.5e3,"params":"#, Some("-1.5e3")),
            (r#"{"id":[1],"params":"#, None),
            (r#"[{"id":1},"#, None),
            (r#"["id",1,"#, None),
            ("", None),
        ] {
            let json = format!("{head}[{}", "1,".repeat(1000));
            let found = excess(json.as_bytes(), 100, 9).unwrap();
            assert_eq!(found.id.map(|range| &json[range]), id, "{head}");
            assert!(!found.is_too_deep);
        }
        assert!(excess("[".repeat(1000).as_bytes(), 100, 9).unwrap().is_too_deep);
    }

    proptest! {
        #[test]
        fn count_is_that_of_the_tape(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let nodes = nodes(&value);
            prop_assert_eq!(find_excess(text.as_bytes(), nodes, 100), None, "{}", text);
            prop_assert!(nodes == 1 || find_excess(text.as_bytes(), nodes - 1, 100).is_some(), "{}", text);
            prop_assert!(nodes == 1 || may_have_more(text.as_bytes(), nodes - 1), "{}", text);
            prop_assert!(text.len() + 1 >= nodes * 2, "{}", text);
        }
    }
}
