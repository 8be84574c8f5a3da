//! Figures of one workload from day to day.

use maud::Markup;

use super::{
    axis::Axis,
    drawing::{Mark, Panel, svg},
    ink::Ink,
};
use crate::error::LoadError;

/// One result's figures.
pub(crate) struct Day {
    /// Its number among all results, from 0.
    pub(crate) number: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) throughput_per_s: f64,
}

/// Throughput above; p50 and, in another colour, p99 below.
pub(crate) fn trend_chart(name: &str, results: usize, days: &[Day]) -> Result<Markup, LoadError> {
    let highest = |figure: fn(&Day) -> f64| days.iter().map(figure).fold(0.0, f64::max);
    let lowest = days.iter().map(|day| day.p50_us).fold(f64::INFINITY, f64::min);
    let line = |figure: fn(&Day) -> f64, ink: Ink| Mark::Line {
        // A single day is drawn as a short level.
        points: match days {
            [only] => vec![(only.number as f64, figure(only)), (only.number as f64 + 0.5, figure(only))],
            days => days.iter().map(|day| (day.number as f64, figure(day))).collect(),
        },
        ink,
    };
    let x = Axis::counts((results.saturating_sub(1)).max(1) as f64);
    let panels = [
        Panel {
            title: "requests per second".to_owned(),
            height: 170,
            x: x.clone(),
            y: Axis::counts(highest(|day| day.throughput_per_s)),
            is_last: false,
            marks: vec![line(|day| day.throughput_per_s, Ink::Series(0))],
        },
        Panel {
            title: "p50 and p99".to_owned(),
            height: 200,
            x,
            y: Axis::latency(lowest.max(0.001), highest(|day| day.p99_us).max(0.002)),
            is_last: true,
            marks: vec![line(|day| day.p50_us, Ink::Series(0)), line(|day| day.p99_us, Ink::Series(1))],
        },
    ];
    svg(&format!("{name} over {} results: throughput, p50 and p99.", days.len()), &panels)
}
