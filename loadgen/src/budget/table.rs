//! Verdicts for people.

use tabled::{
    builder::Builder,
    settings::{Alignment, Modify, Padding, Style, object::Columns, width::Wrap},
};

use super::{Status, Verdict};
use crate::metric::nanoseconds;

/// Notes are broken at this width; the table itself is narrower.
const COLUMNS_MAX: usize = 100;

const HEAD: [&str; 7] = ["id", "P50", "P95", "budget", "goal", "measured", "status"];

/// The budget's table: a row each, and below it what has to be known about single rows.
#[must_use]
pub fn table(verdicts: &[Verdict]) -> String {
    let mut builder = Builder::default();
    builder.push_record(HEAD);
    for verdict in verdicts {
        builder.push_record(cells(verdict));
    }
    let mut table = builder.build();
    table
        .with(Style::empty())
        .with(Padding::new(0, 2, 0, 0))
        .with(Modify::new(Columns::new(1..6)).with(Alignment::right()));
    let mut lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.push(String::new());
    lines.extend(notes(verdicts));
    lines.push(String::new());
    lines.push(summary(verdicts));
    lines.join("\n")
}

/// One line: how many rows are within, over, short of their goal, not run.
#[must_use]
pub fn summary(verdicts: &[Verdict]) -> String {
    let count = |status: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| status(verdict)).count();
    format!(
        "{} within, {} over, {} short of their goal, {} not run",
        count(|verdict| verdict.status == Status::Within),
        count(Verdict::over),
        count(|verdict| verdict.goal_reached == Some(false)),
        count(|verdict| matches!(verdict.status, Status::NotRun(_))),
    )
}

impl Status {
    /// As the tables say it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Within => "✓",
            Self::Over => "✗ OVER",
            Self::Short => "✗ short",
            Self::NotRun(_) => "– not run",
        }
    }
}

/// A stage takes less than a microsecond.
fn time(us: f64) -> String {
    nanoseconds(us * 1e3)
}

fn cells(verdict: &Verdict) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let goal = verdict.goal.as_ref().map(|goal| match verdict.goal_reached {
        Some(true) => format!("{goal} ✓"),
        Some(false) => format!("{goal} ✗"),
        None => goal.clone(),
    });
    [
        verdict.id.clone(),
        or_dash(verdict.p50_us.map(time)),
        or_dash(verdict.p95_us.map(time)),
        or_dash(verdict.budget.clone()),
        or_dash(goal),
        or_dash(verdict.shown.clone()),
        verdict.status.word().to_owned(),
    ]
}

/// What has to be known about single rows: a line for each thing, with the rows it is true of.
fn notes(verdicts: &[Verdict]) -> Vec<String> {
    let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
    for verdict in verdicts {
        let not_run = match &verdict.status {
            Status::NotRun(why) => Some(why.clone()),
            Status::Within | Status::Over | Status::Short => None,
        };
        for said in verdict.remarks.iter().cloned().chain(not_run) {
            match notes.iter_mut().find(|(told, _)| *told == said) {
                Some((_, ids)) => ids.push(&verdict.id),
                None => notes.push((said, vec![&verdict.id])),
            }
        }
    }
    notes
        .into_iter()
        .flat_map(|(said, ids)| {
            let note = Wrap::wrap(&format!("{said}: {}", ids.join(", ")), COLUMNS_MAX, true);
            note.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
        })
        .collect()
}
