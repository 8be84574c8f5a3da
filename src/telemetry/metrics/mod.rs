//! Metrics of a shard: latencies by method and by tool, rejections by reason. Recorded inline, merged on a scrape.

mod flag_counts;
mod process;
mod prometheus;
mod rollouts;
mod series;
mod stages;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub(crate) use flag_counts::FlagCounts;
pub(crate) use series::Distribution;
use series::Series;
pub use series::ToolFailure;
pub(crate) use stages::StageSeries;
pub use stages::{Stage, write_stages};

pub(crate) use process::{ThreadTimes, shard_threads};
pub use process::{resident_memory, write_process};
pub use prometheus::{
    ConnectionState, ConnectionStates, ShardReport, write_admin_refusals, write_counter, write_gauge,
    write_limits, write_prometheus,
};
pub use rollouts::write_rollouts;

/// Precision of the histograms of methods, which are few: 2^10 buckets per power of two, an error of at most 0.1 %.
const METHOD_PRECISION: u32 = 10;
/// Precision of the histograms of tools, which may be many: 2^7 buckets per power of two, an error of at most 0.8 %.
const TOOL_PRECISION: u32 = 7;

/// Whether shards that are made from now on have no series of latencies.
static HAS_NO_LATENCIES: AtomicBool = AtomicBool::new(false);

/// Makes every shard that starts from now on record no latencies, so that a benchmark can compare their cost. Counters remain.
pub fn omit_latencies() {
    HAS_NO_LATENCIES.store(true, Ordering::Relaxed);
}

fn has_latencies() -> bool {
    !HAS_NO_LATENCIES.load(Ordering::Relaxed)
}

/// Series of a shard's tools, by the tools' positions. A clone shares them.
#[derive(Clone, Default)]
pub struct ToolSeries(Arc<[Arc<Series>]>);

impl ToolSeries {
    /// Creates empty series for tools with these names.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::default().with(names.into_iter().map(|name| (name, None)))
    }

    /// Creates the series of other tools, given their names and, for a tool that continues an existing series, that series' position.
    #[must_use]
    pub fn with<'a>(&self, tools: impl IntoIterator<Item = (&'a str, Option<usize>)>) -> Self {
        let series =
            |(name, before): (&str, Option<usize>)| match before.and_then(|before| self.0.get(before)) {
                Some(series) => Arc::clone(series),
                None => Arc::new(Series::new(name, TOOL_PRECISION)),
            };
        Self(tools.into_iter().filter(|_| has_latencies()).map(series).collect())
    }
}

/// Calls of one tool.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolCounts {
    pub(crate) latencies: Distribution,
    /// Failed calls.
    pub(crate) failed: u64,
    /// Those of them whose result has `isError`; the others are rejections too.
    pub(crate) error_results: u64,
}

/// Metrics of one shard. A clone shares the latencies with the shard, which continues recording; its cost depends neither on the
/// number of tools nor on the number of samples.
#[derive(Clone)]
pub struct ShardMetrics {
    methods: Arc<[Arc<Series>]>,
    tools: ToolSeries,
    /// Positions of tools with replies noted in the current turn.
    noted_tools: Vec<usize>,
    /// Series with replies noted in the current turn whose tools have been replaced since.
    noted_before: Vec<Arc<Series>>,
    refusals: BTreeMap<&'static str, u64>,
    events: BTreeMap<&'static str, u64>,
    connections: u64,
    received_bytes: u64,
    sent_bytes: u64,
    busy: Duration,
    /// Time of turns without work, and time asleep.
    spin: Duration,
    sleep: Duration,
    pub(crate) flags: FlagCounts,
    pub(crate) stages: StageSeries,
}

impl ShardMetrics {
    /// Creates empty metrics with one histogram per method. The other functions take a method's position.
    #[must_use]
    pub fn new<'a>(methods: impl IntoIterator<Item = &'a str> + Clone) -> Self {
        Self {
            stages: StageSeries::new(methods.clone()),
            methods: methods
                .into_iter()
                .filter(|_| has_latencies())
                .map(|name| Arc::new(Series::new(name, METHOD_PRECISION)))
                .collect(),
            tools: ToolSeries::default(),
            noted_tools: Vec::new(),
            noted_before: Vec::new(),
            refusals: BTreeMap::new(),
            events: BTreeMap::new(),
            connections: 0,
            received_bytes: 0,
            sent_bytes: 0,
            busy: Duration::ZERO,
            spin: Duration::ZERO,
            sleep: Duration::ZERO,
            flags: FlagCounts::default(),
        }
    }

    /// Declares reasons and events, which are then reported even while their count is 0.
    pub fn declare(
        &mut self,
        refusals: impl IntoIterator<Item = &'static str>,
        events: impl IntoIterator<Item = &'static str>,
    ) {
        refusals.into_iter().for_each(|reason| _ = self.refusals.entry(reason).or_default());
        events.into_iter().for_each(|event| _ = self.events.entry(event).or_default());
    }

    /// Replaces the series of tools, and returns the previous ones, to be freed by the caller. Takes constant time.
    pub(crate) fn set_tools(&mut self, tools: ToolSeries) -> ToolSeries {
        let noted = self.noted_tools.drain(..).filter_map(|position| self.tools.0.get(position));
        self.noted_before.extend(noted.map(Arc::clone));
        std::mem::replace(&mut self.tools, tools)
    }

    /// The series of tools.
    #[must_use]
    pub(crate) fn tools(&self) -> &ToolSeries {
        &self.tools
    }

    /// Records a reply of a method that took `latency`.
    pub fn record(&mut self, method: usize, latency: Duration) {
        if let Some(latencies) = self.methods.get(method) {
            latencies.record(nanoseconds(latency), 1);
        }
    }

    /// Records a reply of a tool that took `latency`. Ignored if the tools have changed and the position now has another name.
    pub fn record_tool(&mut self, position: usize, name: &str, latency: Duration) {
        if let Some(latencies) = self.tools.0.get(position).filter(|latencies| *latencies.name == *name) {
            latencies.record(nanoseconds(latency), 1);
        }
    }

    /// Counts a failed call of a tool. Ignored if the tools have changed and the position now has another name.
    pub(crate) fn tool_failed(&mut self, position: usize, name: &str, failure: ToolFailure) {
        if let Some(latencies) = self.tools.0.get(position).filter(|latencies| *latencies.name == *name) {
            latencies.fail(failure);
        }
    }

    /// Notes a reply of the current turn, whose latency is known at its end, when all replies of the turn are sent.
    pub fn note(&mut self, method: usize) {
        if let Some(latencies) = self.methods.get(method) {
            latencies.note();
        }
    }

    /// Notes a reply of a tool in the current turn.
    pub fn note_tool(&mut self, position: usize) {
        if let Some(latencies) = self.tools.0.get(position)
            && latencies.note()
        {
            self.noted_tools.push(position);
        }
    }

    /// Names of tools with replies noted in the current turn, at most `max`.
    #[must_use]
    pub fn noted_tools(&self, max: usize) -> Vec<&str> {
        let noted = self.noted_tools.iter().filter_map(|position| self.tools.0.get(*position));
        self.noted_before.iter().chain(noted).map(|tool| tool.name.as_ref()).take(max).collect()
    }

    /// Records the replies noted in a turn that took `latency`.
    pub fn record_noted(&mut self, latency: Duration) {
        self.busy += latency;
        let nanoseconds = nanoseconds(latency);
        for latencies in self.methods.iter() {
            latencies.record_noted(nanoseconds);
        }
        while let Some(latencies) = self.noted_before.pop() {
            latencies.record_noted(nanoseconds);
        }
        while let Some(position) = self.noted_tools.pop() {
            if let Some(latencies) = self.tools.0.get(position) {
                latencies.record_noted(nanoseconds);
            }
        }
    }

    /// Counts a rejection.
    pub fn refuse(&mut self, reason: &'static str) {
        *self.refusals.entry(reason).or_default() += 1;
    }

    /// Counts an event that is not a rejection.
    pub fn event(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    /// Counts an accepted connection.
    pub fn accept(&mut self) {
        self.connections += 1;
    }

    /// Counts bytes received.
    pub fn receive(&mut self, bytes: usize) {
        self.received_bytes += bytes as u64;
    }

    /// Counts bytes handed to the kernel to be sent.
    pub fn send(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
    }

    /// Number of recorded replies.
    #[must_use]
    pub fn replies(&self) -> u64 {
        self.methods.iter().map(|method| method.distribution().len()).sum()
    }

    /// The latencies of all methods.
    pub(crate) fn latencies(&self) -> Distribution {
        let mut all = Distribution::default();
        self.methods.iter().for_each(|method| all.add(method.distribution()));
        all
    }

    /// The latencies and failures of each tool, by name.
    pub(crate) fn tool_counts(&self) -> impl Iterator<Item = (&str, ToolCounts)> {
        self.tools.0.iter().map(|tool| {
            let failures = <ToolFailure as strum::VariantArray>::VARIANTS.iter();
            let counts = ToolCounts {
                latencies: tool.distribution(),
                failed: failures.map(|failure| tool.failures(*failure)).sum(),
                error_results: tool.failures(ToolFailure::Error),
            };
            (&*tool.name, counts)
        })
    }

    /// Rejections by reason.
    pub(crate) fn refusals_by_reason(&self) -> &BTreeMap<&'static str, u64> {
        &self.refusals
    }

    /// Counts of events.
    pub(crate) fn all_events(&self) -> &BTreeMap<&'static str, u64> {
        &self.events
    }

    /// Time spent in turns with work.
    #[must_use]
    pub fn busy(&self) -> Duration {
        self.busy
    }

    /// Bytes received from clients, and bytes passed to the kernel for clients.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [self.received_bytes, self.sent_bytes]
    }

    /// Each tool that was called, with the number of its calls and their time in nanoseconds.
    pub(crate) fn tool_times(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let times = |tool: &Series| (tool.distribution().len(), tool.distribution().sum_ns);
        let called = self.tools.0.iter().map(move |tool| (&*tool.name, times(tool)));
        called.filter(|(_, (calls, _))| *calls > 0).map(|(name, (calls, time))| (name, calls, time))
    }

    /// Adds time of turns without work.
    pub(crate) fn add_spin(&mut self, time: Duration) {
        self.spin += time;
    }

    /// Adds time asleep, until there was work or a deadline.
    pub(crate) fn add_sleep(&mut self, time: Duration) {
        self.sleep += time;
    }

    /// Time of turns without work, and time asleep.
    pub(crate) fn idle(&self) -> [Duration; 2] {
        [self.spin, self.sleep]
    }

    /// Number of rejections for `reason`.
    #[must_use]
    pub fn refusals(&self, reason: &str) -> u64 {
        self.refusals.get(reason).copied().unwrap_or(0)
    }

    /// Count of `event`.
    #[must_use]
    pub fn events(&self, event: &str) -> u64 {
        self.events.get(event).copied().unwrap_or(0)
    }

    /// Adds the metrics of another shard.
    pub fn merge(&mut self, other: &Self) {
        for (latencies, others) in self.methods.iter().zip(other.methods.iter()) {
            latencies.merge(others);
        }
        for others in other.tools.0.iter() {
            match self.tools.0.iter().find(|tool| tool.name == others.name) {
                Some(tool) => tool.merge(others),
                None => {
                    let tool = Series::new(&others.name, TOOL_PRECISION);
                    tool.merge(others);
                    self.tools = ToolSeries(self.tools.0.iter().cloned().chain([Arc::new(tool)]).collect());
                }
            }
        }
        for (reason, count) in &other.refusals {
            *self.refusals.entry(reason).or_default() += count;
        }
        for (event, count) in &other.events {
            *self.events.entry(event).or_default() += count;
        }
        self.connections += other.connections;
        self.received_bytes += other.received_bytes;
        self.sent_bytes += other.sent_bytes;
        self.busy += other.busy;
        self.spin += other.spin;
        self.sleep += other.sleep;
        self.stages.merge(&other.stages);
        self.flags.merge(&other.flags);
    }
}

impl fmt::Display for ShardMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "connections accepted: {}", self.connections)?;
        for (kind, table) in [("method", &self.methods), ("tool", &self.tools.0)] {
            let recorded: Vec<_> = table
                .iter()
                .map(|row| (&row.name, row.distribution()))
                .filter(|(_, row)| row.len() > 0)
                .collect();
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
        for (reason, count) in self.refusals.iter().filter(|(_, count)| **count > 0) {
            writeln!(formatter, "refused {reason}: {count}")?;
        }
        for (event, count) in self.events.iter().filter(|(_, count)| **count > 0) {
            writeln!(formatter, "{event}: {count}")?;
        }
        Ok(())
    }
}

fn nanoseconds(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_shards_merge_into_one_table() {
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
        assert!(!table.contains("\nb "), "methods without calls are omitted: {table}");
        assert_eq!(one.refusals("busy"), 1);
    }

    #[test]
    fn clone_shares_the_latencies() {
        let mut metrics = ShardMetrics::new(["a"]);
        metrics.set_tools(ToolSeries::new(["t"]));
        (0..40).for_each(|power| metrics.record(0, Duration::from_nanos(1 << power)));
        let clone = metrics.clone();
        assert!(
            Arc::ptr_eq(&metrics.methods, &clone.methods) && Arc::ptr_eq(&metrics.tools.0, &clone.tools.0)
        );
        let distribution = clone.methods[0].distribution();
        assert_eq!((distribution.len(), distribution.max()), (40, (1 << 39) + (1 << 29) - 1));
        assert!((1 << 19..=(1 << 19) + (1 << 9)).contains(&distribution.value_at_quantile(0.5)));
    }

    #[test]
    fn tools_keep_their_series_when_the_list_changes() {
        let mut metrics = ShardMetrics::new([]);
        let before = ToolSeries::new(["old", "kept"]);
        metrics.set_tools(before.clone());
        metrics.note_tool(1);
        // Within a turn.
        let after = before.with([("new", None), ("other", None), ("kept", Some(1))]);
        assert!(Arc::ptr_eq(&metrics.set_tools(after).0, &before.0), "freed by the caller");
        metrics.note_tool(2);
        assert_eq!(metrics.noted_tools(3), ["kept"]);
        metrics.record_noted(Duration::from_micros(5));
        metrics.record_tool(0, "old", Duration::from_micros(5));
        let table = metrics.to_string();
        assert!(table.contains("kept                      2"), "{table}");
        assert!(!table.contains("new") && !table.contains("old"), "{table}");
    }
}
