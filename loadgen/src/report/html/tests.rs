//! Tests of the page's content.

use std::collections::BTreeMap;

use super::page;
use crate::{report::sample, result::Run};

fn paged(runs: &[(&str, &Run)]) -> String {
    let runs: Vec<(String, &Run)> = runs.iter().map(|(label, run)| ((*label).to_owned(), *run)).collect();
    page("Sample", &runs, &[]).unwrap()
}

/// The text that follows `text`.
fn after<'a>(page: &'a str, text: &str) -> &'a str {
    let rest = &page[page.find(text).unwrap_or_else(|| panic!("no {text}")) + text.len()..];
    &rest[..rest.len().min(400)]
}

#[test]
fn page_contains_figures_in_card_tables_and_charts() {
    let run = sample::run();
    let page = paged(&[("corelane", &run)]);
    assert!(after(&page, "replies per second</dt><dd>").starts_with("4,000<"));
    assert!(after(&page, "<dt>p99</dt><dd>").starts_with("100 ms<"));
    assert!(after(&page, "<dt>errors</dt><dd>").starts_with("38<"));
    assert!(page.contains("✗ 1 of 2 checks failed"));
    let row = after(&page, r#"<th scope="row">p99.9</th>"#);
    let cells = [run.latency.p99_9_us, run.latency_uncorrected.p99_9_us].map(crate::units::latency);
    assert!(row.starts_with(&format!(
        r#"<td class="number">{}</td><td class="number">{}</td>"#,
        cells[0], cells[1]
    )));
    assert!(
        after(&page, r#"<th scope="row">tools/list</th>"#).starts_with(r#"<td class="number">20 %</td>"#)
    );
    assert!(
        after(&page, r#"<th scope="row">body_bytes_max</th>"#)
            .starts_with("<td class=\"number\">4,194,304</td>")
    );
    for chart in ["Latency by percentile.", "Heat map of latency", "Throughput over", "The server’s process"]
    {
        assert!(page.contains(&format!("role=\"img\" aria-label=\"{chart}")), "no chart {chart}");
    }
}

#[test]
fn page_has_no_external_references() {
    let (run, peer) = (sample::run(), sample::peer());
    let page = paged(&[("corelane", &run), ("rust-sdk", &peer)]);
    // URLs of servers are text, not references.
    let own = page.replace(&run.server.url, "").replace(&peer.server.url, "");
    for reference in ["http://", "https://", "src=", "url(", "@import", "<script", "<link", "href=\"/"] {
        assert!(!own.contains(reference), "the page has {reference}");
    }
}

#[test]
fn hostile_text_of_a_server_is_escaped() {
    let hostile = "<script>alert(1)</script>\" onload=\"alert(2)";
    let mut run = sample::run();
    run.server.name = hostile.to_owned();
    run.server.version = hostile.to_owned();
    run.server.url = hostile.to_owned();
    run.first_error = Some(hostile.to_owned());
    run.generator.bottleneck = Some(hostile.to_owned());
    run.errors_count.insert(hostile.to_owned(), 1);
    run.requests[0].name = hostile.to_owned();
    run.parameters.requests[0].arguments = Some(hostile.to_owned());
    run.server_latencies[0].method = hostile.to_owned();
    run.server.limits.insert(hostile.to_owned(), 1.0);
    run.figures.insert(hostile.to_owned(), 1.0);
    run.checks[0].demand = hostile.to_owned();
    let runs = [(hostile.to_owned(), &run), (hostile.to_owned(), &run)];
    let page = page(hostile, &runs, &[]).unwrap();
    assert!(!page.contains("<script>") && !page.contains("\" onload"), "a tag or an attribute got through");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn bottleneck_warning_is_in_card_and_section() {
    let mut run = sample::run();
    assert!(!paged(&[("a", &run)]).contains("THE GENERATOR WAS THE LIMIT"));
    run.generator.bottleneck = Some("its thread was busy all the time".to_owned());
    let page = paged(&[("a", &run)]);
    assert_eq!(
        page.matches("THE GENERATOR WAS THE LIMIT</strong>: its thread was busy all the time").count(),
        2
    );
}

#[test]
fn only_runs_of_one_workload_are_compared() {
    let (run, peer) = (sample::run(), sample::peer());
    let page = paged(&[("corelane", &run), ("rust-sdk", &peer)]);
    assert!(page.contains("mixed-open, compared"));
    assert!(page.contains("corelane: median ") && page.contains(" rust-sdk: median "));
    assert_eq!(page.matches("Latency by percentile, in %").count(), 1);
    let other = Run { workload: "echo".to_owned(), ..sample::peer() };
    let page = paged(&[("corelane", &run), ("rust-sdk", &other)]);
    assert!(!page.contains("compared"));
    assert_eq!(page.matches("Latency by percentile, in %").count(), 2);
}

#[test]
fn more_runs_than_colours_are_split_into_two_charts() {
    let run = sample::run();
    let runs: Vec<_> = (0..8).map(|_| ("again", &run)).collect();
    let page = paged(&runs);
    assert_eq!(page.matches("mixed-open, compared").count(), 2);
    assert_eq!(page.matches("class=\"card series-1\"").count(), 2);
}

#[test]
fn incomplete_runs_have_valid_pages() {
    let empty = sample::empty();
    let mut short = sample::run();
    short.intervals.truncate(1);
    let mut strange = sample::run();
    strange.began_unix_s = f64::NAN;
    strange.measured_s = f64::INFINITY;
    strange.throughput_per_s = f64::NAN;
    strange.intervals.iter_mut().for_each(|interval| interval.length_s = 0.0);
    for runs in
        [&[][..], &[("a", &empty)], &[("a", &short)], &[("a", &strange)], &[("a", &empty), ("b", &short)]]
    {
        let page = paged(runs);
        let style_end = page.find("</style>").unwrap();
        for none in ["NaN", "inf\"", "inf ", ",inf", "-inf"] {
            assert!(!page[style_end..].contains(none), "{none} in the page of {} runs", runs.len());
        }
        assert!(page.ends_with("</html>"));
    }
    assert!(paged(&[("a", &empty)]).contains("Nothing was measured."));
}

#[test]
fn invalid_histogram_is_an_error_of_the_page() {
    let mut run = sample::run();
    run.intervals[3].latency.histogram_ns = "AAAA".to_owned();
    assert!(page("Sample", &[("a".to_owned(), &run)], &[]).is_err());
}

/// Luminances of the colours that the style sheet defines in light or dark mode.
fn luminances(style: &str) -> BTreeMap<&str, f64> {
    let declarations = style.lines().filter_map(|line| line.trim().strip_prefix("--")?.strip_suffix(';'));
    let colours = declarations.filter_map(|declaration| declaration.split_once(": #"));
    colours.map(|(name, hex)| (name, luminance(hex))).collect()
}

/// Relative luminance as defined by WCAG 2.
fn luminance(hex: &str) -> f64 {
    let linear = |from: usize| {
        let share = f64::from(u8::from_str_radix(&hex[from..from + 2], 16).unwrap()) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(0) + 0.7152 * linear(2) + 0.0722 * linear(4)
}

#[test]
fn colours_have_sufficient_contrast() {
    let style = include_str!("../page.css");
    let (light, dark) = style.split_once("@media (prefers-color-scheme: dark)").unwrap();
    for luminances in [luminances(light), luminances(dark)] {
        let contrast = |a: &str, b: &str| {
            let (a, b) = (luminances[a], luminances[b]);
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        // Level AA requires a contrast of 4.5 for text and of 3 for graphics.
        for text in ["ink", "muted", "link", "good", "doubtful", "bad"] {
            assert!(contrast(text, "paper") >= 4.5, "{text}: {}", contrast(text, "paper"));
        }
        assert!(contrast("ink", "alarm") >= 4.5);
        for line in ["series-0", "series-1", "series-2", "series-3", "series-4", "series-5"] {
            assert!(contrast(line, "paper") >= 3.0, "{line}: {}", contrast(line, "paper"));
        }
    }
}
