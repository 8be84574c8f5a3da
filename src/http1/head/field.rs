//! Positions of headers within a head, and their values.

/// Byte range within a head, which has at most 65,535 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// The range of `part`, a subslice of `whole`.
    pub(super) fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
        let position = |offset: usize| u16::try_from(offset).unwrap_or(u16::MAX);
        Self { start: position(start), end: position(start + part.len()) }
    }

    pub(super) fn within(self, head: &[u8]) -> &[u8] {
        head.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }
}

/// Position of a header that may occur once.
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

/// Value of a header that may occur once, without surrounding whitespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// The header is absent.
    Absent,
    /// The header's value.
    Value(&'a [u8]),
    /// The header occurs more than once; none of its values is used.
    Repeated,
}

impl<'a> Field<'a> {
    /// The value of a header that occurs once.
    #[must_use]
    pub fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Repeated => None,
        }
    }
}

pub(super) fn field(located: Located, head: &[u8]) -> Field<'_> {
    match located {
        Located::Absent => Field::Absent,
        Located::Once(span) => Field::Value(span.within(head)),
        Located::Repeated => Field::Repeated,
    }
}

/// Whether a token equals `lower`, a name in lower-case letters and hyphens, in any case. Without a branch per byte, and for a
/// length known at compile time. Setting bit 5 of a token's byte yields a letter or a hyphen of `lower` only for that letter, in
/// either case, or that hyphen.
pub(super) fn is_named<const LENGTH: usize>(token: &str, lower: &[u8; LENGTH]) -> bool {
    let differs = |different: u8, (byte, lower): (&u8, &u8)| different | (byte | 0x20) ^ lower;
    let token: Result<&[u8; LENGTH], _> = token.as_bytes().try_into();
    token.is_ok_and(|token| token.iter().zip(lower).fold(0, differs) == 0)
}

/// Removes optional whitespace (<https://www.rfc-editor.org/rfc/rfc9110#section-5.6.3>) at both ends.
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// A header's value for the log: the first 100 bytes, escaped.
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
