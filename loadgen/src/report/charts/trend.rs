//! Charts of a workload over several results.

use maud::Markup;

use super::{
    axis::Axis,
    drawing::{Mark, Panel, svg},
    ink::Ink,
};
use crate::error::LoadError;

/// Metrics of one result.
pub(crate) struct DatedFigures {
    /// Start time in seconds since 1970.
    pub(crate) unix_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) throughput_per_s: f64,
}

/// Series of p50 and p99. Throughput has the colour of p50, in its own panel.
pub(crate) const P50: usize = 0;
pub(crate) const P99: usize = 1;

/// Draws throughput above, p50 and p99 below, with a point for each result. All charts of a page have the same range of
/// dates, `span_s`.
pub(crate) fn trend_chart(
    name: &str,
    span_s: (f64, f64),
    points: &[DatedFigures],
) -> Result<Markup, LoadError> {
    let highest = |figure: fn(&DatedFigures) -> f64| points.iter().map(figure).fold(0.0, f64::max);
    let lowest = points.iter().map(|point| point.p50_us).fold(f64::INFINITY, f64::min);
    let series = |figure: fn(&DatedFigures) -> f64, number: usize| {
        let points: Vec<(f64, f64)> = points.iter().map(|point| (point.unix_s, figure(point))).collect();
        let dots = points.clone().into_iter().map(move |at| Mark::Dot { at, ink: Ink::Dot(number) });
        let line = (points.len() > 1).then_some(Mark::Line { points, ink: Ink::Series(number) });
        line.into_iter().chain(dots).collect::<Vec<_>>()
    };
    let x = Axis::dates(span_s.0, span_s.1);
    let panels = [
        Panel {
            title: "requests per second".to_owned(),
            height: 170,
            x: x.clone(),
            y: Axis::counts(highest(|point| point.throughput_per_s)),
            is_last: false,
            marks: series(|point| point.throughput_per_s, P50),
        },
        Panel {
            title: "latency".to_owned(),
            height: 210,
            x,
            y: Axis::latency(lowest.max(0.001), highest(|point| point.p99_us).max(0.002)),
            is_last: true,
            marks: series(|point| point.p99_us, P99)
                .into_iter()
                .chain(series(|point| point.p50_us, P50))
                .collect(),
        },
    ];
    svg(&format!("{name} over {} results: throughput, p50 and p99 by date.", points.len()), &panels)
}
