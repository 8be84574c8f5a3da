//! Measurements assessed against a budget.

use serde::Serialize;

use super::{Budget, BudgetRow, Source};
use crate::{
    metric::{Metric, StageTime},
    repeats::{CORELANE, Repeats, newest_first},
    result::ResultFile,
    workloads,
};

/// The workload whose short form has a remark.
const SOAK: &str = "soak";

/// Status of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Within the budget; for a row without a budget, the goal is reached.
    Within,
    /// Beyond the budget.
    Over,
    /// No budget, and the goal is not reached.
    Short,
    /// Nothing was measured; with the reason.
    NotRun(String),
}

/// A row of the budget and its assessment.
#[derive(Clone, Debug, Serialize)]
pub struct Assessment {
    /// Id of the row.
    pub id: String,
    /// Description of the row.
    pub what: String,
    /// Origin of the budget.
    pub source: Source,
    /// Median of the p50 of the workload or of the stage over the repeats, in microseconds.
    pub p50_us: Option<f64>,
    /// Median of the 95th percentile, likewise.
    pub p95_us: Option<f64>,
    /// The budget as text.
    pub budget: Option<String>,
    /// The goal as text.
    pub goal: Option<String>,
    /// Median over the repeats, in the metric's unit; or the ratio of two such medians.
    pub measured: Option<f64>,
    /// The measured value as text.
    pub shown: Option<String>,
    /// Number of repeats.
    pub repeats_count: usize,
    /// Status of the row.
    pub status: Status,
    /// Whether the goal is reached, if there is a goal and a measurement.
    pub goal_reached: Option<bool>,
    /// Limitations of the value: the run was scaled down, the generator was the limit, there were errors.
    pub remarks: Vec<String>,
}

impl Assessment {
    /// Whether the budget is exceeded.
    #[must_use]
    pub fn over(&self) -> bool {
        self.status == Status::Over
    }

    /// Whether the measured value exceeds the budget or misses the goal.
    #[must_use]
    pub fn falls_short(&self) -> bool {
        self.over() || self.goal_reached == Some(false)
    }
}

/// Whether any row exceeds its budget.
#[must_use]
pub fn over(assessments: &[Assessment]) -> bool {
    assessments.iter().any(Assessment::over)
}

/// Assesses every row by the newest result that has its metric; see [`Repeats::newest`].
#[must_use]
pub fn assess(budget: &Budget, files: &[ResultFile]) -> Vec<Assessment> {
    budget.rows.iter().map(|row| assessment(row, files)).collect()
}

/// A measured value and its runs.
struct Measured<'file> {
    value: f64,
    /// The runs of the value, then those of the divisor; empty if the metric exists once per file.
    groups: Vec<Repeats<'file>>,
}

fn assessment(row: &BudgetRow, files: &[ResultFile]) -> Assessment {
    let runs = row.workload.as_ref().and_then(|workload| Repeats::newest(files, workload, &row.contestant));
    if let Some(group) = &runs
        && let Some(after_s) = group.server_gone_after_s()
    {
        // If the server died in the workload, the budget is exceeded.
        let remark = format!("the server stopped answering after {after_s:.1} s");
        return Assessment { remarks: vec![remark], ..unmeasured(row, Status::Over) };
    }
    match measured(row, files) {
        Some(measured) => {
            let group = measured.groups.first();
            let latency = |name: &str, time| match group {
                Some(group) => group.latency(name),
                None => stage_us(row, files, time),
            };
            Assessment {
                p50_us: latency("p50", StageTime::P50),
                p95_us: latency("p95", StageTime::P95),
                measured: Some(measured.value),
                shown: Some(row.show(measured.value)),
                repeats_count: group.map_or(1, Repeats::complete_count),
                goal_reached: row.goal.map(|goal| row.within(measured.value, goal)),
                remarks: measured.groups.iter().flat_map(remarks).collect(),
                ..unmeasured(row, status(row, measured.value))
            }
        }
        None => unmeasured(row, Status::NotRun(why_not(row, files, runs.as_ref()))),
    }
}

fn unmeasured(row: &BudgetRow, status: Status) -> Assessment {
    Assessment {
        id: row.id.clone(),
        what: row.what.clone(),
        source: row.source,
        p50_us: None,
        p95_us: None,
        budget: row.bound.map(|bound| row.show_limit(bound)),
        goal: row.goal.map(|goal| row.show_limit(goal)),
        measured: None,
        shown: None,
        repeats_count: 0,
        status,
        goal_reached: None,
        remarks: Vec::new(),
    }
}

fn status(row: &BudgetRow, value: f64) -> Status {
    match (row.bound, row.goal) {
        (Some(bound), _) if row.within(value, bound) => Status::Within,
        (Some(_), _) => Status::Over,
        (None, Some(goal)) if !row.within(value, goal) => Status::Short,
        (None, _) => Status::Within,
    }
}

/// Both values of a ratio come from the same file, because only these were measured together. Files with both at full
/// size take precedence.
fn measured<'file>(row: &BudgetRow, files: &'file [ResultFile]) -> Option<Measured<'file>> {
    let Some(other) = &row.ratio_to else {
        return figure(&row.metric, row.workload.as_deref(), &row.contestant, files);
    };
    let ratios: Vec<Measured<'file>> = newest_first(files)
        .into_iter()
        .map(std::slice::from_ref)
        .filter_map(|file| {
            let mut one = figure(&row.metric, row.workload.as_deref(), &row.contestant, file)?;
            let by = figure(&other.metric, other.workload.as_deref(), &other.contestant, file)?;
            one.groups.extend(by.groups);
            (by.value > 0.0).then(|| Measured { value: one.value / by.value, ..one })
        })
        .collect();
    let is_full = |one: &Measured<'_>| one.groups.iter().all(|group| group.parameters().scale == 1.0);
    let full = ratios.iter().position(is_full).unwrap_or(0);
    ratios.into_iter().nth(full)
}

fn figure<'file>(
    metric: &Metric,
    workload: Option<&str>,
    contestant: &str,
    files: &'file [ResultFile],
) -> Option<Measured<'file>> {
    if metric.is_of_file() {
        let value = newest_first(files).into_iter().find_map(|file| metric.of_file(file))?;
        return Some(Measured { value, groups: Vec::new() });
    }
    let group = Repeats::newest(files, workload?, contestant)?;
    Some(Measured { value: group.median(metric)?, groups: vec![group] })
}

/// Another statistic of the row's stage, in microseconds.
fn stage_us(row: &BudgetRow, files: &[ResultFile], time: StageTime) -> Option<f64> {
    let Metric::Stage { name, .. } = &row.metric else { return None };
    let metric = Metric::Stage { name: name.clone(), time };
    newest_first(files).into_iter().find_map(|file| metric.of_file(file)).map(|ns| ns / 1e3)
}

fn remarks(group: &Repeats<'_>) -> Vec<String> {
    let prefix = if group.first.contestant == CORELANE { "" } else { group.first.contestant.as_str() };
    let scale = group.parameters().scale;
    let scaled = (scale != 1.0).then(|| format!("at scale {scale}"));
    let full_s = (group.first.workload == SOAK).then(|| workloads::by_id(SOAK)).flatten();
    let full_s = full_s.map_or(0.0, |workload| workload.duration.as_secs_f64());
    let measured_s = group.parameters().duration_s;
    let short = (measured_s < full_s).then(|| format!("a short form: {measured_s} s of {full_s} s"));
    let limit = group.bottleneck().map(|_| "the generator was the limit".to_owned());
    let errors = group.errors_total();
    let errors = (errors > 0).then(|| format!("{errors} errors"));
    let notes = [scaled, short, limit, errors].into_iter().flatten();
    notes.map(|remark| if prefix.is_empty() { remark } else { format!("{prefix}: {remark}") }).collect()
}

fn why_not(row: &BudgetRow, files: &[ResultFile], runs: Option<&Repeats<'_>>) -> String {
    if let Some(waits_for) = &row.waits_for {
        return format!("waits for {waits_for}");
    }
    let not_run = newest_first(files).into_iter().flat_map(|file| &file.not_run);
    let note = not_run.into_iter().find(|not_run| Some(&not_run.workload) == row.workload.as_ref());
    match (note, runs) {
        (Some(note), None) => note.reason.clone(),
        (_, Some(group)) if group.complete_count() == 0 => "the run was interrupted".to_owned(),
        (_, Some(group)) if group.median(&row.metric).is_none() => format!("its runs have no {}", row.metric),
        (_, Some(_)) => "nothing in the same file to divide by".to_owned(),
        (None, None) => "no result has it".to_owned(),
    }
}
