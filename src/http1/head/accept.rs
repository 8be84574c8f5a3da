//! Evaluation of Accept headers (<https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1>).

use super::field::trim;

/// Media ranges of an Accept header that include event streams, from the most specific to the least. `Some(true)` if a range has
/// a weight above zero, `None` without such a range.
#[derive(Clone, Copy, Default)]
pub(super) struct EventRanges([Option<bool>; 3]);

impl EventRanges {
    /// Adds the ranges of one header.
    pub(super) fn read(mut self, accept: &[u8]) -> Self {
        for range in accept.split(|&byte| byte == b',') {
            let mut parts = range.split(|&byte| byte == b';').map(trim);
            let essence = parts.next().unwrap_or_default();
            let known = [b"text/event-stream".as_slice(), b"text/*", b"*/*"];
            let known = known.iter().zip(&mut self.0).find(|(known, _)| essence.eq_ignore_ascii_case(known));
            if let Some((_, range)) = known {
                *range = Some(range.unwrap_or(false) || !parts.any(is_weight_of_zero));
            }
        }
        self
    }

    pub(super) fn accepts(self) -> bool {
        self.0.into_iter().flatten().next().unwrap_or(false)
    }
}

/// Whether a parameter of a range is `q=0`, with any number of zeros after the decimal point.
fn is_weight_of_zero(parameter: &[u8]) -> bool {
    let mut parts = parameter.splitn(2, |&byte| byte == b'=').map(trim);
    let is_weight = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"q"));
    match parts.next() {
        Some([b'0']) => is_weight,
        Some([b'0', b'.', zeros @ ..]) => is_weight && zeros.iter().all(|&digit| digit == b'0'),
        _ => false,
    }
}
