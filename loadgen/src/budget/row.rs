//! A row of a budget: its raw form in the file and its validated form.

use serde::{Deserialize, Serialize};

use crate::{
    metric::{Better, Metric, ratio},
    repeats::CORELANE,
};

/// Origin of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Required by the roadmap.
    Roadmap,
    /// Set by the project itself.
    Goal,
}

/// A validated row of a budget.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawRow")]
pub struct BudgetRow {
    /// Unique id, short enough for the first column of a table.
    pub id: String,
    /// Description for people.
    pub what: String,
    /// Origin of the budget, or of the goal if there is no budget.
    pub source: Source,
    /// The workload that measures the metric; `None` for a metric that exists once per file.
    pub workload: Option<String>,
    /// Name of the server.
    pub contestant: String,
    /// The metric. Budget and goal are in its unit, or plain numbers for a ratio.
    pub metric: Metric,
    /// The divisor of a ratio, from the same file.
    pub ratio_to: Option<Other>,
    /// Direction of improvement.
    pub better: Better,
    /// The budget.
    pub bound: Option<f64>,
    /// The goal.
    pub goal: Option<f64>,
    /// A missing feature without which the row cannot be measured.
    pub waits_for: Option<String>,
}

/// The divisor of a ratio.
#[derive(Clone, Debug)]
pub struct Other {
    /// As in [`BudgetRow`].
    pub workload: Option<String>,
    /// As in [`BudgetRow`].
    pub contestant: String,
    /// As in [`BudgetRow`].
    pub metric: Metric,
}

impl BudgetRow {
    /// Formats a value of the row with its unit.
    #[must_use]
    pub fn show(&self, value: f64) -> String {
        if self.ratio_to.is_some() { ratio(value) } else { self.metric.show(value) }
    }

    /// Formats a budget or a goal: `≤ 1.00 ms`, or `≥ 100,000/s`.
    #[must_use]
    pub fn show_limit(&self, limit: f64) -> String {
        match self.better {
            Better::Lower => format!("≤ {}", self.show(limit)),
            Better::Higher => format!("≥ {}", self.show(limit)),
        }
    }

    /// Whether a value satisfies a budget or a goal.
    #[must_use]
    pub fn within(&self, value: f64, limit: f64) -> bool {
        match self.better {
            Better::Lower => value <= limit,
            Better::Higher => value >= limit,
        }
    }
}

/// A row as it is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRow {
    id: String,
    what: String,
    source: Source,
    workload: Option<String>,
    contestant: Option<String>,
    metric: Metric,
    ratio_to: Option<RawOther>,
    max: Option<f64>,
    min: Option<f64>,
    goal: Option<f64>,
    better: Option<Better>,
    waits_for: Option<String>,
}

/// The divisor in the file. Missing members are those of the row.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOther {
    workload: Option<String>,
    contestant: Option<String>,
    metric: Option<Metric>,
}

impl TryFrom<RawRow> for BudgetRow {
    type Error = String;

    fn try_from(raw: RawRow) -> Result<Self, String> {
        let id = raw.id.clone();
        Self::checked(raw).map_err(|why| format!("row {id:?}: {why}"))
    }
}

impl BudgetRow {
    fn checked(raw: RawRow) -> Result<Self, String> {
        let (better, bound) = match (raw.max, raw.min, raw.better) {
            (Some(max), None, None) => (Better::Lower, Some(max)),
            (None, Some(min), None) => (Better::Higher, Some(min)),
            (None, None, Some(better)) if raw.goal.is_some() => (better, None),
            (None, None, _) => return Err("max or min is missing, or goal and better".to_owned()),
            (Some(_), Some(_), _) => return Err("only one of max and min is allowed".to_owned()),
            (_, _, Some(_)) => return Err("max or min already determine better".to_owned()),
        };
        let contestant = raw.contestant.unwrap_or_else(|| CORELANE.to_owned());
        let ratio_to = raw.ratio_to.map(|other| Other {
            workload: other.workload.or_else(|| raw.workload.clone()),
            contestant: other.contestant.unwrap_or_else(|| contestant.clone()),
            metric: other.metric.unwrap_or_else(|| raw.metric.clone()),
        });
        let row = Self {
            id: raw.id,
            what: raw.what,
            source: raw.source,
            workload: raw.workload,
            contestant,
            metric: raw.metric,
            ratio_to,
            better,
            bound,
            goal: raw.goal,
            waits_for: raw.waits_for,
        };
        row.check()?;
        Ok(row)
    }

    fn check(&self) -> Result<(), String> {
        let limits = [self.bound, self.goal].into_iter().flatten();
        if limits.into_iter().any(|limit| !(limit.is_finite() && limit >= 0.0)) {
            return Err("a limit is not a number of at least 0".to_owned());
        }
        let one = (&self.metric, &self.workload);
        for (metric, workload) in
            self.ratio_to.iter().map(|other| (&other.metric, &other.workload)).chain([one])
        {
            if !metric.is_of_file() && workload.is_none() {
                return Err(format!("{metric} is measured in a workload, but the row has no workload"));
            }
        }
        match (self.goal, self.bound) {
            (Some(goal), Some(bound)) if !self.within(goal, bound) => {
                Err(format!("the goal {goal} is looser than the budget {bound}"))
            }
            _ => Ok(()),
        }
    }
}
