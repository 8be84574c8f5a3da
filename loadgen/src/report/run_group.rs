//! Repeats of a run, for the overview.

use super::rating::{Level, Rating};
use crate::{result::Run, statistics::median};

/// A group of at least one run.
pub(crate) struct RunGroup<'a> {
    pub(crate) first: &'a Run,
    /// All runs, including the first.
    pub(crate) runs: Vec<&'a Run>,
}

/// Range and median of the values of repeats.
pub(crate) struct Spread {
    pub(crate) lowest: f64,
    pub(crate) median: f64,
    pub(crate) highest: f64,
}

impl<'a> RunGroup<'a> {
    /// Groups repeats, in the order of the first run of each group.
    pub(crate) fn group(runs: &'a [Run]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for run in runs {
            match all.iter_mut().find(|repeats| repeats.first.repeats(run)) {
                Some(repeats) => repeats.runs.push(run),
                None => all.push(Self { first: run, runs: vec![run] }),
            }
        }
        all
    }

    /// Range and median of a value; `None` if no run has it.
    pub(crate) fn spread(&self, value: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        let values: Vec<f64> = self.runs.iter().filter_map(|run| value(run)).collect();
        Some(Spread {
            lowest: values.iter().copied().reduce(f64::min)?,
            median: median(&values)?,
            highest: values.iter().copied().reduce(f64::max)?,
        })
    }

    /// The worst rating of the runs.
    pub(crate) fn rating(&self) -> Rating {
        let ratings = self.runs.iter().map(|run| Rating::of(run));
        let rank = |rating: &Rating| match rating.level {
            Level::Good => 0,
            Level::Doubtful => 1,
            Level::Bad => 2,
        };
        ratings.max_by_key(rank).unwrap_or_else(|| Rating::of(self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn only_repeats_are_grouped() {
        let mut other = sample::run();
        other.parameters.connections_count = 8;
        let runs = [sample::run(), sample::peer(), other, sample::run()];
        let all = RunGroup::group(&runs);
        assert_eq!(all.iter().map(|repeats| repeats.runs.len()).collect::<Vec<_>>(), [2, 1, 1]);
    }

    #[test]
    fn spread_contains_lowest_median_and_highest() {
        let group = |values: &[f64]| {
            let runs: Vec<_> =
                values.iter().map(|&throughput_per_s| Run { throughput_per_s, ..sample::run() }).collect();
            let spread = RunGroup::group(&runs)[0].spread(|run| Some(run.throughput_per_s)).unwrap();
            (spread.lowest, spread.median, spread.highest)
        };
        assert_eq!(group(&[5.0]), (5.0, 5.0, 5.0));
        assert_eq!(group(&[5.0, 1.0, 2.0]), (1.0, 2.0, 5.0));
        assert_eq!(group(&[5.0, 1.0, 2.0, 3.0]), (1.0, 2.5, 5.0));
    }

    #[test]
    fn one_bad_repeat_makes_the_group_bad() {
        let mut good = sample::run();
        good.checks.clear();
        good.errors_count.clear();
        let runs = [good.clone(), good.clone(), Run { generator: sample::run().generator, ..sample::run() }];
        let all = RunGroup::group(&runs);
        assert_eq!(all[0].rating().level, Level::Bad);
    }
}
