//! Markdown tables without padding: with padding every line would change when one value grows by a digit.

/// Writes a table; columns of numbers are right-aligned.
pub(super) fn table<const COLUMNS: usize>(head: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) -> String {
    let rule: Vec<&str> =
        (0..COLUMNS).map(|column| if is_figures(&rows, column) { "---:" } else { "---" }).collect();
    let mut lines = vec![line(&head), line(&rule)];
    lines.extend(rows.iter().map(|row| line(row)));
    lines.join("\n")
}

fn is_figures<const COLUMNS: usize>(rows: &[[String; COLUMNS]], column: usize) -> bool {
    let mut cells = rows.iter().filter_map(|row| row.get(column));
    cells.all(|cell| {
        let cell = cell.trim_start_matches(['*', '≤', '≥', ' ']);
        cell == "–" || cell.starts_with(|first: char| first.is_ascii_digit())
    })
}

fn line(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| plain(cell.as_ref()).replace('|', "\\|")).collect();
    format!("| {} |", cells.join(" | "))
}

/// Joins the text of a result to one line.
pub(super) fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A value, or a dash without one.
pub(super) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}
