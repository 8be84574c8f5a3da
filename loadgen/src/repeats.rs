//! Runs that measured the same thing, together: their medians are what is compared, judged and published.

use crate::{
    metric::Metric,
    result::{Outcome, Parameters, ResultFile, Run},
    statistics::median,
};

/// The contestant whose name needs no mention.
pub const CORELANE: &str = "corelane";

/// Runs of one file with the same workload, contestant and parameters.
#[derive(Clone, Debug)]
pub struct Repeats<'file> {
    /// The file they are in.
    pub file: &'file ResultFile,
    /// The first of them.
    pub first: &'file Run,
    /// All of them, in the order they were measured.
    pub runs: Vec<&'file Run>,
}

impl<'file> Repeats<'file> {
    /// All groups of a file, in the order they began.
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

    /// The group that speaks for a workload of a contestant: from the newest file that ran it to its end at full size, or
    /// else from the newest that ran it to its end, or at all; of several in a file the one measured last. A server that
    /// died has met its end.
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

    /// The newest group of each workload and contestant that any file has, in the order of the files.
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

    /// Whether it is of this workload and contestant.
    #[must_use]
    pub fn is(&self, workload: &str, contestant: &str) -> bool {
        self.first.workload == workload && self.first.contestant == contestant
    }

    /// What was asked of the server.
    #[must_use]
    pub const fn parameters(&self) -> &'file Parameters {
        &self.first.parameters
    }

    /// The workload, and whose server it was where it was not ours.
    #[must_use]
    pub fn name(&self) -> String {
        if self.first.contestant == CORELANE {
            self.first.workload.clone()
        } else {
            format!("{} ({})", self.first.workload, self.first.contestant)
        }
    }

    /// Something in each repeat that ran to its planned end and has it.
    #[must_use]
    pub fn each(&self, read: impl Fn(&Run) -> Option<f64>) -> Vec<f64> {
        let complete = self.runs.iter().filter(|run| run.outcome == Outcome::Complete);
        complete.filter_map(|run| read(run)).collect()
    }

    /// A metric in each repeat that ran to its planned end and has it.
    #[must_use]
    pub fn samples(&self, metric: &Metric) -> Vec<f64> {
        self.each(|run| metric.of_run(run))
    }

    /// The median of a metric over the repeats that ran to their planned end.
    #[must_use]
    pub fn median(&self, metric: &Metric) -> Option<f64> {
        median(&self.samples(metric))
    }

    /// The median of a percentile of the corrected latency, in microseconds.
    #[must_use]
    pub fn latency(&self, name: &str) -> Option<f64> {
        self.median(&Metric::Latency(name.to_owned()))
    }

    /// How many ran to their planned end.
    #[must_use]
    pub fn complete_count(&self) -> usize {
        self.runs.iter().filter(|run| run.outcome == Outcome::Complete).count()
    }

    /// When the server stopped answering in one of them: seconds since that one's measuring began.
    #[must_use]
    pub fn server_gone_after_s(&self) -> Option<f64> {
        self.runs.iter().find_map(|run| match run.outcome {
            Outcome::ServerGone { after_s } => Some(after_s),
            Outcome::Complete | Outcome::Interrupted => None,
        })
    }

    /// Why the generator, not the server, set the figures of at least one of them. One is enough: leaving such repeats
    /// out would leave out the fastest.
    #[must_use]
    pub fn bottleneck(&self) -> Option<&'file str> {
        self.runs.iter().find_map(|run| run.generator.bottleneck.as_deref())
    }

    /// All errors of all repeats.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.runs.iter().map(|run| run.errors_total()).sum()
    }
}

/// The files by when they began, the newest first.
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
    fn repeats_are_found_wherever_they_are() {
        let mut other = sample::run("a", "nginx-static");
        other.parameters.connections_count = 8;
        let file = sample::file(vec![sample::run("a", "corelane"), other, sample::run("a", "corelane")]);
        let groups = Repeats::of(&file);
        let sizes: Vec<_> = groups.iter().map(|group| (group.name(), group.runs.len())).collect();
        assert_eq!(sizes, [("a".to_owned(), 2), ("a (nginx-static)".to_owned(), 1)]);
    }

    #[test]
    fn the_newest_file_speaks_unless_it_was_scaled_down() {
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
    fn a_run_that_did_not_end_as_planned_is_no_sample() {
        let mut broken = sample::run("a", "corelane");
        broken.outcome = Outcome::Interrupted;
        broken.latency.p50_us = 1.0;
        let file = sample::file(vec![sample::run("a", "corelane"), broken]);
        let groups = Repeats::of(&file);
        assert_eq!(groups[0].latency("p50"), Some(sample::P50_US));
        assert_eq!(groups[0].complete_count(), 1);
    }
}
