//! Charts of throughput, errors and the server's process over time.

use maud::Markup;

use super::{
    axis::Axis,
    columns::Column,
    drawing::{Mark, Panel, svg},
    ink::Ink,
};
use crate::{
    error::LoadError,
    result::{ProcessSample, ServerProcess},
    units::{bytes, count, percent},
};

/// Draws replies per second, and errors per second if there are any; `None` without intervals.
pub(crate) fn throughput(columns: &[Column], ink: Ink) -> Result<Option<Markup>, LoadError> {
    let Some(last) = columns.last() else { return Ok(None) };
    let time = Axis::time(last.end_s);
    let replies: Vec<f64> = columns.iter().map(|column| column.per_s(column.completed_count)).collect();
    let errors: Vec<f64> = columns.iter().map(|column| column.per_s(column.errors_count)).collect();
    let has_errors = errors.iter().any(|rate| *rate > 0.0);
    let mut panels = vec![Panel {
        title: "replies per second".to_owned(),
        height: if has_errors { 190 } else { 320 },
        x: time.clone(),
        y: Axis::counts(highest(&replies)),
        is_last: !has_errors,
        marks: bars(columns, &replies, Ink::Shade)
            .chain([Mark::Line { points: stairs(columns, &replies), ink }])
            .collect(),
    }];
    if has_errors {
        panels.push(Panel {
            title: "errors per second".to_owned(),
            height: 150,
            x: time,
            y: Axis::counts(highest(&errors)),
            is_last: true,
            marks: bars(columns, &errors, Ink::Error).collect(),
        });
    }
    let description = format!(
        "Throughput over time: {} to {} replies per second. Errors: {}.",
        count(replies.iter().copied().fold(f64::INFINITY, f64::min)),
        count(highest(&replies)),
        if has_errors { format!("up to {} per second", count(highest(&errors))) } else { "none".to_owned() }
    );
    svg(&description, &panels).map(Some)
}

/// Draws processor time and resident memory of the server; `None` without samples.
pub(crate) fn process(process: &ServerProcess, ink: Ink) -> Result<Option<Markup>, LoadError> {
    let Some(last) = process.samples.last() else { return Ok(None) };
    let of =
        |value: fn(&ProcessSample) -> f64| highest(&process.samples.iter().map(value).collect::<Vec<_>>());
    let busy: fn(&ProcessSample) -> f64 = |sample| sample.cpu_percent;
    let resident: fn(&ProcessSample) -> f64 = |sample| sample.resident_bytes as f64;
    let panels = [
        Panel {
            title: "processor time, % of one core".to_owned(),
            height: 160,
            x: Axis::time(last.at_s),
            y: Axis::percents(of(busy)),
            is_last: false,
            marks: vec![Mark::Line { points: busy_line(&process.samples), ink }],
        },
        Panel {
            title: "resident memory".to_owned(),
            height: 180,
            x: Axis::time(last.at_s),
            y: Axis::bytes(of(resident)),
            is_last: true,
            marks: vec![Mark::Line { points: resident_line(&process.samples), ink }],
        },
    ];
    let description = format!(
        "The server’s process over time: up to {} of a core, {} resident at the end.",
        percent(of(busy)),
        bytes(last.resident_bytes)
    );
    svg(&description, &panels).map(Some)
}

/// A step per sample: processor time is the average since the previous sample.
fn busy_line(samples: &[ProcessSample]) -> Vec<(f64, f64)> {
    let mut before_s = 0.0;
    let level = |sample: &ProcessSample| {
        let start_s = std::mem::replace(&mut before_s, sample.at_s);
        [(start_s, sample.cpu_percent), (sample.at_s, sample.cpu_percent)]
    };
    samples.iter().flat_map(level).collect()
}

/// A line through the samples, level before the first one.
fn resident_line(samples: &[ProcessSample]) -> Vec<(f64, f64)> {
    let start = samples.first().map(|first| (0.0, first.resident_bytes as f64));
    let looks = samples.iter().map(|sample| (sample.at_s, sample.resident_bytes as f64));
    start.into_iter().chain(looks).collect()
}

/// A bar per column.
fn bars(columns: &[Column], values: &[f64], ink: Ink) -> impl Iterator<Item = Mark> {
    columns.iter().zip(values).filter(|(_, value)| **value > 0.0).map(move |(column, value)| Mark::Field {
        from: (column.start_s, 0.0),
        to: (column.end_s, *value),
        ink,
    })
}

/// A step per column.
fn stairs(columns: &[Column], values: &[f64]) -> Vec<(f64, f64)> {
    let level = |(column, value): (&Column, &f64)| [(column.start_s, *value), (column.end_s, *value)];
    columns.iter().zip(values).flat_map(level).collect()
}

fn highest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{charts::columns::columns, sample};

    #[test]
    fn error_panel_exists_only_with_errors() {
        let image = |run| throughput(&columns(&run).unwrap(), Ink::Series(0)).unwrap().unwrap().into_string();
        assert!(image(sample::run()).contains("errors per second"));
        assert!(image(sample::run()).contains("Errors: up to 34 per second."));
        assert!(!image(sample::peer()).contains("errors per second"));
        assert!(throughput(&[], Ink::Series(0)).unwrap().is_none());
    }

    #[test]
    fn intervals_without_length_are_drawn() {
        let mut run = sample::run();
        run.intervals.truncate(1);
        run.intervals[0].length_s = 0.0;
        let image = throughput(&columns(&run).unwrap(), Ink::Series(0)).unwrap().unwrap().into_string();
        assert!(!image.contains("NaN") && !image.contains("inf"), "{image}");
    }

    #[test]
    fn process_without_samples_has_no_chart() {
        let mut looked_at = sample::run().server_process.unwrap();
        let image = process(&looked_at, Ink::Series(0)).unwrap().unwrap().into_string();
        assert!(image.contains("resident memory") && image.contains("15 MiB"), "{image}");
        assert_eq!(
            busy_line(&looked_at.samples)[..3].iter().map(|point| point.0).collect::<Vec<_>>(),
            [0.0, 1.0, 1.0]
        );
        looked_at.samples.truncate(1);
        assert_eq!((busy_line(&looked_at.samples).len(), resident_line(&looked_at.samples).len()), (2, 2));
        looked_at.samples.clear();
        assert!(process(&looked_at, Ink::Series(0)).unwrap().is_none());
    }
}
