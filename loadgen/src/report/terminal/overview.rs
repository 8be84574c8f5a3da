//! Overview of many runs, one line each.

use super::grid;
use crate::{
    report::{
        rating::Level,
        run_group::{RunGroup, Spread},
        tables::Table,
        wording,
    },
    result::{Pacing, Run},
    units::{UNKNOWN, compact, count, latency, latency_range, seconds},
};

/// Writes a line for each group of repeats: their medians, and the range of throughput and p99, where repeats differ
/// most.
#[must_use]
pub fn runs(runs: &[Run]) -> String {
    let all = RunGroup::group(runs);
    let mut table = Table::new(
        "",
        &[
            "workload",
            if is_one_server(&all) { "" } else { "server" },
            "replies/s",
            "p50",
            "p99",
            "p99.9",
            "errors",
            "",
        ],
    );
    table.names = 2;
    table.rows = all.iter().map(|repeats| row(repeats, &all)).collect();
    let mut text = grid::render_table(&table);
    for note in notes(&all) {
        text.push('\n');
        text.push_str(&grid::paragraph(&note));
    }
    text.push('\n');
    text
}

fn row(repeats: &RunGroup<'_>, all: &[RunGroup<'_>]) -> Vec<String> {
    let run = repeats.first;
    let workload = std::iter::once(run.workload.clone()).chain(differences(run, all));
    // If all runs are of one server, its name is left out.
    let name = if is_one_server(all) { "" } else { &run.contestant };
    let server = match repeats.runs.len() {
        1 => name.to_owned(),
        times => format!("{name} ×{times}").trim_start().to_owned(),
    };
    vec![
        workload.collect::<Vec<_>>().join(", "),
        server,
        throughput(repeats),
        percentile(repeats, "p50", false),
        percentile(repeats, "p99", true),
        percentile(repeats, "p99.9", false),
        count(repeats.runs.iter().map(|run| run.errors_total() as f64).sum()),
        repeats.rating().mark().to_owned(),
    ]
}

fn is_one_server(all: &[RunGroup<'_>]) -> bool {
    all.windows(2).all(|pair| matches!(pair, [one, other] if one.first.contestant == other.first.contestant))
}

/// The parameters in which this run differs from others of the same workload and server.
fn differences(run: &Run, all: &[RunGroup<'_>]) -> Vec<String> {
    let alike: Vec<_> = all
        .iter()
        .map(|other| other.first)
        .filter(|other| other.workload == run.workload && other.contestant == run.contestant)
        .collect();
    let words: [fn(&Run) -> String; 6] = [
        |run| wording::era(&run.parameters.era),
        |run| wording::plural(u64::from(run.parameters.connections_count), "connection"),
        |run| format!("depth {}", run.parameters.pipeline_depth),
        pace,
        |run| wording::plural(u64::from(run.parameters.threads_count), "thread"),
        |run| seconds(run.parameters.duration_s),
    ];
    let differs = |words: &fn(&Run) -> String| alike.iter().any(|other| words(other) != words(run));
    words.iter().filter(|words| differs(words)).map(|words| words(run)).collect()
}

/// The pacing in a word.
fn pace(run: &Run) -> String {
    match run.parameters.pacing {
        Pacing::Closed => "closed".to_owned(),
        Pacing::OpenConstant { rate_per_s } => format!("{}/s", count(rate_per_s)),
        Pacing::OpenPoisson { rate_per_s } => format!("{}/s Poisson", count(rate_per_s)),
    }
}

fn throughput(repeats: &RunGroup<'_>) -> String {
    match repeats.spread(|run| Some(run.throughput_per_s)) {
        None => UNKNOWN.to_owned(),
        Some(spread) if repeats.runs.len() == 1 => count(spread.median),
        Some(Spread { lowest, median, highest }) => {
            format!("{} ({}–{})", count(median), compact(lowest), compact(highest))
        }
    }
}

fn percentile(repeats: &RunGroup<'_>, name: &str, ranged: bool) -> String {
    // A run without replies has no percentiles.
    let measured = |run: &Run| run.latency.named(name).filter(|_| run.latency.count > 0);
    match repeats.spread(measured) {
        None => UNKNOWN.to_owned(),
        Some(spread) if !ranged || repeats.runs.len() == 1 => latency(spread.median),
        Some(Spread { lowest, median, highest }) => latency_range(lowest, median, highest),
    }
}

/// Explains the signs and brackets in use.
fn notes(all: &[RunGroup<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    if all.iter().any(|repeats| repeats.runs.len() > 1) {
        notes.push(
            "×: medians of so many runs, lowest–highest in brackets, errors of all together.".to_owned(),
        );
    }
    let doubtful = |repeats: &&RunGroup<'_>| repeats.rating().level != Level::Good;
    for repeats in all.iter().filter(doubtful) {
        let rating = repeats.rating();
        let run = repeats.first;
        notes.push(format!("{} {}, {}: {}", rating.mark(), run.workload, run.contestant, rating.text));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn line<'a>(text: &'a str, words: &[&str]) -> &'a str {
        let fits = |line: &&str| words.iter().all(|word| line.contains(word));
        text.lines().find(fits).unwrap_or_else(|| panic!("no line with {words:?}:\n{text}"))
    }

    #[test]
    fn repeats_share_a_line_with_their_medians() {
        let mut repeats = [sample::run(), sample::run(), sample::run()];
        for (run, (rate, p99)) in
            repeats.iter_mut().zip([(140_705.0, 1_020.0), (139_000.0, 980.0), (141_400.0, 1_100.0)])
        {
            run.throughput_per_s = rate;
            run.latency.p50_us = rate / 1_000.0;
            run.latency.p99_us = p99;
        }
        let text = runs(&repeats);
        let line = line(&text, &["mixed-open"]);
        assert!(line.contains("×3") && !line.contains("corelane"), "{text}");
        assert!(line.contains("140,705 (139k–141k)"), "{text}");
        assert!(line.contains(" 141 µs "), "{text}");
        assert!(line.contains("1.02 ms (0.980–1.10)"), "{text}");
        assert!(line.contains(" 114 "), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn runs_with_different_parameters_show_the_difference() {
        let mut more = sample::run();
        more.parameters.connections_count = 512;
        let text = runs(&[sample::run(), more, sample::peer()]);
        line(&text, &["mixed-open, 64 connections", "corelane"]);
        line(&text, &["mixed-open, 512 connections", "corelane"]);
        assert!(!line(&text, &["rust-sdk", "✓"]).contains("connections"), "{text}");
        line(&text, &["✗ mixed-open, corelane: 1 of 2 checks failed"]);
        assert!(!text.contains('×'), "{text}");
    }

    #[test]
    fn overview_without_replies_has_no_percentiles() {
        assert!(runs(&[]).starts_with("workload"));
        // A repeat without replies is not included in the percentiles.
        let text = runs(&[sample::run(), sample::empty()]);
        assert!(line(&text, &["×2"]).contains("205 µs  100 ms (100–100)"), "{text}");
        let text = runs(&[sample::empty()]);
        assert!(text.contains('–') && !text.contains("NaN"), "{text}");
    }
}
