//! Sections on measurements without sockets: instructions, allocations, single stages.

use super::table::{or_dash, table};
use crate::{metric::nanoseconds, repeats::newest_first, result::ResultFile, units};

pub(super) fn instructions(files: &[ResultFile]) -> String {
    let head = "## Instructions per operation";
    let found = newest_first(files).into_iter().find_map(|file| file.instructions.as_ref());
    let Some(found) = found else {
        return format!(
            "{head}\n\nNo result has them: `cargo bench --bench instructions -- --json` counts them."
        );
    };
    let names = found.counts.keys().chain(found.allocations.keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    let rows = names
        .into_iter()
        .map(|name| {
            let count = |counts: &std::collections::BTreeMap<String, u64>| {
                or_dash(counts.get(name).map(|count| units::count(*count as f64)))
            };
            [format!("`{name}`"), count(&found.counts), count(&found.allocations)]
        })
        .collect();
    format!(
        "{head}\n\nBytes in to bytes out, warm, counted by callgrind: they repeat to the digit.\n\n{}",
        table(["operation", "instructions", "allocations"], rows)
    )
}

pub(super) fn stages(files: &[ResultFile]) -> String {
    let head = "## Single stages";
    let found = newest_first(files).into_iter().find_map(|file| file.stages.as_ref());
    let Some(found) = found else {
        return format!("{head}\n\nNo result has them: `cargo bench --bench stages -- --json` times them.");
    };
    let rows = found.stages.iter().map(|(name, times)| {
        let [p50, p95, p99] = [times.p50_ns, times.p95_ns, times.p99_ns].map(nanoseconds);
        [format!("`{name}`"), p50, p95, p99]
    });
    format!("{head}\n\nPer operation.\n\n{}", table(["stage", "p50", "p95", "p99"], rows.collect()))
}
