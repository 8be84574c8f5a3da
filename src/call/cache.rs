//! Caching hints (<https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/caching>).

use std::time::Duration;

/// How long clients may cache a resource, and whether the copy may be shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// How long; zero by default.
    pub ttl: Duration,
    /// The clients that may use the cached copy.
    pub scope: CacheScope,
}

/// The clients that may use a cached copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheScope {
    /// The client that made the request.
    #[default]
    Private,
    /// Any client.
    Public,
}

impl CacheScope {
    /// The value of `cacheScope` in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}
