//! The table of an ablation.

use super::grid;
use crate::{ablation::Ablation, report::tables::Table};

/// Writes a row for each part and workload, all flags together, and what limits the figures.
#[must_use]
pub fn ablation(ablation: &Ablation<'_>) -> String {
    let head = ["switched off", "workload", "metric", "on", "off", "gain", "95 % interval"];
    let mut table = Table::new("", &head);
    table.names = 3;
    for gain in &ablation.gains {
        let [on, off] = gain.shown.clone();
        table.rows.push(vec![
            gain.part.clone(),
            gain.workload.clone(),
            gain.metric.clone(),
            on,
            off,
            gain.shown_ratio(),
            gain.shown_interval(),
        ]);
    }
    let mut parts = vec![grid::render_table(&table)];
    parts.extend(ablation.combined_text().map(|text| grid::paragraph(&text)));
    let remarks = ablation.remarks().into_iter().map(|text| grid::paragraph(&text));
    parts.push(remarks.chain([grid::paragraph(&ablation.origin())]).collect::<Vec<_>>().join("\n"));
    let failures: Vec<String> =
        ablation.failures().iter().map(|failure| grid::paragraph(&format!("FAILED: {failure}"))).collect();
    if !failures.is_empty() {
        parts.push(failures.join("\n"));
    }
    format!("{}\n", parts.join("\n\n"))
}
