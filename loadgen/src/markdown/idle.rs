//! Section on 50,000 idle connections.

use super::table::table;
use crate::{
    metric::Metric,
    repeats::{CORELANE, Repeats},
    result::ResultFile,
};

const WORKLOAD: &str = "idle_50k";

const FIGURES: [(&str, &str); 3] = [
    ("connections live", "connections_live"),
    ("user memory per connection", "memory_per_connection_bytes"),
    ("throughput of others beside them", "throughput_beside_idle_ratio"),
];

pub(super) fn section(files: &[ResultFile]) -> String {
    let head = "## 50,000 idle connections";
    let group = Repeats::newest(files, WORKLOAD, CORELANE).filter(|group| group.complete_count() > 0);
    let Some(group) = group else {
        return format!("{head}\n\n`{WORKLOAD}` was not run.");
    };
    let figures = FIGURES.into_iter().map(|(what, name)| (what, Metric::Figure(name.to_owned())));
    let latencies = [("p50 of their rare requests", "p50"), ("p95", "p95"), ("p99", "p99")];
    let latencies = latencies.map(|(what, name)| (what, Metric::Latency(name.to_owned())));
    let rows = figures
        .chain(latencies)
        .filter_map(|(what, metric)| Some([what.to_owned(), metric.show(group.median(&metric)?)]))
        .collect();
    let scale = group.parameters().scale;
    let scaled = if scale == 1.0 {
        String::new()
    } else {
        format!("\n\n**Run at scale {scale}: fewer connections, or for a shorter time, than its name says.**")
    };
    format!("{head}{scaled}\n\n{}", table(["", "measured"], rows))
}
