//! Charts with caption and legend. These are HTML text, which wraps.

use maud::{Markup, html};

use super::page_run::PageRun;
use crate::{
    report::{
        charts::{HEAT_STEPS, SHARES},
        wording,
    },
    units::count,
};

/// Percentile curves with a legend entry for each run.
pub(super) fn percentiles(curves: Option<Markup>, group: &[PageRun<'_>]) -> Markup {
    let is_open = group.iter().any(|page_run| !wording::is_closed(page_run.run));
    let is_closed = group.iter().any(|page_run| wording::is_closed(page_run.run));
    let legend = html! {
        ul .legend {
            @for page_run in group {
                li { (page_run.key(false)) (page_run.label) @if is_open { ", corrected" } }
                @if !wording::is_closed(page_run.run) { li { (page_run.key(true)) "uncorrected" } }
            }
        }
        p .muted {
            @if is_open { (wording::OPEN_LOOP) " " }
            @if is_closed { (wording::CLOSED_LOOP) }
        }
    };
    figure("Latency by percentile, in %", curves, legend)
}

/// A heat map with a legend of its colours.
pub(super) fn heat_map(map: Option<Markup>) -> Markup {
    let share = |step: usize| match SHARES.get(step) {
        Some(0.0) | None => "less".to_owned(),
        Some(share) if step + 1 == HEAT_STEPS => format!("{} %", count(share * 100.0)),
        Some(share) => count(share * 100.0),
    };
    let legend = html! {
        ul .legend {
            li { span .key .median {} "p50" }
            li { span .key .tail {} "p99" }
            li { "share of an interval’s replies, from:" }
        }
        ul .legend .ramp {
            @for step in 0..HEAT_STEPS {
                li { span .key .block .{ "heat-" (step) } {} span { (share(step)) } }
            }
        }
    };
    figure("Latency over time", map, legend)
}

/// A chart without a legend.
pub(super) fn plain(title: &str, chart: Option<Markup>) -> Markup {
    figure(title, chart, html! {})
}

fn figure(title: &str, chart: Option<Markup>, legend: Markup) -> Markup {
    html! {
        figure {
            figcaption {
                h3 { (title) }
                @if chart.is_some() { (legend) } @else { p .muted { "Nothing was measured." } }
            }
            @if let Some(chart) = chart { (chart) }
        }
    }
}
