//! Section on budgets and goals, and the rows that miss them.

use super::table::{or_dash, plain, table};
use crate::budget::{Assessment, ROADMAP_NOTE, Source, Status, roadmap, summary};

pub(super) fn section(assessments: &[Assessment]) -> String {
    let mut parts = vec![
        "## Budgets and goals".to_owned(),
        format!(
            "A budget is the roadmap's target, or in *italics* our own; a goal is what we aim for. {}.",
            summary(assessments)
        ),
        short(assessments),
    ];
    let (measured, not_run): (Vec<&Assessment>, Vec<&Assessment>) =
        assessments.iter().partition(|assessment| !matches!(assessment.status, Status::NotRun(_)));
    if !measured.is_empty() {
        parts.push(table(
            ["", "budget", "goal", "measured", "verdict"],
            measured.into_iter().map(row).collect(),
        ));
    }
    let remarks: Vec<String> = assessments.iter().filter_map(remark).collect();
    if !remarks.is_empty() {
        parts.push(remarks.join("\n"));
    }
    parts.push(roadmap_table(assessments));
    if !not_run.is_empty() {
        parts.push("Not run:".to_owned());
        parts.push(table(["", "budget", "goal", "why"], not_run.into_iter().map(waiting).collect()));
    }
    parts.join("\n\n")
}

/// The six operations of the roadmap, in its shape.
fn roadmap_table(assessments: &[Assessment]) -> String {
    let rows = roadmap(assessments).into_iter().map(|row| {
        let [p50, p95] = row.budgets;
        [row.operation.to_owned(), p50, p95, row.current, row.status.word().to_owned()]
    });
    let head = ["operation", "P50 budget", "P95 budget", "current", "status"];
    format!("The roadmap's table:\n\n{}\n\n{ROADMAP_NOTE}", table(head, rows.collect()))
}

/// Lists the rows that miss their budget or goal.
fn short(assessments: &[Assessment]) -> String {
    let lines: Vec<String> =
        assessments.iter().filter(|assessment| assessment.falls_short()).map(line).collect();
    if !lines.is_empty() {
        return format!("What falls short:\n\n{}", lines.join("\n"));
    }
    if assessments.iter().all(|assessment| assessment.measured.is_none()) {
        return "Nothing was measured that has a budget or a goal.".to_owned();
    }
    "Of what was measured nothing falls short.".to_owned()
}

fn line(assessment: &Assessment) -> String {
    let of = match (assessment.over(), assessment.budget.as_ref(), assessment.goal.as_ref()) {
        (true, Some(budget), _) => format!("the budget is {budget}"),
        (_, _, Some(goal)) => format!("the goal is {goal}"),
        _ => "no figure".to_owned(),
    };
    let measured = assessment.shown.clone().unwrap_or_else(|| assessment.remarks.join("; "));
    format!("- {}: {measured}; {of}", plain(&assessment.what))
}

fn row(assessment: &Assessment) -> [String; 5] {
    let status = match (&assessment.status, assessment.goal_reached) {
        (Status::Over, _) => "**✗ OVER**".to_owned(),
        (Status::Short, _) => "✗ falls short".to_owned(),
        (_, Some(false)) => "✓, goal ✗ falls short".to_owned(),
        _ => "✓".to_owned(),
    };
    let marked = if assessment.remarks.is_empty() { "" } else { " †" };
    [
        plain(&assessment.what),
        budget(assessment),
        or_dash(assessment.goal.clone()),
        format!("{}{marked}", or_dash(assessment.shown.clone())),
        status,
    ]
}

fn waiting(assessment: &Assessment) -> [String; 4] {
    let why = match &assessment.status {
        Status::NotRun(why) => why.clone(),
        Status::Within | Status::Over | Status::Short => String::new(),
    };
    [plain(&assessment.what), budget(assessment), or_dash(assessment.goal.clone()), why]
}

fn budget(assessment: &Assessment) -> String {
    match (&assessment.budget, assessment.source) {
        (Some(budget), Source::Roadmap) => budget.clone(),
        (Some(budget), Source::Goal) => format!("*{budget}*"),
        (None, _) => or_dash(None),
    }
}

fn remark(assessment: &Assessment) -> Option<String> {
    let remarks = plain(&assessment.remarks.join("; "));
    (!remarks.is_empty()).then(|| format!("- † {}: {remarks}", plain(&assessment.what)))
}
