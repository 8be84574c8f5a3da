//! Server-sent events (WHATWG HTML, section 9.2.6) and the chunks they travel in (RFC 9112, section 7.1; checklist H-11).

/// A comment: nothing but a sign of life.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Digits of a chunk's length, room for which is left until it is known.
const LENGTH_DIGITS: usize = 8;

/// Appends everything of an event before its data. The data is one line of JSON.
pub fn begin_event(out: &mut Vec<u8>, id: Option<&str>) {
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"event: message\ndata: ");
}

/// Ends an event.
pub fn finish_event(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\n\n");
}

/// Appends an event with this data, a line of JSON.
pub fn write_event(out: &mut Vec<u8>, id: Option<&str>, data: &[u8]) {
    begin_event(out, id);
    out.extend_from_slice(data);
    finish_event(out);
}

/// Appends an event without data, that only tells where the stream stands, and when to come back if it ends (checklist
/// L-23).
pub fn write_retry(out: &mut Vec<u8>, id: Option<&str>, retry_ms: Option<u128>) {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    if let Some(retry_ms) = retry_ms {
        out.extend_from_slice(format!("retry: {retry_ms}\n").as_bytes());
    }
    out.extend_from_slice(b"data: \n\n");
}

/// Appends what `write` appends: as a chunk, if `chunked`. Nothing at all would end the body, so it is left out.
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
    // Leading zeros are digits like others (RFC 9112, section 7.1).
    let digits = format!("{length:0LENGTH_DIGITS$x}");
    if let Some(place) = out.get_mut(start..start + LENGTH_DIGITS) {
        place.iter_mut().zip(digits.bytes()).for_each(|(place, digit)| *place = digit);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_11_an_event_is_one_line_of_data() {
        let mut out = Vec::new();
        write_event(&mut out, None, b"{}");
        write_event(&mut out, Some("1-2"), b"[]");
        write_retry(&mut out, Some("1-3"), Some(500));
        let expected = "event: message\ndata: {}\n\nid: 1-2\nevent: message\ndata: []\n\n\
                        id: 1-3\nretry: 500\ndata: \n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn chunks_have_their_length_and_are_never_empty() {
        let mut out = b"before".to_vec();
        chunk(&mut out, true, |out| out.extend_from_slice(&[b'x'; 18]));
        chunk(&mut out, true, |_| {});
        chunk(&mut out, false, |out| out.push(b'y'));
        assert_eq!(String::from_utf8(out).unwrap(), format!("before00000012\r\n{}\r\ny", "x".repeat(18)));
    }
}
