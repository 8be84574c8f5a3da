//! A run of a page.

use maud::{Markup, html};

use crate::{report::charts::Ink, result::Run};

/// A run with its label, anchor and colour.
pub(super) struct PageRun<'a> {
    pub(super) label: &'a str,
    pub(super) run: &'a Run,
    /// Number on the page, from 1.
    pub(super) number: usize,
    /// Index in its chart, from 0, which determines the colour.
    pub(super) series: usize,
}

impl PageRun<'_> {
    pub(super) fn ink(&self) -> Ink {
        Ink::Series(self.series)
    }

    pub(super) fn anchor(&self) -> String {
        format!("run-{}", self.number)
    }

    /// The CSS class with the colour of the chart's line.
    pub(super) fn colour(&self) -> String {
        format!("series-{}", self.series)
    }

    pub(super) fn key(&self, is_dashed: bool) -> Markup {
        html! { span .key .dashed[is_dashed] .(self.colour()) {} }
    }
}
