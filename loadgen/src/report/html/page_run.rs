//! A run on the page.

use maud::{Markup, html};

use crate::{report::charts::Ink, result::Run};

/// A run, and how it is found on the page.
pub(super) struct PageRun<'a> {
    pub(super) label: &'a str,
    pub(super) run: &'a Run,
    /// Its number on the page, from 1.
    pub(super) number: usize,
    /// Its number among those that share its chart, from 0: its colour.
    pub(super) series: usize,
}

impl PageRun<'_> {
    pub(super) fn ink(&self) -> Ink {
        Ink::Series(self.series)
    }

    pub(super) fn anchor(&self) -> String {
        format!("run-{}", self.number)
    }

    /// The class that colours borders as the chart colours its lines.
    pub(super) fn colour(&self) -> String {
        format!("series-{}", self.series)
    }

    pub(super) fn key(&self, is_dashed: bool) -> Markup {
        html! { span .key .dashed[is_dashed] .(self.colour()) {} }
    }
}
