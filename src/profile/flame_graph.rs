//! A flame graph: an SVG file with its script, which needs no other file.

use std::io;

use inferno::flamegraph::{
    self, Options, Palette,
    color::{BasicPalette, MultiPalette},
};

use super::report::Report;

/// Draws the folded stacks of a profile. A profile without samples is an image with a message.
///
/// # Errors
/// That of `to`.
pub(super) fn write(report: &Report<'_>, lines: &[String], to: impl io::Write) -> io::Result<()> {
    let mut options = Options::default();
    options.title = report.title.to_owned();
    options.subtitle = Some(report.summary.clone());
    options.colors = Palette::Multi(MultiPalette::Rust);
    if report.is_heap {
        options.colors = Palette::Basic(BasicPalette::Mem);
        options.count_name = "bytes".to_owned();
    }
    options.deterministic = true;
    if lines.is_empty() {
        // The library draws nothing without a sample.
        return flamegraph::from_lines(&mut options, [format!("{} 1", report.empty).as_str()], to);
    }
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), to)
}
