//! The gains of an ablation, computed from its runs.

use corelane::Flag;

use super::{Measurement, Position, measurement::of_workload, plan::Part, validation::VALIDATION};
use crate::{
    metric::{Better, Metric},
    repeats::{Repeats, newest_first},
    result::{Outcome, ResultFile},
    statistics::{REPEATS_COUNT_MIN, Ratio, ratio_of_medians},
};

/// The gains of one result.
#[derive(Clone, Debug)]
pub struct Ablation<'file> {
    /// The result.
    pub file: &'file ResultFile,
    /// One for each part and workload.
    pub gains: Vec<Gain>,
    /// All flags together, if the result has them.
    pub combined: Option<Combined>,
}

/// What a part gains in a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Gain {
    /// What was switched off: a flag, `all flags`, or `observability`; or on: `profile`.
    pub part: String,
    /// The workload.
    pub workload: String,
    /// The metric in words.
    pub metric: String,
    /// Medians with the part on and off, as text.
    pub shown: [String; 2],
    /// How many times better the metric is with the part on, if both were measured. Below 1 it is worse.
    pub ratio: Option<f64>,
    /// The ratio's 95 % interval, if there are enough rounds.
    pub interval: Option<[f64; 2]>,
    /// Number of runs with the part on and off.
    pub runs_count: [usize; 2],
    /// Limitations of the value.
    pub remarks: Vec<String>,
}

/// The single gains in the canonical workload beside that of all flags together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Combined {
    /// Product of the gains of the single flags.
    pub product: f64,
    /// Gain of all flags at once.
    pub all: f64,
}

impl Combined {
    /// The part of the gain of all flags that the single gains do not explain: above 1 the flags gain more together.
    #[must_use]
    pub fn remainder(&self) -> f64 {
        self.all / self.product
    }
}

impl<'file> Ablation<'file> {
    /// The gains of a result; `None` if it has no ablation.
    #[must_use]
    pub fn of(file: &'file ResultFile) -> Option<Self> {
        let groups = Repeats::of(file);
        let mut gains: Vec<(usize, Gain)> = Vec::new();
        let mut single = Vec::new();
        let mut all = None;
        for off in &groups {
            let position = Position::of_contestant(&off.first.contestant);
            let Some(position) = position.filter(|position| *position != Position::AllOn) else { continue };
            let Some(on) = groups.iter().find(|on| is_reference(on, off)) else { continue };
            let Some(measurement) = of_workload(&off.first.workload) else { continue };
            // Off in the position with which all others are compared.
            let (on, off) = if position == Position::Profiled { (off, on) } else { (on, off) };
            let gain = Gain::between(on, off, position, &measurement.metric, measurement.better);
            match position {
                Position::Without(_) if is_canonical(off) => single.extend(gain.ratio),
                Position::AllOff => all = gain.ratio,
                _ => {}
            }
            gains.push((rank(position), gain));
            let validation = Metric::Figure(VALIDATION.to_owned());
            if off.median(&validation).is_some() {
                let gain = Gain::between(on, off, position, &validation, Better::Lower);
                gains.push((rank(position), gain));
            }
        }
        gains.sort_by_key(|(rank, _)| *rank);
        let gains: Vec<Gain> = gains.into_iter().map(|(_, gain)| gain).collect();
        let combined =
            all.filter(|_| !single.is_empty()).map(|all| Combined { product: single.iter().product(), all });
        (!gains.is_empty()).then_some(Self { file, gains, combined })
    }

    /// The gains of the newest result that has some.
    #[must_use]
    pub fn newest(files: &'file [ResultFile]) -> Option<Self> {
        newest_first(files).into_iter().find_map(Self::of)
    }

    /// Descriptions of runs that failed, one line each.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let mut failures: Vec<String> = self
            .file
            .not_run
            .iter()
            .map(|not_run| format!("{}: {}", not_run.workload, not_run.reason))
            .collect();
        for run in &self.file.runs {
            let name = format!("{}, {}", run.workload, run.contestant);
            if let Outcome::ServerGone { after_s } = run.outcome {
                failures.push(format!("{name}: the server stopped answering after {after_s:.1} s"));
            } else if run.errors_total() > 0 {
                let first = run.first_error.as_deref().unwrap_or("not described");
                failures.push(format!("{name}: {} errors, the first: {first}", run.errors_total()));
            }
        }
        failures
    }
}

impl Gain {
    fn between(
        on: &Repeats<'_>,
        off: &Repeats<'_>,
        position: Position,
        metric: &Metric,
        better: Better,
    ) -> Self {
        let samples = [on, off].map(|group| group.samples(metric));
        let [with, without] = &samples;
        let ratio = match better {
            Better::Higher => ratio_of_medians(with, without),
            Better::Lower => ratio_of_medians(without, with),
        };
        let ratio = ratio.filter(|ratio| ratio.ratio.is_finite() && ratio.ratio > 0.0);
        let runs_count = [with.len(), without.len()];
        let few = runs_count.into_iter().any(|count| count < REPEATS_COUNT_MIN);
        let shown = [on, off]
            .map(|group| group.median(metric).map_or_else(|| "–".to_owned(), |value| metric.show(value)));
        Self {
            part: part(position),
            workload: on.first.workload.clone(),
            metric: words(metric),
            shown,
            ratio: ratio.map(|ratio| ratio.ratio),
            interval: ratio.filter(|_| !few).map(|Ratio { low, high, .. }| [low, high]),
            runs_count,
            remarks: remarks(on, off, metric),
        }
    }

    /// Whether the interval excludes that the part makes no difference.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.interval.is_some_and(|[low, high]| low > 1.0 || high < 1.0)
    }
}

fn is_reference(on: &Repeats<'_>, off: &Repeats<'_>) -> bool {
    Position::of_contestant(&on.first.contestant) == Some(Position::AllOn)
        && on.first.workload == off.first.workload
        && on.parameters() == off.parameters()
}

fn is_canonical(group: &Repeats<'_>) -> bool {
    group.first.workload == Measurement::canonical().workload.id
}

fn part(position: Position) -> String {
    match position {
        Position::AllOn | Position::AllOff => "all flags".to_owned(),
        Position::Without(flag) => flag.to_string(),
        Position::Unobserved => Part::Observability.to_string(),
        Position::Profiled => Part::Profile.to_string(),
    }
}

/// Position of a row: flags in their order, then all flags, then what is no flag.
fn rank(position: Position) -> usize {
    match position {
        Position::Without(flag) => Flag::ALL.iter().position(|other| *other == flag).unwrap_or(0),
        Position::AllOn | Position::AllOff => Flag::ALL.len(),
        Position::Unobserved => Flag::ALL.len() + 1,
        Position::Profiled => Flag::ALL.len() + 2,
    }
}

/// The metric in at most ten columns; [`Ablation::origin`] explains it.
fn words(metric: &Metric) -> String {
    match metric.to_string().as_str() {
        "requests_per_core_second" => "req/core-s",
        "throughput_per_s" => "req/s",
        "makespan_ms" => "all calls",
        "last_socket_p95_us" => "last P95",
        VALIDATION => "validation",
        "p50" => "p50",
        other => return other.to_owned(),
    }
    .to_owned()
}

fn remarks(on: &Repeats<'_>, off: &Repeats<'_>, metric: &Metric) -> Vec<String> {
    let mut remarks = Vec::new();
    let scale = on.parameters().scale;
    if scale != 1.0 {
        remarks.push(format!("at scale {scale}"));
    }
    if *metric == Metric::Throughput && [on, off].iter().any(|group| group.bottleneck().is_some()) {
        remarks.push("the generator was the limit".to_owned());
    }
    let figure = |group: &Repeats<'_>, name: &str| group.median(&Metric::Figure(name.to_owned()));
    if let (Some(many), Some(one)) = (figure(on, "shards_count"), figure(off, "shards_count")) {
        let rate = Metric::Figure("requests_per_shard_second".to_owned());
        let shown = |group: &Repeats<'_>| {
            group.median(&rate).map_or_else(|| "–".to_owned(), |value| rate.show(value))
        };
        remarks.push(format!("{many} shards, {} each; {one} shard, {}", shown(on), shown(off)));
        if figure(on, "cores_shared_with_generator_count").is_some_and(|count| count > 0.0) {
            remarks.push("the generator has no core of its own".to_owned());
        }
    }
    let errors = on.errors_total() + off.errors_total();
    if errors > 0 {
        remarks.push(format!("{errors} errors"));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{result::Run, sample};

    fn run(contestant: &str, per_core_second: f64) -> Run {
        let mut run = sample::run("canonical_closed_64", contestant);
        run.figures.insert("requests_per_core_second".to_owned(), per_core_second);
        run
    }

    /// Three rounds with these medians, scattered by one percent.
    fn file(rates: &[(&str, f64)]) -> ResultFile {
        let round = |factor: f64| rates.iter().map(move |(name, rate)| run(name, rate * factor));
        sample::file([0.99, 1.0, 1.01].into_iter().flat_map(round).collect())
    }

    #[test]
    fn gain_is_the_ratio_of_medians_with_its_interval() {
        let file = file(&[("corelane-all-on", 200.0), ("corelane-without-zero_copy", 160.0)]);
        let ablation = Ablation::of(&file).unwrap();
        let [gain] = ablation.gains.as_slice() else { panic!("{:?}", ablation.gains) };
        assert_eq!((gain.part.as_str(), gain.runs_count), ("zero_copy", [3, 3]));
        assert!((gain.ratio.unwrap() - 1.25).abs() < 1e-9);
        let [low, high] = gain.interval.unwrap();
        assert!(low < 1.25 && high > 1.25 && low > 1.2 && gain.is_certain());
        assert!(ablation.combined.is_none());
    }

    #[test]
    fn negative_gain_is_a_row_like_the_others() {
        let file = file(&[("corelane-all-on", 100.0), ("corelane-without-json_backend", 125.0)]);
        let ablation = Ablation::of(&file).unwrap();
        assert!((ablation.gains[0].ratio.unwrap() - 0.8).abs() < 1e-9);
        assert!(ablation.gains[0].is_certain());
    }

    #[test]
    fn product_of_single_gains_is_compared_with_all_flags() {
        let file = file(&[
            ("corelane-all-on", 200.0),
            ("corelane-unobserved", 210.0),
            ("corelane-all-off", 50.0),
            ("corelane-without-zero_copy", 160.0),
            ("corelane-without-schema_cache", 100.0),
        ]);
        let ablation = Ablation::of(&file).unwrap();
        let parts: Vec<&str> = ablation.gains.iter().map(|gain| gain.part.as_str()).collect();
        assert_eq!(parts, ["schema_cache", "zero_copy", "all flags", "observability"]);
        let combined = ablation.combined.unwrap();
        assert!((combined.product - 2.5).abs() < 1e-9 && (combined.all - 4.0).abs() < 1e-9);
        assert!((combined.remainder() - 1.6).abs() < 1e-9);
    }

    #[test]
    fn profile_is_on_in_its_own_position() {
        let file = file(&[("corelane-all-on", 200.0), ("corelane-profiled", 190.0)]);
        let ablation = Ablation::of(&file).unwrap();
        let [gain] = ablation.gains.as_slice() else { panic!("{:?}", ablation.gains) };
        assert_eq!(gain.part, "profile");
        assert!((gain.ratio.unwrap() - 0.95).abs() < 1e-9, "a cost is below 1");
    }

    #[test]
    fn few_rounds_have_no_interval_and_other_results_no_gains() {
        let mut short = file(&[("corelane-all-on", 200.0), ("corelane-without-zero_copy", 160.0)]);
        short.runs.truncate(4);
        let ablation = Ablation::of(&short).unwrap();
        assert_eq!((ablation.gains[0].interval, ablation.gains[0].is_certain()), (None, false));
        assert!(Ablation::of(&file(&[("corelane", 1.0), ("nginx-static", 2.0)])).is_none());
    }

    #[test]
    fn errors_and_ended_servers_are_failures() {
        let mut broken = file(&[("corelane-all-on", 200.0), ("corelane-without-zero_copy", 160.0)]);
        assert_eq!(Ablation::of(&broken).unwrap().failures(), [] as [&str; 0]);
        broken.runs[0].errors_count.insert("status".to_owned(), 3);
        broken.runs[1].outcome = Outcome::ServerGone { after_s: 1.0 };
        let ablation = Ablation::of(&broken).unwrap();
        assert_eq!(ablation.failures().len(), 2);
        assert_eq!(ablation.gains[0].remarks, ["3 errors"]);
    }
}
