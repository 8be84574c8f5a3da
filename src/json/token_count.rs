//! Number of values of a document, bounded before the parser indexes it.
//!
//! The parser builds its index and the tape of a whole document, 28 bytes for a value of two bytes, before their number can be compared
//! with a limit.

/// Whether the document has more than `max` values, keys included, or closing brackets. Exact for JSON; for other bytes it may be either.
/// A document of at most `2 * max` bytes has no more: each value but the last is followed by a byte that belongs to none.
#[inline]
pub(super) fn has_more_nodes(json: &[u8], max: usize) -> bool {
    json.len() > max.saturating_mul(2) && may_have_more(json, max) && count_exceeds(json, max)
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
fn count_exceeds(json: &[u8], max: usize) -> bool {
    let (mut values, mut strings, mut closing) = (1_usize, 0_usize, 0_usize);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' | b':' => values += 1,
            b'[' | b'{' => {
                // An empty container contains no value.
                let mut after = bytes.clone().skip_while(|byte| byte.is_ascii_whitespace());
                values += usize::from(!matches!(after.next(), Some(b']' | b'}')));
            }
            b']' | b'}' => closing += 1,
            b'"' => {
                strings += 1;
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
            }
            _ => continue,
        }
        if values > max || strings > max || closing > max {
            return true;
        }
    }
    false
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

    proptest! {
        #[test]
        fn count_is_that_of_the_tape(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let nodes = nodes(&value);
            prop_assert!(!count_exceeds(text.as_bytes(), nodes), "{}", text);
            prop_assert!(nodes == 1 || count_exceeds(text.as_bytes(), nodes - 1), "{}", text);
            prop_assert!(nodes == 1 || may_have_more(text.as_bytes(), nodes - 1), "{}", text);
            prop_assert!(text.len() + 1 >= nodes * 2, "{}", text);
        }
    }
}
