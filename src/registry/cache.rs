//! How long, and for whom, a result may be kept.

use std::time::Duration;

/// How long, and for whom, what was read may be kept (checklist M-30).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// How long; not at all without a change.
    pub ttl: Duration,
    /// For whom.
    pub scope: CacheScope,
}

/// For whom something may be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheScope {
    /// For whoever asked.
    #[default]
    Private,
    /// For everybody.
    Public,
}

impl CacheScope {
    /// The string on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}
