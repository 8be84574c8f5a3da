//! The summary cards at the top of a page.

use maud::{Markup, html};

use super::page_run::PageRun;
use crate::{
    report::{
        rating::{Level, Rating},
        wording,
    },
    units::{UNKNOWN, count, latency},
};

/// Writes the card of a run.
pub(super) fn card(page_run: &PageRun<'_>) -> Markup {
    let run = page_run.run;
    let percentile = |name: &str| match run.latency.named(name) {
        Some(us) if run.latency.count > 0 => latency(us),
        _ => UNKNOWN.to_owned(),
    };
    let rating = Rating::of(run);
    let level = match rating.level {
        Level::Good => "good",
        Level::Doubtful => "doubtful",
        Level::Bad => "bad",
    };
    html! {
        article .card .(page_run.colour()) {
            h2 { a href={ "#" (page_run.anchor()) } { (page_run.label) } }
            dl {
                div .lead {
                    dt { "replies per second" }
                    dd { (count(run.throughput_per_s)) }
                }
                @for name in ["p50", "p99", "p99.9"] {
                    div { dt { (name) } dd { (percentile(name)) } }
                }
                div { dt { "errors" } dd { (count(run.errors_total() as f64)) } }
            }
            p .verdict .(level) { (rating.mark()) " " (rating.text) }
            @if let Some(reason) = &run.generator.bottleneck { (bottleneck(reason)) }
        }
    }
}

/// The warning that the generator was the limit.
pub(super) fn bottleneck(reason: &str) -> Markup {
    html! { p .warning { strong { (wording::BOTTLENECK) } ": " (reason) } }
}
