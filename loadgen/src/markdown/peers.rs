//! Section on other servers, measured in the same run.

use std::collections::BTreeSet;

use super::table::{or_dash, plain, table};
use crate::{
    ablation::Position,
    metric::{Metric, ratio},
    repeats::{CORELANE, Repeats, newest_first},
    result::{Pacing, ResultFile, Run},
    units,
};

/// The reference server with a fixed reply.
const STATIC: &str = "nginx-static";

/// Workloads in which all servers receive the same requests, or nginx the smallest possible ones.
const FAMILIES: [&str; 3] = ["canonical_closed_", "legacy_closed_", "static_closed_"];

pub(super) fn section(files: &[ResultFile]) -> String {
    let mut parts = vec!["## Beside other servers".to_owned()];
    let closed = closed(files);
    let open = open(files);
    if closed.is_empty() && open.is_none() {
        parts.push("No result has more than one server.".to_owned());
        return parts.join("\n\n");
    }
    parts.push(format!(
        "{STATIC} answers a fixed reply; the others run a tool. Ratios are of requests per second within one result. RSS \
         is the most memory that was resident."
    ));
    parts.extend(closed);
    parts.push(open.unwrap_or_else(|| {
        "No result has several servers at the same open-loop rate, so there are no latencies to compare: in a closed \
         loop a slow server is asked less."
            .to_owned()
    }));
    parts.join("\n\n")
}

/// A table for each number of connections, from the newest result that has several servers with it.
fn closed(files: &[ResultFile]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut tables = Vec::new();
    for file in newest_first(files) {
        let groups: Vec<Repeats<'_>> = Repeats::of(file).into_iter().filter(is_comparable).collect();
        let counts: BTreeSet<u32> = groups.iter().map(|group| group.parameters().connections_count).collect();
        for count in counts {
            let same_load: Vec<&Repeats<'_>> =
                groups.iter().filter(|group| group.parameters().connections_count == count).collect();
            if contestants(&same_load) > 1 && seen.insert(count) {
                tables.push((count, throughput_table(count, same_load)));
            }
        }
    }
    tables.sort_by_key(|(count, _)| *count);
    tables.into_iter().map(|(_, table)| table).collect()
}

fn is_comparable(group: &Repeats<'_>) -> bool {
    let family = FAMILIES.iter().any(|family| group.first.workload.starts_with(family));
    let is_of_ablation = Position::of_contestant(&group.first.contestant).is_some();
    family && group.parameters().pacing == Pacing::Closed && !is_of_ablation
}

fn contestants(groups: &[&Repeats<'_>]) -> usize {
    groups.iter().map(|group| group.first.contestant.as_str()).collect::<BTreeSet<_>>().len()
}

fn throughput_table(connections_count: u32, mut groups: Vec<&Repeats<'_>>) -> String {
    let rate = |group: &Repeats<'_>| group.median(&Metric::Throughput);
    groups.sort_by(|one, other| rate(other).unwrap_or(0.0).total_cmp(&rate(one).unwrap_or(0.0)));
    let ratio_to = |group: &Repeats<'_>, contestant: &str| -> Option<f64> {
        let candidates: Vec<&&Repeats<'_>> =
            groups.iter().filter(|other| other.first.contestant == contestant).collect();
        let same = candidates.iter().find(|other| other.first.workload == group.first.workload);
        let other = rate(same.or(candidates.first())?)?;
        (other > 0.0).then_some(rate(group)? / other)
    };
    let rows: Vec<[String; 5]> = groups
        .iter()
        .map(|group| {
            [
                server(group),
                or_dash(rate(group).map(units::count)),
                or_dash(ratio_to(group, STATIC).map(ratio)),
                or_dash(ratio_to(group, CORELANE).map(ratio)),
                or_dash(resident(group)),
            ]
        })
        .collect();
    let head = ["server", "req/s", "÷ nginx-static", "÷ corelane", "RSS"];
    let connections = if connections_count == 1 { "connection" } else { "connections" };
    let mark = footnote(&groups);
    format!(
        "### {} {connections}, closed loop\n\n{}{mark}",
        units::count(connections_count.into()),
        table(head, rows)
    )
}

/// The open-loop rate at which most servers of a result were measured; of several such rates the highest.
fn open(files: &[ResultFile]) -> Option<String> {
    let per_file = newest_first(files).into_iter().filter_map(|file| {
        let groups: Vec<Repeats<'_>> = Repeats::of(file).into_iter().filter(is_at_a_rate).collect();
        let loads = groups.iter().map(|group| {
            let same: Vec<&Repeats<'_>> = groups
                .iter()
                .filter(|other| {
                    other.parameters().pacing == group.parameters().pacing
                        && other.parameters().connections_count == group.parameters().connections_count
                })
                .collect();
            (
                contestants(&same),
                rate_per_s(group).unwrap_or(0.0),
                same.into_iter().cloned().collect::<Vec<_>>(),
            )
        });
        loads
            .filter(|(servers, _, _)| *servers > 1)
            .max_by(|(one, slow, _), (other, fast, _)| one.cmp(other).then(slow.total_cmp(fast)))
    });
    let (_, rate, groups) = per_file.into_iter().next()?;
    let groups: Vec<&Repeats<'_>> = groups.iter().collect();
    let rows = groups
        .iter()
        .map(|group| {
            [
                server(group),
                or_dash(group.latency("p50").map(units::latency)),
                or_dash(group.latency("p99").map(units::latency)),
                or_dash(group.median(&Metric::Throughput).map(units::count)),
            ]
        })
        .collect();
    let connections = groups.first().map_or(0, |group| group.parameters().connections_count);
    let mark = footnote(&groups);
    Some(format!(
        "### {} requests a second for each, open loop, {} connections\n\nFrom the time each request was due: a \
         server that cannot keep up shows it here.\n\n{}{mark}",
        units::count(rate),
        units::count(connections.into()),
        table(["server", "p50", "p99", "answered/s"], rows)
    ))
}

fn is_at_a_rate(group: &Repeats<'_>) -> bool {
    rate_per_s(group).is_some() && Position::of_contestant(&group.first.contestant).is_none()
}

fn rate_per_s(group: &Repeats<'_>) -> Option<f64> {
    match group.parameters().pacing {
        Pacing::Closed => None,
        Pacing::OpenConstant { rate_per_s } | Pacing::OpenPoisson { rate_per_s } => Some(rate_per_s),
    }
}

fn server(group: &Repeats<'_>) -> String {
    let name = match group.first.contestant.as_str() {
        CORELANE => format!("**{CORELANE}**"),
        other => plain(other),
    };
    let era = match group.parameters().era.as_str() {
        "none" => "fixed reply",
        era => era,
    };
    let mark = if group.bottleneck().is_some() { " †" } else { "" };
    format!("{name}, {era}{mark}")
}

fn footnote(groups: &[&Repeats<'_>]) -> &'static str {
    if groups.iter().any(|group| group.bottleneck().is_some()) {
        "\n\n† The generator was the limit: the server can do more."
    } else {
        ""
    }
}

fn resident(group: &Repeats<'_>) -> Option<String> {
    let most = |run: &Run| {
        let samples = &run.server_process.as_ref()?.samples;
        samples.iter().map(|sample| sample.resident_bytes).max().map(|bytes| bytes as f64)
    };
    crate::statistics::median(&group.each(most)).map(|bytes| units::bytes(bytes as u64))
}
