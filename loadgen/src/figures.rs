//! Figures of single workloads besides latency and throughput, computed from the intervals of a run.

use crate::{
    latency::Latency,
    result::{Interval, Run},
};

/// Name of the figure for the number of published updates. Only fan-out runs have it.
pub const UPDATES_PUBLISHED: &str = "updates_published_count";

/// Name of the figure for how often the server encoded each update. Only fan-out runs have it, of servers that count it.
pub const ENCODINGS_PER_UPDATE: &str = "encodings_per_update";

/// A server has recovered from a burst when its latency is at most this many times the latency before.
const RECOVERED_RATIO: f64 = 2.0;
/// Lower bound of the recovery threshold, in microseconds.
const RECOVERED_US_MIN: f64 = 1_000.0;

/// Adds the figures of the run's workload.
pub fn derive(run: &mut Run) {
    let figures: Vec<(&str, Option<f64>)> = match run.workload.as_str() {
        "burst" => vec![("recovered_after_s", recovered_after_s(run)), ("burst_p95_us", burst_p95_us(run))],
        "sustained_100k" => vec![
            ("latency_p95_steady_ratio", steady_ratio(&run.intervals)),
            ("memory_growth_ratio", memory_growth(run)),
        ],
        "soak" => vec![
            ("memory_growth_ratio", memory_growth(run)),
            ("latency_p95_steady_ratio", steady_ratio(&run.intervals)),
            ("throughput_steady_ratio", last_to_first(&run.intervals, Interval::throughput_per_s)),
            ("latency_p99_growth_ratio", last_to_first(&run.intervals, |interval| interval.latency.p99_us)),
        ],
        _ => Vec::new(),
    };
    let known = figures.into_iter().filter_map(|(name, figure)| Some((name.to_owned(), figure?)));
    run.figures.extend(known);
}

/// Splits the intervals in thirds. The burst is the second.
fn thirds(run: &Run) -> [&[Interval]; 3] {
    let third = run.intervals.len() / 3;
    let (before, rest) = run.intervals.split_at(third);
    let (burst, after) = rest.split_at(third);
    [before, burst, after]
}

/// Time from the end of the burst until the 95th percentile stays below the threshold, in seconds. If it never does,
/// one interval more than was measured; `None` if the run is too short.
fn recovered_after_s(run: &Run) -> Option<f64> {
    let [before, _, after] = thirds(run);
    let usual = median(before.iter().map(|interval| interval.latency.p95_us))?;
    let bound = (usual * RECOVERED_RATIO).max(RECOVERED_US_MIN);
    let burst_end = after.first()?.start_s;
    let last_bad =
        after.iter().rfind(|interval| interval.latency.count == 0 || interval.latency.p95_us > bound);
    let last = after.last()?;
    Some(match last_bad {
        None => 0.0,
        Some(bad) if bad.start_s >= last.start_s => last.start_s + 2.0 * last.length_s - burst_end,
        Some(bad) => bad.start_s + bad.length_s - burst_end,
    })
}

fn burst_p95_us(run: &Run) -> Option<f64> {
    let [_, burst, _] = thirds(run);
    p95_of(burst)
}

/// The 95th percentile of the worst second, divided by the median of all seconds.
fn steady_ratio(intervals: &[Interval]) -> Option<f64> {
    let length_s = intervals.first()?.length_s.max(1e-9);
    let chunk = ((1.0 / length_s).round() as usize).max(1);
    let p95: Option<Vec<f64>> = intervals.chunks(chunk).map(p95_of).collect();
    let p95 = p95?;
    Some(p95.iter().copied().fold(0.0, f64::max) / median(p95.iter().copied())?)
}

/// The 95th percentile of several intervals together; `None` if a histogram is invalid.
fn p95_of(intervals: &[Interval]) -> Option<f64> {
    if let [only] = intervals {
        return Some(only.latency.p95_us);
    }
    let mut all = crate::latency::histogram();
    for interval in intervals {
        all.add(interval.latency.histogram().ok()?).ok()?;
    }
    Some(Latency::of(&all).p95_us)
}

/// Growth of resident memory: the median of the last tenth of the samples, divided by that of the first tenth.
fn memory_growth(run: &Run) -> Option<f64> {
    let samples = &run.server_process.as_ref()?.samples;
    last_to_first(samples, |sample| sample.resident_bytes as f64)
}

fn last_to_first<T>(parts: &[T], figure: impl Fn(&T) -> f64) -> Option<f64> {
    let tenth = parts.len().div_ceil(10);
    let first = median(parts.iter().take(tenth).map(&figure))?;
    let last = median(parts.iter().rev().take(tenth).map(&figure))?;
    (first > 0.0).then(|| last / first)
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    crate::statistics::median(&values.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(index: usize, p95_us: f64) -> Interval {
        let latency = Latency { count: 100, p95_us, ..Latency::default() };
        Interval {
            start_s: index as f64,
            length_s: 1.0,
            replies_count: 100,
            errors_count: 0,
            completed_count: None,
            latency,
        }
    }

    #[test]
    fn recovery_time_ends_after_the_last_bad_interval() {
        let mut run = crate::sample::run("burst", "corelane");
        let p95 = [300.0, 310.0, 290.0, 9_000.0, 9_000.0, 9_000.0, 5_000.0, 300.0, 320.0];
        run.intervals = p95.iter().enumerate().map(|(index, p95)| interval(index, *p95)).collect();
        assert_eq!(recovered_after_s(&run), Some(1.0));
        run.intervals[8].latency.p95_us = 2_000.0;
        assert_eq!(
            recovered_after_s(&run),
            Some(4.0),
            "a relapse is no recovery, and longer than was watched"
        );
        run.intervals.clear();
        assert_eq!(recovered_after_s(&run), None);
    }

    #[test]
    fn steady_ratio_contains_the_worst_second() {
        let mut intervals: Vec<_> = (0..10).map(|index| interval(index, 200.0)).collect();
        assert_eq!(steady_ratio(&intervals), Some(1.0));
        intervals[4].latency.p95_us = 900.0;
        assert_eq!(steady_ratio(&intervals), Some(4.5));
    }
}
