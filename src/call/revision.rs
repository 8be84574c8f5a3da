//! The revisions of the protocol, and the features of each.

/// A revision of the MCP specification. Later ones compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// 2024-11-05
    V2024_11_05,
    /// 2025-03-26
    V2025_03_26,
    /// 2025-06-18
    V2025_06_18,
    /// 2025-11-25
    V2025_11_25,
    /// 2026-07-28: stateless; everything before it is the legacy era.
    V2026_07_28,
}

impl Revision {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] =
        [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];

    /// The newest revision that `initialize` negotiates.
    pub const LATEST_LEGACY: Self = Self::V2025_11_25;

    /// The revision of a request that has none
    /// (<https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#protocol-version-header>).
    pub const ASSUMED: Self = Self::V2025_03_26;

    /// The value of `protocolVersion`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Parses a value of `protocolVersion`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        // All have this length. An array is compared without a call.
        let text: &[u8; 10] = text.try_into().ok()?;
        // Newest first: the most frequent one on a busy server.
        Self::ALL.into_iter().rev().find(|revision| revision.as_str().as_bytes() == text)
    }

    /// Whether this is the stateless era, 2026-07-28 or later.
    #[must_use]
    pub fn is_modern(self) -> bool {
        self >= Self::V2026_07_28
    }

    /// Position in [`Revision::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn has_annotations(self) -> bool {
        self >= Self::V2025_03_26
    }

    pub(crate) fn has_structured_content(self) -> bool {
        self >= Self::V2025_06_18
    }

    pub(crate) fn has_icons(self) -> bool {
        self >= Self::V2025_11_25
    }

    pub(crate) fn has_meta(self) -> bool {
        self >= Self::V2025_06_18
    }

    pub(crate) fn has_titles(self) -> bool {
        self >= Self::V2025_06_18
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_str_and_parse_are_inverse() {
        for (index, revision) in Revision::ALL.into_iter().enumerate() {
            assert_eq!(Revision::parse(revision.as_str().as_bytes()), Some(revision));
            assert_eq!(revision.index(), index);
            assert_eq!(revision.is_modern(), index == 4);
        }
        assert_eq!(Revision::parse(b"2026-07-29"), None);
    }
}
