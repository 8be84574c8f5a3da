//! The tables of a run as rows of text, which the terminal and the page format.

use super::wording;
use crate::{
    latency::Latency,
    result::Run,
    units::{UNKNOWN, bytes, count, latency, percent, seconds},
};

/// The reported percentiles, by their names in [`Latency::named`].
pub(crate) const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];

/// A table of text. The first column contains row headers, the first row column headers.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Number of text columns; the columns after them contain numbers and are right-aligned.
    pub(crate) names: usize,
}

impl Table {
    pub(crate) fn new(caption: &str, head: &[&str]) -> Self {
        let head = head.iter().map(|&name| name.to_owned()).collect();
        Self { caption: caption.to_owned(), head, rows: Vec::new(), names: 1 }
    }

    /// Returns the table if it has rows.
    fn filled(self) -> Option<Self> {
        if self.rows.is_empty() { None } else { Some(self) }
    }

    /// Exchanges rows and columns.
    pub(crate) fn transposed(&self) -> Self {
        let row = |column: usize, name: &String| {
            let cells = self.rows.iter().map(|row| row.get(column).cloned().unwrap_or_default());
            std::iter::once(name.clone()).chain(cells).collect()
        };
        let mut rows: Vec<Vec<String>> =
            self.head.iter().enumerate().map(|(column, name)| row(column, name)).collect();
        let head = if rows.is_empty() { Vec::new() } else { rows.remove(0) };
        Self { caption: self.caption.clone(), head, rows, names: 1 }
    }
}

/// Percentiles, corrected and uncorrected; one row for a closed loop, in which they are equal.
pub(crate) fn percentiles(run: &Run) -> Table {
    let rows = if wording::is_closed(run) {
        vec![("closed loop", &run.latency)]
    } else {
        vec![("corrected", &run.latency), ("uncorrected", &run.latency_uncorrected)]
    };
    compared("Latency", rows.into_iter())
}

/// Percentiles of several distributions, one row each.
pub(crate) fn compared<'a>(
    caption: &str,
    distributions: impl Iterator<Item = (&'a str, &'a Latency)>,
) -> Table {
    let mut table = Table::new(caption, &[""]);
    table.head.extend(PERCENTILES.map(str::to_owned));
    for (name, distribution) in distributions {
        let cells = PERCENTILES.map(|percentile| time(distribution, percentile));
        table.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    table
}

/// A row per request of the mix, if there are several.
pub(crate) fn by_request(run: &Run) -> Option<Table> {
    if run.requests.len() < 2 {
        return None;
    }
    let mut table =
        Table::new("By request", &["request", "share", "replies", "errors", "p50", "p99", "p99.9", "max"]);
    let weights: u64 = run.parameters.requests.iter().map(|request| u64::from(request.weight)).sum();
    for request in &run.requests {
        let parameters = run.parameters.requests.iter().find(|parameters| parameters.name == request.name);
        let share = parameters.map_or_else(
            || UNKNOWN.to_owned(),
            |parameters| percent(f64::from(parameters.weight) * 100.0 / weights.max(1) as f64),
        );
        table.rows.push(vec![
            request.name.clone(),
            share,
            count(request.replies_count as f64),
            count(request.errors_count as f64),
            time(&request.latency, "p50"),
            time(&request.latency, "p99"),
            time(&request.latency, "p99.9"),
            time(&request.latency, "max"),
        ]);
    }
    Some(table)
}

/// Errors by kind.
pub(crate) fn errors(run: &Run) -> Option<Table> {
    let mut table = Table::new("Errors", &["kind", "requests", "of all"]);
    for (kind, &number) in run.errors_count.iter().filter(|(_, number)| **number > 0) {
        let share = percent(number as f64 * 100.0 / run.requests_count.max(1) as f64);
        table.rows.push(vec![kind.replace('_', " "), count(number as f64), share]);
    }
    table.filled()
}

/// The latencies that the server measured.
pub(crate) fn server_latencies(run: &Run) -> Option<Table> {
    let mut table = Table::new("The server’s own latencies", &["method", "answers", "p50", "p99", "p99.9"]);
    for measured in &run.server_latencies {
        let below = |us: f64| format!("≤ {}", latency(us));
        table.rows.push(vec![
            measured.method.clone(),
            count(measured.count as f64),
            below(measured.p50_us_max),
            below(measured.p99_us_max),
            below(measured.p99_9_us_max),
        ]);
    }
    table.filled()
}

/// Figures of the workload.
pub(crate) fn figures(run: &Run) -> Option<Table> {
    let mut table = Table::new("Figures", &["figure", "value"]);
    for (name, &value) in &run.figures {
        let (name, value) = wording::figure(name, value);
        table.rows.push(vec![name, value]);
    }
    table.filled()
}

/// Demands and their results.
pub(crate) fn checks(run: &Run) -> Option<Table> {
    let mut table = Table::new("Checks", &["demand", "measured", ""]);
    for check in &run.checks {
        let mark = if check.passed { "✓ holds" } else { "✗ fails" };
        table.rows.push(vec![
            check.demand.clone(),
            wording::measured(&check.demand, check.measured),
            mark.to_owned(),
        ]);
    }
    table.filled()
}

/// Parameters of the load.
pub(crate) fn parameters(run: &Run) -> Table {
    let parameters = &run.parameters;
    let mut table = Table::new("Parameters", &["parameter", "value"]);
    table.names = table.head.len();
    table.rows = [
        ("protocol", wording::era(&parameters.era)),
        ("pacing", wording::pacing(&parameters.pacing)),
        ("connections", count(f64::from(parameters.connections_count))),
        ("requests in flight per connection", count(f64::from(parameters.pipeline_depth))),
        ("generator threads", count(f64::from(parameters.threads_count))),
        ("generator cores", listed(&run.generator.cores)),
        ("duration", seconds(parameters.duration_s)),
        ("warm-up", seconds(parameters.warmup_s)),
        ("share of the full size", percent(parameters.scale * 100.0)),
    ]
    .into_iter()
    .map(|(name, value)| vec![name.to_owned(), value])
    .collect();
    table
}

/// Requests of the mix.
pub(crate) fn mix(run: &Run) -> Option<Table> {
    let mut table = Table::new("Requests", &["request", "weight", "size", "arguments"]);
    table.names = table.head.len();
    for request in &run.parameters.requests {
        table.rows.push(vec![
            request.name.clone(),
            count(f64::from(request.weight)),
            bytes(u64::from(request.request_bytes)),
            request.arguments.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        ]);
    }
    table.filled()
}

/// Limits and flags of the server.
pub(crate) fn limits(run: &Run) -> Option<Table> {
    let mut table = Table::new("The server’s limits and switches", &["setting", "value"]);
    for (name, &value) in &run.server.limits {
        table.rows.push(vec![name.clone(), count(value)]);
    }
    for (name, &on) in &run.server.flags {
        table.rows.push(vec![name.clone(), if on { "on" } else { "off" }.to_owned()]);
    }
    table.filled()
}

/// A percentile as text; a dash without values.
fn time(distribution: &Latency, percentile: &str) -> String {
    match distribution.named(percentile) {
        Some(us) if distribution.count > 0 => latency(us),
        _ => UNKNOWN.to_owned(),
    }
}

fn listed(cores: &[usize]) -> String {
    if cores.is_empty() {
        return "not pinned".to_owned();
    }
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn percentile_table_has_corrected_and_uncorrected_rows() {
        let run = sample::run();
        let table = percentiles(&run);
        assert_eq!(table.head, ["", "p50", "p90", "p99", "p99.9", "p99.99", "max"]);
        assert_eq!(table.rows[0][0], "corrected");
        assert_eq!(table.rows[0][3], latency(run.latency.p99_us));
        assert_eq!(table.rows[1][3], latency(run.latency_uncorrected.p99_us));
        assert_ne!(table.rows[0][3], table.rows[1][3], "the stall shows in one of them only");
        assert_eq!(percentiles(&sample::closed()).rows.len(), 1);
    }

    #[test]
    fn transposed_table_has_the_same_cells() {
        let table = percentiles(&sample::run()).transposed();
        assert_eq!(table.head, ["", "corrected", "uncorrected"]);
        assert_eq!(table.rows.len(), PERCENTILES.len());
        assert_eq!(table.rows[2][0], "p99");
        assert_eq!(table.transposed().rows, percentiles(&sample::run()).rows);
    }

    #[test]
    fn mix_table_exists_for_several_requests() {
        let mut run = sample::run();
        let table = by_request(&run).unwrap();
        assert_eq!(table.rows[0][..4], ["tools/call echo", "80 %", "96,000", "38"]);
        assert_eq!(table.rows[1][..4], ["tools/list", "20 %", "24,000", "0"]);
        run.requests.truncate(1);
        assert!(by_request(&run).is_none());
    }

    #[test]
    fn tables_of_an_empty_run_have_dashes() {
        let run = sample::empty();
        assert!(percentiles(&run).rows.iter().all(|row| row[1..].iter().all(|cell| cell == UNKNOWN)));
        assert!(errors(&run).is_none() && checks(&run).is_none() && figures(&run).is_none());
    }
}
