//! The terminal report: plain text.

mod ablation;
mod attacks;
mod chaos;
mod grid;
mod overview;

use super::{tables, wording};
use crate::result::Run;

pub use ablation::ablation;
pub use attacks::{attacks, endured};
pub use chaos::chaos;
pub use overview::runs;

/// Writes the report of one run.
#[must_use]
pub fn run(run: &Run) -> String {
    let mut parts = vec![heading(run)];
    parts.extend(warnings(run));
    parts.push(latency(run));
    parts.extend(tables::by_request(run).as_ref().map(grid::render_table));
    parts.push(grid::render_facts(&facts(run)));
    parts.extend(tables::server_latencies(run).as_ref().map(grid::render_table));
    parts.extend(tables::figures(run).as_ref().map(grid::render_table));
    parts.extend(tables::checks(run).as_ref().map(grid::render_table));
    let mut text = parts.join("\n\n");
    text.push('\n');
    text
}

fn heading(run: &Run) -> String {
    let parameters = &run.parameters;
    let lines = [
        format!("{} · {}", run.workload, run.contestant),
        wording::server(&run.server),
        format!("{} · {}", wording::era(&parameters.era), wording::pacing(&parameters.pacing)),
        format!("{} · {}", wording::load(parameters), wording::time(run)),
    ];
    lines.map(|line| grid::paragraph(&line)).join("\n")
}

/// Warnings that limit the meaning of the figures, printed before them.
fn warnings(run: &Run) -> Option<String> {
    let bottleneck =
        run.generator.bottleneck.as_ref().map(|reason| format!("{}: {reason}", wording::BOTTLENECK));
    let warnings: Vec<_> = bottleneck
        .into_iter()
        .chain(wording::ending(&run.outcome))
        .map(|text| grid::paragraph(&text))
        .collect();
    if warnings.is_empty() { None } else { Some(warnings.join("\n")) }
}

fn latency(run: &Run) -> String {
    let explained = if wording::is_closed(run) { wording::CLOSED_LOOP } else { wording::OPEN_LOOP };
    format!("{}\n{}", grid::render_table(&tables::percentiles(run)), grid::paragraph(explained))
}

fn facts(run: &Run) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("throughput", wording::throughput(run)),
        ("traffic", wording::traffic(run)),
        ("errors", wording::errors(run)),
    ];
    facts.extend(run.first_error.iter().map(|error| ("first error", error.clone())));
    facts.extend(wording::reconnects(run).map(|text| ("connections", text)));
    facts.push(("generator", wording::generator(&run.generator)));
    facts.extend(run.server_process.iter().map(|process| ("server", wording::process(process))));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::sample, result::Outcome, units};

    /// The row with this name, with blanks collapsed.
    fn row(text: &str, name: &str) -> String {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}:\n{text}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn widest(text: &str) -> usize {
        text.lines().map(|line| line.chars().count()).max().unwrap()
    }

    #[test]
    fn terminal_report_has_figures_in_their_rows() {
        let measured = sample::run();
        let text = run(&measured);
        assert!(
            text.starts_with("mixed-open · corelane\ncorelane 0.1.0 at http://127.0.0.1:8080/mcp\n"),
            "{text}"
        );
        assert_eq!(row(&text, "Latency"), "Latency p50 p90 p99 p99.9 p99.99 max");
        let percentiles_of = |latency: &crate::latency::Latency| {
            let percentiles = [latency.p50_us, latency.p90_us, latency.p99_us];
            percentiles.map(units::latency).join(" ")
        };
        assert!(row(&text, "corrected").contains(&percentiles_of(&measured.latency)), "{text}");
        assert!(row(&text, "uncorrected").contains(&percentiles_of(&measured.latency_uncorrected)), "{text}");
        assert!(row(&text, "tools/list").starts_with("tools/list 20 % 24,000 0 "), "{text}");
        assert_eq!(
            row(&text, "throughput"),
            "throughput 4,000/s: 120,000 of 120,038 requests answered right"
        );
        assert_eq!(row(&text, "errors "), "errors 38: 8 status, 30 timeout");
        assert_eq!(
            row(&text, "first error"),
            "first error status 503 instead of 200: too many calls are waiting"
        );
        assert!(row(&text, "generator").contains("at work 41.7 % of the time"), "{text}");
        assert!(
            row(&text, "server").contains("12.1 MiB → 12.6 MiB resident, 18,204 context switches"),
            "{text}"
        );
        assert_eq!(row(&text, "tools/call  "), "tools/call 96,000 ≤ 16.0 µs ≤ 64.0 µs ≤ 512 µs");
        assert_eq!(row(&text, "memory per connection"), "memory per connection 116 B");
        assert_eq!(row(&text, "p99<1s"), "p99<1s 0.21 s ✓ holds");
        assert_eq!(row(&text, "errors<0.01%"), "errors<0.01% 0.0317 % ✗ fails");
        assert!(widest(&text) <= 100, "{} columns:\n{text}", widest(&text));
    }

    #[test]
    fn closed_loop_has_one_latency_row_and_a_note() {
        let text = run(&sample::closed());
        assert!(row(&text, "closed loop").contains("µs"), "{text}");
        assert!(text.contains("A closed loop hides stalls") && !text.contains("uncorrected"), "{text}");
        assert!(!text.contains("late (p99)"), "{text}");
    }

    #[test]
    fn warnings_precede_the_figures() {
        let mut measured = sample::run();
        measured.generator.bottleneck = Some("its thread worked 99.7 % of the time".to_owned());
        measured.outcome = Outcome::ServerGone { after_s: 12.3 };
        let text = run(&measured);
        let warning = text.find("THE GENERATOR WAS THE LIMIT: its thread worked 99.7 % of the time").unwrap();
        let ending = text.find("The server stopped answering 12.3 s into the run.").unwrap();
        assert!(warning < ending && ending < text.find("p99.9").unwrap(), "{text}");
    }

    #[test]
    fn empty_run_has_dashes_and_no_nan() {
        let text = run(&sample::empty());
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        assert_eq!(row(&text, "corrected"), "corrected – – – – – –");
        assert_eq!(row(&text, "errors"), "errors none");
    }

    #[test]
    fn control_characters_of_a_server_are_replaced() {
        let mut measured = sample::run();
        measured.server.name = "evil\u{1b}[2J\u{202e}\r\nserver".to_owned();
        measured.first_error = Some(format!("status 500: {}", "long words of a server ".repeat(30)));
        let text = run(&measured);
        assert!(text.contains("evil\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}server 0.1.0"), "{text}");
        assert!(widest(&text) <= 100, "{} columns:\n{text}", widest(&text));
    }
}
