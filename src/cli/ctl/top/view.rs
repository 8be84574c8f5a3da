//! State of the view: the newest sample, the history of the totals, and what the user has chosen.

use std::collections::VecDeque;

use super::columns::{Row, sorted};
use crate::control::{Sample, ShardSample, ToolSample};

/// Samples in the history.
const HISTORY_MAX: usize = 240;

/// One of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    Shards,
    Tools,
}

/// The order of a table, and its first visible row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Position of the column that sorts.
    pub(super) column: usize,
    pub(super) is_descending: bool,
    /// Rows above the first visible one.
    pub(super) scroll: usize,
}

/// Totals of one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) requests_per_second: f64,
    pub(super) p99_us: f64,
}

/// An action of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Pause,
    NextColumn,
    PreviousColumn,
    Reverse,
    SwitchTable,
    Down(usize),
    Up(usize),
    First,
}

pub(super) struct View {
    pub(super) sample: Option<Sample>,
    /// Oldest first.
    pub(super) history: VecDeque<Point>,
    pub(super) is_paused: bool,
    pub(super) focus: Focus,
    pub(super) shards: Order,
    pub(super) tools: Order,
}

impl Default for View {
    fn default() -> Self {
        Self {
            sample: None,
            history: VecDeque::new(),
            is_paused: false,
            focus: Focus::Tools,
            // By number.
            shards: Order { column: 0, is_descending: false, scroll: 0 },
            // By requests per second.
            tools: Order { column: 1, is_descending: true, scroll: 0 },
        }
    }
}

impl View {
    /// Shows a sample. While the view is paused, samples only extend the history.
    pub(super) fn update(&mut self, sample: Sample) {
        let traffic = sample.total.traffic;
        if self.history.len() >= HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Point {
            requests_per_second: traffic.requests_per_second,
            p99_us: traffic.p99_us.unwrap_or(0.0),
        });
        if !self.is_paused || self.sample.is_none() {
            self.sample = Some(sample);
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        let sample = self.sample.as_ref();
        let (columns, rows) = match self.focus {
            Focus::Shards => (ShardSample::columns().len(), sample.map_or(0, |sample| sample.shards.len())),
            Focus::Tools => (ToolSample::columns().len(), sample.map_or(0, |sample| sample.tools.len())),
        };
        let order = match self.focus {
            Focus::Shards => &mut self.shards,
            Focus::Tools => &mut self.tools,
        };
        match action {
            Action::Pause => self.is_paused = !self.is_paused,
            Action::NextColumn => order.sort_by((order.column + 1) % columns),
            Action::PreviousColumn => order.sort_by((order.column + columns - 1) % columns),
            Action::Reverse => order.is_descending = !order.is_descending,
            Action::SwitchTable => {
                self.focus = if self.focus == Focus::Tools { Focus::Shards } else { Focus::Tools };
            }
            Action::Down(count) => order.scroll = (order.scroll + count).min(rows.saturating_sub(1)),
            Action::Up(count) => order.scroll = order.scroll.saturating_sub(count),
            Action::First => order.scroll = 0,
        }
    }
}

impl Order {
    /// The rows in this order.
    pub(super) fn apply<R: Row>(self, rows: &[R]) -> Vec<&R> {
        sorted(rows, self.column, self.is_descending)
    }

    /// Sorts by another column: numbers largest first, names in their order.
    fn sort_by(&mut self, column: usize) {
        *self = Self { column, is_descending: column > 0, scroll: 0 };
    }
}
