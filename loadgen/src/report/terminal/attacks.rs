//! Tables of attacks.

use super::grid;
use crate::{
    attack::{Endured, Verdict},
    report::tables::Table,
    units,
};

/// Writes one row for each attack, and the first error of each bystander that was refused.
#[must_use]
pub fn attacks(verdicts: &[Verdict]) -> String {
    let head = ["attack", "p99 attacked", "p99 control", "ratio", "refused", "attack/s", "log/s", ""];
    let mut table = Table::new("", &head);
    let mut errors = Vec::new();
    for verdict in verdicts {
        table.rows.push(vec![
            verdict.attack.to_owned(),
            units::latency(verdict.attacked_p99_us),
            units::latency(verdict.control_p99_us),
            format!("{:.2}", verdict.ratio),
            units::count(verdict.refusals as f64),
            units::compact(verdict.attack_per_s),
            units::bytes(verdict.log_bytes_per_s.round() as u64),
            if verdict.passed { "✓" } else { "✗" }.to_owned(),
        ]);
        errors.extend(first_error(verdict.attack, verdict.first_error.as_deref()));
    }
    join(grid::render_table(&table), errors)
}

/// Writes the rows of a series of attacks, and what the server held before and after it.
#[must_use]
pub fn endured(endured: &Endured) -> String {
    let head = ["attack", "requests", "refused", "highest p99", "memory"];
    let mut table = Table::new("", &head);
    let mut errors = Vec::new();
    for turns in &endured.turns {
        table.rows.push(vec![
            turns.attack.to_owned(),
            units::count(turns.requests as f64),
            units::count(turns.refusals as f64),
            units::latency(turns.p99_us),
            units::bytes(turns.resident_bytes),
        ]);
        errors.extend(first_error(turns.attack, turns.first_error.as_deref()));
    }
    let (before, after) = (&endured.before, &endured.after);
    let mark = |passed: bool| if passed { "✓" } else { "✗" };
    let mut facts = vec![
        (
            "attack",
            format!(
                "{} requests in {}",
                units::count(endured.attack_requests as f64),
                units::seconds(endured.elapsed.as_secs_f64().round())
            ),
        ),
        (
            "process",
            format!("{} {}", if endured.survived { "lives" } else { "ended" }, mark(endured.survived)),
        ),
        (
            "memory",
            format!(
                "{} before, {} at most, {} after, and {} descriptors before, {} after; within {} {}",
                units::bytes(before.resident_bytes),
                units::bytes(after.peak_bytes),
                units::bytes(after.resident_bytes),
                before.descriptors,
                after.descriptors,
                units::seconds(endured.returned_within.as_secs_f64().ceil()),
                mark(endured.has_returned())
            ),
        ),
    ];
    if let Some(kills) = endured.kills {
        facts.push(("memory group", format!("{kills} kills {}", mark(kills == 0))));
    }
    let text = format!("{}\n\n{}", grid::render_table(&table), grid::render_facts(&facts));
    join(text, errors)
}

fn first_error(attack: &str, error: Option<&str>) -> Option<String> {
    error.map(|error| grid::paragraph(&format!("{attack}, first error of the bystander: {error}")))
}

fn join(table: String, errors: Vec<String>) -> String {
    std::iter::once(table).chain(errors).collect::<Vec<_>>().join("\n") + "\n"
}
