//! The messages of a batch that wait for a later turn.

use corelane_ring::PeerAddress;

use super::handling::Handling;
use crate::http1::RequestHead;

/// Padding that the decoder needs after a document, in bytes.
const PADDING_BYTES: usize = 64;

/// The messages of a batch that are not dispatched yet.
#[derive(Debug, Default)]
pub(crate) struct BatchRest {
    /// The messages as received, to the closing bracket, and the padding of a decoder.
    text: Vec<u8>,
    /// Bytes at the start of `text` that were dispatched.
    dispatched: usize,
    /// A copy of the head of the HTTP request.
    pub(super) head: Option<(RequestHead, Vec<u8>)>,
    pub(super) peer: Option<PeerAddress>,
    /// The flags that the batch began with.
    pub(super) handling: Option<Handling>,
    /// Work that is left for the validation of arguments.
    pub(super) work: u64,
}

impl BatchRest {
    /// The elements of an array, which [`elements`] returned, behind the first `dispatched` ones.
    pub(super) fn behind(dispatched: usize, elements: Vec<u8>) -> Self {
        let mut rest = Self { text: elements, ..Self::default() };
        for _ in 0..dispatched {
            let _ = rest.next_message();
        }
        rest.text.drain(..rest.dispatched);
        rest.dispatched = 0;
        rest.text.resize(rest.text.len() + PADDING_BYTES, 0);
        rest
    }

    /// Bytes in the buffers of the rest.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.text.len() + self.head.as_ref().map_or(0, |(_, bytes)| bytes.len())
    }

    /// The text of the next message, with the bytes behind it, and its length; `None` at the end of the batch.
    pub(super) fn next_message(&mut self) -> Option<(&mut [u8], usize)> {
        let rest = self.text.get_mut(self.dispatched..)?;
        let start = rest.iter().position(|byte| !is_separator(*byte))?;
        let rest = rest.get_mut(start..)?;
        let length = value_length(rest);
        self.dispatched += start + length;
        (length > 0).then_some((rest, length))
    }

    pub(super) fn is_empty(&self) -> bool {
        let rest = self.text.get(self.dispatched..).unwrap_or_default();
        rest.iter().find(|byte| !is_separator(**byte)).is_none_or(|byte| is_end(*byte))
    }
}

/// Whether a byte is between two elements of an array.
fn is_separator(byte: u8) -> bool {
    byte == b',' || byte.is_ascii_whitespace()
}

/// Whether a byte ends the elements of an array: its closing bracket, or the padding behind a document that is no array.
fn is_end(byte: u8) -> bool {
    matches!(byte, b']' | 0)
}

/// The length of the element that the text of a well-formed array begins with; 0 at the end.
fn value_length(text: &[u8]) -> usize {
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for (position, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            _ if is_string => {}
            b'[' | b'{' => depth += 1,
            byte if depth == 0 && is_end(*byte) => return position,
            b']' | b'}' => depth -= 1,
            byte if depth == 0 && is_separator(*byte) => return position,
            _ => {}
        }
    }
    text.len()
}

/// A copy of the elements of an array, to its closing bracket; empty if the document is no array. Decoding changes the document.
#[cold]
pub(super) fn elements(document: &[u8]) -> Vec<u8> {
    document.trim_ascii_start().strip_prefix(b"[").map(<[u8]>::to_vec).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(array: &str) -> Vec<String> {
        let mut rest = BatchRest::behind(0, elements(array.as_bytes()));
        let mut found = Vec::new();
        loop {
            let is_empty = rest.is_empty();
            let Some((padded, length)) = rest.next_message() else { break };
            assert!(!is_empty && padded.len() >= length + PADDING_BYTES);
            found.push(String::from_utf8(padded[..length].to_vec()).unwrap());
        }
        assert!(rest.is_empty());
        found
    }

    #[test]
    fn elements_of_an_array_are_found_whatever_they_contain() {
        let elements = [r#"{"a":"]},[{\\\""}"#, "[1,[2]]", "-1.5e3", r#""\\""#, "{}", "null"];
        for separator in [",", " ,\n\t"] {
            assert_eq!(messages(&format!(" [{}] ", elements.join(separator))), elements);
        }
        let mut behind = BatchRest::behind(2, super::elements(b"[1, [2], 3]"));
        assert_eq!(behind.next_message().map(|(text, length)| text[..length].to_vec()), Some(b"3".to_vec()));
        assert_eq!(messages("[]"), [""; 0]);
        assert_eq!(messages("{}"), [""; 0]);
    }
}
