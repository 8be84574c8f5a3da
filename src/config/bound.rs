//! Settings with their valid ranges.

use std::{ops::RangeInclusive, time::Duration};

use humantime_serde::re::humantime::format_duration;

/// A setting and its valid range.
pub(super) struct Bound {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) range: String,
    /// Whether the value is within the range.
    pub(super) is_valid: bool,
    /// The value as a number; durations in seconds. `None` for settings that are not limits.
    pub(super) number: Option<f64>,
}

impl Bound {
    pub(super) fn new<T: PartialOrd>(
        key: impl Into<String>,
        value: T,
        range: &RangeInclusive<T>,
        format: impl Fn(&T) -> String,
    ) -> Self {
        Self {
            key: key.into(),
            value: format(&value),
            range: format!("{} to {}", format(range.start()), format(range.end())),
            is_valid: range.contains(&value),
            number: None,
        }
    }
}

/// A type of setting.
pub(super) trait Setting: PartialOrd + Sized {
    /// The value as in the configuration file.
    fn format(&self) -> String;

    /// The value as a number; durations in seconds.
    fn to_number(&self) -> f64;
}

impl Setting for usize {
    fn format(&self) -> String {
        self.to_string()
    }

    fn to_number(&self) -> f64 {
        *self as f64
    }
}

impl Setting for bool {
    fn format(&self) -> String {
        self.to_string()
    }

    fn to_number(&self) -> f64 {
        f64::from(u8::from(*self))
    }
}

impl Setting for u32 {
    fn format(&self) -> String {
        self.to_string()
    }

    fn to_number(&self) -> f64 {
        f64::from(*self)
    }
}

impl Setting for Duration {
    fn format(&self) -> String {
        format_duration(*self).to_string()
    }

    fn to_number(&self) -> f64 {
        self.as_secs_f64()
    }
}
