//! Latencies: recorded as mergeable histograms, reported as percentiles.

use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest latency that is recorded, in nanoseconds; longer ones are recorded as this. The shortest is 1 ns.
pub const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Significant digits of the histograms: each recorded value is within 0.1 % of the measured one.
const DIGITS: u8 = 3;

/// Creates an empty histogram of nanoseconds.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)
        .unwrap_or_else(|_| unreachable!("1 ns to 1 h at 3 digits is a histogram"))
}

/// A distribution of times, in microseconds. Every field is 0 if nothing was recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Number of recorded times.
    pub count: u64,
    /// The shortest time.
    pub min_us: f64,
    /// The arithmetic mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 95th percentile.
    pub p95_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p99_9_us: f64,
    /// 99.99th percentile.
    pub p99_99_us: f64,
    /// The longest time.
    pub max_us: f64,
    /// The whole distribution in nanoseconds: an HdrHistogram in V2 compressed encoding, base64.
    pub histogram_ns: String,
}

impl Latency {
    /// Summarizes a histogram of nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self { histogram_ns: encode(histogram), ..Self::default() };
        }
        let at = |quantile| microseconds(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            min_us: microseconds(histogram.min()),
            mean_us: histogram.mean() / 1e3,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: microseconds(histogram.max()),
            histogram_ns: encode(histogram),
        }
    }

    /// Decodes the histogram, in nanoseconds.
    ///
    /// # Errors
    /// When the text is not an encoded histogram.
    pub fn histogram(&self) -> Result<Histogram<u64>, String> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&self.histogram_ns)
            .map_err(|error| error.to_string())?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| error.to_string())
    }

    /// The percentile with this name, in microseconds: `p50`, `p90`, `p95`, `p99`, `p99.9`, `p99.99`, `max` or `mean`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<f64> {
        Some(match name {
            "p50" => self.p50_us,
            "p90" => self.p90_us,
            "p95" => self.p95_us,
            "p99" => self.p99_us,
            "p99.9" => self.p99_9_us,
            "p99.99" => self.p99_99_us,
            "max" => self.max_us,
            "mean" => self.mean_us,
            _ => return None,
        })
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

fn encode(histogram: &Histogram<u64>) -> String {
    use base64::Engine as _;
    let mut bytes = Vec::new();
    // Writing to memory cannot fail, and a histogram with these bounds fits the encoding.
    let _ = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_histogram_decodes_to_itself() {
        let mut recorded = histogram();
        for value in [1_000, 20_000, 20_500, 3_000_000, LATENCY_NS_MAX] {
            recorded.record(value).unwrap();
        }
        let latency = Latency::of(&recorded);
        assert_eq!(latency.histogram().unwrap(), recorded);
        assert_eq!(latency.count, 5);
        assert!((latency.p50_us - 20.5).abs() < 0.05, "{latency:?}");
        assert!(Latency { histogram_ns: "AAAA".to_owned(), ..latency }.histogram().is_err());
    }

    #[test]
    fn empty_histogram_has_zero_latency() {
        let latency = Latency::of(&histogram());
        assert_eq!((latency.count, latency.max_us), (0, 0.0));
        assert!(latency.histogram().unwrap().is_empty());
    }
}
