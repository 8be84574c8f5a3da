//! Runs of one workload over each other.

use maud::{Markup, html};

use super::{figure, shown::Shown, table};
use crate::{
    error::LoadError,
    report::{charts, tables},
    result::Run,
};

/// Their curves, and their percentiles side by side.
pub(super) fn comparison(group: &[Shown<'_>]) -> Result<Markup, LoadError> {
    let workload = group.first().map_or("", |shown| shown.run.workload.as_str());
    let runs: Vec<(&str, &Run)> = group.iter().map(|shown| (shown.label, shown.run)).collect();
    let percentiles =
        tables::compared("Latency by run", group.iter().map(|shown| (shown.label, &shown.run.latency)));
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
