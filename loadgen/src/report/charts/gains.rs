//! Chart of the gains of an ablation: one bar each on a logarithmic axis, with its interval.

use maud::Markup;

use super::{
    axis::Axis,
    drawing::{Mark, Panel, svg},
    ink::Ink,
};
use crate::{ablation::Gain, error::LoadError};

/// Height of a bar's panel, and of the labels below the last one.
const HEIGHT: u32 = 62;
const LABELS: u32 = 28;

/// Draws a panel for each gain. A bar to the left of 1 is a loss.
pub(crate) fn gains(gains: &[Gain]) -> Result<Markup, LoadError> {
    let ends = gains.iter().flat_map(|gain| {
        let interval = gain.interval.unwrap_or([1.0, 1.0]);
        [interval[0], interval[1], gain.ratio.unwrap_or(1.0)]
    });
    let (lowest, highest) = ends.fold((1.0_f64, 1.0_f64), |(low, high), end| (low.min(end), high.max(end)));
    let axis = Axis::ratios(lowest, highest);
    let last = gains.len().saturating_sub(1);
    let panels: Vec<Panel> = gains
        .iter()
        .enumerate()
        .map(|(index, gain)| Panel {
            title: title(gain),
            height: if index == last { HEIGHT + LABELS } else { HEIGHT },
            x: axis.clone(),
            y: Axis::unlabelled(),
            is_last: index == last,
            marks: marks(gain),
        })
        .collect();
    let names: Vec<String> = gains.iter().map(title).collect();
    svg(&format!("Gains of optimisations: {}.", names.join("; ")), &panels)
}

fn title(gain: &Gain) -> String {
    let interval = match gain.interval {
        Some(_) => format!(" ({})", gain.shown_interval()),
        None => String::new(),
    };
    format!("{} · {} · {} · {}{interval}", gain.part, gain.workload, gain.metric, gain.shown_ratio())
}

/// A field from 1 to the gain, the interval as a line, the gain as a dot, and a line at 1.
fn marks(gain: &Gain) -> Vec<Mark> {
    let mut marks = Vec::new();
    if let Some(ratio) = gain.ratio {
        let (from, to) = if ratio < 1.0 { (ratio, 1.0) } else { (1.0, ratio) };
        marks.push(Mark::Field { from: (from, 0.2), to: (to, 0.8), ink: Ink::Shade });
        let series = usize::from(ratio < 1.0);
        if let Some([low, high]) = gain.interval {
            marks.push(Mark::Line { points: vec![(low, 0.5), (high, 0.5)], ink: Ink::Series(series) });
            for end in [low, high] {
                marks.push(Mark::Line { points: vec![(end, 0.3), (end, 0.7)], ink: Ink::Series(series) });
            }
        }
        marks.push(Mark::Dot { at: (ratio, 0.5), ink: Ink::Dot(series) });
    }
    marks.push(Mark::Line { points: vec![(1.0, 0.0), (1.0, 1.0)], ink: Ink::Median });
    marks
}
