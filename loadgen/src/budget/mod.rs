//! Budgets: upper or lower bounds of metrics, and goals.
//!
//! `bench/budget.toml` assigns each row a metric of a workload. If a row misses its budget, the command exits with 1. A
//! missed goal is reported only.

mod assess;
mod roadmap;
mod row;
mod table;

use std::{collections::BTreeSet, fs, path::Path};

use serde::Deserialize;

pub use self::{
    assess::{Assessment, Status, assess, over},
    roadmap::{ROADMAP_NOTE, RoadmapRow, roadmap, roadmap_over, roadmap_table},
    row::{BudgetRow, Other, Source},
    table::{summary, table},
};
use crate::error::LoadError;

/// The rows of a budget file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Rows in the order of the file.
    #[serde(rename = "row")]
    pub rows: Vec<BudgetRow>,
}

impl Budget {
    /// Reads a budget file.
    ///
    /// # Errors
    /// When the file cannot be read or is invalid; the message contains the line.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let broken = |reason: String| LoadError::Usage(format!("{}: {reason}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
        Self::parse(&text).map_err(broken)
    }

    /// Parses the text of a budget file.
    ///
    /// # Errors
    /// A description of the error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let budget: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut ids = BTreeSet::new();
        match budget.rows.iter().find(|row| !ids.insert(row.id.as_str())) {
            Some(twice) => Err(format!("two rows have the id {:?}", twice.id)),
            None => Ok(budget),
        }
    }
}

#[cfg(test)]
mod tests;
