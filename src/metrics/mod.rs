//! What a shard measures: latencies by method, refusals by reason. Recorded in line, merged when asked for.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

/// Latencies are kept from 1 ns to this, in nanoseconds, at three significant digits.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// One shard's measurements.
pub struct ShardMetrics {
    latencies: Vec<Latencies>,
    refusals: BTreeMap<&'static str, u64>,
    connections: u64,
}

struct Latencies {
    name: &'static str,
    histogram: Histogram<u64>,
    /// Answers of the turn at hand, not yet in the histogram.
    answered: u64,
}

impl ShardMetrics {
    /// Empty measurements with one histogram per name; the other methods take the name's position.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        let empty = || {
            // The bounds are constants the crate accepts; one that grows by itself is as good.
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
                .unwrap_or_else(|_| unreachable!("1 ns to 60 s at 3 digits is a histogram"))
        };
        Self {
            latencies: names
                .into_iter()
                .map(|name| Latencies { name, histogram: empty(), answered: 0 })
                .collect(),
            refusals: BTreeMap::new(),
            connections: 0,
        }
    }

    /// Counts one answer that took `latency`.
    pub fn record(&mut self, position: usize, latency: Duration) {
        if let Some(latencies) = self.latencies.get_mut(position) {
            latencies.histogram.saturating_record(nanoseconds(latency));
        }
    }

    /// Notes one answer of this turn. All of a turn's answers leave together, when it ends.
    pub fn note(&mut self, position: usize) {
        if let Some(latencies) = self.latencies.get_mut(position) {
            latencies.answered += 1;
        }
    }

    /// Counts the answers noted in a turn that took `latency`.
    pub fn record_noted(&mut self, latency: Duration) {
        for latencies in &mut self.latencies {
            let answered = std::mem::take(&mut latencies.answered);
            if answered > 0 {
                latencies.histogram.saturating_record_n(nanoseconds(latency), answered);
            }
        }
    }

    /// Counts a refusal.
    pub fn refuse(&mut self, reason: &'static str) {
        *self.refusals.entry(reason).or_default() += 1;
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

    /// Adds another shard's measurements.
    pub fn merge(&mut self, other: &Self) {
        for (latencies, others) in self.latencies.iter_mut().zip(&other.latencies) {
            // Both have the same bounds.
            let _ = latencies.histogram.add(&others.histogram);
        }
        for (reason, count) in &other.refusals {
            *self.refusals.entry(reason).or_default() += count;
        }
        self.connections += other.connections;
    }
}

impl fmt::Display for ShardMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "connections accepted: {}", self.connections)?;
        let header = ["method", "count", "p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max µs"];
        let [method, rest @ ..] = header;
        write!(formatter, "{method:<16}")?;
        rest.iter().try_for_each(|column| write!(formatter, " {column:>10}"))?;
        writeln!(formatter)?;
        for Latencies { name, histogram, .. } in
            self.latencies.iter().filter(|latencies| !latencies.histogram.is_empty())
        {
            write!(formatter, "{name:<16} {:>10}", histogram.len())?;
            let quantiles = [0.5, 0.9, 0.99, 0.999].map(|quantile| histogram.value_at_quantile(quantile));
            for nanoseconds in quantiles.into_iter().chain([histogram.max()]) {
                write!(formatter, " {:>10.1}", Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6)?;
            }
            writeln!(formatter)?;
        }
        for (reason, count) in &self.refusals {
            writeln!(formatter, "refused {reason}: {count}")?;
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
}
