//! A flame graph: an SVG file with its script, which needs no other file.

use std::io;

use inferno::flamegraph::{self, Options, Palette, color::MultiPalette};

use super::model::Profile;

/// Draws the folded stacks of a profile. A profile without samples is an image with a message.
///
/// # Errors
/// That of `to`.
pub(super) fn write(profile: &Profile, lines: &[String], to: impl io::Write) -> io::Result<()> {
    let mut options = Options::default();
    options.title = "CPU time by function".to_owned();
    options.subtitle = Some(profile.summary());
    options.colors = Palette::Multi(MultiPalette::Rust);
    options.deterministic = true;
    if lines.is_empty() {
        // The library draws nothing without a sample.
        return flamegraph::from_lines(&mut options, ["no thread used CPU time 1"], to);
    }
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), to)
}
