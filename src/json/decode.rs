//! Decoder from bytes to the tape: in place, reusing its memory.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use simd_json::{Buffers, tape, tape::Tape};

use super::{
    node::Node,
    serde_backend,
    token_count::{Excess, after_string, excess},
};
use crate::config::{JsonBackend, Limits};

/// Maximum capacity of the tape kept between documents, in nodes of 24 bytes; a larger one is freed with the parser's buffers.
const KEPT_NODES_MAX: usize = 16 * 1024;

/// Length from which a document is long, in bytes. The parser's buffers take half as much again as the longest document.
const LONG_MIN: usize = 64 * 1024;

/// Maximum number of keys that are compared pairwise; the hashes of more are sorted.
const PAIRED_KEYS_MAX: usize = 16;

/// Why bytes are not accepted as a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not JSON, or are nested deeper than [`Limits::json_depth_max`].
    #[error("Parse error")]
    Malformed,
    /// More values than [`Limits::json_nodes_max`]. The document is not parsed.
    #[error("Too many JSON values")]
    TooManyNodes,
    /// A number has more characters than [`Limits::json_number_digits_max`].
    #[error("A JSON number is too long")]
    NumberTooLong,
    /// A key is longer than [`Limits::json_key_bytes_max`].
    #[error("A JSON key is too long")]
    KeyTooLong,
    /// An object has two members of one name, of which different parsers use different ones.
    #[error("Repeated member in a JSON object")]
    RepeatedKey,
}

impl DecodeError {
    /// Label of the metric that counts it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "not_json",
            Self::TooManyNodes => "json_too_many_nodes",
            Self::NumberTooLong => "json_number_too_long",
            Self::KeyTooLong => "json_key_too_long",
            Self::RepeatedKey => "json_repeated_key",
        }
    }
}

/// Decoder that reuses its memory from document to document.
pub struct Decoder {
    buffers: Buffers,
    /// Whether the buffers have the size of a long document, and whether they had one since the last [`Decoder::free_unused`].
    has_long_buffers: bool,
    has_decoded_long: bool,
    tape: Vec<tape::Node<'static>>,
    backend: JsonBackend,
    depth_max: usize,
    nodes_max: usize,
    number_digits_max: usize,
    key_bytes_max: usize,
}

/// A decoded document: the tape over the bytes it was parsed from. No object in it has two members of one name.
pub struct Document<'decoder, 'input> {
    decoder: &'decoder mut Decoder,
    tape: Tape<'input>,
}

/// A rejected document.
pub struct Rejected<'decoder, 'input> {
    /// Why it was rejected.
    pub reason: DecodeError,
    document: Option<Document<'decoder, 'input>>,
}

impl Rejected<'_, '_> {
    /// The root, if the bytes were JSON. Use it only to find the id of the error reply: the document violates a limit or has
    /// ambiguous members.
    #[must_use]
    pub fn root(&self) -> Option<Node<'_>> {
        self.document.as_ref().map(Document::root)
    }
}

impl std::fmt::Debug for Rejected<'_, '_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reason.fmt(formatter)
    }
}

impl Decoder {
    /// Creates a decoder that enforces the limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            buffers: Buffers::with_max_depth(4096, limits.json_depth_max),
            has_long_buffers: false,
            has_decoded_long: false,
            tape: Vec::with_capacity(64),
            backend: JsonBackend::default(),
            depth_max: limits.json_depth_max,
            nodes_max: limits.json_nodes_max,
            number_digits_max: limits.json_number_digits_max,
            key_bytes_max: limits.json_key_bytes_max,
        }
    }

    /// Sets the parser of the following documents. Both accept the same documents and make the same tape.
    pub fn set_backend(&mut self, backend: JsonBackend) {
        self.backend = backend;
    }

    /// Whether the decoder keeps the memory of long documents.
    #[must_use]
    pub fn has_long_buffers(&self) -> bool {
        self.has_long_buffers
    }

    /// Frees the memory of long documents if none was decoded since the last call.
    pub fn free_unused(&mut self) {
        if self.has_long_buffers && !self.has_decoded_long {
            self.buffers = Buffers::with_max_depth(4096, self.depth_max);
            self.has_long_buffers = false;
        }
        self.has_decoded_long = false;
    }

    /// Parses `padded[..length]` onto the tape.
    #[inline]
    fn fill<'input>(
        &mut self,
        padded: &'input mut [u8],
        length: usize,
        tape: &mut Tape<'input>,
    ) -> Result<(), DecodeError> {
        if length >= LONG_MIN {
            (self.has_long_buffers, self.has_decoded_long) = (true, true);
        }
        let is_filled = match self.backend {
            JsonBackend::Simd => simd_json::fill_tape_padded(padded, length, &mut self.buffers, tape).is_ok(),
            JsonBackend::Serde => serde_backend::fill(padded, length, self.depth_max, &mut tape.0).is_ok(),
        };
        if is_filled { Ok(()) } else { Err(DecodeError::Malformed) }
    }

    /// Decodes `padded[..length]`. Unescapes strings in place, so the bytes are no longer JSON afterwards. The document is
    /// followed by at least 64 bytes of padding with any content, which is not modified.
    ///
    /// # Errors
    /// [`Rejected`], also when the padding is too short.
    pub fn decode<'decoder, 'input>(
        &'decoder mut self,
        padded: &'input mut [u8],
        length: usize,
    ) -> Result<Document<'decoder, 'input>, Rejected<'decoder, 'input>> {
        // The tape does not contain a number's text, so this check comes first; it also avoids converting a long number.
        if has_long_number(padded.get(..length).unwrap_or_default(), self.number_digits_max) {
            return Err(Rejected { reason: DecodeError::NumberTooLong, document: None });
        }
        let excess = excess(padded.get(..length).unwrap_or_default(), self.nodes_max, self.depth_max);
        if let Some(excess) = excess {
            return Err(self.reject_unparsed(padded, excess));
        }
        let (document, filled) = self.parse(padded, length);
        match filled.and_then(|()| document.check()) {
            Ok(()) => Ok(document),
            // The tape is incomplete.
            Err(reason @ DecodeError::Malformed) => Err(Rejected { reason, document: None }),
            Err(reason) => Err(Rejected { reason, document: Some(document) }),
        }
    }

    #[inline(always)]
    fn parse<'decoder, 'input>(
        &'decoder mut self,
        padded: &'input mut [u8],
        length: usize,
    ) -> (Document<'decoder, 'input>, Result<(), DecodeError>) {
        let mut tape: Tape<'input> = Tape(std::mem::take(&mut self.tape)).reset();
        let filled = self.fill(padded, length, &mut tape);
        (Document { decoder: self, tape }, filled)
    }

    /// Rejects a document without parsing it. What is parsed is an object with the id alone.
    #[cold]
    fn reject_unparsed<'decoder, 'input>(
        &'decoder mut self,
        padded: &'input mut [u8],
        excess: Excess,
    ) -> Rejected<'decoder, 'input> {
        const BEFORE: &[u8] = b"{\"id\":";
        if excess.is_too_deep {
            return Rejected { reason: DecodeError::Malformed, document: None };
        }
        let reason = DecodeError::TooManyNodes;
        // The id was behind its key and in front of the values that are too many, so that it moves to the left.
        let Some(id) = excess.id.filter(|id| id.start >= BEFORE.len()) else {
            return Rejected { reason, document: None };
        };
        let end = BEFORE.len() + id.len();
        padded.copy_within(id, BEFORE.len());
        for (byte, new) in padded.iter_mut().zip(BEFORE) {
            *byte = *new;
        }
        if let Some(byte) = padded.get_mut(end) {
            *byte = b'}';
        }
        let (document, filled) = self.parse(padded, end + 1);
        Rejected { reason, document: filled.is_ok().then_some(document) }
    }
}

impl Document<'_, '_> {
    /// The root of the document.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        Node::root(&self.tape.0)
    }

    /// Checks what the parser does not: number of values, length of keys, repeated keys. Takes one pass, as every member belongs to
    /// one object.
    fn check(&self) -> Result<(), DecodeError> {
        let nodes = self.tape.0.as_slice();
        if nodes.len() > self.decoder.nodes_max {
            return Err(DecodeError::TooManyNodes);
        }
        let mut rest = nodes;
        while let Some((node, after)) = rest.split_first() {
            rest = match node {
                tape::Node::Object { len: 1.., .. } => self.check_keys(rest)?,
                _ => after,
            };
        }
        Ok(())
    }

    /// Checks the keys of the object at the beginning of `nodes`. Returns the nodes from the first object or array in it on, else those
    /// behind it.
    #[inline]
    fn check_keys<'n, 'i>(&self, nodes: &'n [tape::Node<'i>]) -> Result<&'n [tape::Node<'i>], DecodeError> {
        let Some((tape::Node::Object { len, .. }, mut rest)) = nodes.split_first() else { return Ok(&[]) };
        let mut inner = None;
        let mut seen = 0_u64;
        let mut suspicious = false;
        let mut longest = 0;
        for _ in 0..*len {
            let [tape::Node::String(key), values @ ..] = rest else { break };
            let span = match values.first() {
                Some(tape::Node::Object { count, .. } | tape::Node::Array { count, .. }) => {
                    inner = inner.or(Some(values));
                    count + 1
                }
                _ => 1,
            };
            longest = longest.max(key.len());
            let bit = 1 << fingerprint(key.as_bytes());
            suspicious |= seen & bit != 0;
            seen |= bit;
            rest = values.get(span..).unwrap_or_default();
        }
        if longest > self.decoder.key_bytes_max {
            return Err(DecodeError::KeyTooLong);
        }
        if suspicious && has_repeated_key(Node::root(nodes)) {
            return Err(DecodeError::RepeatedKey);
        }
        Ok(inner.unwrap_or(rest))
    }
}

/// Hash of a key, below 64, which differs for most keys of common objects. Combines the first and the last four bytes and the length
/// by Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
fn fingerprint(key: &[u8]) -> u32 {
    let [length, ..] = key.len().to_le_bytes();
    let ends = match (key.first_chunk(), key.last_chunk()) {
        (Some(first), Some(last)) => u32::from_le_bytes(*first) ^ u32::from_le_bytes(*last).rotate_left(9),
        _ => key.iter().fold(0, |ends, byte| ends << 8 | u32::from(*byte)),
    };
    (ends ^ u32::from(length)).wrapping_mul(0x9E37_79B1) >> 26
}

/// Exact check for repeated keys: pairwise for few keys, by sorting for many, so that its time is bounded for any keys.
#[cold]
fn has_repeated_key(object: Node<'_>) -> bool {
    let Some(members) = object.members() else { return false };
    if members.len() <= PAIRED_KEYS_MAX {
        let is_repeated = |number, key| members.clone().take(number).any(|(other, _)| other == key);
        return members.clone().enumerate().any(|(number, (key, _))| is_repeated(number, key));
    }
    has_equal(members.map(|(key, _)| key))
}

/// Whether two values are equal. Sorts the hashes that [`retain_similar`] leaves, and the values only if hashes are equal.
fn has_equal<T: Hash + Ord>(values: impl Iterator<Item = T> + Clone) -> bool {
    let hasher = RandomState::default();
    let mut hashes = values.clone().map(|value| hasher.hash_one(value)).collect();
    retain_similar(&mut hashes);
    has_equal_sorted(hashes) && has_equal_sorted(values.collect())
}

/// Removes the hashes that differ from all others in their last bits: about 15 of 16.
fn retain_similar(hashes: &mut Vec<u64>) {
    // Words of 64 bits: 16 to 32 bits for each hash. Of each bit: whether a hash has it, and whether two have.
    let mut table = vec![[0_u64; 2]; (hashes.len() / 4).next_power_of_two()];
    let mask = table.len() - 1;
    let place = |hash: u64| (usize::try_from(hash >> 6).unwrap_or_default() & mask, 1 << (hash & 63));
    for &hash in &*hashes {
        let (word, bit) = place(hash);
        if let Some([one, two]) = table.get_mut(word) {
            *two |= *one & bit;
            *one |= bit;
        }
    }
    hashes.retain(|&hash| {
        let (word, bit) = place(hash);
        table.get(word).is_some_and(|[_, two]| two & bit != 0)
    });
}

fn has_equal_sorted<T: Ord>(mut values: Vec<T>) -> bool {
    values.sort_unstable();
    values.windows(2).any(|pair| pair.first() == pair.last())
}

fn is_number_part(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

/// Whether a number has more than `digits_max` characters. A run of that length covers one of any `digits_max + 1` consecutive
/// positions, so only every `digits_max + 1`th position is inspected until one is part of such a run.
fn has_long_number(json: &[u8], digits_max: usize) -> bool {
    if json.len() <= digits_max {
        return false;
    }
    let in_long_run = |position: usize| {
        let (before, after) = json.split_at(position);
        let ahead = after.iter().take(digits_max + 1).take_while(|byte| is_number_part(**byte)).count();
        // `ahead` is 0 where the position itself is not part of a number.
        let back = before.iter().rev().take(digits_max + 1).take_while(|byte| is_number_part(**byte)).count();
        ahead > 0 && ahead + back > digits_max
    };
    (0..json.len()).step_by(digits_max + 1).any(in_long_run)
        && has_long_number_outside_strings(json, digits_max)
}

/// Exact check: the run may be part of a string.
#[cold]
fn has_long_number_outside_strings(json: &[u8], digits_max: usize) -> bool {
    let mut rest = json;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'"' {
            rest = after_string(after);
        } else if byte == b'-' || byte.is_ascii_digit() {
            let length = rest.iter().take_while(|byte| is_number_part(**byte)).count();
            if length > digits_max {
                return true;
            }
            rest = rest.get(length..).unwrap_or_default();
        } else {
            rest = after;
        }
    }
    false
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
    use std::{cell::Cell, collections::HashSet};

    use proptest::prelude::*;

    use super::*;

    /// The bytes followed by padding, as in a receive buffer.
    fn padded(text: &str) -> (Vec<u8>, usize) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len() + 64, b'x');
        (bytes, text.len())
    }

    /// Calls `check` with the root of `text`.
    pub(crate) fn with_node<T>(text: &str, check: impl FnOnce(Node<'_>) -> T) -> T {
        let (mut bytes, length) = padded(text);
        let mut decoder = Decoder::new(&Limits::default());
        let document = decoder.decode(&mut bytes, length).unwrap();
        check(document.root())
    }

    fn rejection(decoder: &mut Decoder, text: &str) -> Option<DecodeError> {
        let (mut bytes, length) = padded(text);
        decoder.decode(&mut bytes, length).err().map(|refused| refused.reason)
    }

    fn small() -> Decoder {
        Decoder::new(&Limits {
            json_depth_max: 8,
            json_nodes_max: 10,
            json_number_digits_max: 6,
            json_key_bytes_max: 4,
            ..Limits::default()
        })
    }

    #[test]
    fn decoder_recovers_from_rejected_documents() {
        let mut decoder = small();
        assert_eq!(rejection(&mut decoder, "{\"a\":"), Some(DecodeError::Malformed));
        assert_eq!(rejection(&mut decoder, ""), Some(DecodeError::Malformed));
        assert_eq!(rejection(&mut decoder, &"[".repeat(20)), Some(DecodeError::Malformed));
        assert_eq!(rejection(&mut decoder, "[1,2,3,4,5,6,7,8,9]"), None);
        assert_eq!(rejection(&mut decoder, "[1,2,3,4,5,6,7,8,9,10]"), Some(DecodeError::TooManyNodes));
        assert_eq!(rejection(&mut decoder, &format!("{}{}", "[".repeat(8), "]".repeat(8))), None);
        let deeper = format!("{}{}", "[".repeat(9), "]".repeat(9));
        assert_eq!(rejection(&mut decoder, &deeper), Some(DecodeError::Malformed));
        assert_eq!(rejection(&mut decoder, "1"), None);
    }

    #[test]
    fn memory_of_long_documents_is_freed_if_none_was_decoded_since() {
        let mut decoder = Decoder::new(&Limits::default());
        let long = format!("\"{}\"", "x".repeat(LONG_MIN));
        assert_eq!((rejection(&mut decoder, "1"), decoder.has_long_buffers()), (None, false));
        assert_eq!((rejection(&mut decoder, &long), decoder.has_long_buffers()), (None, true));
        decoder.free_unused();
        assert!(decoder.has_long_buffers(), "it has just been used");
        decoder.free_unused();
        assert!(!decoder.has_long_buffers());
        assert_eq!(rejection(&mut decoder, &long), None);
    }

    #[test]
    fn number_length_is_bounded_outside_strings() {
        let mut decoder = small();
        for before in 0..20 {
            let at = |value: &str| format!("{}[\"{}\",{value} ]", " ".repeat(before), "1\\\"".repeat(4));
            for fits in
                ["123456", "-12345", "1.5e+2", "\"1234567890\"", "\"1\\\"34567890\"", "\"eeeeeeeeeee\""]
            {
                assert_eq!(rejection(&mut decoder, &at(fits)), None, "{fits} after {before}");
            }
            for long in ["1234567", "-123456", "1.5e+20", "0.00000", "12345678901234567890"] {
                assert_eq!(
                    rejection(&mut decoder, &at(long)),
                    Some(DecodeError::NumberTooLong),
                    "{long} after {before}"
                );
            }
        }
        assert_eq!(rejection(&mut decoder, "1234567"), Some(DecodeError::NumberTooLong));
        // Beyond the range of a double as well.
        let limits = Limits::default();
        let digits = |count| "9".repeat(count);
        let mut decoder = Decoder::new(&limits);
        let fraction = |count: usize| format!("0.{}", digits(count - 2));
        assert_eq!(rejection(&mut decoder, &fraction(limits.json_number_digits_max)), None);
        for text in [fraction(limits.json_number_digits_max + 1), digits(limits.json_number_digits_max + 1)] {
            assert_eq!(rejection(&mut decoder, &text), Some(DecodeError::NumberTooLong));
        }
    }

    #[test]
    fn key_length_is_bounded_after_unescaping() {
        let mut decoder = small();
        for fits in [r#"{"abcd":"abcde"}"#, r#"[{"x":{"\u0061bcd":1}}]"#, r#"{"ab\u00e9":1}"#] {
            assert_eq!(rejection(&mut decoder, fits), None, "{fits}");
        }
        for long in [r#"{"abcde":1}"#, r#"[{"x":{"abcde":1}}]"#, r#"{"abc\u00e9":1}"#] {
            assert_eq!(rejection(&mut decoder, long), Some(DecodeError::KeyTooLong), "{long}");
        }
        let limits = Limits::default();
        let mut decoder = Decoder::new(&limits);
        let key = |count: usize| format!(r#"{{"{}":1}}"#, "k".repeat(count));
        assert_eq!(rejection(&mut decoder, &key(limits.json_key_bytes_max)), None);
        assert_eq!(
            rejection(&mut decoder, &key(limits.json_key_bytes_max + 1)),
            Some(DecodeError::KeyTooLong)
        );
    }

    #[test]
    fn repeated_key_is_rejected_at_any_position_and_depth() {
        let mut decoder = Decoder::new(&Limits::default());
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":[]},"c":1,"a":2}"#,
            r#"[0,[{"x":[{"a":1,"b":{},"a":1}]}]]"#,
            r#"{"a":[],"b":{},"c":{"d":1},"e":{"f":1,"f":1}}"#,
            r#"{"a":{"b":{"c":1}},"d":[{"e":1},{"f":1,"f":1}],"g":1}"#,
            r#"[{"a":1},{"b":1,"b":1}]"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(rejection(&mut decoder, text), Some(DecodeError::RepeatedKey), "{text}");
        }
        for text in [r#"{"a":{"a":{"a":"a"}},"A":1}"#, r#"[{"a":1},{"a":1}]"#, "{}", r#"{"a":"b","b":"a"}"#] {
            assert_eq!(rejection(&mut decoder, text), None, "{text}");
        }
    }

    #[test]
    fn rejected_json_has_a_readable_root() {
        let mut decoder = small();
        for (text, is_readable) in [(r#"{"a":1,"a":2}"#, true), (r#"{"abcde":2}"#, true), ("{", false)] {
            let (mut bytes, length) = padded(text);
            let refused = decoder.decode(&mut bytes, length).err().unwrap();
            assert_eq!(refused.root().is_some_and(Node::is_object), is_readable, "{text}");
        }
    }

    /// A key, its hash, and the number of comparisons.
    #[derive(PartialEq, Eq)]
    struct Key<'a>(u32, u32, &'a Cell<usize>);

    impl Hash for Key<'_> {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.1.hash(state);
        }
    }

    impl Ord for Key<'_> {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            self.2.set(self.2.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Key<'_> {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }

    #[test]
    fn many_keys_are_compared_only_if_their_hashes_are_equal() {
        let comparisons = Cell::new(0);
        let key = |number: u32| Key(number.wrapping_mul(0x9E37_79B1), number, &comparisons);
        assert!(!has_equal((0..29_000).map(key)));
        assert_eq!(comparisons.get(), 0);
        assert!(has_equal((0..100).chain([50]).map(key)));
        assert!(
            !has_equal((0..100).map(|number| Key(number, 0, &comparisons))),
            "equal hashes are not equal keys"
        );
    }

    #[test]
    fn only_hashes_with_equal_last_bits_are_sorted() {
        // The last 19 bits, of which the place in the table is made, differ in all of these.
        let different = || (0..29_000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let of = |more: &[u64]| {
            let mut hashes: Vec<u64> = different().chain(more.iter().copied()).collect();
            retain_similar(&mut hashes);
            hashes
        };
        assert!(of(&[]).is_empty());
        let seventh = different().nth(7).unwrap();
        let similar = seventh ^ 1 << 40;
        assert_eq!(of(&[seventh]), [seventh; 2]);
        assert_eq!(of(&[similar, similar]), [seventh, similar, similar]);
    }

    proptest! {
        #[test]
        fn repeated_keys_are_found_as_by_a_set(keys in prop::collection::vec("[a-c]{0,5}", 0..40)) {
            let members: Vec<_> = keys.iter().map(|key| format!("\"{key}\":[{{}}]")).collect();
            let repeated = keys.iter().collect::<HashSet<_>>().len() < keys.len();
            let text = format!("[1,{{{}}}]", members.join(","));
            let mut decoder = Decoder::new(&Limits::default());
            prop_assert_eq!(rejection(&mut decoder, &text), repeated.then_some(DecodeError::RepeatedKey));
        }
    }
}
