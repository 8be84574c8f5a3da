//! Axes of charts: range, scale and labels.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use crate::units::{binary, count, percent};

/// The axis of a panel.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    scale: Scale,
    /// First and last value.
    range: (f64, f64),
    ticks: Vec<Tick>,
}

/// A grid line and its label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    /// Empty if there is no room.
    pub(crate) label: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

const HOUR_S: f64 = 3_600.0;
const DAY_S: f64 = 24.0 * HOUR_S;
const YEAR_S: f64 = 365.0 * DAY_S;
/// Distances of dates in seconds; the shortest one with room for the labels is used.
const DATE_STEPS_S: [f64; 11] = [
    HOUR_S,
    3.0 * HOUR_S,
    6.0 * HOUR_S,
    12.0 * HOUR_S,
    DAY_S,
    2.0 * DAY_S,
    7.0 * DAY_S,
    14.0 * DAY_S,
    28.0 * DAY_S,
    91.0 * DAY_S,
    182.0 * DAY_S,
];
/// A time in the year 9987.
const DATE_S_MAX: f64 = 253_000_000_000.0;
/// Maximum number of dates on an axis.
const DATES_MAX: f64 = 6.0;

/// Approximate number of steps of a linear axis.
const STEPS: f64 = 4.0;

impl Axis {
    /// An axis of latencies in microseconds: logarithmic, extended to the next 1, 2 or 5.
    pub(crate) fn latency(shortest_us: f64, longest_us: f64) -> Self {
        // The shortest measurable time is a nanosecond.
        let shortest_us = shortest_us.max(1e-3);
        let longest_us = longest_us.max(shortest_us);
        let marks: Vec<f64> =
            (-3..12).flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(exponent))).collect();
        let from = marks.iter().rev().copied().find(|mark| *mark <= shortest_us * 1.0001).unwrap_or(1e-3);
        let to =
            marks.iter().copied().find(|mark| *mark >= longest_us && *mark > from).unwrap_or(from * 10.0);
        // If the range is more than a decade and a half, only the decades have labels.
        let wide = (to / from).log10() > 1.7;
        let named = |mark: f64| !wide || is_decade(mark);
        let ticks = marks
            .iter()
            .filter(|mark| (from..=to).contains(*mark) && named(**mark))
            .map(|&value| Tick { value, label: short_latency(value) })
            .collect();
        Self { scale: Scale::Logarithmic, range: (from, to), ticks }
    }

    /// An axis of percentiles on which each further nine has the same width: 1/(1-q), up to one value in
    /// `values_count`.
    pub(crate) fn nines(values_count: u64) -> Self {
        let to = (values_count as f64).max(10.0);
        let ticks = (0..)
            .map(|nines| (nines, 10f64.powi(nines)))
            .take_while(|(_, value)| *value <= to)
            .map(|(nines, value)| Tick { value, label: nines_label(nines) })
            .collect();
        Self { scale: Scale::Logarithmic, range: (1.0, to), ticks }
    }

    /// An axis of seconds since measuring began.
    pub(crate) fn time(end_s: f64) -> Self {
        let end_s = end_s.max(0.001);
        let (seconds, unit) = if end_s > 600.0 { (60.0, "min") } else { (1.0, "s") };
        let ticks = steps(end_s / seconds, 6.0)
            .into_iter()
            .map(|value| Tick { value: value * seconds, label: format!("{} {unit}", count(value)) })
            .filter(|tick| tick.value <= end_s)
            .collect();
        Self { scale: Scale::Linear, range: (0.0, end_s), ticks }
    }

    /// An axis of dates in seconds since 1970 (UTC), with a margin so that no point lies on the edge. Ranges below two
    /// days are labelled by the hour.
    pub(crate) fn dates(first_s: f64, last_s: f64) -> Self {
        // Years with five digits cannot be formatted.
        let [first_s, last_s] = [first_s, last_s.max(first_s)].map(|at_s| at_s.clamp(0.0, DATE_S_MAX));
        let margin = ((last_s - first_s) * 0.03).max(HOUR_S);
        let range = (first_s - margin, last_s + margin);
        let span = range.1 - range.0;
        let step = DATE_STEPS_S.into_iter().find(|step| span / step <= DATES_MAX);
        let step = step.unwrap_or_else(|| (span / DATES_MAX / YEAR_S).ceil() * YEAR_S);
        let is_named_by_hour = step < DAY_S;
        let first = (range.0 / step).ceil();
        let ticks = (0..)
            .map(|index| (first + f64::from(index)) * step)
            .take_while(|value| *value <= range.1)
            .map(|value| Tick { value, label: date_label(value, is_named_by_hour, span > YEAR_S) })
            .collect();
        Self { scale: Scale::Linear, range, ticks }
    }

    /// An axis of ratios around 1: logarithmic, extended to the next 1, 2 or 5.
    pub(crate) fn ratios(lowest: f64, highest: f64) -> Self {
        let marks: Vec<f64> =
            (-3..5).flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(exponent))).collect();
        let from = marks.iter().rev().copied().find(|mark| *mark < lowest.min(1.0)).unwrap_or(1e-3);
        let to = marks.iter().copied().find(|mark| *mark >= highest.max(1.5)).unwrap_or(1e5);
        let wide = (to / from).log10() > 2.5;
        let ticks = marks
            .iter()
            .filter(|mark| (from..=to).contains(*mark) && (!wide || is_decade(**mark)))
            .map(|&value| Tick { value, label: format!("{value} ×") })
            .collect();
        Self { scale: Scale::Logarithmic, range: (from, to), ticks }
    }

    /// An axis from 0 to 1 without labels.
    pub(crate) fn unlabelled() -> Self {
        Self { scale: Scale::Linear, range: (0.0, 1.0), ticks: Vec::new() }
    }

    /// An axis of numbers from 0 to at least `largest`.
    pub(crate) fn counts(largest: f64) -> Self {
        // An axis is drawn even if all values are 0.
        Self::linear(if largest > 0.0 { largest } else { 1.0 }, 1.0, count)
    }

    /// An axis of percentages from 0 to at least `largest`.
    pub(crate) fn percents(largest: f64) -> Self {
        Self::linear(largest.max(1.0), 1.0, percent)
    }

    /// An axis of bytes from 0 to at least `largest`, labelled in one unit.
    pub(crate) fn bytes(largest: f64) -> Self {
        let largest = largest.max(1.0);
        let (value, unit) = binary(largest);
        Self::linear(largest, largest / value, |value| format!("{} {unit}", count(value)))
    }

    /// An axis from 0 to the first step at or after `largest`; steps are round numbers of `unit`.
    fn linear(largest: f64, unit: f64, label: impl Fn(f64) -> String) -> Self {
        let ticks: Vec<_> = steps(largest / unit, STEPS)
            .into_iter()
            .map(|value| Tick { value: value * unit, label: label(value) })
            .collect();
        let end = ticks.last().map_or(largest, |tick| tick.value);
        Self { scale: Scale::Linear, range: (0.0, end), ticks }
    }

    /// The first value.
    pub(crate) fn first(&self) -> f64 {
        self.range.0
    }

    /// The last value.
    pub(crate) fn last(&self) -> f64 {
        self.range.1
    }

    /// Position of a value on the axis: 0 at the first value, 1 at the last. Values outside are moved to the edge.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let (from, to) = self.range;
        // NaN is moved to the edge too: `max` and `min` ignore it.
        let inside = value.max(from).min(to);
        match self.scale {
            Scale::Linear => (inside - from) / (to - from),
            Scale::Logarithmic => (inside / from).log10() / (to / from).log10(),
        }
    }

    /// Returns the ticks, with labels only where they do not overlap. `share` is the width of a label relative to the
    /// axis.
    pub(crate) fn ticks_with_room(&self, share: impl Fn(&str) -> f64) -> Vec<Tick> {
        let mut free_from = f64::NEG_INFINITY;
        let mut ticks = self.ticks.clone();
        for tick in &mut ticks {
            let middle = self.share(tick.value);
            let half = share(&tick.label) / 2.0;
            if middle - half < free_from {
                tick.label.clear();
            } else {
                free_from = middle + half;
            }
        }
        ticks
    }
}

/// Round steps from 0 to the first at or after `largest`.
fn steps(largest: f64, about: f64) -> Vec<f64> {
    let rough = largest / about;
    let decade = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|digit| digit * decade).into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(decade * 10.0);
    // Tolerance for sums of floats.
    let number = (largest / step * 0.9999).ceil().clamp(1.0, 20.0) as u32;
    (0..=number).map(|index| f64::from(index) * step).collect()
}

fn is_decade(value: f64) -> bool {
    let exponent = value.log10();
    (exponent - exponent.round()).abs() < 1e-6
}

/// Formats a round number: `100 µs`, not `100.00 µs`.
fn short_latency(us: f64) -> String {
    let (per_unit, unit) = match us {
        nanoseconds if nanoseconds < 0.999 => (1e-3, "ns"),
        microseconds if microseconds < 999.0 => (1.0, "µs"),
        milliseconds if milliseconds < 999_000.0 => (1e3, "ms"),
        _ => (1e6, "s"),
    };
    format!("{} {unit}", count(us / per_unit))
}

/// `Nov 27`, `Nov 27 06:00` or, for long ranges, `2026-11-27`.
fn date_label(unix_s: f64, is_named_by_hour: bool, has_years: bool) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let since = Duration::try_from_secs_f64(unix_s).unwrap_or_default();
    let Some(at) = SystemTime::UNIX_EPOCH.checked_add(since) else { return String::new() };
    // `2026-11-27T06:00:00Z`
    let text = humantime::format_rfc3339_seconds(at).to_string();
    let part = |range: Range<usize>| text.get(range).unwrap_or_default();
    if has_years {
        return part(0..10).to_owned();
    }
    let month = part(5..7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let day = format!("{} {}", month.copied().unwrap_or_default(), part(8..10).trim_start_matches('0'));
    if is_named_by_hour { format!("{day} {}", part(11..16)) } else { day }
}

/// `0`, `90`, `99`, `99.9`: percentages; the caption contains the unit.
fn nines_label(nines: i32) -> String {
    match usize::try_from(nines).unwrap_or_default() {
        0 => "0".to_owned(),
        1 => "90".to_owned(),
        2 => "99".to_owned(),
        more => format!("99.{}", "9".repeat(more - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn latency_axis_has_labels_by_decade_or_finer() {
        assert_eq!(labels(&Axis::latency(85.0, 400_000.0)), ["100 µs", "1 ms", "10 ms", "100 ms"]);
        assert_eq!(Axis::latency(85.0, 400_000.0).range, (50.0, 500_000.0));
        assert_eq!(labels(&Axis::latency(210.0, 900.0)), ["200 µs", "500 µs", "1 ms"]);
        assert_eq!(labels(&Axis::latency(100.0, 100.0)), ["100 µs", "200 µs"]);
        assert_eq!(Axis::latency(0.0, 0.0).range, (1e-3, 2e-3));
        assert_eq!(Axis::latency(f64::NAN, f64::NAN).range, (1e-3, 2e-3));
    }

    #[test]
    fn nines_axis_ends_at_the_number_of_values() {
        assert_eq!(labels(&Axis::nines(120_000)), ["0", "90", "99", "99.9", "99.99", "99.999"]);
        assert_eq!(labels(&Axis::nines(0)), ["0", "90"]);
    }

    #[test]
    fn linear_axes_have_round_steps() {
        assert_eq!(labels(&Axis::counts(4_312.0)), ["0", "2,000", "4,000", "6,000"]);
        assert_eq!(labels(&Axis::counts(0.0)), ["0", "0.5", "1"]);
        assert_eq!(labels(&Axis::counts(f64::NAN)), ["0", "0.5", "1"]);
        assert_eq!(labels(&Axis::percents(58.0)), ["0 %", "20 %", "40 %", "60 %"]);
        assert_eq!(labels(&Axis::bytes(13.0 * 1_048_576.0)), ["0 MiB", "5 MiB", "10 MiB", "15 MiB"]);
        assert_eq!(labels(&Axis::time(30.0)), ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]);
        assert_eq!(labels(&Axis::time(3_600.0)).last(), Some(&"60 min"));
    }

    #[test]
    fn date_axis_has_labels_with_room() {
        // 2026-11-27T00:00:00Z
        let start = 1_795_737_600.0;
        assert_eq!(labels(&Axis::dates(start, start))[0], "Nov 26 23:00");
        let days = |days: f64| Axis::dates(start, start + days * DAY_S);
        assert_eq!(labels(&days(3.0)), ["Nov 27", "Nov 28", "Nov 29", "Nov 30"]);
        assert!(labels(&days(60.0)).len() <= 6, "{:?}", labels(&days(60.0)));
        assert!(labels(&days(60.0)).len() >= 3, "{:?}", labels(&days(60.0)));
        assert!(labels(&days(1_500.0)).iter().all(|label| label.len() == 10), "{:?}", labels(&days(1_500.0)));
        assert!((0.0..0.1).contains(&days(3.0).share(start)));
        let far = Axis::dates(-1e12, 1e15);
        assert!(far.ticks.len() <= 7);
    }

    #[test]
    fn positions_of_any_value_are_on_the_axis() {
        let axis = Axis::latency(100.0, 10_000.0);
        assert_eq!([100.0, 1_000.0, 10_000.0].map(|us| axis.share(us)), [0.0, 0.5, 1.0]);
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!((0.0..=1.0).contains(&axis.share(value)), "{value}");
        }
    }

    #[test]
    fn labels_without_room_are_left_out() {
        let named = |share: f64| {
            let ticks = Axis::nines(120_000).ticks_with_room(|_| share);
            ticks.into_iter().map(|tick| tick.label).filter(|label| !label.is_empty()).collect::<Vec<_>>()
        };
        assert_eq!(named(0.1).len(), 6);
        assert_eq!(named(0.3), ["0", "99", "99.99"]);
    }
}
