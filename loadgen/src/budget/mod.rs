//! Budgets are data: what may be used up at most, or must be reached at least, and what we aim for.
//!
//! `bench/budget.toml` says for each row which figure of which workload it is about. A row that misses its budget is
//! over, and the command that judged it exits 1. A goal that is missed is told, and fails nothing.

mod assess;
mod row;
mod table;

use std::{collections::BTreeSet, fs, path::Path};

use serde::Deserialize;

pub use self::{
    assess::{Assessment, Status, assess, over},
    row::{BudgetRow, Other, Source},
    table::{summary, table},
};
use crate::error::LoadError;

/// Every row of a budget file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// In the order of the file.
    #[serde(rename = "row")]
    pub rows: Vec<BudgetRow>,
}

impl Budget {
    /// Reads a budget file.
    ///
    /// # Errors
    /// When it cannot be read, or is no budget; the message names the line.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let broken = |reason: String| LoadError::Usage(format!("{}: {reason}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
        Self::parse(&text).map_err(broken)
    }

    /// Reads the text of a budget file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
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
