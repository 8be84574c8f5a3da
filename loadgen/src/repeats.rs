//! Repeats of a run: comparisons, budgets and reports use their medians.

use crate::{
    metric::Metric,
    result::{Outcome, Parameters, ResultFile, Run},
    statistics::median,
};

/// The contestant that is not mentioned in names.
pub const CORELANE: &str = "corelane";

/// Runs of one file with the same workload, contestant and parameters.
#[derive(Clone, Debug)]
pub struct Repeats<'file> {
    /// The file that contains the runs.
    pub file: &'file ResultFile,
    /// The first run.
    pub first: &'file Run,
    /// All runs, in the order of measurement.
    pub runs: Vec<&'file Run>,
}

impl<'file> Repeats<'file> {
    /// Groups the runs of a file, in the order of the first run of each group.
    #[must_use]
    pub fn of(file: &'file ResultFile) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for run in &file.runs {
            match groups.iter_mut().find(|group| group.first.repeats(run)) {
                Some(group) => group.runs.push(run),
                None => groups.push(Self { file, first: run, runs: vec![run] }),
            }
        }
        groups
    }

    /// Returns the group that represents a workload of a contestant: from the newest file with a complete run at full
    /// size, else from the newest with a complete run, else from the newest. Of several groups in a file the last one
    /// is used. A run in which the server died is complete.
    #[must_use]
    pub fn newest(files: &'file [ResultFile], workload: &str, contestant: &str) -> Option<Self> {
        let found: Vec<Self> = newest_first(files)
            .into_iter()
            .flat_map(|file| Self::of(file).into_iter().rev())
            .filter(|group| group.is(workload, contestant))
            .collect();
        let ended = |group: &&Self| group.complete_count() > 0 || group.server_gone_after_s().is_some();
        let full = |group: &&Self| ended(group) && group.parameters().scale == 1.0;
        found.iter().find(full).or_else(|| found.iter().find(ended)).or(found.first()).cloned()
    }

    /// Returns the newest group of each workload and contestant, in the order of the files.
    #[must_use]
    pub fn newest_of_all(files: &'file [ResultFile]) -> Vec<Self> {
        let mut names: Vec<(&str, &str)> = Vec::new();
        for run in files.iter().flat_map(|file| &file.runs) {
            let name = (run.workload.as_str(), run.contestant.as_str());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
            .into_iter()
            .filter_map(|(workload, contestant)| Self::newest(files, workload, contestant))
            .collect()
    }

    /// Whether the group is of this workload and contestant.
    #[must_use]
    pub fn is(&self, workload: &str, contestant: &str) -> bool {
        self.first.workload == workload && self.first.contestant == contestant
    }

    /// The parameters of the runs.
    #[must_use]
    pub const fn parameters(&self) -> &'file Parameters {
        &self.first.parameters
    }

    /// The workload, followed by the contestant if that is not corelane.
    #[must_use]
    pub fn name(&self) -> String {
        if self.first.contestant == CORELANE {
            self.first.workload.clone()
        } else {
            format!("{} ({})", self.first.workload, self.first.contestant)
        }
    }

    /// Reads a value from each repeat that is complete and has the value.
    #[must_use]
    pub fn each(&self, read: impl Fn(&Run) -> Option<f64>) -> Vec<f64> {
        let complete = self.runs.iter().filter(|run| run.outcome == Outcome::Complete);
        complete.filter_map(|run| read(run)).collect()
    }

    /// The values of a metric in the complete repeats.
    #[must_use]
    pub fn samples(&self, metric: &Metric) -> Vec<f64> {
        self.each(|run| metric.of_run(run))
    }

    /// The median of a metric over the complete repeats.
    #[must_use]
    pub fn median(&self, metric: &Metric) -> Option<f64> {
        median(&self.samples(metric))
    }

    /// The median of a percentile of the corrected latency, in microseconds.
    #[must_use]
    pub fn latency(&self, name: &str) -> Option<f64> {
        self.median(&Metric::Latency(name.to_owned()))
    }

    /// Number of repeats that are complete.
    #[must_use]
    pub fn complete_count(&self) -> usize {
        self.runs.iter().filter(|run| run.outcome == Outcome::Complete).count()
    }

    /// Time at which the server stopped responding in one of the repeats, in seconds since measuring began.
    #[must_use]
    pub fn server_gone_after_s(&self) -> Option<f64> {
        self.runs.iter().find_map(|run| match run.outcome {
            Outcome::ServerGone { after_s } => Some(after_s),
            Outcome::Complete | Outcome::Interrupted => None,
        })
    }

    /// The reason why the generator was the limit in at least one repeat. One is enough: excluding such repeats would
    /// exclude the fastest.
    #[must_use]
    pub fn bottleneck(&self) -> Option<&'file str> {
        self.runs.iter().find_map(|run| run.generator.bottleneck.as_deref())
    }

    /// Number of errors in all repeats.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.runs.iter().map(|run| run.errors_total()).sum()
    }
}

/// Sorts files by their start time, newest first.
#[must_use]
pub fn newest_first(files: &[ResultFile]) -> Vec<&ResultFile> {
    let mut sorted: Vec<&ResultFile> = files.iter().collect();
    sorted.sort_by(|one, other| other.started.cmp(&one.started));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn repeats_are_grouped_regardless_of_their_position() {
        let mut other = sample::run("a", "nginx-static");
        other.parameters.connections_count = 8;
        let file = sample::file(vec![sample::run("a", "corelane"), other, sample::run("a", "corelane")]);
        let groups = Repeats::of(&file);
        let sizes: Vec<_> = groups.iter().map(|group| (group.name(), group.runs.len())).collect();
        assert_eq!(sizes, [("a".to_owned(), 2), ("a (nginx-static)".to_owned(), 1)]);
    }

    #[test]
    fn newest_complete_group_at_full_size_is_selected() {
        let [mut old, mut new] = [1.0, 0.5].map(|scale| {
            let mut run = sample::run("a", "corelane");
            run.parameters.scale = scale;
            sample::file(vec![run])
        });
        old.started = "2026-11-23T10:00:00Z".to_owned();
        new.started = "2026-11-24T10:00:00Z".to_owned();
        let mut files = [new, old];
        assert_eq!(Repeats::newest(&files, "a", "corelane").unwrap().file.started, "2026-11-23T10:00:00Z");
        files[0].runs[0].parameters.scale = 1.0;
        assert_eq!(Repeats::newest(&files, "a", "corelane").unwrap().file.started, "2026-11-24T10:00:00Z");
        files[0].runs[0].outcome = Outcome::Interrupted;
        assert_eq!(Repeats::newest(&files, "a", "corelane").unwrap().file.started, "2026-11-23T10:00:00Z");
        assert!(Repeats::newest(&files, "b", "corelane").is_none());
        assert_eq!(Repeats::newest_of_all(&files).len(), 1);
    }

    #[test]
    fn interrupted_run_is_not_a_sample() {
        let mut broken = sample::run("a", "corelane");
        broken.outcome = Outcome::Interrupted;
        broken.latency.p50_us = 1.0;
        let file = sample::file(vec![sample::run("a", "corelane"), broken]);
        let groups = Repeats::of(&file);
        assert_eq!(groups[0].latency("p50"), Some(sample::P50_US));
        assert_eq!(groups[0].complete_count(), 1);
    }
}
