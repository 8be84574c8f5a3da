//! Section on omissions: workloads that were not run, runs limited by the generator, runs with errors.

use super::table::{plain, table};
use crate::{
    repeats::{Repeats, newest_first},
    result::ResultFile,
};

pub(super) fn section(files: &[ResultFile]) -> String {
    let groups = Repeats::newest_of_all(files);
    let limits: Vec<[String; 2]> =
        groups.iter().filter_map(|group| Some([name(group), plain(group.bottleneck()?)])).collect();
    let wrong: Vec<[String; 2]> =
        groups.iter().filter_map(|group| Some([name(group), went_wrong(group)?])).collect();
    let parts = [
        ("Not run", ["workload", "why"], not_run(files)),
        ("Where the generator was the limit", ["run", "why"], limits),
        ("What went wrong", ["run", "what"], wrong),
    ];
    let mut lines = vec!["## What these figures do not show".to_owned()];
    for (head, columns, rows) in parts {
        let body = if rows.is_empty() { "Nothing.".to_owned() } else { table(columns, rows) };
        lines.push(format!("### {head}\n\n{body}"));
    }
    lines.join("\n\n")
}

/// Workloads without any result, each with the newest reason.
fn not_run(files: &[ResultFile]) -> Vec<[String; 2]> {
    let mut rows: Vec<[String; 2]> = Vec::new();
    for not_run in newest_first(files).into_iter().flat_map(|file| &file.not_run) {
        let workload = format!("`{}`", plain(&not_run.workload));
        let was_run = files.iter().flat_map(|file| &file.runs).any(|run| run.workload == not_run.workload);
        if !was_run && !rows.iter().any(|[listed, _]| *listed == workload) {
            rows.push([workload, plain(&not_run.reason)]);
        }
    }
    rows
}

fn went_wrong(group: &Repeats<'_>) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(after_s) = group.server_gone_after_s() {
        parts.push(format!("the server stopped answering after {after_s:.1} s"));
    } else if group.complete_count() < group.runs.len() {
        parts.push(format!("{} of {} repeats ran to their end", group.complete_count(), group.runs.len()));
    }
    let errors = group.errors_total();
    if errors > 0 {
        let first = group.runs.iter().find_map(|run| run.first_error.as_deref()).unwrap_or("not described");
        parts.push(format!("{errors} errors; the first: {}", plain(first)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn name(group: &Repeats<'_>) -> String {
    plain(&group.name())
}
