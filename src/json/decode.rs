//! Bytes → tape, in place, with every allocation reused.

use simd_json::{Buffers, tape, tape::Tape};

use super::node::Node;

/// Tapes and scratch larger than this are not kept between documents, in nodes (24 bytes each).
const KEPT_NODES_MAX: usize = 16 * 1024;

/// Why bytes are not a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    /// Not JSON, or nested deeper than the limit.
    #[error("not valid JSON")]
    Malformed,
    /// More values than the limit.
    #[error("too many JSON values")]
    TooManyNodes,
}

/// Parses one document after the other, reusing its memory.
pub struct Decoder {
    buffers: Buffers,
    tape: Vec<tape::Node<'static>>,
    depth_max: usize,
    nodes_max: usize,
}

/// A parsed document: the tape over the bytes it was parsed from.
pub struct Document<'decoder, 'input> {
    decoder: &'decoder mut Decoder,
    tape: Tape<'input>,
}

impl Decoder {
    /// A decoder that refuses documents deeper than `depth_max` or of more than `nodes_max` values.
    #[must_use]
    pub fn new(depth_max: usize, nodes_max: usize) -> Self {
        Self {
            buffers: Buffers::with_max_depth(4096, depth_max),
            tape: Vec::with_capacity(64),
            depth_max,
            nodes_max,
        }
    }

    /// Parses `padded[..length]`. Escapes are undone in place, so the bytes are not JSON any more afterwards. The
    /// padding, 64 bytes or more behind the document, may hold anything and is left as it was.
    ///
    /// # Errors
    /// [`NotJson`], also when the padding is too short.
    pub fn decode<'decoder, 'input>(
        &'decoder mut self,
        padded: &'input mut [u8],
        length: usize,
    ) -> Result<Document<'decoder, 'input>, NotJson> {
        let mut tape: Tape<'input> = Tape(std::mem::take(&mut self.tape)).reset();
        let filled = simd_json::fill_tape_padded(padded, length, &mut self.buffers, &mut tape);
        let nodes = tape.0.len();
        let document = Document { decoder: self, tape };
        match filled {
            Err(_) => Err(NotJson::Malformed),
            Ok(()) if nodes > document.decoder.nodes_max => Err(NotJson::TooManyNodes),
            Ok(()) => Ok(document),
        }
    }
}

impl Document<'_, '_> {
    /// The outermost value.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node::root(&self.tape.0)
    }
}

impl Drop for Document<'_, '_> {
    fn drop(&mut self) {
        let mut nodes = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset().0;
        if nodes.capacity() > KEPT_NODES_MAX {
            nodes = Vec::with_capacity(64);
            self.decoder.buffers = Buffers::with_max_depth(4096, self.decoder.depth_max);
        }
        self.decoder.tape = nodes;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Runs `check` over the tape of `text`.
    pub(crate) fn with_node<T>(text: &str, check: impl FnOnce(Node<'_>) -> T) -> T {
        let mut bytes = text.as_bytes().to_vec();
        let length = bytes.len();
        bytes.resize(length + 64, b'x');
        let mut decoder = Decoder::new(64, 100_000);
        let document = decoder.decode(&mut bytes, length).unwrap();
        check(document.root())
    }

    fn refused(decoder: &mut Decoder, text: &str) -> Option<NotJson> {
        let mut bytes = text.as_bytes().to_vec();
        let length = bytes.len();
        bytes.resize(length + 64, 0);
        decoder.decode(&mut bytes, length).err()
    }

    #[test]
    fn a_decoder_recovers_from_refusals() {
        let mut decoder = Decoder::new(8, 10);
        assert_eq!(refused(&mut decoder, "{\"a\":"), Some(NotJson::Malformed));
        assert_eq!(refused(&mut decoder, ""), Some(NotJson::Malformed));
        assert_eq!(refused(&mut decoder, &"[".repeat(100_000)), Some(NotJson::Malformed));
        assert_eq!(refused(&mut decoder, "[1,2,3,4,5,6,7,8,9]"), None);
        assert_eq!(refused(&mut decoder, "[1,2,3,4,5,6,7,8,9,10]"), Some(NotJson::TooManyNodes));
        assert_eq!(refused(&mut decoder, &format!("{}{}", "[".repeat(8), "]".repeat(8))), None);
        let deeper = format!("{}{}", "[".repeat(9), "]".repeat(9));
        assert_eq!(refused(&mut decoder, &deeper), Some(NotJson::Malformed));
        assert_eq!(refused(&mut decoder, "1"), None);
    }
}
