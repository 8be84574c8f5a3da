//! Server-sent events, as MCP uses them: the data of each event (HTML standard, section 9.2.6).

/// Incremental parser of an event stream. Buffers at most one event.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The previous byte was a CR: a following LF belongs to it.
    after_cr: bool,
}

impl Events {
    /// Consumes bytes of the stream and passes the data of each complete event to `sink`.
    pub(super) fn take(&mut self, mut bytes: &[u8], mut sink: impl FnMut(&[u8])) {
        if self.after_cr && bytes.first() == Some(&b'\n') {
            bytes = bytes.get(1..).unwrap_or_default();
        }
        self.after_cr = false;
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (part, rest) = bytes.split_at(end);
            self.line.extend_from_slice(part);
            let (newline, rest) = rest.split_at(1);
            bytes = rest;
            if newline == b"\r" {
                match bytes.split_first() {
                    Some((b'\n', rest)) => bytes = rest,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.end_line(&mut sink);
        }
        self.line.extend_from_slice(bytes);
    }

    fn end_line(&mut self, sink: &mut impl FnMut(&[u8])) {
        if self.line.is_empty() {
            if self.has_data {
                sink(&self.data);
            }
            self.has_data = false;
            self.data.clear();
        } else if let Some(value) = self.line.strip_prefix(b"data:") {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_split_at_any_byte_are_the_same() {
        let stream =
            b": hello\r\nevent: message\r\nid: 1\r\ndata: {\"a\":1}\r\n\r\ndata:x\ndata: y\n\n\rdata: z\r\r";
        for cut in 0..=stream.len() {
            let mut events = Events::default();
            let mut seen = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                events.take(part, |data| seen.push(String::from_utf8(data.to_vec()).unwrap()));
            }
            assert_eq!(seen, ["{\"a\":1}", "x\ny", "z"], "cut at {cut}");
        }
    }
}
