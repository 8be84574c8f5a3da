//! The cards at the top: what most people want to know of a run.

use maud::{Markup, html};

use super::shown::Shown;
use crate::{
    report::{
        verdict::{Level, Verdict},
        wording,
    },
    units::{UNKNOWN, count, latency},
};

/// The card of a run.
pub(super) fn card(shown: &Shown<'_>) -> Markup {
    let run = shown.run;
    let percentile = |name: &str| match run.latency.named(name) {
        Some(us) if run.latency.count > 0 => latency(us),
        _ => UNKNOWN.to_owned(),
    };
    let verdict = Verdict::of(run);
    let level = match verdict.level {
        Level::Good => "good",
        Level::Doubtful => "doubtful",
        Level::Bad => "bad",
    };
    html! {
        article .card .(shown.colour()) {
            h2 { a href={ "#" (shown.anchor()) } { (shown.label) } }
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
            p .verdict .(level) { (verdict.mark()) " " (verdict.text) }
            @if let Some(reason) = &run.generator.bottleneck { (bottleneck(reason)) }
        }
    }
}

/// The warning that the figures are the generator's.
pub(super) fn bottleneck(reason: &str) -> Markup {
    html! { p .warning { strong { (wording::BOTTLENECK) } ": " (reason) } }
}
