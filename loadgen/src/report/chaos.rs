//! The table of faults, for the terminal and for Markdown.

use super::tables::Table;
use crate::{
    chaos::{Bars, FaultOutcome, Status},
    units,
};

/// The columns of the table: the p99 is that of the bystander before, during and after the fault.
pub(crate) const HEAD: [&str; 9] =
    ["fault", "refusal", "cascade", "injected", "detected", "recovered", "lost", "p99 in ms", ""];

/// The cells of a fault.
pub(crate) fn cells(outcome: &FaultOutcome) -> [String; 9] {
    let ms = |ms: Option<f64>| ms.map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
    let bystander = &outcome.bystander;
    let p99 = [bystander.p99_before_us, bystander.p99_during_us, bystander.p99_after_us];
    let p99 = p99.map(|us| us.map_or("–".to_owned(), milliseconds)).join("/");
    let aborted = match bystander.aborted {
        0 => String::new(),
        aborted => format!(" ({aborted} aborted)"),
    };
    let mark = match outcome.status {
        Status::Passed => "✓",
        Status::Failed => "✗",
        Status::Skipped => "skipped",
    };
    if outcome.refusal.is_empty() {
        let dash = || "–".to_owned();
        let fault = outcome.fault.to_owned();
        return [fault, dash(), dash(), dash(), dash(), dash(), dash(), dash(), mark.to_owned()];
    }
    [
        outcome.fault.to_owned(),
        outcome.refusal.to_owned(),
        if outcome.cascade.is_some() { "hurt" } else { "none" }.to_owned(),
        units::seconds(outcome.injected_at_s),
        ms(outcome.detected_ms),
        ms(outcome.recovered_ms),
        format!("{}{aborted}", units::count(outcome.lost as f64)),
        p99,
        mark.to_owned(),
    ]
}

/// A time in milliseconds with two digits or more, without its unit.
fn milliseconds(us: f64) -> String {
    let ms = us / 1e3;
    let decimals = match ms {
        10.0.. => 0,
        1.0.. => 1,
        _ => 2,
    };
    format!("{ms:.decimals$}")
}

/// The table of the terminal.
pub(super) fn table(outcomes: &[FaultOutcome]) -> Table {
    let mut table = Table::new("", &HEAD);
    table.names = 3;
    table.rows = outcomes.iter().map(|outcome| cells(outcome).into()).collect();
    table
}

/// One line for each reason of a fault that was not passed.
pub(crate) fn reasons(outcomes: &[FaultOutcome]) -> Vec<String> {
    let reasons = |outcome: &FaultOutcome| {
        let (fault, is_skipped) = (outcome.fault, outcome.status == Status::Skipped);
        let verb = if is_skipped { "SKIPPED" } else { "failed" };
        let line = move |reason: &String| format!("{fault} {verb}: {reason}");
        outcome.reasons.iter().map(line).collect::<Vec<_>>()
    };
    outcomes.iter().flat_map(reasons).collect()
}

/// The bars, as a sentence.
pub(crate) fn bars(bars: &Bars) -> String {
    format!(
        "bars: the right refusal, detected within {}, recovered within {}, nothing lost, p99 of the bystander at most {}",
        units::latency(bars.detected_ms_max * 1e3),
        units::latency(bars.recovered_ms_max * 1e3),
        units::latency(bars.p99_us_max)
    )
}
