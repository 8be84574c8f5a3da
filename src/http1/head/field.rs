//! Where the headers lie within a head, and their values.

/// A part of the head, by position. Heads are limited to 32 KiB, so 16 bits do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// Where `part` lies within `whole`.
    pub(super) fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
        let position = |offset: usize| u16::try_from(offset).unwrap_or(u16::MAX);
        Self { start: position(start), end: position(start + part.len()) }
    }

    pub(super) fn within(self, head: &[u8]) -> &[u8] {
        head.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// A header that may stand once, as it stands in the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Located {
    #[default]
    Absent,
    Once(Span),
    Repeated,
}

impl Located {
    pub(super) fn put(&mut self, span: Span) {
        *self = if *self == Self::Absent { Self::Once(span) } else { Self::Repeated };
    }
}

/// A header that may stand once, its value without surrounding whitespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// It is not there.
    Absent,
    /// Its value.
    Value(&'a [u8]),
    /// It is there more than once: no value can be trusted.
    Repeated,
}

pub(super) fn field(located: Located, head: &[u8]) -> Field<'_> {
    match located {
        Located::Absent => Field::Absent,
        Located::Once(span) => Field::Value(span.within(head)),
        Located::Repeated => Field::Repeated,
    }
}

/// Whether a token is `lower`, a name in small letters and hyphens, in any case. Without a branch for each byte, and of a length
/// the compiler knows: no byte of a token but the letter itself becomes the letter, or the hyphen the hyphen, when its sixth
/// bit is set.
pub(super) fn is_named<const LENGTH: usize>(token: &str, lower: &[u8; LENGTH]) -> bool {
    let differs = |different: u8, (byte, lower): (&u8, &u8)| different | (byte | 0x20) ^ lower;
    let token: Result<&[u8; LENGTH], _> = token.as_bytes().try_into();
    token.is_ok_and(|token| token.iter().zip(lower).fold(0, differs) == 0)
}

/// Without optional whitespace (RFC 9110, section 5.6.3) around it.
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// A header's value as the log shows it: escaped, its first 100 bytes.
pub fn excerpt(field: Field<'_>) -> Option<String> {
    const EXCERPT_BYTES_MAX: usize = 100;
    match field {
        Field::Absent => None,
        Field::Repeated => Some("given more than once".to_owned()),
        Field::Value(value) => {
            Some(value.get(..EXCERPT_BYTES_MAX).unwrap_or(value).escape_ascii().to_string())
        }
    }
}
