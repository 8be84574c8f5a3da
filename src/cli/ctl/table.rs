//! Tables within the width of the terminal, and numbers as text.

use tabled::{
    builder::Builder,
    settings::{
        Alignment, Padding, Style, Width,
        object::{Columns, Segment},
        peaker::Priority,
        style::HorizontalLine,
    },
};

/// Columns between two columns of a table.
const GAP: usize = 2;

/// Width of the terminal; `None` if the output is not one.
pub(super) fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0.into())
}

/// Writes a table, with a line below its head. The first `names` columns are text, the others numbers. Cells are wrapped where the table
/// is wider than `width`.
pub(super) fn table(head: &[&str], names: usize, rows: &[Vec<String>], width: Option<usize>) -> String {
    let mut builder = Builder::default();
    builder.push_record(head.iter().copied());
    for row in rows {
        builder.push_record(row.iter().map(|cell| printable(cell)));
    }
    let mut grid = builder.build();
    grid.with(Style::empty().horizontals([(1, HorizontalLine::new('─'))]));
    grid.modify(Segment::all(), Padding::new(0, GAP, 0, 0)).modify(Columns::last(), Padding::zero());
    grid.modify(Columns::new(names..), Alignment::right());
    if let Some(width) = width {
        grid.with(Width::wrap(width).keep_words(true).priority(Priority::max(true)));
    }
    trimmed(&grid.to_string())
}

/// Writes names and their texts.
pub(super) fn facts(facts: &[(&str, String)], width: Option<usize>) -> String {
    let mut builder = Builder::default();
    for (name, text) in facts {
        builder.push_record([(*name).to_owned(), printable(text)]);
    }
    let mut grid = builder.build();
    grid.with(Style::empty());
    grid.modify(Segment::all(), Padding::new(0, GAP, 0, 0)).modify(Columns::last(), Padding::zero());
    if let Some(width) = width {
        grid.with(Width::wrap(width).keep_words(true).priority(Priority::max(true)));
    }
    trimmed(&grid.to_string())
}

/// The lines without blanks at their ends.
fn trimmed(text: &str) -> String {
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// A text without control characters, which could change how the terminal shows it.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// A number of bytes with three digits and a unit.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// A time in seconds, with its two largest units.
pub(super) fn seconds(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A time in microseconds, with a unit.
pub(super) fn microseconds(time: f64) -> String {
    match time {
        ..10.0 => format!("{time:.2} µs"),
        ..1000.0 => format!("{time:.0} µs"),
        ..10_000.0 => format!("{:.2} ms", time / 1000.0),
        _ => format!("{:.0} ms", time / 1000.0),
    }
}

/// A ratio in percent.
pub(super) fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_follows_the_width() {
        let rows = [vec!["a long name of something".to_owned(), "12".to_owned(), "4096".to_owned()]];
        let wide = table(&["name", "count", "bytes"], 1, &rows, None);
        assert_eq!(wide.lines().count(), 3, "{wide}");
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max();
        for width in [24, 30, 80] {
            let narrow = table(&["name", "count", "bytes"], 1, &rows, Some(width));
            assert!(widest(&narrow) <= Some(width), "{width}:\n{narrow}");
            assert!(narrow.contains("4096") && narrow.contains("12"), "numbers are not wrapped:\n{narrow}");
        }
    }

    #[test]
    fn numbers_have_units() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (10_240, "10.0 KiB"), (1_048_576, "1.00 MiB")];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(bytes(10 << 20), "10.0 MiB");
        assert_eq!(bytes(u64::MAX), "16384 PiB");
        assert_eq!([5, 65, 3660, 90_000].map(seconds), ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!(percent(0.5), "50.0 %");
        assert_eq!([0.2, 12.3, 2345.0, 12_345.0].map(microseconds), ["0.20 µs", "12 µs", "2.35 ms", "12 ms"]);
    }

    #[test]
    fn control_characters_are_not_printed() {
        assert_eq!(printable("a\u{1b}[31m\n"), "a\u{fffd}[31m\u{fffd}");
    }
}
