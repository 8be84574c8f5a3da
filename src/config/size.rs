//! Sizes in the configuration file: a number of bytes, or a text with a unit.

use std::fmt;

use serde::{Deserializer, de};

/// Bytes per unit: powers of 1000 (SI) and of 1024 (IEC 80000-13).
const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("kib", 1 << 10),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Reads `4194304`, `"4MiB"`, `"64 KiB"` or `"1.5 MB"` as a number of bytes.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    deserializer.deserialize_any(Size)
}

struct Size;

impl de::Visitor<'_> for Size {
    type Value = usize;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a whole number of bytes or a size as \"4MiB\" or \"64 KB\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<usize, E> {
        usize::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<usize, E> {
        usize::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
        parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// Parses a decimal number and a unit, with optional spaces between them. `None` unless it is a whole number of bytes.
fn parse(text: &str) -> Option<usize> {
    let text = text.trim();
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && !matches!(letter, '.' | '_'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, bytes) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let mut total = whole.parse::<u64>().ok()?.checked_mul(bytes)?;
    if number.contains('.') {
        let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = fraction.parse::<u64>().ok()?.checked_mul(bytes)?;
        if part % scale != 0 {
            return None;
        }
        total = total.checked_add(part / scale)?;
    }
    usize::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_a_number_with_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4_096 B", 4096),
            ("4MiB", 4 << 20),
            ("64 KiB", 64 << 10),
            ("64kib", 64 << 10),
            ("1MB", 1_000_000),
            ("2 kB", 2000),
            ("1.5 MiB", 3 << 19),
            (" 1GiB ", 1 << 30),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1",
            "4 MiB x",
            "4 parsecs",
            "1.5",
            "1..5 MB",
            "1.0001 KiB",
            "99999999999 TiB",
            "4 M iB",
            ".",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
