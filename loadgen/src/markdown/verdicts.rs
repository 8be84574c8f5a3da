//! Budgets and goals, and what falls short of them.

use super::table::{or_dash, plain, table};
use crate::budget::{Source, Status, Verdict, summary};

pub(super) fn section(verdicts: &[Verdict]) -> String {
    let mut parts = vec![
        "## Budgets and goals".to_owned(),
        format!(
            "A budget is the roadmap's target, or in *italics* our own; a goal is what we aim for. {}.",
            summary(verdicts)
        ),
        short(verdicts),
    ];
    let (measured, not_run): (Vec<&Verdict>, Vec<&Verdict>) =
        verdicts.iter().partition(|verdict| !matches!(verdict.status, Status::NotRun(_)));
    if !measured.is_empty() {
        parts.push(table(
            ["", "budget", "goal", "measured", "verdict"],
            measured.into_iter().map(row).collect(),
        ));
    }
    let remarks: Vec<String> = verdicts.iter().filter_map(remark).collect();
    if !remarks.is_empty() {
        parts.push(remarks.join("\n"));
    }
    if !not_run.is_empty() {
        parts.push("Not run:".to_owned());
        parts.push(table(["", "budget", "goal", "why"], not_run.into_iter().map(waiting).collect()));
    }
    parts.join("\n\n")
}

/// What falls short, before anything else.
fn short(verdicts: &[Verdict]) -> String {
    let lines: Vec<String> = verdicts.iter().filter(|verdict| verdict.falls_short()).map(line).collect();
    if !lines.is_empty() {
        return format!("What falls short:\n\n{}", lines.join("\n"));
    }
    if verdicts.iter().all(|verdict| verdict.measured.is_none()) {
        return "Nothing was measured that has a budget or a goal.".to_owned();
    }
    "Of what was measured nothing falls short.".to_owned()
}

fn line(verdict: &Verdict) -> String {
    let of = match (verdict.over(), verdict.budget.as_ref(), verdict.goal.as_ref()) {
        (true, Some(budget), _) => format!("the budget is {budget}"),
        (_, _, Some(goal)) => format!("the goal is {goal}"),
        _ => "no figure".to_owned(),
    };
    let measured = verdict.shown.clone().unwrap_or_else(|| verdict.remarks.join("; "));
    format!("- {}: {measured}; {of}", plain(&verdict.what))
}

fn row(verdict: &Verdict) -> [String; 5] {
    let said = match (&verdict.status, verdict.goal_reached) {
        (Status::Over, _) => "**✗ OVER**".to_owned(),
        (Status::Short, _) => "✗ falls short".to_owned(),
        (_, Some(false)) => "✓, goal ✗ falls short".to_owned(),
        _ => "✓".to_owned(),
    };
    let marked = if verdict.remarks.is_empty() { "" } else { " †" };
    [
        plain(&verdict.what),
        budget(verdict),
        or_dash(verdict.goal.clone()),
        format!("{}{marked}", or_dash(verdict.shown.clone())),
        said,
    ]
}

fn waiting(verdict: &Verdict) -> [String; 4] {
    let why = match &verdict.status {
        Status::NotRun(why) => why.clone(),
        Status::Within | Status::Over | Status::Short => String::new(),
    };
    [plain(&verdict.what), budget(verdict), or_dash(verdict.goal.clone()), why]
}

fn budget(verdict: &Verdict) -> String {
    match (&verdict.budget, verdict.source) {
        (Some(budget), Source::Roadmap) => budget.clone(),
        (Some(budget), Source::Goal) => format!("*{budget}*"),
        (None, _) => or_dash(None),
    }
}

fn remark(verdict: &Verdict) -> Option<String> {
    let told = plain(&verdict.remarks.join("; "));
    (!told.is_empty()).then(|| format!("- † {}: {told}", plain(&verdict.what)))
}
