//! The trend page: changes of results over time, with a chart for each workload.

use std::time::SystemTime;

use maud::html;

use super::{
    charts::{DatedFigures, P50, P99, trend_chart},
    html::document,
};
use crate::{
    error::LoadError,
    metric::Metric,
    repeats::Repeats,
    result::ResultFile,
    units::{count, latency},
};

/// Writes a page about results in the order of their start. Repeats are represented by their medians.
///
/// # Errors
/// When a chart cannot be drawn, or a result's start time is invalid.
pub fn trend(files: &[ResultFile]) -> Result<String, LoadError> {
    let mut dated = Vec::new();
    for file in files {
        dated.push((unix_s(file)?, file));
    }
    dated.sort_by(|one, other| one.0.total_cmp(&other.0));
    let span_s = (dated.first().map_or(0.0, |file| file.0), dated.last().map_or(0.0, |file| file.0));
    let mut names: Vec<String> = Vec::new();
    for repeats in dated.iter().flat_map(|(_, file)| Repeats::of(file)) {
        if !names.contains(&repeats.name()) {
            names.push(repeats.name());
        }
    }
    let mut sections = Vec::new();
    for name in names {
        let points: Vec<DatedFigures> =
            dated.iter().filter_map(|(at, file)| figures_at(*at, file, &name)).collect();
        let Some(last) = points.last() else { continue };
        let chart = trend_chart(&name, span_s, &points)?;
        sections.push(html! {
            section {
                h2 { (name) }
                figure {
                    figcaption {
                        p .muted {
                            "Latest: " (count(last.throughput_per_s)) "/s, p50 " (latency(last.p50_us)) ", p99 " (latency(last.p99_us)) "."
                        }
                        ul .legend {
                            li { span .key .{ "series-" (P50) } {} "throughput and p50" }
                            li { span .key .{ "series-" (P99) } {} "p99" }
                        }
                    }
                    (chart)
                }
            }
        });
    }
    let body = html! {
        div .board .trend { @for section in sections { (section) } }
        section {
            h2 { "Results" }
            div .scroll tabindex="0" {
                table {
                    thead { tr { th { "measured (UTC)" } th { "server commit" } th { "processor" } th { "kernel" } } }
                    tbody {
                        @for (_, file) in dated.iter().rev() {
                            tr {
                                th scope="row" { (date(&file.started)) }
                                td { (file.environment.commit) }
                                td { (file.environment.cpu_model) }
                                td { (file.environment.kernel) }
                            }
                        }
                    }
                }
            }
        }
    };
    let subtitle = "A point is the median of one result's repeats. Shared machines change from day to day: a step counts, a wobble does not.";
    Ok(document("Trend", subtitle, &body))
}

/// Start time of a result in seconds since 1970.
fn unix_s(file: &ResultFile) -> Result<f64, LoadError> {
    let at = humantime::parse_rfc3339(&file.started)
        .map_err(|error| LoadError::Report(format!("a result began at {:?}: {error}", file.started)))?;
    Ok(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64())
}

/// `2026-11-27 03:17`
fn date(started: &str) -> String {
    started.get(..16).unwrap_or(started).replace('T', " ")
}

fn figures_at(unix_s: f64, file: &ResultFile, name: &str) -> Option<DatedFigures> {
    let all = Repeats::of(file);
    let repeats = all.iter().find(|repeats| repeats.name() == name)?;
    Some(DatedFigures {
        unix_s,
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
    fn every_workload_has_a_chart_of_all_results() {
        let file = |figures_at: u32| {
            let mut file =
                sample::file(vec![sample::run("discover", "corelane"), sample::run("burst", "corelane")]);
            file.started = format!("2026-11-{figures_at:02}T00:00:00Z");
            file
        };
        let page = trend(&[file(3), file(1), file(2)]).unwrap();
        assert_eq!(page.matches("<svg").count(), 2, "{page}");
        assert!(page.find("2026-11-01").unwrap() > page.find("2026-11-03").unwrap(), "the newest first");
        // Three metrics of three results in two charts, each a point; in each chart two lines of latency and one of
        // throughput.
        assert_eq!((page.matches("<circle").count(), page.matches("<polyline").count()), (18, 6));
        for word in ["Nov 1", "Nov 3", "throughput and p50", ">p99<"] {
            assert!(page.contains(word), "{word}");
        }
        let single = trend(&[file(3)]).unwrap();
        assert_eq!((single.matches("<circle").count(), single.matches("<polyline").count()), (6, 0));
        let mut broken = file(3);
        broken.started = "yesterday".to_owned();
        assert!(trend(&[broken]).unwrap_err().to_string().contains("yesterday"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
        assert!(trend(&[]).unwrap().contains("Trend"));
    }
}
