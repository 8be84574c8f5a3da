//! What a shard measures: latencies by method and by tool, refusals by reason. Recorded in line, merged when asked for.

mod prometheus;

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

pub use prometheus::{ShardReport, write_admin_refusals, write_limits, write_prometheus};

/// Latencies are kept from 1 ns to this, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Significant digits of the latencies of methods, which are few, and of tools, which may be many.
const METHOD_DIGITS: u8 = 3;
const TOOL_DIGITS: u8 = 2;

/// One shard's measurements.
#[derive(Clone)]
pub struct ShardMetrics {
    methods: Vec<Latencies>,
    tools: Vec<Latencies>,
    /// Tools with answers noted in this turn.
    noted_tools: Vec<usize>,
    refusals: BTreeMap<&'static str, u64>,
    events: BTreeMap<&'static str, u64>,
    connections: u64,
}

#[derive(Clone)]
struct Latencies {
    name: Box<str>,
    digits: u8,
    /// There once something has been recorded: an empty one takes as much memory as a full one.
    histogram: Option<Histogram<u64>>,
    /// Answers of the turn at hand, not yet in the histogram.
    answered: u64,
    /// Answers that said the tool had failed.
    errors: u64,
}

impl Latencies {
    fn new(name: &str, digits: u8) -> Self {
        Self { name: name.into(), digits, histogram: None, answered: 0, errors: 0 }
    }

    fn histogram(&mut self) -> &mut Histogram<u64> {
        let digits = self.digits;
        self.histogram.get_or_insert_with(|| {
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, digits)
                .unwrap_or_else(|_| unreachable!("1 ns to 60 s at 2 or 3 digits is a histogram"))
        })
    }

    fn record_noted(&mut self, nanoseconds: u64) {
        let answered = std::mem::take(&mut self.answered);
        if answered > 0 {
            self.histogram().saturating_record_n(nanoseconds, answered);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.errors += other.errors;
        if let Some(others) = &other.histogram {
            // Both have the same bounds.
            let _ = self.histogram().add(others);
        }
    }
}

impl ShardMetrics {
    /// Empty measurements with one histogram per method; the other functions take the method's position.
    #[must_use]
    pub fn new<'a>(methods: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            methods: methods.into_iter().map(|name| Latencies::new(name, METHOD_DIGITS)).collect(),
            tools: Vec::new(),
            noted_tools: Vec::new(),
            refusals: BTreeMap::new(),
            events: BTreeMap::new(),
            connections: 0,
        }
    }

    /// Says which tools there are from now on; those that were there keep what was measured.
    pub fn set_tools<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let mut before: BTreeMap<_, _> =
            std::mem::take(&mut self.tools).into_iter().map(|tool| (tool.name.clone(), tool)).collect();
        let keep = |name| before.remove(name).unwrap_or_else(|| Latencies::new(name, TOOL_DIGITS));
        self.tools = names.into_iter().map(keep).collect();
        let is_noted = |(position, tool): (usize, &Latencies)| (tool.answered > 0).then_some(position);
        self.noted_tools = self.tools.iter().enumerate().filter_map(is_noted).collect();
    }

    /// Counts one answer of a method that took `latency`.
    pub fn record(&mut self, method: usize, latency: Duration) {
        if let Some(latencies) = self.methods.get_mut(method) {
            latencies.histogram().saturating_record(nanoseconds(latency));
        }
    }

    /// Counts one answer of a tool that took `latency`. The name counts where the tools have changed since.
    pub fn record_tool(&mut self, position: usize, name: &str, latency: Duration) {
        if let Some(latencies) = self.tools.get_mut(position).filter(|latencies| *latencies.name == *name) {
            latencies.histogram().saturating_record(nanoseconds(latency));
        }
    }

    /// Counts one answer of a tool that said it had failed. The name counts where the tools have changed since.
    pub fn tool_error(&mut self, position: usize, name: &str) {
        if let Some(latencies) = self.tools.get_mut(position).filter(|latencies| *latencies.name == *name) {
            latencies.errors += 1;
        }
    }

    /// Notes one answer of this turn. All of a turn's answers leave together, when it ends.
    pub fn note(&mut self, method: usize) {
        if let Some(latencies) = self.methods.get_mut(method) {
            latencies.answered += 1;
        }
    }

    /// Notes one answer of a tool in this turn.
    pub fn note_tool(&mut self, position: usize) {
        if let Some(latencies) = self.tools.get_mut(position) {
            if latencies.answered == 0 {
                self.noted_tools.push(position);
            }
            latencies.answered += 1;
        }
    }

    /// The names of tools with answers noted in this turn, `max` at most.
    #[must_use]
    pub fn noted_tools(&self, max: usize) -> Vec<&str> {
        let named = |position: &usize| self.tools.get(*position).map(|tool| tool.name.as_ref());
        self.noted_tools.iter().filter_map(named).take(max).collect()
    }

    /// Counts the answers noted in a turn that took `latency`.
    pub fn record_noted(&mut self, latency: Duration) {
        let nanoseconds = nanoseconds(latency);
        for latencies in &mut self.methods {
            latencies.record_noted(nanoseconds);
        }
        while let Some(position) = self.noted_tools.pop() {
            if let Some(latencies) = self.tools.get_mut(position) {
                latencies.record_noted(nanoseconds);
            }
        }
    }

    /// Counts a refusal.
    pub fn refuse(&mut self, reason: &'static str) {
        *self.refusals.entry(reason).or_default() += 1;
    }

    /// Counts something worth knowing that is no refusal.
    pub fn event(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    /// Counts an accepted connection.
    pub fn accept(&mut self) {
        self.connections += 1;
    }

    /// How often something was refused for `reason`.
    #[must_use]
    pub fn refusals(&self, reason: &str) -> u64 {
        self.refusals.get(reason).copied().unwrap_or(0)
    }

    /// How often `event` was counted.
    #[must_use]
    pub fn events(&self, event: &str) -> u64 {
        self.events.get(event).copied().unwrap_or(0)
    }

    /// Adds another shard's measurements.
    pub fn merge(&mut self, other: &Self) {
        for (latencies, others) in self.methods.iter_mut().zip(&other.methods) {
            latencies.merge(others);
        }
        for others in &other.tools {
            let position = self.tools.iter().position(|tool| tool.name == others.name).unwrap_or_else(|| {
                self.tools.push(Latencies::new(&others.name, TOOL_DIGITS));
                self.tools.len() - 1
            });
            if let Some(latencies) = self.tools.get_mut(position) {
                latencies.merge(others);
            }
        }
        for (reason, count) in &other.refusals {
            *self.refusals.entry(reason).or_default() += count;
        }
        for (event, count) in &other.events {
            *self.events.entry(event).or_default() += count;
        }
        self.connections += other.connections;
    }
}

impl fmt::Display for ShardMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "connections accepted: {}", self.connections)?;
        for (kind, table) in [("method", &self.methods), ("tool", &self.tools)] {
            let recorded: Vec<_> =
                table.iter().filter_map(|row| Some((&row.name, row.histogram.as_ref()?))).collect();
            if recorded.is_empty() {
                continue;
            }
            write!(formatter, "{kind:<16}")?;
            let columns = ["count", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max µs"];
            columns.iter().try_for_each(|column| write!(formatter, " {column:>10}"))?;
            writeln!(formatter)?;
            for (name, histogram) in recorded {
                write!(formatter, "{name:<16} {:>10}", histogram.len())?;
                let quantiles = [0.5, 0.9, 0.99, 0.999].map(|quantile| histogram.value_at_quantile(quantile));
                for nanoseconds in quantiles.into_iter().chain([histogram.max()]) {
                    write!(formatter, " {:>10.1}", Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6)?;
                }
                writeln!(formatter)?;
            }
        }
        for (reason, count) in &self.refusals {
            writeln!(formatter, "refused {reason}: {count}")?;
        }
        for (event, count) in &self.events {
            writeln!(formatter, "{event}: {count}")?;
        }
        Ok(())
    }
}

fn nanoseconds(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_merge_into_one_table() {
        let mut one = ShardMetrics::new(["a", "b"]);
        let mut two = ShardMetrics::new(["a", "b"]);
        one.record(0, Duration::from_micros(10));
        two.record(0, Duration::from_micros(30));
        two.refuse("busy");
        two.accept();
        one.merge(&two);
        let table = one.to_string();
        assert!(table.contains("a                         2       10.0       30.0"), "{table}");
        assert!(table.contains("refused busy: 1"), "{table}");
        assert!(!table.contains("\nb "), "methods nobody called are left out: {table}");
        assert_eq!(one.refusals("busy"), 1);
    }

    #[test]
    fn tools_keep_their_figures_when_the_list_changes() {
        let mut metrics = ShardMetrics::new([]);
        metrics.set_tools(["old", "kept"]);
        metrics.note_tool(1);
        // In the middle of a turn.
        metrics.set_tools(["new", "other", "kept"]);
        metrics.note_tool(2);
        metrics.record_noted(Duration::from_micros(5));
        metrics.record_tool(0, "old", Duration::from_micros(5));
        let table = metrics.to_string();
        assert!(table.contains("kept                      2"), "{table}");
        assert!(!table.contains("new") && !table.contains("old"), "{table}");
    }
}
