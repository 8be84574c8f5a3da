//! Number formats for people: three significant digits, a unit of fitting size, separated thousands.

/// A time given in microseconds: `431 ns`, `22.4 µs`, `1.02 ms`, `3.00 s`.
#[must_use]
pub fn latency(us: f64) -> String {
    if !us.is_finite() {
        return UNKNOWN.to_owned();
    }
    if us == 0.0 {
        return "0 µs".to_owned();
    }
    let (us_per_unit, unit) = time_unit(us);
    format!("{} {unit}", three_digits(us / us_per_unit))
}

/// A median of times in microseconds, with the lowest and the highest in the same unit: `1.02 ms (0.981–1.10)`.
#[must_use]
pub fn latency_range(lowest_us: f64, median_us: f64, highest_us: f64) -> String {
    let (us_per_unit, _) = time_unit(median_us);
    let bound = |us: f64| if us.is_finite() { three_digits(us / us_per_unit) } else { UNKNOWN.to_owned() };
    format!("{} ({}–{})", latency(median_us), bound(lowest_us), bound(highest_us))
}

/// A number of things: `12,345`; `12.3` or `0.5` if it is small and not an integer.
#[must_use]
pub fn count(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    trimmed(&three_digits(value))
}

/// A number of things in at most five characters: `950`, `141k`, `1.02M`.
#[must_use]
pub fn compact(value: f64) -> String {
    if !value.is_finite() {
        return UNKNOWN.to_owned();
    }
    let (value, unit) = match rounded(value.abs()) {
        small if small < 1e3 => (value, ""),
        thousands if thousands < 1e6 => (value / 1e3, "k"),
        millions if millions < 1e9 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    format!("{}{unit}", trimmed(&three_digits(value)))
}

/// A size: `512 B`, `1.5 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let (value, unit) = binary(bytes as f64);
    format!("{} {unit}", count(value))
}

/// Scales a size to the largest fitting unit, and returns value and unit.
#[must_use]
pub fn binary(bytes: f64) -> (f64, &'static str) {
    let mut value = bytes;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        // A value of four digits moves on to the next unit, although the step is 1,024.
        if rounded(value.abs()) < 1e3 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    (value, unit)
}

/// A percentage: `42.1 %`.
#[must_use]
pub fn percent(value: f64) -> String {
    format!("{} %", count(value))
}

/// A duration in seconds, as it is written in settings: `30 s`, `0.5 s`.
#[must_use]
pub fn seconds(value: f64) -> String {
    format!("{} s", count(value))
}

/// The text for a value that is not a number.
pub const UNKNOWN: &str = "–";

/// The unit in which a time is written: its length in microseconds, and its name.
fn time_unit(us: f64) -> (f64, &'static str) {
    // Rounded first: 999.7 µs are written as 1.00 ms, not as 1000 µs.
    match rounded(us.abs()) {
        nanoseconds if nanoseconds < 1.0 => (1e-3, "ns"),
        microseconds if microseconds < 1e3 => (1.0, "µs"),
        milliseconds if milliseconds < 1e6 => (1e3, "ms"),
        _ => (1e6, "s"),
    }
}

/// Rounds to three significant digits.
fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let scale = 10f64.powf(2.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

/// Writes three significant digits, or all digits of an integer part that has more.
fn three_digits(value: f64) -> String {
    let magnitude = rounded(value).abs();
    if magnitude >= 100.0 {
        return separated(value.round());
    }
    let decimals = if magnitude == 0.0 { 0.0 } else { 2.0 - magnitude.log10().floor() };
    // A float has at most 17 significant digits.
    let decimals = decimals.clamp(0.0, 17.0) as usize;
    format!("{value:.decimals$}")
}

/// Writes an integer with separated thousands.
fn separated(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Removes trailing zeros behind the decimal point.
fn trimmed(number: &str) -> String {
    let short =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_three_digits_and_a_fitting_unit() {
        let formatted = |us| latency(us);
        assert_eq!(formatted(0.0), "0 µs");
        assert_eq!(formatted(0.4314), "431 ns");
        assert_eq!(formatted(22.44), "22.4 µs");
        assert_eq!(formatted(999.4), "999 µs");
        assert_eq!(formatted(999.7), "1.00 ms");
        assert_eq!(formatted(1_020.0), "1.02 ms");
        assert_eq!(formatted(99_960.0), "100 ms");
        assert_eq!(formatted(3e6), "3.00 s");
        assert_eq!(formatted(3.6e9), "3,600 s");
        assert_eq!(formatted(f64::NAN), UNKNOWN);
        assert_eq!(formatted(f64::INFINITY), UNKNOWN);
    }

    #[test]
    fn range_has_the_unit_of_its_median() {
        assert_eq!(latency_range(981.0, 1_020.0, 1_100.0), "1.02 ms (0.981–1.10)");
        assert_eq!(latency_range(21.9, 22.1, 22.4), "22.1 µs (21.9–22.4)");
        assert_eq!(latency_range(980.0, 990.0, 1_230.0), "990 µs (980–1,230)");
    }

    #[test]
    fn large_counts_are_integers() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (7.0, "7"),
            (0.5, "0.5"),
            (0.00123, "0.00123"),
            (12.34, "12.3"),
            (99.97, "100"),
            (999.6, "1,000"),
            (12_345.4, "12,345"),
            (-1_234_567.0, "-1,234,567"),
            (1e-30, "0"),
        ] {
            assert_eq!(count(value), text);
        }
        assert_eq!(count(f64::NAN), UNKNOWN);
    }

    #[test]
    fn compact_counts_have_at_most_five_characters() {
        for (value, text) in
            [(950.0, "950"), (140_705.0, "141k"), (999_700.0, "1M"), (1_020_000.0, "1.02M"), (2.5e9, "2.5G")]
        {
            assert_eq!(compact(value), text);
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1023), "0.999 KiB");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
        assert_eq!(bytes(u64::MAX), "16,777,216 TiB");
    }

    #[test]
    fn percentages_and_durations_have_their_unit() {
        assert_eq!(percent(42.13), "42.1 %");
        assert_eq!(percent(100.0), "100 %");
        assert_eq!(seconds(30.0), "30 s");
        assert_eq!(seconds(0.25), "0.25 s");
    }
}
