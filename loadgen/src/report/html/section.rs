//! The section of one run.

use maud::{Markup, html};

use super::{figure, page_run::PageRun, summary, table};
use crate::{
    error::LoadError,
    report::{charts, tables, wording},
    result::Run,
};

/// Writes the section of a run. It contains the percentile curves unless they are part of a comparison.
pub(super) fn section(page_run: &PageRun<'_>, is_alone: bool) -> Result<Markup, LoadError> {
    let run = page_run.run;
    let parameters = &run.parameters;
    let figures = figures(page_run, is_alone)?;
    let percentiles = table::table(&tables::percentiles(run).transposed());
    // With an odd number of charts, the table fills the last place.
    let is_full = figures.len().is_multiple_of(2);
    Ok(html! {
        section id=(page_run.anchor()) {
            h2 { (page_run.label) }
            p .muted .about {
                (run.workload) " · " (run.contestant) " · " bdi { (wording::server(&run.server)) } br;
                (wording::era(&parameters.era)) " · " (wording::pacing(&parameters.pacing)) br;
                (wording::load(parameters)) " · " (wording::time(run))
            }
            @if let Some(reason) = &run.generator.bottleneck { (summary::bottleneck(reason)) }
            @if let Some(ending) = wording::ending(&run.outcome) { p .warning { (ending) } }
            div .board {
                @for figure in &figures { (figure) }
                @if !is_full { (percentiles) }
            }
            div .tables {
                @if is_full { (percentiles) }
                @for found in [
                    tables::by_request(run),
                    tables::checks(run),
                    tables::errors(run),
                    tables::figures(run),
                    tables::server_latencies(run),
                ].into_iter().flatten() { (table::table(&found)) }
                (facts(run))
            }
            details {
                summary { "Parameters and limits" }
                div .tables {
                    (table::table(&tables::parameters(run)))
                    @if let Some(mix) = tables::mix(run) { (table::table(&mix)) }
                    @if let Some(limits) = tables::limits(run) { (table::table(&limits)) }
                }
            }
        }
    })
}

fn figures(page_run: &PageRun<'_>, is_alone: bool) -> Result<Vec<Markup>, LoadError> {
    let run = page_run.run;
    let columns = charts::columns(run)?;
    let mut figures = Vec::new();
    if is_alone {
        let curves = charts::percentile_curves(&[(page_run.label, run)])?;
        figures.push(figure::percentiles(curves, std::slice::from_ref(page_run)));
    }
    figures.push(figure::heat_map(charts::heat_map(&columns)?));
    figures.push(figure::plain(
        "Throughput and errors over time",
        charts::throughput(&columns, page_run.ink())?,
    ));
    if let Some(process) = &run.server_process {
        figures
            .push(figure::plain("The server’s process over time", charts::process(process, page_run.ink())?));
    }
    Ok(figures)
}

fn facts(run: &Run) -> Markup {
    let generator = unbroken(&wording::generator(&run.generator));
    let process = run.server_process.as_ref().map(|process| unbroken(&wording::process(process)));
    html! {
        div .words {
            h3 { "In words" }
            dl .facts {
                dt { "throughput" } dd { (unbroken(&wording::throughput(run))) }
                dt { "traffic" } dd { (unbroken(&wording::traffic(run))) }
                dt { "errors" } dd { (wording::errors(run)) }
                @if let Some(text) = wording::reconnects(run) { dt { "connections" } dd { (text) } }
                @if let Some(error) = &run.first_error { dt { "first error" } dd { bdi { (error) } } }
                dt { "generator" } dd { (generator) }
                @if let Some(process) = process { dt { "server" } dd { (process) } }
            }
        }
    }
}

/// Replaces the blank between a number and its unit by a non-breaking one.
fn unbroken(text: &str) -> String {
    let units = ["%", "ns", "µs", "ms", "B", "KiB", "MiB", "GiB", "TiB"];
    let mut words = text.split(' ');
    let mut joined = words.next().unwrap_or_default().to_owned();
    for word in words {
        let is_unit = units.contains(&word.trim_end_matches([',', ';', '.']));
        joined.push(if is_unit { '\u{a0}' } else { ' ' });
        joined.push_str(word);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_units_are_joined_by_a_non_breaking_space() {
        assert_eq!(
            unbroken("at 41.7 % of a core, 12 MiB, done"),
            "at 41.7\u{a0}% of a core, 12\u{a0}MiB, done"
        );
        assert_eq!(unbroken(""), "");
    }
}
