//! The HTML report: one self-contained file.

mod comparison;
mod figure;
mod section;
mod page_run;
mod summary;
mod table;

use std::time::{Duration, SystemTime};

use page_run::PageRun;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{charts::SERIES_MAX, wording};
use crate::{
    error::LoadError,
    result::{ResultFile, Run},
    units::count,
};

/// Writes a page about labelled runs and their files. The page has no external references.
///
/// # Errors
/// When a result contains an invalid histogram.
pub fn page(title: &str, runs: &[(String, &Run)], files: &[ResultFile]) -> Result<String, LoadError> {
    let groups = groups(runs);
    let page_runs: Vec<&PageRun<'_>> = groups.iter().flatten().collect();
    let mut comparisons = Vec::new();
    for group in groups.iter().filter(|group| group.len() > 1) {
        comparisons.push(comparison::comparison(group)?);
    }
    let mut sections = Vec::new();
    for group in &groups {
        for page_run in group {
            sections.push(section::section(page_run, group.len() == 1)?);
        }
    }
    let body = html! {
        div .cards { @for page_run in &page_runs { (summary::card(page_run)) } }
        @for comparison in comparisons { (comparison) }
        @for section in sections { (section) }
        (origins(files))
    };
    Ok(document(title, &subtitle(runs), &body))
}

/// Machine and generator of each result.
fn origins(files: &[ResultFile]) -> Markup {
    html! {
        @if !files.is_empty() {
            section {
                h2 { "Measured on" }
                @for file in files {
                    dl .facts {
                        dt { "processor" } dd { (file.environment.cpu_model) ", " (wording::plural(file.environment.cores_count as u64, "core")) }
                        dt { "kernel" } dd { (file.environment.kernel) }
                        dt { "generator" } dd { (file.environment.generator_version) " (" (file.environment.generator_build) ")" }
                        dt { "server commit" } dd { (file.environment.commit) }
                        dt { "command line" } dd { code { (file.command_line.join(" ")) } }
                    }
                }
            }
        }
    }
}

/// The frame of every page.
pub(super) fn document(title: &str, subtitle: &str, body: &Markup) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(include_str!("../page.css"))) }
            }
            body {
                header {
                    h1 { (title) }
                    p .muted { (subtitle) }
                }
                main { (body) }
                footer { p { "Made by corelane-loadgen " (env!("CARGO_PKG_VERSION")) "." } }
            }
        }
    }
    .into_string()
}

/// Groups runs of one workload by chart, up to the maximum per chart.
fn groups<'a>(runs: &'a [(String, &'a Run)]) -> Vec<Vec<PageRun<'a>>> {
    let mut groups: Vec<Vec<PageRun<'a>>> = Vec::new();
    for (index, (label, run)) in runs.iter().enumerate() {
        let fits = |group: &&mut Vec<PageRun<'a>>| {
            group.len() < SERIES_MAX && group.iter().all(|page_run| page_run.run.workload == run.workload)
        };
        let page_run = |series| PageRun { label, run, number: index + 1, series };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(page_run(group.len())),
            None => groups.push(vec![page_run(0)]),
        }
    }
    groups
}

/// `2 runs, measured from 2026-09-21 13:33:20 UTC`
fn subtitle(runs: &[(String, &Run)]) -> String {
    let number = match runs.len() {
        1 => "1 run".to_owned(),
        number => format!("{} runs", count(number as f64)),
    };
    let began = runs
        .iter()
        .filter_map(|(_, run)| Duration::try_from_secs_f64(run.began_unix_s).ok())
        .filter_map(|since| SystemTime::UNIX_EPOCH.checked_add(since))
        .min();
    // Years with five digits cannot be formatted; such a time is invalid and left out.
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_000_000_000);
    match began.filter(|began| *began < latest) {
        Some(began) => {
            let date = humantime::format_rfc3339_seconds(began).to_string();
            format!("{number}, measured from {} UTC", date.replace('T', " ").trim_end_matches('Z'))
        }
        None => number,
    }
}

#[cfg(test)]
mod tests;
