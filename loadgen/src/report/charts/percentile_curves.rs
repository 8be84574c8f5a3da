//! Latency by percentile.

use hdrhistogram::Histogram;
use maud::Markup;

use super::{
    axis::Axis,
    drawing::{Mark, Panel, svg},
    ink::Ink,
};
use crate::{error::LoadError, report::wording::is_closed, result::Run, units::latency};

/// Number of points per halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 10;

/// Draws the curves of the runs: corrected solid, uncorrected dashed; `None` without replies.
pub(crate) fn percentile_curves(runs: &[(&str, &Run)]) -> Result<Option<Markup>, LoadError> {
    let mut curves = Vec::new();
    for (number, (_, run)) in runs.iter().enumerate() {
        // The dashed line is drawn first, so that the solid one covers it where both are equal.
        if !is_closed(run) {
            curves.push((Ink::Dashed(number), decoded(&run.latency_uncorrected)?));
        }
        curves.push((Ink::Series(number), decoded(&run.latency)?));
    }
    curves.retain(|(_, histogram)| !histogram.is_empty());
    let Some(most) = curves.iter().map(|(_, histogram)| histogram.len()).max() else { return Ok(None) };
    let shortest_ns = curves.iter().map(|(_, histogram)| histogram.min()).min().unwrap_or_default();
    let longest_ns = curves.iter().map(|(_, histogram)| histogram.max()).max().unwrap_or_default();
    let panel = Panel {
        title: "latency".to_owned(),
        height: 340,
        x: Axis::nines(most),
        y: Axis::latency(shortest_ns as f64 / 1e3, longest_ns as f64 / 1e3),
        is_last: true,
        marks: curves
            .iter()
            .map(|(ink, histogram)| Mark::Line { points: curve(histogram), ink: *ink })
            .collect(),
    };
    svg(&description(runs), &[panel]).map(Some)
}

/// The curve's points: 1/(1-q), and the latency in microseconds.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    // The longest of n values is drawn at 1 - 1/n, because 100 % is at infinity.
    let longest = (histogram.len() as f64, histogram.max() as f64 / 1e3);
    let mut points: Vec<(f64, f64)> = histogram
        .iter_quantiles(TICKS_PER_HALF_DISTANCE)
        .map(|step| (1.0 / (1.0 - step.quantile_iterated_to()), step.value_iterated_to() as f64 / 1e3))
        .take_while(|(place, _)| *place < longest.0)
        .collect();
    points.push(longest);
    points
}

fn decoded(latency: &crate::latency::Latency) -> Result<Histogram<u64>, LoadError> {
    latency.histogram().map_err(LoadError::Report)
}

fn description(runs: &[(&str, &Run)]) -> String {
    let mut text = "Latency by percentile.".to_owned();
    for (label, run) in runs.iter().filter(|(_, run)| run.latency.count > 0) {
        let percentiles = [("median", "p50"), ("99 %", "p99"), ("99.9 %", "p99.9"), ("longest", "max")].map(
            |(name, percentile)| {
                format!("{name} {}", latency(run.latency.named(percentile).unwrap_or_default()))
            },
        );
        text.push_str(&format!(" {label}: {}.", percentiles.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn percentile_curve_rises_to_the_maximum() {
        let histogram = sample::run().latency.histogram().unwrap();
        let points = curve(&histogram);
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{points:?}");
        assert_eq!(points[0].0, 1.0);
        assert_eq!(points.last(), Some(&(120_000.0, histogram.max() as f64 / 1e3)));
        assert!((50..1_000).contains(&points.len()), "{} points", points.len());
    }

    #[test]
    fn open_loop_has_two_curves_and_closed_loop_one() {
        let lines = |run: &Run| {
            let image = percentile_curves(&[("a", run)]).unwrap().unwrap().into_string();
            image.matches("<polyline").count()
        };
        assert_eq!(lines(&sample::run()), lines(&sample::closed()) + 1);
        assert!(percentile_curves(&[("a", &sample::empty())]).unwrap().is_none());
    }

    #[test]
    fn image_has_a_description() {
        let image = percentile_curves(&[("<us>", &sample::run())]).unwrap().unwrap().into_string();
        assert!(
            image.contains("role=\"img\"") && image.contains("Latency by percentile. &lt;us&gt;: median 20"),
            "{}",
            &image[..300]
        );
        assert!(!image.contains("NaN") && !image.contains("inf"));
    }
}
