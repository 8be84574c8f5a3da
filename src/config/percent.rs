//! Percentages with two decimals.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A percentage with at most two decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

/// Hundredths of a percent in one.
const HUNDREDTHS: u32 = 100;

/// How far a number may be from a multiple of 0.01, because most multiples have no exact binary form.
const ROUNDING: f64 = 1e-6;

/// What a value that is no percentage should be.
const EXPECTED: &str = "a percentage with at most two decimals";

impl Percent {
    /// 0 %.
    pub const ZERO: Self = Self(0);

    /// 100 %.
    pub const ALL: Self = Self(100 * HUNDREDTHS);

    /// A number of hundredths of a percent.
    #[must_use]
    pub const fn from_hundredths(hundredths: u32) -> Self {
        Self(hundredths)
    }

    /// The number of hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u32 {
        self.0
    }

    /// The part of 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ALL.0)
    }

    fn from_number(number: f64) -> Option<Self> {
        let hundredths = (number * f64::from(HUNDREDTHS)).round();
        let is_exact = (number * f64::from(HUNDREDTHS) - hundredths).abs() < ROUNDING;
        let is_in_range = (0.0..=f64::from(u32::MAX)).contains(&hundredths);
        // Within the range of `u32`.
        (is_exact && is_in_range).then_some(Self(hundredths as u32))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / HUNDREDTHS, self.0 % HUNDREDTHS);
        match (rest, rest % 10) {
            (0, _) => write!(formatter, "{whole}"),
            (_, 0) => write!(formatter, "{whole}.{}", rest / 10),
            _ => write!(formatter, "{whole}.{rest:02}"),
        }
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        let is_decimal = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let parsed = number.parse().ok().filter(|_| is_decimal);
        parsed.and_then(Self::from_number).ok_or_else(|| format!("{text:?} is not {EXPECTED}"))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(HUNDREDTHS) {
            serializer.serialize_u32(self.0 / HUNDREDTHS)
        } else {
            serializer.serialize_f64(f64::from(self.0) / f64::from(HUNDREDTHS))
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Percent;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(EXPECTED)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Percent, E> {
        let hundredths = u32::try_from(number).ok().and_then(|number| number.checked_mul(HUNDREDTHS));
        hundredths.map(Percent).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Percent, E> {
        let unexpected = || E::invalid_value(de::Unexpected::Signed(number), &self);
        u64::try_from(number).map_err(|_| unexpected()).and_then(|number| self.visit_u64(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Percent, E> {
        let unexpected = || E::invalid_value(de::Unexpected::Float(number), &self);
        Percent::from_number(number).ok_or_else(unexpected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentage_has_at_most_two_decimals() {
        for (text, hundredths, written) in [
            ("0", 0, "0"),
            ("1", 100, "1"),
            ("0.01", 1, "0.01"),
            ("0.1", 10, "0.1"),
            ("12.25", 1225, "12.25"),
            ("0.070", 7, "0.07"),
            ("33.33%", 3333, "33.33"),
            ("5 %", 500, "5"),
            ("100", 10_000, "100"),
        ] {
            let percent: Percent = text.parse().unwrap();
            assert_eq!((percent.hundredths(), percent.to_string().as_str()), (hundredths, written));
            let json = serde_json::to_string(&percent).unwrap();
            assert_eq!((json.as_str(), serde_json::from_str(&json).ok()), (written, Some(percent)));
        }
        for text in
            ["", "x", "-1", "+1", "1e1", "0.001", "1.005", "1,5", "inf", "nan", "1.2.3", "99999999999"]
        {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
        for json in ["-1", "0.001", "\"1\"", "true", "1e300", "99999999999"] {
            assert!(serde_json::from_str::<Percent>(json).is_err(), "{json}");
        }
        assert_eq!(Percent::from_hundredths(150).fraction(), 0.015);
    }
}
