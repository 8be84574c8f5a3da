//! Feature flags: the switches of the optimisations, in a form that a request can copy.

mod cohort_series;
pub mod comparison;
mod histogram;
mod members;
pub mod rollback;
mod rollouts;
mod shard_flags;

use std::{fmt, str::FromStr};

pub use cohort_series::{CohortFigures, CohortSeries};
use comparison::Worse;
pub use rollouts::{RolloutReport, Rollouts, Salts};
pub use shard_flags::{ShardFlags, ShardRollout, Unit};
use strum::VariantArray;

use crate::config::{JsonBackend, Percent, Performance};

/// Minimum similarity of a suggestion; the threshold that clap uses.
const SIMILARITY_MIN: f64 = 0.7;

/// An optimisation that can be switched off: a key of `[performance]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::VariantArray, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Flag {
    /// [`Performance::schema_cache`].
    SchemaCache,
    /// [`Performance::json_backend`]: on is [`JsonBackend::Simd`].
    JsonBackend,
    /// [`Performance::async_tools`].
    AsyncTools,
    /// [`Performance::batch_notifications`].
    BatchNotifications,
    /// [`Performance::zero_copy`].
    ZeroCopy,
    /// [`Performance::server_pooling`].
    ServerPooling,
}

impl Flag {
    /// All flags, in the order of their bits.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The key of `[performance]`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a change takes effect at the next start only.
    #[must_use]
    pub fn is_restart_only(self) -> bool {
        self == Self::ServerPooling
    }

    /// The name of a position of the flag, as in metrics.
    #[must_use]
    pub fn position(self, is_on: bool) -> &'static str {
        match (self, is_on) {
            (Self::JsonBackend, true) => "simd",
            (Self::JsonBackend, false) => "serde",
            (_, true) => "on",
            (_, false) => "off",
        }
    }

    /// The position that `text` names; `None` if it names none. Each flag also accepts `on`, `off`, `true` and `false`.
    #[must_use]
    pub fn parse_position(self, text: &str) -> Option<bool> {
        match text {
            "on" | "true" => Some(true),
            "off" | "false" => Some(false),
            _ => [true, false].into_iter().find(|is_on| self.position(*is_on) == text),
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Flag {
    type Err = UnknownFlag;

    fn from_str(text: &str) -> Result<Self, UnknownFlag> {
        if let Some(flag) = Self::ALL.iter().find(|flag| flag.name() == text) {
            return Ok(*flag);
        }
        let written = text.to_ascii_lowercase();
        let similarity = |flag: &&Self| strsim::jaro_winkler(&written, flag.name());
        let nearest = Self::ALL.iter().max_by(|left, right| similarity(left).total_cmp(&similarity(right)));
        let nearest = nearest.filter(|flag| similarity(flag) > SIMILARITY_MIN).copied();
        Err(UnknownFlag { name: text.to_owned(), nearest })
    }
}

/// A name that no flag has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFlag {
    name: String,
    nearest: Option<Flag>,
}

impl fmt::Display for UnknownFlag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unknown flag {:?}", self.name)?;
        match self.nearest {
            Some(nearest) => write!(formatter, "; did you mean {nearest}?"),
            None => {
                let names: Vec<_> = Flag::ALL.iter().map(|flag| flag.name()).collect();
                write!(formatter, "; the flags are {}", names.join(", "))
            }
        }
    }
}

impl std::error::Error for UnknownFlag {}

/// Why the share of a flag cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagError {
    /// The flag takes effect at a start only.
    #[error(
        "{0} takes effect at a start only: set performance.{0} in the configuration and restart the server"
    )]
    RestartOnly(Flag),
    /// The flag was rolled back.
    #[error("{0} was rolled back ({1}) and stays off until it is rearmed: corelane ctl rollout rearm {0}")]
    RolledBack(Flag, Worse),
    /// The share is above 100 %.
    #[error("{0} % is out of range: the share of a flag is 0 to 100 %")]
    OutOfRange(Percent),
}

/// The positions of all flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    /// Number of values.
    pub const COUNT: usize = 1 << Flag::VARIANTS.len();

    /// All flags on.
    pub const ALL: Self = Self((1 << Flag::VARIANTS.len()) - 1);

    /// Whether a flag is on.
    #[inline]
    #[must_use]
    pub fn is_on(self, flag: Flag) -> bool {
        self.0 & flag.bit() != 0
    }

    /// The same flags with another position of one.
    #[must_use]
    pub fn with(self, flag: Flag, is_on: bool) -> Self {
        Self(if is_on { self.0 | flag.bit() } else { self.0 & !flag.bit() })
    }

    /// The position of [`Flag::JsonBackend`].
    #[inline]
    #[must_use]
    pub fn json_backend(self) -> JsonBackend {
        if self.is_on(Flag::JsonBackend) { JsonBackend::Simd } else { JsonBackend::Serde }
    }

    /// A number below [`Self::COUNT`].
    #[inline]
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The flags with these bits.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Each flag with its position.
    pub fn iter(self) -> impl Iterator<Item = (Flag, bool)> {
        Flag::ALL.iter().map(move |flag| (*flag, self.is_on(*flag)))
    }
}

impl Default for Flags {
    fn default() -> Self {
        Performance::default().into()
    }
}

impl From<Performance> for Flags {
    fn from(performance: Performance) -> Self {
        let Performance {
            schema_cache,
            json_backend,
            async_tools,
            batch_notifications,
            zero_copy,
            server_pooling,
        } = performance;
        Self(0)
            .with(Flag::SchemaCache, schema_cache)
            .with(Flag::JsonBackend, json_backend == JsonBackend::Simd)
            .with(Flag::AsyncTools, async_tools)
            .with(Flag::BatchNotifications, batch_notifications)
            .with(Flag::ZeroCopy, zero_copy)
            .with(Flag::ServerPooling, server_pooling)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let positions = self.iter().map(|(flag, is_on)| (flag.name(), flag.position(is_on)));
        formatter.debug_map().entries(positions).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn defaults_of_the_configuration_are_all_flags() {
        assert_eq!(Flags::default(), Flags::ALL);
        assert_eq!(usize::from(Flags::ALL.bits()) + 1, Flags::COUNT);
    }

    #[test]
    fn each_key_of_the_configuration_is_one_flag() {
        let off = Performance {
            schema_cache: false,
            json_backend: JsonBackend::Serde,
            async_tools: false,
            batch_notifications: false,
            zero_copy: false,
            server_pooling: false,
        };
        assert_eq!(Flags::from(off).bits(), 0);
        let keys = toml::Table::try_from(Performance::default()).unwrap();
        let names: BTreeSet<_> = Flag::ALL.iter().map(|flag| flag.name()).collect();
        assert_eq!(keys.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
        for flag in Flag::ALL {
            let one = Flags::ALL.with(*flag, false);
            assert!(!one.is_on(*flag) && one.with(*flag, true) == Flags::ALL);
            assert_eq!(one.iter().filter(|(_, is_on)| !is_on).count(), 1, "{flag}");
            assert_eq!(Flags::from_bits(one.bits()), one);
        }
    }

    #[test]
    fn unknown_flag_is_rejected_with_the_nearest_name() {
        assert_eq!("zero_copy".parse(), Ok(Flag::ZeroCopy));
        let message = |name: &str| name.parse::<Flag>().unwrap_err().to_string();
        assert_eq!(message("zerocopy"), "unknown flag \"zerocopy\"; did you mean zero_copy?");
        assert_eq!(message("ZERO_COPY"), "unknown flag \"ZERO_COPY\"; did you mean zero_copy?");
        assert_eq!(message("json_backends"), "unknown flag \"json_backends\"; did you mean json_backend?");
        let none = message("\n");
        assert!(none.starts_with("unknown flag \"\\n\"; the flags are schema_cache, json_backend"), "{none}");
    }

    #[test]
    fn positions_are_read_by_their_names() {
        for flag in Flag::ALL {
            for is_on in [true, false] {
                assert_eq!(flag.parse_position(flag.position(is_on)), Some(is_on));
                assert_eq!(flag.parse_position(if is_on { "true" } else { "off" }), Some(is_on));
            }
            assert_eq!(flag.parse_position("maybe"), None);
        }
        assert_eq!(Flag::JsonBackend.parse_position("serde"), Some(false));
        assert_eq!(Flag::ZeroCopy.parse_position("serde"), None);
    }

    #[test]
    fn only_server_pooling_needs_a_restart() {
        let restart: Vec<_> = Flag::ALL.iter().filter(|flag| flag.is_restart_only()).collect();
        assert_eq!(restart, [&Flag::ServerPooling]);
    }
}
