//! The rating of a run in a few words, by its worst problem.

use super::wording::plural;
use crate::{
    result::{Outcome, Run},
    units::{count, seconds},
};

/// Severity of a rating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// All demands hold, and there were no errors.
    Good,
    /// The figures are not reliable.
    Doubtful,
    /// A demand was missed, or there were errors.
    Bad,
}

/// The rating of a run.
#[derive(Debug)]
pub(crate) struct Rating {
    pub(crate) level: Level,
    pub(crate) text: String,
}

impl Rating {
    /// Rates a run.
    pub(crate) fn of(run: &Run) -> Self {
        let failed = run.checks.iter().filter(|check| !check.passed).count();
        let checks = run.checks.len();
        let (level, text) = match run.outcome {
            Outcome::ServerGone { after_s } => {
                (Level::Bad, format!("server gone after {}", seconds(after_s)))
            }
            // An incomplete run is not rated.
            Outcome::Interrupted => (Level::Doubtful, "interrupted".to_owned()),
            _ if failed > 0 => (Level::Bad, format!("{failed} of {} failed", plural(checks as u64, "check"))),
            // Checked before the errors: a generator at its limit may itself cause late replies.
            _ if run.generator.bottleneck.is_some() => {
                (Level::Doubtful, "the generator was the limit".to_owned())
            }
            // Errors within the demands are not a failure.
            Outcome::Complete if checks == 0 && run.errors_total() > 0 => {
                let share = run.errors_total() as f64 / (run.requests_count.max(1) as f64) * 100.0;
                (Level::Bad, format!("{} % of requests failed", count(share)))
            }
            Outcome::Complete if run.replies_count == 0 => (Level::Bad, "nothing was answered".to_owned()),
            Outcome::Complete if checks == 0 => (Level::Good, "no errors".to_owned()),
            Outcome::Complete => (Level::Good, format!("{} passed", plural(checks as u64, "check"))),
        };
        Self { level, text }
    }

    /// The rating as one character.
    pub(crate) fn mark(&self) -> &'static str {
        match self.level {
            Level::Good => "✓",
            Level::Doubtful => "!",
            Level::Bad => "✗",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn rating_is_the_worst_problem() {
        let rated = |run: &Run| {
            let rating = Rating::of(run);
            format!("{} {}", rating.mark(), rating.text)
        };
        let mut run = sample::run();
        assert_eq!(rated(&run), "✗ 1 of 2 checks failed");
        run.generator.bottleneck = Some("its thread was busy all the time".to_owned());
        assert_eq!(rated(&run), "✗ 1 of 2 checks failed");
        run.checks.retain(|check| check.passed);
        assert_eq!(rated(&run), "! the generator was the limit");
        run.generator.bottleneck = None;
        assert_eq!(rated(&run), "✓ 1 check passed");
        run.checks.clear();
        assert_eq!(rated(&run), "✗ 0.0317 % of requests failed");
        assert_eq!(rated(&sample::peer()), "✓ no errors");
        assert_eq!(rated(&sample::empty()), "✗ server gone after 0 s");
    }
}
