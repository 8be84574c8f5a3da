//! The percentile distribution in the text format of HdrHistogram's plotter.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Lines per halving of the distance to 100 %, the default of `outputPercentileDistribution`.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Nanoseconds per unit of the values.
const SCALE: f64 = 1e6;

/// Writes a histogram of nanoseconds like `outputPercentileDistribution` of the Java HdrHistogram with a scaling ratio
/// of 1,000,000: in milliseconds. Values have six decimals instead of Java's three, so that nanoseconds are preserved.
#[must_use]
pub fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / SCALE;
        let quantile = step.quantile_iterated_to();
        let _ = write!(text, "{value:12.6} {quantile:2.12} {total:10}");
        // The last line has no fourth column, because it would be infinite.
        let _ =
            if quantile < 1.0 { writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]",
        histogram.mean() / SCALE,
        histogram.stdev() / SCALE
    );
    let _ = writeln!(
        text,
        "#[Max     = {:12.6}, Total count    = {:12}]",
        histogram.max() as f64 / SCALE,
        histogram.len()
    );
    let _ = writeln!(
        text,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.buckets(),
        sub_buckets(histogram.sigfig())
    );
    text.push_str("#[Values in milliseconds: nanoseconds / 1000000]\n");
    text
}

/// Number of linear sub-buckets: the smallest power of two that can distinguish 2 · 10^digits values.
fn sub_buckets(digits: u8) -> u64 {
    (2 * 10u64.pow(u32::from(digits))).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{latency::histogram, report::sample};

    /// Splits the rows at blanks as the plotter does, without comments.
    fn rows(text: &str) -> Vec<Vec<f64>> {
        let numbers = |line: &str| line.split_whitespace().map(|number| number.parse().unwrap()).collect();
        text.lines().skip(2).filter(|line| !line.starts_with('#')).map(numbers).collect()
    }

    #[test]
    fn distribution_rows_end_at_the_maximum() {
        let histogram = sample::run().latency.histogram().unwrap();
        let text = hgrm(&histogram);
        let rows = rows(&text);
        let (last, plotted) = rows.split_last().unwrap();
        assert_eq!(last, &[histogram.max() as f64 / 1e6, 1.0, histogram.len() as f64]);
        assert!(plotted.iter().all(|row| row.len() == 4), "{text}");
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] < b[1] && a[2] <= b[2]), "{text}");
        let median = plotted.iter().find(|row| row[1] == 0.5).unwrap();
        assert_eq!(median[0], histogram.value_at_quantile(0.5) as f64 / 1e6);
        assert_eq!(median[3], 2.0);
    }

    #[test]
    fn distribution_footer_has_the_summary() {
        let mut histogram = histogram();
        histogram.record_n(2_000_000, 3).unwrap();
        let text = hgrm(&histogram);
        let footer: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
        assert!(
            footer[0].starts_with("#[Mean    =     2.000") && footer[0].contains("StdDeviation"),
            "{text}"
        );
        assert_eq!(footer[1], "#[Max     =     2.000895, Total count    =            3]");
        assert_eq!(footer[2], "#[Buckets =           32, SubBuckets     =         2048]");
        assert_eq!(footer[3], "#[Values in milliseconds: nanoseconds / 1000000]");
    }

    #[test]
    fn empty_distribution_has_a_footer_of_zeros() {
        let text = hgrm(&histogram());
        assert!(rows(&text).is_empty(), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
