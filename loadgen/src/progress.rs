//! What a person sees while it runs. Quiet where nobody looks.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A person at a terminal.
    Terminal,
    /// Nobody: progress is not written.
    Nobody,
}

impl Audience {
    /// Somebody, if stderr is a terminal and nobody asked for quiet.
    #[must_use]
    pub fn of(quiet: bool) -> Self {
        if !quiet && std::io::stderr().is_terminal() { Self::Terminal } else { Self::Nobody }
    }

    /// A line of its own, for what takes several runs.
    pub fn say(self, line: &str) {
        if self == Self::Terminal {
            eprintln!("{line}");
        }
    }

    /// A bar for one run.
    #[must_use]
    pub fn bar(self, what: &str, length: Duration) -> Bar {
        if self == Self::Nobody {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(Some(milliseconds(length)), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar:.cyan/dim} {msg}") {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(what.to_owned());
        Bar(bar)
    }
}

/// A bar that fills as time passes.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Before the load begins.
    pub fn connecting(&self, connections: u32) {
        self.0.set_message(format!("connecting {}", units::count(f64::from(connections))));
        self.0.tick();
    }

    /// So much time has passed.
    pub fn at(&self, elapsed: Duration) {
        self.0.set_position(milliseconds(elapsed));
    }

    /// What the last interval came to: replies per second, percentiles in microseconds, errors so far.
    pub fn show(&self, rate_per_s: f64, p50_us: f64, p99_us: f64, errors: u64, warming: bool) {
        let phase = if warming { "warm-up · " } else { "" };
        let errors =
            if errors > 0 { format!(" · {} errors", units::count(errors as f64)) } else { String::new() };
        self.0.set_message(format!(
            "{phase}{}/s · p50 {} · p99 {}{errors}",
            units::count(rate_per_s),
            units::latency(p50_us),
            units::latency(p99_us),
        ));
    }

    /// It is over.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
