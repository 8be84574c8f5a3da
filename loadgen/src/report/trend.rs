//! How results changed from one day to the next: a page with a chart for each workload.

use maud::html;

use super::{
    charts::{Day, trend_chart},
    html::document,
};
use crate::{
    error::LoadError,
    metric::Metric,
    repeats::Repeats,
    result::ResultFile,
    units::{count, latency},
};

/// A page about results, the oldest first. Repeats are told by their medians.
///
/// # Errors
/// When a chart cannot be drawn.
pub fn trend(files: &[ResultFile]) -> Result<String, LoadError> {
    let mut files: Vec<&ResultFile> = files.iter().collect();
    files.sort_by(|one, other| one.started.cmp(&other.started));
    let mut names: Vec<String> = Vec::new();
    for repeats in files.iter().flat_map(|file| Repeats::of(file)) {
        if !names.contains(&repeats.name()) {
            names.push(repeats.name());
        }
    }
    let mut sections = Vec::new();
    for name in names {
        let days: Vec<Day> =
            files.iter().enumerate().filter_map(|(number, file)| day(number, file, &name)).collect();
        let Some(last) = days.last() else { continue };
        let chart = trend_chart(&name, files.len(), &days)?;
        sections.push(html! {
            section {
                h2 { (name) }
                figure { (chart) }
                p .muted {
                    "Latest: " (count(last.throughput_per_s)) "/s, p50 " (latency(last.p50_us)) ", p99 " (latency(last.p99_us)) "."
                }
            }
        });
    }
    let body = html! {
        div .board { @for section in sections { (section) } }
        section {
            h2 { "Results" }
            ol {
                @for file in &files {
                    li { (file.started) ", commit " (file.environment.commit) ", " (file.environment.cpu_model) }
                }
            }
        }
    };
    let subtitle = "Medians of each result, the oldest on the left. Machines have moods: a step counts, a wobble does not.";
    Ok(document("Trend", subtitle, &body))
}

fn day(number: usize, file: &ResultFile, name: &str) -> Option<Day> {
    let all = Repeats::of(file);
    let repeats = all.iter().find(|repeats| repeats.name() == name)?;
    Some(Day {
        number,
        p50_us: repeats.latency("p50")?,
        p99_us: repeats.latency("p99")?,
        throughput_per_s: repeats.median(&Metric::Throughput)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn every_workload_has_a_chart_of_all_days() {
        let file = |day: u32| {
            let mut file =
                sample::file(vec![sample::run("discover", "corelane"), sample::run("burst", "corelane")]);
            file.started = format!("2026-11-{day:02}T00:00:00Z");
            file
        };
        let page = trend(&[file(3), file(1), file(2)]).unwrap();
        assert_eq!(page.matches("<svg").count(), 2, "{page}");
        assert!(page.find("2026-11-01").unwrap() < page.find("2026-11-03").unwrap(), "the oldest first");
        assert!(!page.contains("NaN") && !page.contains("inf"));
        assert!(trend(&[]).unwrap().contains("Trend"));
    }
}
