//! Encoder for strings and integers.

/// Appends `text` as a JSON string with its quotes. Escapes only the characters that JSON requires to be escaped.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(position) = first_special(rest) {
        let (plain, after) = rest.split_at(position);
        out.extend_from_slice(plain);
        let Some((&special, after)) = after.split_first() else {
            break;
        };
        escape(out, special);
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends an integer in decimal.
pub fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a non-negative integer in decimal.
pub fn write_unsigned(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Position of the first byte that must be escaped. Tests eight bytes at a time.
fn first_special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // A byte of `word` below `limit` (at most 0x80) sets its high bit in the result. A borrow may set further high bits after a
    // correct one; the exact search below finds the correct one first.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let mut offset = 0;
    for chunk in bytes.chunks_exact(8) {
        let word = chunk.try_into().map_or(0, u64::from_le_bytes);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        if below(word, 0x20) | quote | backslash != 0 {
            break;
        }
        offset += 8;
    }
    let tail = bytes.get(offset..).unwrap_or_default();
    tail.iter().position(|&byte| is_special(byte)).map(|position| offset + position)
}

#[cold]
fn escape(out: &mut Vec<u8>, byte: u8) {
    let short: &[u8] = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        b'\t' => b"\\t",
        0x08 => b"\\b",
        0x0c => b"\\f",
        _ => {
            let digit =
                |nibble: u8| char::from_digit(u32::from(nibble), 16).map_or(b'0', |digit| digit as u8);
            out.extend_from_slice(b"\\u00");
            out.push(digit(byte >> 4));
            out.push(digit(byte & 0xf));
            return;
        }
    };
    out.extend_from_slice(short);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_string_round_trips(text in any::<String>(), plain in "[ -~]{0,40}") {
            for text in [&text, &plain] {
                let mut out = Vec::new();
                write_string(&mut out, text);
                prop_assert_eq!(&serde_json::from_slice::<String>(&out).unwrap(), text);
            }
        }
    }

    #[test]
    fn every_byte_is_escaped_at_every_offset_of_a_word() {
        for byte in 0..0x80_u8 {
            for before in 0..17 {
                let text = format!("{}{}tail of it", "a".repeat(before), char::from(byte));
                let mut out = Vec::new();
                write_string(&mut out, &text);
                assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            }
        }
    }
}
