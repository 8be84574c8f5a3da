//! The intervals of a run as an HdrHistogram interval log, for its log processor and analyser.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder};

use crate::{error::LoadError, result::Run};

/// Nanoseconds per unit of `Interval_Max`, the default of the Java writer.
const MAX_SCALE: f64 = 1e6;

/// Writes the latencies by interval, in nanoseconds from the due time. Timestamps are seconds since measuring began;
/// that time is both start and base time of the log. There are no tags.
///
/// # Errors
/// When the result contains an invalid histogram or time.
pub fn hlog(run: &Run) -> Result<String, LoadError> {
    let began = SystemTime::UNIX_EPOCH
        .checked_add(span(run.began_unix_s)?)
        .ok_or_else(|| LoadError::Report(format!("no run began at {} s", run.began_unix_s)))?;
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!("[Logged with corelane-loadgen {}]", env!("CARGO_PKG_VERSION")))
        .add_comment("[Values in nanoseconds, Interval_Max in milliseconds]")
        .with_start_time(began)
        // Without a base time readers guess the origin of the timestamps.
        .with_base_time(began)
        .with_max_value_divisor(MAX_SCALE)
        .begin_log_with(&mut log, &mut serializer)
        .map_err(|error| LoadError::Report(error.to_string()))?;
    for interval in &run.intervals {
        let histogram = interval.latency.histogram().map_err(LoadError::Report)?;
        writer
            .write_histogram(&histogram, span(interval.start_s)?, span(interval.length_s)?, None)
            .map_err(|error| LoadError::Report(error.to_string()))?;
    }
    String::from_utf8(log).map_err(|error| LoadError::Report(error.to_string()))
}

fn span(seconds: f64) -> Result<Duration, LoadError> {
    Duration::try_from_secs_f64(seconds).map_err(|error| LoadError::Report(format!("{seconds} s: {error}")))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use hdrhistogram::{
        Histogram,
        serialization::{
            Deserializer,
            interval_log::{IntervalLogIterator, LogEntry},
        },
    };

    use super::*;
    use crate::report::sample;

    fn entries(log: &str) -> Vec<LogEntry<'_>> {
        IntervalLogIterator::new(log.as_bytes()).map(|entry| entry.unwrap()).collect()
    }

    fn decoded(text: &str) -> Histogram<u64> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap()
    }

    #[test]
    fn interval_log_decodes_to_the_same_histograms() {
        let run = sample::run();
        let log = hlog(&run).unwrap();
        let entries = entries(&log);
        assert_eq!(entries[0], LogEntry::StartTime(Duration::from_millis(1_790_000_000_250)));
        assert_eq!(entries[1], LogEntry::BaseTime(Duration::from_millis(1_790_000_000_250)));
        assert_eq!(entries.len(), 2 + run.intervals.len());
        for (entry, interval) in entries[2..].iter().zip(&run.intervals) {
            let LogEntry::Interval(logged) = entry else { panic!("{entry:?} is no interval") };
            assert_eq!(logged.tag(), None);
            assert_eq!(logged.start_timestamp(), Duration::from_secs_f64(interval.start_s));
            assert_eq!(logged.duration(), Duration::from_secs_f64(interval.length_s));
            assert!((logged.max() - interval.latency.max_us / 1e3).abs() < 0.001);
            assert_eq!(decoded(logged.encoded_histogram()), interval.latency.histogram().unwrap());
        }
    }

    #[test]
    fn interval_log_without_intervals_has_no_entries() {
        assert_eq!(entries(&hlog(&sample::empty()).unwrap()).len(), 2);
    }

    #[test]
    fn invalid_histogram_or_time_is_an_error_of_the_log() {
        let mut run = sample::run();
        run.intervals[3].latency.histogram_ns = "AAAA".to_owned();
        assert!(hlog(&run).is_err());
        let mut run = sample::run();
        run.began_unix_s = f64::NAN;
        assert!(hlog(&run).is_err());
        run.began_unix_s = -1.0;
        assert!(hlog(&run).is_err());
    }
}
