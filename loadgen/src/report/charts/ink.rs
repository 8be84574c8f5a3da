//! Colours of charts. The drawing library writes fixed colours; these are markers that the page's style sheet replaces
//! in light and dark mode.

/// Maximum number of runs in a chart: as many colours are distinguishable, also with colour blindness.
pub(crate) const SERIES_MAX: usize = 6;

/// Number of colours of a heat map.
pub(crate) const HEAT_STEPS: usize = 8;

/// The role of a line, an area or a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Text of axes and titles.
    Text,
    /// Lines of the grid.
    Grid,
    /// The background, around lines that cross dark fields.
    Paper,
    /// The corrected distribution of a run, by index in the chart.
    Series(usize),
    /// The uncorrected distribution of a run, dashed.
    Dashed(usize),
    /// A point of a series.
    Dot(usize),
    /// The area below a line.
    Shade,
    /// The median over a heat map.
    Median,
    /// The 99th percentile over a heat map.
    Tail,
    /// Errors.
    Error,
    /// A field of a heat map, from the rarest to the most frequent.
    Heat(usize),
}

impl Ink {
    /// Red, green and blue of the marker.
    pub(crate) fn mark(self) -> (u8, u8, u8) {
        // Indices beyond the style sheet's use its last colour; an unknown marker would be black.
        let within =
            |number: usize, numbers: usize| u8::try_from(number.min(numbers - 1)).unwrap_or_default();
        match self {
            Self::Text => (1, 0, 0),
            Self::Grid => (1, 0, 1),
            Self::Paper => (1, 0, 2),
            Self::Shade => (1, 0, 3),
            Self::Median => (1, 0, 4),
            Self::Tail => (1, 0, 5),
            Self::Error => (1, 0, 6),
            Self::Series(number) => (2, 0, within(number, SERIES_MAX)),
            Self::Dashed(number) => (2, 1, within(number, SERIES_MAX)),
            Self::Dot(number) => (2, 2, within(number, SERIES_MAX)),
            Self::Heat(step) => (3, 0, within(step, HEAT_STEPS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_sheet_defines_every_marker_colour() {
        let style = include_str!("../page.css");
        let singles = [Ink::Text, Ink::Grid, Ink::Paper, Ink::Shade, Ink::Median, Ink::Tail, Ink::Error];
        let inks = singles
            .into_iter()
            .chain(
                (0..SERIES_MAX)
                    .flat_map(|number| [Ink::Series(number), Ink::Dashed(number), Ink::Dot(number)]),
            )
            .chain((0..HEAT_STEPS).map(Ink::Heat));
        for ink in inks {
            let (red, green, blue) = ink.mark();
            let mark = format!("#{red:02X}{green:02X}{blue:02X}");
            assert!(
                style.contains(&format!("=\"{mark}\"]")),
                "{ink:?} is {mark}, which page.css does not colour"
            );
        }
        assert_eq!(Ink::Heat(99).mark(), Ink::Heat(HEAT_STEPS - 1).mark());
    }
}
