//! Merges intervals to the columns of a chart.

use hdrhistogram::Histogram;

use crate::{error::LoadError, latency, result::Run};

/// Maximum number of columns: each is wider than two pixels of a phone's screen. A run has 60 to 150 intervals.
const COLUMNS_MAX: usize = 150;

/// Consecutive intervals.
pub(crate) struct Column {
    pub(crate) start_s: f64,
    pub(crate) end_s: f64,
    /// Correct replies that arrived in the column.
    pub(crate) completed_count: u64,
    /// Requests that were due in the column and failed.
    pub(crate) errors_count: u64,
    /// Latencies in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Column {
    /// The middle in seconds.
    pub(crate) fn middle_s(&self) -> f64 {
        f64::midpoint(self.start_s, self.end_s)
    }

    /// Converts a count to a rate per second.
    pub(crate) fn per_s(&self, number: u64) -> f64 {
        let length_s = self.end_s - self.start_s;
        if length_s > 0.0 { number as f64 / length_s } else { 0.0 }
    }
}

/// Merges the intervals of a run to at most [`COLUMNS_MAX`] columns.
pub(crate) fn columns(run: &Run) -> Result<Vec<Column>, LoadError> {
    let chunk = run.intervals.len().div_ceil(COLUMNS_MAX).max(1);
    run.intervals.chunks(chunk).map(column).collect()
}

fn column(intervals: &[crate::result::Interval]) -> Result<Column, LoadError> {
    let mut latency = latency::histogram();
    for interval in intervals {
        let part = interval.latency.histogram().map_err(LoadError::Report)?;
        latency.add(part).map_err(|error| LoadError::Report(error.to_string()))?;
    }
    let end_s = intervals.last().map_or(0.0, |last| last.start_s + last.length_s);
    Ok(Column {
        start_s: intervals.first().map_or(0.0, |first| first.start_s),
        end_s,
        completed_count: intervals
            .iter()
            .map(|interval| interval.completed_count.unwrap_or(interval.replies_count))
            .sum(),
        errors_count: intervals.iter().map(|interval| interval.errors_count).sum(),
        latency,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn few_intervals_are_not_merged() {
        let run = sample::run();
        let columns = columns(&run).unwrap();
        assert_eq!(columns.len(), run.intervals.len());
        assert_eq!(columns[3].latency, run.intervals[3].latency.histogram().unwrap());
        assert_eq!((columns[3].start_s, columns[3].end_s, columns[3].middle_s()), (3.0, 4.0, 3.5));
        assert_eq!(columns[3].per_s(columns[3].completed_count), 4_000.0);
    }

    #[test]
    fn many_intervals_are_merged_without_loss() {
        let mut run = sample::run();
        let pattern = run.intervals.clone();
        run.intervals = (0..200)
            .map(|index| crate::result::Interval { start_s: index as f64, ..pattern[index % 30].clone() })
            .collect();
        let columns = columns(&run).unwrap();
        assert_eq!(columns.len(), 100);
        assert_eq!((columns[99].start_s, columns[99].end_s), (198.0, 200.0));
        let sum = |columns: &[Column]| columns.iter().map(|column| column.latency.len()).sum::<u64>();
        let all: u64 = run.intervals.iter().map(|interval| interval.latency.count).sum();
        assert_eq!(sum(&columns), all);
    }

    #[test]
    fn run_without_intervals_has_no_columns() {
        assert!(columns(&sample::empty()).unwrap().is_empty());
    }
}
