//! Text and tables within the width of the terminal.

use tabled::{
    Table as Grid,
    builder::Builder,
    grid::util::string::get_text_width,
    settings::{
        Alignment, Padding, Style, Width,
        object::{Columns, Segment},
        peaker::Priority,
        style::HorizontalLine,
    },
};

use crate::report::tables::Table;

/// Maximum width in columns if the output is not a terminal.
const WIDTH_MAX: usize = 100;
/// Range of the width on a terminal: tables need the minimum, and paragraphs are unreadable above the maximum.
const TERMINAL_WIDTHS: std::ops::RangeInclusive<usize> = 40..=160;

/// Maximum width of lines.
fn width_max() -> usize {
    let columns = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    columns.map_or(WIDTH_MAX, |columns| columns.clamp(*TERMINAL_WIDTHS.start(), *TERMINAL_WIDTHS.end()))
}

/// Columns between two columns of a table.
const GAP: usize = 2;

/// Writes a table with a line below its head and its caption above the first column. If it is too wide, names are
/// wrapped, not numbers.
pub(super) fn render_table(table: &Table) -> String {
    let caption = if table.caption.is_empty() { table.head.first() } else { Some(&table.caption) };
    let mut records: Vec<Vec<&str>> =
        vec![caption.into_iter().chain(table.head.iter().skip(1)).map(String::as_str).collect()];
    records.extend(table.rows.iter().map(|row| row.iter().map(String::as_str).collect()));
    let mut grid = grid(&records);
    grid.with(Style::empty().horizontals([(1, HorizontalLine::new('─'))]));
    grid.modify(Columns::new(table.names..), Alignment::right());
    let too_wide = grid.total_width().saturating_sub(width_max());
    if too_wide > 0 {
        let mut widths: Vec<_> = (0..table.names).map(|column| width(&records, column)).collect();
        for _ in 0..too_wide {
            // The widest column shrinks; of equal ones the first.
            let Some(widest) = widths.iter_mut().rev().max_by_key(|width| **width) else { break };
            *widest = widest.saturating_sub(1).max(1);
        }
        for (column, width) in widths.into_iter().enumerate() {
            // tabled's width includes the gap.
            let padded = if column + 1 < table.head.len() { width + GAP } else { width };
            grid.modify(Columns::one(column), Width::wrap(padded).keep_words(true));
        }
    }
    render(grid)
}

/// Writes names and their texts.
pub(super) fn render_facts(render_facts: &[(&str, String)]) -> String {
    let records: Vec<_> = render_facts.iter().map(|(name, text)| vec![*name, text.as_str()]).collect();
    let mut grid = grid(&records);
    grid.with(Style::empty());
    render(grid)
}

/// Writes a paragraph, wrapped between words.
pub(super) fn paragraph(text: &str) -> String {
    let mut grid = grid(&[vec![text]]);
    grid.with(Style::empty());
    // If a line is full, the blank behind it starts the next line.
    render(grid).lines().map(str::trim_start).collect::<Vec<_>>().join("\n")
}

fn grid(records: &[Vec<&str>]) -> Grid {
    let mut builder = Builder::default();
    for record in records {
        builder.push_record(record.iter().map(|text| printable(text)));
    }
    let mut grid = builder.build();
    grid.modify(Segment::all(), Padding::new(0, GAP, 0, 0)).modify(Columns::last(), Padding::zero());
    grid
}

/// Width of the widest cell of a column.
fn width(records: &[Vec<&str>], column: usize) -> usize {
    let cells = records.iter().filter_map(|record| record.get(column));
    cells.map(|cell| get_text_width(cell)).max().unwrap_or_default()
}

/// Renders a table without trailing blanks.
fn render(mut grid: Grid) -> String {
    grid.with(Width::wrap(width_max()).keep_words(true).priority(Priority::max(true)));
    grid.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Replaces control characters and characters that change the reading direction in text of a server.
fn printable(text: &str) -> String {
    let is_steering = |character: char| {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|character| if is_steering(character) { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_table_wraps_names_and_not_numbers() {
        let mut table = Table::new("", &["workload", "replies/s"]);
        table.rows.push(vec!["many words ".repeat(12), "140,705 (139k–141k)".to_owned()]);
        let text = render_table(&table);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH_MAX), "{text}");
        assert!(text.contains("140,705 (139k–141k)"), "{text}");
        assert!(text.starts_with("workload"), "{text}");
    }

    #[test]
    fn long_word_is_broken() {
        let text = paragraph(&"x".repeat(250));
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [100, 100, 50]);
    }

    #[test]
    fn empty_text_is_empty() {
        assert_eq!(paragraph(""), "");
        assert_eq!(render_facts(&[]), "");
    }
}
