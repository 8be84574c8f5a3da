//! Assessments as a table.

use tabled::{
    builder::Builder,
    settings::{Alignment, Modify, Padding, Style, object::Columns, width::Wrap},
};

use super::{Assessment, Status};
use crate::metric::nanoseconds;

/// Width at which notes are wrapped; the table is narrower.
const COLUMNS_MAX: usize = 100;

const HEAD: [&str; 7] = ["id", "P50", "P95", "budget", "goal", "measured", "status"];

/// Writes a line for each row, followed by the limitations of the values.
#[must_use]
pub fn table(assessments: &[Assessment]) -> String {
    let mut builder = Builder::default();
    builder.push_record(HEAD);
    for assessment in assessments {
        builder.push_record(cells(assessment));
    }
    let mut table = builder.build();
    table
        .with(Style::empty())
        .with(Padding::new(0, 2, 0, 0))
        .with(Modify::new(Columns::new(1..6)).with(Alignment::right()));
    let mut lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.push(String::new());
    lines.extend(notes(assessments));
    lines.push(String::new());
    lines.push(summary(assessments));
    lines.join("\n")
}

/// Counts the rows that are within, over, short of their goal, and not run.
#[must_use]
pub fn summary(assessments: &[Assessment]) -> String {
    let count =
        |status: fn(&Assessment) -> bool| assessments.iter().filter(|assessment| status(assessment)).count();
    format!(
        "{} within, {} over, {} short of their goal, {} not run",
        count(|assessment| assessment.status == Status::Within),
        count(Assessment::over),
        count(|assessment| assessment.goal_reached == Some(false)),
        count(|assessment| matches!(assessment.status, Status::NotRun(_))),
    )
}

impl Status {
    /// The status as text.
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

/// Formats a time; stages take less than a microsecond.
fn time(us: f64) -> String {
    nanoseconds(us * 1e3)
}

fn cells(assessment: &Assessment) -> [String; 7] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let goal = assessment.goal.as_ref().map(|goal| match assessment.goal_reached {
        Some(true) => format!("{goal} ✓"),
        Some(false) => format!("{goal} ✗"),
        None => goal.clone(),
    });
    [
        assessment.id.clone(),
        or_dash(assessment.p50_us.map(time)),
        or_dash(assessment.p95_us.map(time)),
        or_dash(assessment.budget.clone()),
        or_dash(goal),
        or_dash(assessment.shown.clone()),
        assessment.status.word().to_owned(),
    ]
}

/// Writes a line for each limitation, with the ids of its rows.
fn notes(assessments: &[Assessment]) -> Vec<String> {
    let mut notes: Vec<(String, Vec<&str>)> = Vec::new();
    for assessment in assessments {
        let not_run = match &assessment.status {
            Status::NotRun(why) => Some(why.clone()),
            Status::Within | Status::Over | Status::Short => None,
        };
        for note in assessment.remarks.iter().cloned().chain(not_run) {
            match notes.iter_mut().find(|(text, _)| *text == note) {
                Some((_, ids)) => ids.push(&assessment.id),
                None => notes.push((note, vec![&assessment.id])),
            }
        }
    }
    notes
        .into_iter()
        .flat_map(|(note, ids)| {
            let note = Wrap::wrap(&format!("{note}: {}", ids.join(", ")), COLUMNS_MAX, true);
            note.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
        })
        .collect()
}
