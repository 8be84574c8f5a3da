//! Heat map of latency over time.

use hdrhistogram::Histogram;
use maud::Markup;

use super::{
    axis::Axis,
    columns::Column,
    drawing::{Mark, Panel, svg},
    ink::{HEAT_STEPS, Ink},
};
use crate::{error::LoadError, units::latency};

/// Rows of the map per factor of ten.
const ROWS_PER_DECADE: f64 = 14.0;

/// The minimum shares of an interval's replies for each colour.
pub(crate) const SHARES: [f64; HEAT_STEPS] = [0.0, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1];

/// Draws the map with the median and the 99th percentile; `None` without replies.
pub(crate) fn heat_map(columns: &[Column]) -> Result<Option<Markup>, LoadError> {
    let answered = || columns.iter().filter(|column| !column.latency.is_empty());
    let Some(shortest_ns) = answered().map(|column| column.latency.min()).min() else { return Ok(None) };
    let longest_ns = answered().map(|column| column.latency.max()).max().unwrap_or_default();
    let mut marks: Vec<Mark> = answered().flat_map(bands).collect();
    for (quantile, ink) in [(0.99, Ink::Tail), (0.5, Ink::Median)] {
        for points in lines(columns, quantile) {
            // A wider line in the background colour separates the line from dark fields.
            marks.push(Mark::Line { points: points.clone(), ink: Ink::Paper });
            marks.push(Mark::Line { points, ink });
        }
    }
    let panel = Panel {
        title: "latency".to_owned(),
        height: 340,
        x: Axis::time(columns.last().map_or(0.0, |last| last.end_s)),
        y: Axis::latency(shortest_ns as f64 / 1e3, longest_ns as f64 / 1e3),
        is_last: true,
        marks,
    };
    svg(&description(columns), &[panel]).map(Some)
}

/// The fields of a column: consecutive rows with the same colour are merged.
fn bands(column: &Column) -> Vec<Mark> {
    let mut bands: Vec<(i32, i32, usize)> = Vec::new();
    for (row, number) in rows(&column.latency) {
        let step = step(number as f64 / column.latency.len() as f64);
        match bands.last_mut() {
            Some((_, to, above)) if *to == row && *above == step => *to = row + 1,
            _ => bands.push((row, row + 1, step)),
        }
    }
    let us = |row: i32| 10f64.powf(f64::from(row) / ROWS_PER_DECADE);
    bands
        .into_iter()
        .map(|(from, to, step)| Mark::Field {
            from: (column.start_s, us(from)),
            to: (column.end_s, us(to)),
            ink: Ink::Heat(step),
        })
        .collect()
}

/// Number of replies by row, in ascending order.
fn rows(histogram: &Histogram<u64>) -> Vec<(i32, u64)> {
    let mut rows: Vec<(i32, u64)> = Vec::new();
    for step in histogram.iter_recorded() {
        let us = step.value_iterated_to() as f64 / 1e3;
        let row = (us.max(1e-3).log10() * ROWS_PER_DECADE).floor() as i32;
        match rows.last_mut() {
            Some((last, number)) if *last == row => *number += step.count_at_value(),
            _ => rows.push((row, step.count_at_value())),
        }
    }
    rows
}

/// Index of the colour of a share.
fn step(share: f64) -> usize {
    SHARES.iter().rposition(|from| share >= *from).unwrap_or_default()
}

/// A percentile over time, interrupted where there are no replies.
fn lines(columns: &[Column], quantile: f64) -> Vec<Vec<(f64, f64)>> {
    columns
        .split(|column| column.latency.is_empty())
        .filter(|answered| !answered.is_empty())
        .map(|answered| {
            let us = |column: &Column| column.latency.value_at_quantile(quantile) as f64 / 1e3;
            // Extended to both edges, so that a single interval has a line too.
            let start = answered.first().map(|column| (column.start_s, us(column)));
            let middles = answered.iter().map(|column| (column.middle_s(), us(column)));
            let end = answered.last().map(|column| (column.end_s, us(column)));
            start.into_iter().chain(middles).chain(end).collect()
        })
        .collect()
}

fn description(columns: &[Column]) -> String {
    let at = |quantile: f64| {
        let values: Vec<f64> = columns
            .iter()
            .filter(|column| !column.latency.is_empty())
            .map(|column| column.latency.value_at_quantile(quantile) as f64 / 1e3)
            .collect();
        let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = values.iter().copied().fold(0.0, f64::max);
        format!("{} to {}", latency(lowest), latency(highest))
    };
    format!(
        "Heat map of latency over time. By interval the median went from {}, the 99th percentile from {}.",
        at(0.5),
        at(0.99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{charts::columns::columns, sample};

    #[test]
    fn every_reply_is_counted_in_a_row() {
        for column in columns(&sample::run()).unwrap() {
            let rows = rows(&column.latency);
            assert_eq!(rows.iter().map(|(_, number)| number).sum::<u64>(), column.latency.len());
            assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "{rows:?}");
        }
    }

    #[test]
    fn colour_index_follows_the_share() {
        assert_eq!([0.0, 1e-5, 1e-4, 0.02, 0.3, 1.0].map(step), [0, 0, 1, 4, 7, 7]);
    }

    #[test]
    fn lines_are_interrupted_without_replies() {
        let mut columns = columns(&sample::run()).unwrap();
        assert_eq!(lines(&columns, 0.5).len(), 1);
        columns[10].latency.clear();
        columns[11].latency.clear();
        let lengths: Vec<_> = lines(&columns, 0.5).iter().map(Vec::len).collect();
        assert_eq!(lengths, [12, 20]);
    }

    #[test]
    fn heat_map_needs_at_least_one_interval() {
        let mut run = sample::run();
        run.intervals.truncate(1);
        let image = heat_map(&columns(&run).unwrap()).unwrap().unwrap().into_string();
        assert!(image.contains("<rect") && !image.contains("NaN"), "{image}");
        assert!(heat_map(&[]).unwrap().is_none());
    }
}
