//! Section on the loads and latencies of the workloads.

use super::table::{or_dash, table};
use crate::{
    latency::Latency,
    repeats::{CORELANE, Repeats},
    result::{Pacing, ResultFile, Run},
    statistics::median,
    units,
};

pub(super) fn section(files: &[ResultFile]) -> String {
    let groups: Vec<Repeats<'_>> = Repeats::newest_of_all(files)
        .into_iter()
        .filter(|group| group.first.contestant == CORELANE && group.complete_count() > 0)
        .collect();
    if groups.is_empty() {
        return "## Latency by workload\n\nNo workload was run.".to_owned();
    }
    let loads = groups.iter().map(load).collect();
    let latencies = groups.iter().flat_map(rows).collect();
    let mut parts = vec![
        "## Latency by workload".to_owned(),
        table(["workload", "load", "connections", "repeats"], loads),
        "From the time a request was due to the last byte of its reply. In an open loop the line below tells what a \
         generator reports that counts from when it got round to sending (*uncorrected*); in a closed loop the two are \
         one. The maximum is that of all repeats."
            .to_owned(),
        table(["workload", "p50", "p90", "p99", "p99.9", "max"], latencies),
    ];
    if groups.iter().any(|group| group.bottleneck().is_some()) {
        parts.push(
            "† The generator was the limit: these are its latencies as much as the server's.".to_owned(),
        );
    }
    parts.join("\n\n")
}

fn load(group: &Repeats<'_>) -> [String; 4] {
    let parameters = group.parameters();
    let rate = match parameters.pacing {
        Pacing::Closed => "closed loop".to_owned(),
        Pacing::OpenConstant { rate_per_s } => format!("{}/s, even", units::count(rate_per_s)),
        Pacing::OpenPoisson { rate_per_s } => format!("{}/s, Poisson", units::count(rate_per_s)),
    };
    let scaled =
        if parameters.scale == 1.0 { String::new() } else { format!(" (scale {})", parameters.scale) };
    [
        name(group),
        format!("{rate}{scaled}"),
        units::count(parameters.connections_count.into()),
        format!("{} × {} s", group.complete_count(), parameters.duration_s),
    ]
}

fn rows(group: &Repeats<'_>) -> Vec<[String; 6]> {
    let corrected: fn(&Run) -> &Latency = |run| &run.latency;
    let uncorrected: fn(&Run) -> &Latency = |run| &run.latency_uncorrected;
    let mut rows = vec![row(name(group), group, corrected)];
    if group.parameters().pacing != Pacing::Closed {
        rows.push(row("*uncorrected*".to_owned(), group, uncorrected));
    }
    rows
}

fn row(name: String, group: &Repeats<'_>, latency: fn(&Run) -> &Latency) -> [String; 6] {
    let each = |percentile: &str| {
        group.each(|run| {
            let latency = latency(run);
            (latency.count > 0).then(|| latency.named(percentile)).flatten()
        })
    };
    let shown = |percentile| or_dash(median(&each(percentile)).map(units::latency));
    let longest = each("max").into_iter().reduce(f64::max);
    [name, shown("p50"), shown("p90"), shown("p99"), shown("p99.9"), or_dash(longest.map(units::latency))]
}

fn name(group: &Repeats<'_>) -> String {
    let mark = if group.bottleneck().is_some() { " †" } else { "" };
    format!("`{}`{mark}", group.first.workload)
}
