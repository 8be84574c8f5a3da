//! Severities of log messages to clients (RFC 5424, section 6.2.1;
//! <https://modelcontextprotocol.io/specification/2026-07-28/server/utilities/logging>).

/// The severity of a log message. More severe levels compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are RFC 5424's")]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    /// Minimum severity for a legacy client that has not set a level, which the specification leaves to the server
    /// (<https://modelcontextprotocol.io/specification/2025-11-25/server/utilities/logging>).
    pub const LEGACY_DEFAULT: Self = Self::Info;

    const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// The value of `level` in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    /// Parses a value of `level`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }

    /// Position in the order of severity, from 0.
    #[must_use]
    pub fn index(self) -> u8 {
        self as u8
    }
}
