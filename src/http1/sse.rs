//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>) and the chunks
//! that carry them (<https://www.rfc-editor.org/rfc/rfc9112#section-7.1>).

use memchr::{memchr2, memmem};

/// Comment event that keeps a stream alive
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#receiving-messages>).
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Last chunk of a body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Digits reserved for a chunk's length.
const LENGTH_DIGITS: usize = 8;

/// Appends an event with `data`, which is one JSON text.
pub fn write_event(out: &mut Vec<u8>, id: Option<&str>, data: &[u8]) {
    write_event_with(out, id, |out| out.extend_from_slice(data));
}

/// Appends an event with the JSON text that `write` appends.
///
/// The data becomes one line also for clients that end lines at U+2028 and U+2029, as ECMAScript does: these are written as
/// `\u2028` and `\u2029`. JSON allows them only in strings. Line feeds and carriage returns, which JSON allows only between tokens,
/// become spaces.
pub fn write_event_with(out: &mut Vec<u8>, id: Option<&str>, write: impl FnOnce(&mut Vec<u8>)) {
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: message\ndata: ");
    let start = out.len();
    write(out);
    let data = out.get(start..).unwrap_or_default();
    // U+2028 and U+2029 begin with E2 80.
    if memmem::find(data, b"\xe2\x80").is_some() || memchr2(b'\n', b'\r', data).is_some() {
        keep_on_one_line(out, start);
    }
    out.extend_from_slice(b"\n\n");
}

/// Escapes the line terminators in the JSON text from `start` on.
#[cold]
fn keep_on_one_line(out: &mut Vec<u8>, start: usize) {
    let data = out.split_off(start);
    let mut rest = data.as_slice();
    while let Some((&byte, after)) = rest.split_first() {
        let (escaped, length): (&[u8], usize) = match rest {
            [0xe2, 0x80, 0xa8, ..] => (b"\\u2028", 3),
            [0xe2, 0x80, 0xa9, ..] => (b"\\u2029", 3),
            [b'\n' | b'\r', ..] => (b" ", 1),
            _ => (&[byte], 1),
        };
        out.extend_from_slice(escaped);
        rest = after.get(length - 1..).unwrap_or_default();
    }
}

/// Appends an event with empty data: its id for resumption, and the delay before a client reconnects, in milliseconds
/// (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#sending-messages-to-the-server>).
pub fn write_retry(out: &mut Vec<u8>, id: Option<&str>, retry_ms: Option<u128>) {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    if let Some(retry_ms) = retry_ms {
        out.extend_from_slice(format!("retry: {retry_ms}\n").as_bytes());
    }
    out.extend_from_slice(b"data: \n\n");
}

/// Appends what `write` appends, as one chunk if `chunked`. An empty chunk would end the body, so it is omitted.
pub fn chunk(out: &mut Vec<u8>, chunked: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if !chunked {
        write(out);
        return;
    }
    let start = out.len();
    out.extend_from_slice(b"00000000\r\n");
    let body = out.len();
    write(out);
    let length = out.len() - body;
    if length == 0 {
        out.truncate(start);
        return;
    }
    // A chunk size may have leading zeros: <https://www.rfc-editor.org/rfc/rfc9112#section-7.1>
    let digits = format!("{length:0LENGTH_DIGITS$x}");
    if let Some(length_field) = out.get_mut(start..start + LENGTH_DIGITS) {
        length_field.iter_mut().zip(digits.bytes()).for_each(|(byte, digit)| *byte = digit);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_has_one_line_of_data() {
        let mut out = Vec::new();
        write_event(&mut out, None, b"{}");
        write_event(&mut out, Some("1-2"), b"[]");
        write_retry(&mut out, Some("1-3"), Some(500));
        let expected = "event: message\ndata: {}\n\nid: 1-2\nevent: message\ndata: []\n\n\
                        id: 1-3\nretry: 500\ndata: \n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn line_terminators_of_data_are_escaped() {
        let data = "{\r\n\"a\":\"\u{2028}b\u{2029}\u{2027}ü\u{202a}\"}\n\u{e2}";
        let mut out = b"before \xe2\x80\xa8".to_vec();
        let before = out.len();
        write_event(&mut out, None, data.as_bytes());
        let event = String::from_utf8(out.split_off(before)).unwrap();
        let expected = "{  \"a\":\"\\u2028b\\u2029\u{2027}ü\u{202a}\"} \u{e2}";
        assert_eq!(event, format!("event: message\ndata: {expected}\n\n"));
        assert_eq!(out, b"before \xe2\x80\xa8", "earlier bytes are unchanged");
        // A sequence that is cut is no character.
        for cut in [&b"\xe2"[..], b"\xe2\x80", b""] {
            let mut out = Vec::new();
            write_event(&mut out, None, cut);
            assert_eq!(out, [b"event: message\ndata: ", cut, b"\n\n"].concat());
        }
    }

    #[test]
    fn chunk_has_its_length_and_is_never_empty() {
        let mut out = b"before".to_vec();
        chunk(&mut out, true, |out| out.extend_from_slice(&[b'x'; 18]));
        chunk(&mut out, true, |_| {});
        chunk(&mut out, false, |out| out.push(b'y'));
        assert_eq!(String::from_utf8(out).unwrap(), format!("before00000012\r\n{}\r\ny", "x".repeat(18)));
    }
}
