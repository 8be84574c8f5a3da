//! Comparison of runs of one workload.

use maud::{Markup, html};

use super::{figure, page_run::PageRun, table};
use crate::{
    error::LoadError,
    report::{charts, tables},
    result::Run,
};

/// Writes their curves, and their percentiles side by side.
pub(super) fn comparison(group: &[PageRun<'_>]) -> Result<Markup, LoadError> {
    let workload = group.first().map_or("", |page_run| page_run.run.workload.as_str());
    let runs: Vec<(&str, &Run)> = group.iter().map(|page_run| (page_run.label, page_run.run)).collect();
    let percentiles = tables::compared(
        "Latency by run",
        group.iter().map(|page_run| (page_run.label, &page_run.run.latency)),
    );
    let curves = charts::percentile_curves(&runs)?;
    Ok(html! {
        section {
            h2 { (workload) ", compared" }
            div .board {
                (figure::percentiles(curves, group))
                (table::table(&percentiles.transposed()))
            }
        }
    })
}
