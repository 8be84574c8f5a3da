//! Output of a comparison: a table no wider than a terminal, and notes.

use std::fmt;

use tabled::{
    builder::Builder,
    settings::{Alignment, Modify, Padding, Style, Width, object::Columns, peaker::Priority},
};

use super::{Comparison, Row, Verdict};

/// Maximum width of the table in columns.
const COLUMNS_MAX: usize = 100;

const HEAD: [&str; 8] =
    ["workload", "metric", "baseline", "current", "change", "95 % interval", "limit", "verdict"];

impl Comparison {
    /// Writes the rows, at most 100 columns wide.
    #[must_use]
    pub fn table(&self) -> String {
        let mut builder = Builder::default();
        builder.push_record(HEAD);
        let mut above = "";
        for row in &self.rows {
            let workload = if row.workload == above { "" } else { row.workload.as_str() };
            builder.push_record(cells(row, workload));
            above = &row.workload;
        }
        let mut table = builder.build();
        table
            .with(Style::empty())
            .with(Padding::new(0, 1, 0, 0))
            .with(Modify::new(Columns::new(2..7)).with(Alignment::right()))
            .with(Width::wrap(COLUMNS_MAX).keep_words(true).priority(Priority::max(true)));
        let lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "current:  {}\nbaseline: {}\n\n{}\n", self.current, self.baseline, self.table())?;
        let mut lines = Vec::new();
        for row in &self.rows {
            let Some(reason) = &row.reason else { continue };
            // Metrics of a workload with the same verdict and reason share a line.
            let line = format!("{} {}: {reason}", row.workload, word(row.verdict));
            if !lines.contains(&line) {
                writeln!(formatter, "{line}")?;
                lines.push(line);
            }
        }
        for name in &self.not_in_the_baseline {
            writeln!(formatter, "{name}: not in the baseline")?;
        }
        for name in &self.only_in_the_baseline {
            writeln!(formatter, "only in the baseline: {name}")?;
        }
        for note in &self.notes {
            writeln!(formatter, "note: {note}")?;
        }
        let verdicts =
            [Verdict::Regressed, Verdict::Unclear, Verdict::Unusable, Verdict::Improved, Verdict::Fine];
        let counts = verdicts.map(|verdict| format!("{} {}", self.count(verdict), word(verdict)));
        write!(formatter, "{}", counts.join(", "))
    }
}

fn cells(row: &Row, workload: &str) -> [String; 8] {
    let [baseline, current] = row.shown.clone();
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    [
        workload.to_owned(),
        short(&row.metric).to_owned(),
        baseline,
        current,
        or_dash(row.ratio.map(|ratio| format!("{} %", change(ratio)))),
        or_dash(row.interval.map(|[low, high]| format!("{}…{} %", change(low), change(high)))),
        or_dash(row.threshold.map(|threshold| format!("{} %", change(1.0 + threshold)))),
        word(row.verdict).to_owned(),
    ]
}

/// Formats a ratio as a change in percent; repeats do not agree on more than two digits.
fn change(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    if percent.abs() < 9.95 && (percent - percent.round()).abs() >= 0.05 {
        format!("{percent:+.1}")
    } else {
        format!("{percent:+.0}")
    }
}

fn short(metric: &str) -> &str {
    match metric {
        "throughput_per_s" => "throughput",
        "memory_per_connection_bytes" => "memory/conn",
        "errors_count" => "errors",
        other => other,
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "fine",
        Verdict::Improved => "improved",
        Verdict::Regressed => "REGRESSED",
        Verdict::Unclear => "unclear",
        Verdict::Unusable => "unusable",
    }
}
