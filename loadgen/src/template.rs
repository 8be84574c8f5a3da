//! Arguments with holes: `{{counter}}`, `{{random:16}}` and `{{pad:1024}}` inside JSON.
//!
//! Every value a hole may take has one length, so that a request's `Content-Length` is known beforehand and rendering is
//! nothing but copying.

use rand::Rng;

/// Digits of a counter. It begins at 10^9, so that it never changes its length.
const COUNTER_DIGITS: usize = 10;
/// Where counters, and JSON-RPC ids, begin. Their fields hold ten digits.
pub const COUNTER_START: u64 = 1_000_000_000;
/// Characters a random string is made of: 64, so that a byte's lower six bits choose.
const ALPHABET: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
/// Bytes of one random string or one padding, at most.
const HOLE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a hole is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// A number that grows with each request.
    Counter,
    /// So many random characters.
    Random(usize),
}

impl Hole {
    fn length(self) -> usize {
        match self {
            Self::Counter => COUNTER_DIGITS,
            Self::Random(length) => length,
        }
    }
}

/// Text with holes in it. Holes are numbered: the same hole may stand in several texts of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// Each piece of text, and the hole behind it.
    pieces: Vec<(Box<[u8]>, Option<usize>)>,
}

/// The holes of one request, and their fillings.
#[derive(Clone, Debug, Default)]
pub struct Holes {
    holes: Vec<Hole>,
}

/// The values one request's holes were filled with.
#[derive(Clone, Debug, Default)]
pub struct Filling(Vec<Box<[u8]>>);

/// Marks a hole in a text, around its number: characters of a private use area, which nobody sends.
const MARK_BEGIN: char = '\u{f8e0}';
const MARK_END: char = '\u{f8e1}';

impl Holes {
    /// Replaces the holes of `text` by marks; padding becomes text at once.
    ///
    /// # Errors
    /// What is wrong with a hole.
    pub fn mark(&mut self, text: &str) -> Result<String, String> {
        if text.contains([MARK_BEGIN, MARK_END]) {
            return Err("the characters U+F8E0 and U+F8E1 cannot be sent".to_owned());
        }
        let mut marked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let Some((name, after)) = behind.split_once("}}").filter(|(name, _)| is_name(name)) else {
                // Two braces of JSON itself.
                marked.push_str(before);
                marked.push('{');
                rest = rest.get(before.len() + 1..).unwrap_or_default();
                continue;
            };
            marked.push_str(before);
            rest = after;
            let (kind, size) = name.split_once(':').unwrap_or((name, ""));
            let size = || match size.parse::<usize>() {
                Ok(size) if (1..=HOLE_BYTES_MAX).contains(&size) => Ok(size),
                _ => Err(format!(
                    "{{{{{name}}}}} needs a size from 1 to {HOLE_BYTES_MAX}, as {{{{{kind}:16}}}}"
                )),
            };
            let hole = match kind {
                "counter" if !name.contains(':') => Hole::Counter,
                "random" => Hole::Random(size()?),
                "pad" => {
                    marked.extend(std::iter::repeat_n('x', size()?));
                    continue;
                }
                _ => {
                    return Err(format!(
                        "{{{{{name}}}}} is unknown; there are {{{{counter}}}}, {{{{random:16}}}} and {{{{pad:1024}}}}"
                    ));
                }
            };
            marked.push(MARK_BEGIN);
            marked.push_str(&self.holes.len().to_string());
            marked.push(MARK_END);
            self.holes.push(hole);
        }
        marked.push_str(rest);
        Ok(marked)
    }

    /// Whether there are none: then every request is the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holes.is_empty()
    }

    /// Values for one request.
    #[must_use]
    pub fn fill(&self, counter: u64, random: &mut impl Rng) -> Filling {
        let fill = |hole: &Hole| match hole {
            Hole::Counter => format!("{:010}", COUNTER_START + counter % COUNTER_START).into_bytes().into(),
            Hole::Random(length) => {
                let mut bytes = vec![0; *length].into_boxed_slice();
                random.fill_bytes(&mut bytes);
                for byte in &mut bytes {
                    *byte = ALPHABET.get(usize::from(*byte & 63)).copied().unwrap_or(b'0');
                }
                bytes
            }
        };
        Filling(self.holes.iter().map(fill).collect())
    }
}

/// Something that may stand between two braces without being JSON.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b':')
}

impl Template {
    /// Reads marked text.
    #[must_use]
    pub fn of(marked: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = marked;
        while let Some((before, behind)) = rest.split_once(MARK_BEGIN) {
            let (number, after) = behind.split_once(MARK_END).unwrap_or((behind, ""));
            pieces.push((before.as_bytes().into(), number.parse().ok()));
            rest = after;
        }
        pieces.push((rest.as_bytes().into(), None));
        Self { pieces }
    }

    /// Bytes of it once it is filled.
    #[must_use]
    pub fn length(&self, holes: &Holes) -> usize {
        let filled = |hole: &Option<usize>| {
            hole.and_then(|number| holes.holes.get(number)).map_or(0, |hole| hole.length())
        };
        self.pieces.iter().map(|(text, hole)| text.len() + filled(hole)).sum()
    }

    /// Whether it is this text. A text with holes is none.
    #[must_use]
    pub fn is_text(&self, text: &str) -> bool {
        matches!(self.pieces.as_slice(), [(piece, None)] if **piece == *text.as_bytes())
    }

    /// Appends it with its holes filled.
    pub fn write(&self, filling: &Filling, out: &mut Vec<u8>) {
        for (text, hole) in &self.pieces {
            out.extend_from_slice(text);
            if let Some(value) = hole.and_then(|number| filling.0.get(number)) {
                out.extend_from_slice(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn holes_are_filled_and_lengths_are_known() {
        let mut holes = Holes::default();
        let marked =
            holes.mark(r#"{"a":"{{random:8}}","n":{{counter}},"p":"{{pad:3}}","o":{"q":{}}}"#).unwrap();
        let template = Template::of(&marked);
        let mut random = StdRng::seed_from_u64(7);
        for counter in [0, 5, 999_999_999, 1_000_000_000] {
            let mut out = Vec::new();
            template.write(&holes.fill(counter, &mut random), &mut out);
            assert_eq!(out.len(), template.length(&holes));
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(value["n"], 1_000_000_000 + counter % 1_000_000_000);
            assert_eq!(value["a"].as_str().unwrap().len(), 8);
            assert_eq!(value["p"], "xxx");
        }
    }

    #[test]
    fn unknown_holes_are_refused_and_braces_of_json_are_not_holes() {
        let mark = |text: &str| Holes::default().mark(text);
        assert!(mark("{{bogus}}").unwrap_err().contains("{{counter}}"));
        assert!(mark("{{random:0}}").unwrap_err().contains("size"));
        assert!(mark("{{pad}}").unwrap_err().contains("size"));
        for json in [r#"{"a":{"b":{}}}"#, r#"{"a":"{{ x }}"}"#] {
            assert_eq!(mark(json).unwrap(), json);
        }
    }
}
