//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>) and the chunks
//! that carry them (<https://www.rfc-editor.org/rfc/rfc9112#section-7.1>).

/// Comment event that keeps a stream alive
/// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#receiving-messages>).
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Last chunk of a body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Digits reserved for a chunk's length.
const LENGTH_DIGITS: usize = 8;

/// Appends the part of an event before its data, which the caller appends as one line of JSON.
pub fn begin_event(out: &mut Vec<u8>, id: Option<&str>) {
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: message\ndata: ");
}

/// Appends the end of an event.
pub fn finish_event(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\n\n");
}

/// Appends an event with `data`, which is one line of JSON.
pub fn write_event(out: &mut Vec<u8>, id: Option<&str>, data: &[u8]) {
    begin_event(out, id);
    out.extend_from_slice(data);
    finish_event(out);
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
    fn chunk_has_its_length_and_is_never_empty() {
        let mut out = b"before".to_vec();
        chunk(&mut out, true, |out| out.extend_from_slice(&[b'x'; 18]));
        chunk(&mut out, true, |_| {});
        chunk(&mut out, false, |out| out.push(b'y'));
        assert_eq!(String::from_utf8(out).unwrap(), format!("before00000012\r\n{}\r\ny", "x".repeat(18)));
    }
}
