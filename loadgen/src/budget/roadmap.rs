//! The performance budget in the shape of the roadmap: six operations, each with a budget for P50 and P95.

use tabled::{
    builder::Builder,
    settings::{Alignment, Modify, Padding, Style, object::Columns},
};

use super::{Assessment, Status};

/// The operations, and the beginnings of the ids of their rows.
const OPERATIONS: [(&str, &str); 6] = [
    ("JSON encode (small)", "encode"),
    ("JSON decode (small)", "decode"),
    ("Schema validation", "validate"),
    ("Tool call (simple)", "tool_call_simple"),
    ("Resource read", "resource_read"),
    ("Registry lookup", "registry"),
];

/// What is measured where.
pub const ROADMAP_NOTE: &str = "Current: P95; OVER if P50 or P95 exceeds its budget. Tool call and resource read: from the due time \
of a request over HTTP to the last byte of its reply. The others: in process, by the parser, validator and registry of the server.";

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct RoadmapRow {
    /// The operation.
    pub operation: &'static str,
    /// Budgets for P50 and P95.
    pub budgets: [String; 2],
    /// The measured P95, or a dash.
    pub current: String,
    /// The status of both budgets.
    pub status: Status,
}

/// The six operations.
#[must_use]
pub fn roadmap(assessments: &[Assessment]) -> Vec<RoadmapRow> {
    OPERATIONS.iter().map(|(operation, prefix)| row(operation, prefix, assessments)).collect()
}

fn row(operation: &'static str, prefix: &str, assessments: &[Assessment]) -> RoadmapRow {
    let [p50, p95] = ["p50", "p95"].map(|percentile| {
        let id = format!("{prefix}_{percentile}");
        assessments.iter().find(|assessment| assessment.id == id)
    });
    let budget = |row: Option<&Assessment>| {
        let budget = row.and_then(|row| row.budget.as_deref()).unwrap_or("–");
        budget.trim_start_matches("≤ ").to_owned()
    };
    let status = match (p50, p95) {
        (Some(p50), Some(p95)) if p50.over() || p95.over() => Status::Over,
        (Some(p50), Some(p95)) => match (&p50.status, &p95.status) {
            (Status::Within, Status::Within) => Status::Within,
            (Status::NotRun(why), _) | (_, Status::NotRun(why)) => Status::NotRun(why.clone()),
            _ => Status::Short,
        },
        _ => Status::NotRun(format!("the budgets have no {prefix}_p50 and {prefix}_p95")),
    };
    RoadmapRow {
        operation,
        budgets: [budget(p50), budget(p95)],
        current: p95.and_then(|row| row.shown.clone()).unwrap_or_else(|| "–".to_owned()),
        status,
    }
}

/// Writes the table with its note, and the reasons of what was not run.
#[must_use]
pub fn roadmap_table(rows: &[RoadmapRow]) -> String {
    let mut builder = Builder::default();
    builder.push_record(["Operation", "P50 budget", "P95 budget", "Current", "Status"]);
    for row in rows {
        let [p50, p95] = &row.budgets;
        builder.push_record([row.operation, p50, p95, &row.current, row.status.word()]);
    }
    let mut table = builder.build();
    table
        .with(Style::empty())
        .with(Padding::new(0, 2, 0, 0))
        .with(Modify::new(Columns::new(1..4)).with(Alignment::right()));
    let mut lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.push(String::new());
    lines.push(ROADMAP_NOTE.to_owned());
    for row in rows {
        if let Status::NotRun(why) = &row.status {
            lines.push(format!("{}: {why}", row.operation));
        }
    }
    lines.join("\n")
}

/// Whether an operation exceeds a budget, or was not measured: a table without figures does not pass.
#[must_use]
pub fn roadmap_over(rows: &[RoadmapRow]) -> bool {
    rows.iter().any(|row| row.status != Status::Within)
}
