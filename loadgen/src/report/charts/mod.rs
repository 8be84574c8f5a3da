//! Charts as SVG. They are drawn in marker colours, which the page's style sheet replaces.

mod axis;
mod columns;
mod drawing;
mod gains;
mod heat_map;
mod ink;
mod over_time;
mod percentile_curves;
mod trend;

pub(crate) use columns::columns;
pub(crate) use gains::gains;
pub(crate) use heat_map::{SHARES, heat_map};
pub(crate) use ink::{HEAT_STEPS, Ink, SERIES_MAX};
pub(crate) use over_time::{process, throughput};
pub(crate) use percentile_curves::percentile_curves;
pub(crate) use trend::{DatedFigures, P50, P99, trend_chart};
