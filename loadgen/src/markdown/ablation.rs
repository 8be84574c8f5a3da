//! Section on the gains of the optimisations.

use super::table::{plain, table};
use crate::{ablation::Ablation, result::ResultFile};

pub(super) fn section(files: &[ResultFile]) -> String {
    let head = "## What each optimisation gains";
    let Some(ablation) = Ablation::newest(files) else {
        return format!("{head}\n\nNo result has it: `corelane-loadgen ablate -o FILE` measures it.");
    };
    let rows = ablation.gains.iter().map(|gain| {
        let [on, off] = gain.shown.clone();
        [
            format!("`{}`", plain(&gain.part)),
            format!("`{}`, {}", plain(&gain.workload), plain(&gain.metric)),
            on,
            off,
            gain.shown_ratio(),
            gain.shown_interval(),
        ]
    });
    let columns = ["switched off", "measured", "on", "off", "gain", "95 % interval"];
    let mut parts = vec![head.to_owned(), plain(&ablation.origin()), table(columns, rows.collect())];
    parts.extend(ablation.combined_text());
    let remarks: Vec<String> =
        ablation.remarks().iter().map(|remark| format!("- {}", plain(remark))).collect();
    if !remarks.is_empty() {
        parts.push(remarks.join("\n"));
    }
    parts.join("\n\n")
}
