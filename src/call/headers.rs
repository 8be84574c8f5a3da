//! The headers of the request that a call came with.

use std::borrow::Cow;

use crate::http1::{RequestHead, fields};

/// The head of an HTTP request: what was parsed of it, and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// The parsed head.
    pub head: &'a RequestHead,
    /// The bytes it was parsed from.
    pub bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The value of a header, by its name in any case. The values of a header that is given more than once are joined by `, `
    /// in their order (<https://www.rfc-editor.org/rfc/rfc9110#section-5.3>), and bytes that are no UTF-8 become U+FFFD; only
    /// these two cases allocate.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Cow<'a, str>> {
        let is_named = |field: &(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        let mut values = fields(self.bytes).filter(is_named).map(|(_, value)| String::from_utf8_lossy(value));
        let first = values.next()?;
        Some(values.fold(first, |joined, value| {
            let mut joined = joined.into_owned();
            joined.push_str(", ");
            joined.push_str(&value);
            joined.into()
        }))
    }
}
