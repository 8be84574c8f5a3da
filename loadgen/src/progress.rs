//! What a person sees while it runs. Quiet where nobody looks.

use std::{
    cell::Cell,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressTarget {
    /// A person at a terminal.
    Terminal,
    /// A file or a pipe: a plain line now and then.
    PlainLines,
    /// Nobody: progress is not written.
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

    /// A line of its own, for what takes several runs.
    pub fn print_line(self, line: &str) {
        if self != Self::Nobody {
            eprintln!("{line}");
        }
    }

    /// A bar for one run.
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

/// A bar that fills as time passes.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    lines: Option<PlainLines>,
}

/// Progress where there is no terminal.
#[derive(Debug)]
struct PlainLines {
    label: String,
    /// When the last line was written.
    printed_at: Cell<Instant>,
}

/// From one plain line to the next.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

impl Bar {
    /// Before the load begins.
    pub fn connecting(&self, connections: u32) {
        self.bar.set_message(format!("connecting {}", units::count(f64::from(connections))));
        self.bar.tick();
    }

    /// So much time has passed.
    pub fn set_elapsed(&self, elapsed: Duration) {
        self.bar.set_position(milliseconds(elapsed));
    }

    /// What the last interval came to: replies per second, percentiles in microseconds, errors so far.
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

    /// It is over.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
