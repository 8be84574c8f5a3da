//! Panels as SVG. Only this file uses plotters.

use std::ops::Range;

use maud::{Markup, PreEscaped, html};
use plotters::{
    backend::SVGBackend,
    chart::{ChartBuilder, ChartContext, LabelAreaPosition},
    coord::{
        Shift,
        cartesian::Cartesian2d,
        ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    },
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _},
    element::{Circle, PathElement, Rectangle, Text},
    style::{Color as _, IntoFont as _, RGBColor, ShapeStyle, TRANSPARENT, TextStyle},
};

use super::{
    axis::{Axis, Tick},
    ink::Ink,
};
use crate::error::LoadError;

/// A coordinate system of a chart.
pub(crate) struct Panel {
    /// Title above the vertical axis.
    pub(crate) title: String,
    /// Height in units of the chart, including title and labels.
    pub(crate) height: u32,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// Whether the horizontal axis has labels: only in the last of several panels with the same axis.
    pub(crate) is_last: bool,
    pub(crate) marks: Vec<Mark>,
}

/// Shapes in a panel, in values of its axes.
pub(crate) enum Mark {
    /// Points joined by a line.
    Line { points: Vec<(f64, f64)>, ink: Ink },
    /// A single point.
    Dot { at: (f64, f64), ink: Ink },
    /// A filled rectangle between two corners.
    Field { from: (f64, f64), to: (f64, f64), ink: Ink },
}

/// Width of every chart. At this width a chart that fills a narrow phone is drawn at about two thirds of its size.
const WIDTH: u32 = 520;

/// Plotters rounds to whole units, which is visible in curves; tenths of units are not.
const FINE: u32 = 10;

/// Width of the labels of the vertical axis.
const LEFT: u32 = 76;
/// Margin at the right, for half of the last label.
const RIGHT: u32 = 26;
/// Height of the title above the plot.
const ABOVE: u32 = 38;
/// Height of the labels of the horizontal axis.
const BELOW: u32 = 36;
/// Gap below a panel that is not the last one.
const GAP: u32 = 8;

/// The radius of a point.
const DOT: u32 = 4;

/// Text size of the style sheet on a phone; it is smaller on larger screens.
const TEXT: f64 = 19.0;

/// Draws panels below each other as one image, with a description for screen readers.
pub(crate) fn svg(description: &str, panels: &[Panel]) -> Result<Markup, LoadError> {
    let height: u32 = panels.iter().map(|panel| panel.height).sum();
    let mut drawn = String::new();
    {
        let backend = SVGBackend::with_string(&mut drawn, (WIDTH * FINE, height * FINE));
        let mut rest = backend.into_drawing_area();
        for panel in panels {
            let (area, below) = rest.split_vertically(panel.height * FINE);
            panel.draw(&area).map_err(|error| LoadError::Report(error.to_string()))?;
            rest = below;
        }
        rest.present().map_err(|error| LoadError::Report(error.to_string()))?;
    }
    let view = format!("0 0 {} {}", WIDTH * FINE, height * FINE);
    Ok(html! {
        svg viewBox=(view) role="img" aria-label=(description) { (PreEscaped(inside(&drawn))) }
    })
}

/// The content of the outermost element, without attributes that have their default value.
fn inside(drawn: &str) -> String {
    let from = drawn.find('>').map_or(0, |end| end + 1);
    let to = drawn.rfind("</svg>").unwrap_or(drawn.len());
    // Texts contain escaped quotes, so only attributes match.
    let short = drawn.get(from..to).unwrap_or_default().replace(" opacity=\"1\"", "");
    short.replace(" stroke=\"none\"", "").replace(" \"/>", "\"/>").replace('\n', "")
}

type DrawResult = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Panel {
    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> DrawResult {
        area.draw(&Text::new(self.title.clone(), (0, fine(4)), text_style()))?;
        let below = if self.is_last { BELOW } else { GAP };
        let mut chart = ChartBuilder::on(area)
            .margin_top(ABOVE * FINE)
            .margin_right(RIGHT * FINE)
            .set_label_area_size(LabelAreaPosition::Left, LEFT * FINE)
            .set_label_area_size(LabelAreaPosition::Bottom, below * FINE)
            .build_cartesian_2d(self.x_coordinate(), self.y_coordinate(below))?;
        chart
            .configure_mesh()
            .bold_line_style(stroke(Ink::Grid))
            .light_line_style(TRANSPARENT)
            .axis_style(TRANSPARENT)
            // Transparent ticks are invisible, but keep the labels at twice their length from the plot.
            .set_tick_mark_size(LabelAreaPosition::Left, fine(4))
            .set_tick_mark_size(LabelAreaPosition::Bottom, fine(7))
            .label_style(text_style())
            .draw()?;
        self.marks.iter().try_for_each(|mark| mark.draw(&mut chart))
    }

    fn x_coordinate(&self) -> Coordinate {
        let plot_width = f64::from(WIDTH - LEFT - RIGHT);
        let mut ticks = self.x.ticks_with_room(|label| width(label) / plot_width);
        if !self.is_last {
            ticks.iter_mut().for_each(|tick| tick.label.clear());
        }
        Coordinate { axis: self.x.clone(), ticks }
    }

    fn y_coordinate(&self, below: u32) -> Coordinate {
        let plot_height = f64::from(self.height.saturating_sub(ABOVE + below).max(1));
        Coordinate { axis: self.y.clone(), ticks: self.y.ticks_with_room(|_| TEXT * 1.6 / plot_height) }
    }
}

impl Mark {
    fn draw(
        &self,
        chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<Coordinate, Coordinate>>,
    ) -> DrawResult {
        match self {
            Self::Line { points, ink } => {
                chart.plotting_area().draw(&PathElement::new(points.clone(), stroke(*ink)))
            }
            Self::Dot { at, ink } => {
                chart.plotting_area().draw(&Circle::new(*at, fine(DOT), colour(*ink).filled()))
            }
            Self::Field { from, to, ink } => {
                chart.plotting_area().draw(&Rectangle::new([*from, *to], colour(*ink).filled()))
            }
        }
    }
}

/// Adapter of an axis for plotters.
struct Coordinate {
    axis: Axis,
    ticks: Vec<Tick>,
}

impl Ranged for Coordinate {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = self.axis.share(*value);
        (f64::from(limit.0) + share * (f64::from(limit.1) - f64::from(limit.0))).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // There are no light grid lines.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|tick| tick.value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.axis.first()..self.axis.last()
    }
}

impl ValueFormatter<f64> for Coordinate {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|tick| tick.value.total_cmp(value).is_eq());
        tick.map(|tick| tick.label.clone()).unwrap_or_default()
    }
}

fn colour(ink: Ink) -> RGBColor {
    let (red, green, blue) = ink.mark();
    RGBColor(red, green, blue)
}

/// A line of one unit; the style sheet sets the final width.
fn stroke(ink: Ink) -> ShapeStyle {
    colour(ink).stroke_width(FINE)
}

fn text_style() -> TextStyle<'static> {
    // The backend divides the size by this factor.
    let size = TEXT * f64::from(FINE) * 1.24;
    ("sans-serif", size).into_font().color(&colour(Ink::Text))
}

/// Estimated maximum width of a label in units.
fn width(label: &str) -> f64 {
    // Digits are slightly wider than half their height in common system fonts.
    label.chars().count() as f64 * TEXT * 0.58 + TEXT * 0.5
}

fn fine(units: u32) -> i32 {
    i32::try_from(units * FINE).unwrap_or(i32::MAX)
}
