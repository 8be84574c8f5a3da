//! Progress output of a run.

use std::{
    cell::Cell,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units;

/// The output of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressTarget {
    /// A progress bar on a terminal.
    Terminal,
    /// Plain lines at intervals, to a file or pipe.
    PlainLines,
    /// Not written.
    Nobody,
}

impl ProgressTarget {
    /// A bar if stderr is a terminal, plain lines if it is not, nothing with `--quiet`.
    #[must_use]
    pub fn of(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Nobody,
            (false, true) => Self::Terminal,
            (false, false) => Self::PlainLines,
        }
    }

    /// Prints a line of its own, for commands that consist of several runs.
    pub fn print_line(self, line: &str) {
        if self != Self::Nobody {
            eprintln!("{line}");
        }
    }

    /// Creates the bar of one run.
    #[must_use]
    pub fn bar(self, label: &str, length: Duration) -> Bar {
        if self != Self::Terminal {
            let lines = (self == Self::PlainLines)
                .then(|| PlainLines { label: label.to_owned(), printed_at: Cell::new(Instant::now()) });
            return Bar { bar: ProgressBar::hidden(), lines };
        }
        let bar = ProgressBar::with_draw_target(Some(milliseconds(length)), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar:.cyan/dim} {msg}") {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(label.to_owned());
        Bar { bar, lines: None }
    }
}

/// A progress bar, or its replacement by plain lines.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    lines: Option<PlainLines>,
}

/// Plain lines instead of a bar.
#[derive(Debug)]
struct PlainLines {
    label: String,
    /// Time at which the last line was printed.
    printed_at: Cell<Instant>,
}

/// Minimum time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

impl Bar {
    /// Shows that the connections are being opened.
    pub fn connecting(&self, connections: u32) {
        self.bar.set_message(format!("connecting {}", units::count(f64::from(connections))));
        self.bar.tick();
    }

    /// Sets the elapsed time.
    pub fn set_elapsed(&self, elapsed: Duration) {
        self.bar.set_position(milliseconds(elapsed));
    }

    /// Shows the figures of an interval: replies per second, percentiles in microseconds, errors so far.
    pub fn show(&self, rate_per_s: f64, p50_us: f64, p99_us: f64, errors: u64, warming: bool) {
        let phase = if warming { "warm-up · " } else { "" };
        let errors =
            if errors > 0 { format!(" · {} errors", units::count(errors as f64)) } else { String::new() };
        let message = format!(
            "{phase}{}/s · p50 {} · p99 {}{errors}",
            units::count(rate_per_s),
            units::latency(p50_us),
            units::latency(p99_us),
        );
        if let Some(lines) =
            self.lines.as_ref().filter(|lines| lines.printed_at.get().elapsed() >= LINE_INTERVAL)
        {
            lines.printed_at.set(Instant::now());
            eprintln!("{}: {message}", lines.label);
        }
        self.bar.set_message(message);
    }

    /// Removes the bar.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
