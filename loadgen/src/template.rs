//! Arguments with placeholders: `{{counter}}`, `{{random:16}}` and `{{pad:1024}}` inside JSON.
//!
//! All values of a placeholder have the same length, so that `Content-Length` is known in advance and rendering only
//! copies.

use rand::Rng;

/// Digits of a counter. It starts at 10^9, so that its length never changes.
const COUNTER_DIGITS: usize = 10;
/// First value of counters and of JSON-RPC ids. Both have ten digits.
pub const COUNTER_START: u64 = 1_000_000_000;
/// Characters of a random string: 64, so that the lower six bits of a byte select one.
const ALPHABET: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
/// Maximum length of one random string or padding, in bytes.
const PLACEHOLDER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The kind of value that replaces a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// A number that increases with each request.
    Counter,
    /// This many random characters.
    Random(usize),
}

impl Placeholder {
    fn length(self) -> usize {
        match self {
            Self::Counter => COUNTER_DIGITS,
            Self::Random(length) => length,
        }
    }
}

/// Text with placeholders. They are numbered: a placeholder can occur in several texts of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// Each piece of text, and the placeholder behind it.
    pieces: Vec<(Box<[u8]>, Option<usize>)>,
}

/// The placeholders of one request.
#[derive(Clone, Debug, Default)]
pub struct Placeholders {
    placeholders: Vec<Placeholder>,
}

/// The values of one request's placeholders.
#[derive(Clone, Debug, Default)]
pub struct PlaceholderValues(Vec<Box<[u8]>>);

/// Delimiters around the number of a placeholder: characters of a private use area, which no argument contains.
const MARK_BEGIN: char = '\u{f8e0}';
const MARK_END: char = '\u{f8e1}';

impl Placeholders {
    /// Replaces the placeholders of `text` by numbered marks, and paddings by their text.
    ///
    /// # Errors
    /// A description of the invalid placeholder.
    pub fn mark(&mut self, text: &str) -> Result<String, String> {
        if text.contains([MARK_BEGIN, MARK_END]) {
            return Err("the characters U+F8E0 and U+F8E1 are reserved".to_owned());
        }
        let mut marked = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let Some((name, after)) = behind.split_once("}}").filter(|(name, _)| is_name(name)) else {
                // Two braces that belong to the JSON itself.
                marked.push_str(before);
                marked.push('{');
                rest = rest.get(before.len() + 1..).unwrap_or_default();
                continue;
            };
            marked.push_str(before);
            rest = after;
            let (kind, size) = name.split_once(':').unwrap_or((name, ""));
            let size = || match size.parse::<usize>() {
                Ok(size) if (1..=PLACEHOLDER_BYTES_MAX).contains(&size) => Ok(size),
                _ => Err(format!(
                    "{{{{{name}}}}} needs a size from 1 to {PLACEHOLDER_BYTES_MAX}, as {{{{{kind}:16}}}}"
                )),
            };
            let placeholder = match kind {
                "counter" if !name.contains(':') => Placeholder::Counter,
                "random" => Placeholder::Random(size()?),
                "pad" => {
                    marked.extend(std::iter::repeat_n('x', size()?));
                    continue;
                }
                _ => {
                    return Err(format!(
                        "{{{{{name}}}}} is unknown; supported are {{{{counter}}}}, {{{{random:16}}}} and {{{{pad:1024}}}}"
                    ));
                }
            };
            marked.push(MARK_BEGIN);
            marked.push_str(&self.placeholders.len().to_string());
            marked.push(MARK_END);
            self.placeholders.push(placeholder);
        }
        marked.push_str(rest);
        Ok(marked)
    }

    /// Whether there are no placeholders, so that all requests are equal except for their ids.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.placeholders.is_empty()
    }

    /// Generates the values for one request.
    #[must_use]
    pub fn fill(&self, counter: u64, random: &mut impl Rng) -> PlaceholderValues {
        let fill = |placeholder: &Placeholder| match placeholder {
            Placeholder::Counter => {
                format!("{:010}", COUNTER_START + counter % COUNTER_START).into_bytes().into()
            }
            Placeholder::Random(length) => {
                let mut bytes = vec![0; *length].into_boxed_slice();
                random.fill_bytes(&mut bytes);
                for byte in &mut bytes {
                    *byte = ALPHABET.get(usize::from(*byte & 63)).copied().unwrap_or(b'0');
                }
                bytes
            }
        };
        PlaceholderValues(self.placeholders.iter().map(fill).collect())
    }
}

/// Whether text between double braces is a placeholder's name and not JSON.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b':')
}

impl Template {
    /// Parses marked text.
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

    /// Length with all placeholders replaced, in bytes.
    #[must_use]
    pub fn length(&self, placeholders: &Placeholders) -> usize {
        let filled = |placeholder: &Option<usize>| {
            placeholder
                .and_then(|number| placeholders.placeholders.get(number))
                .map_or(0, |placeholder| placeholder.length())
        };
        self.pieces.iter().map(|(text, placeholder)| text.len() + filled(placeholder)).sum()
    }

    /// Whether the template is exactly this text. A template with placeholders is not.
    #[must_use]
    pub fn is_text(&self, text: &str) -> bool {
        matches!(self.pieces.as_slice(), [(piece, None)] if **piece == *text.as_bytes())
    }

    /// Appends the text with its placeholders replaced.
    pub fn write(&self, values: &PlaceholderValues, out: &mut Vec<u8>) {
        for (text, placeholder) in &self.pieces {
            out.extend_from_slice(text);
            if let Some(value) = placeholder.and_then(|number| values.0.get(number)) {
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
    fn rendered_template_has_the_computed_length() {
        let mut placeholders = Placeholders::default();
        let marked = placeholders
            .mark(r#"{"a":"{{random:8}}","n":{{counter}},"p":"{{pad:3}}","o":{"q":{}}}"#)
            .unwrap();
        let template = Template::of(&marked);
        let mut random = StdRng::seed_from_u64(7);
        for counter in [0, 5, 999_999_999, 1_000_000_000] {
            let mut out = Vec::new();
            template.write(&placeholders.fill(counter, &mut random), &mut out);
            assert_eq!(out.len(), template.length(&placeholders));
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(value["n"], 1_000_000_000 + counter % 1_000_000_000);
            assert_eq!(value["a"].as_str().unwrap().len(), 8);
            assert_eq!(value["p"], "xxx");
        }
    }

    #[test]
    fn unknown_placeholder_is_rejected_and_json_braces_are_kept() {
        let mark = |text: &str| Placeholders::default().mark(text);
        assert!(mark("{{bogus}}").unwrap_err().contains("{{counter}}"));
        assert!(mark("{{random:0}}").unwrap_err().contains("size"));
        assert!(mark("{{pad}}").unwrap_err().contains("size"));
        for json in [r#"{"a":{"b":{}}}"#, r#"{"a":"{{ x }}"}"#] {
            assert_eq!(mark(json).unwrap(), json);
        }
    }
}
