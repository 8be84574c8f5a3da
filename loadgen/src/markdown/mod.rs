//! `docs/PERFORMANCE.md`, generated from results, and the table of faults in `docs/RELIABILITY.md`.
//!
//! If several results contain a workload, the newest at full size is used (see
//! [`Repeats::newest`](crate::repeats::Repeats::newest)). Tables have few columns, for narrow screens.

mod ablation;
mod chaos;
mod counts;
mod omissions;
mod idle;
mod latencies;
mod provenance;
mod peers;
mod table;
mod budgets;

pub use chaos::chaos;
pub use provenance::COMMAND;

use crate::{
    budget::{Budget, assess},
    result::ResultFile,
};

/// Generates the page.
#[must_use]
pub fn performance(files: &[ResultFile], budget: &Budget) -> String {
    let assessments = assess(budget, files);
    let sections = [
        provenance::header(files),
        budgets::section(&assessments),
        ablation::section(files),
        peers::section(files),
        latencies::section(files),
        idle::section(files),
        counts::instructions(files),
        counts::stages(files),
        omissions::section(files),
    ];
    let mut page = sections.join("\n\n");
    page.push('\n');
    page
}

/// Generates the tables that compare the servers of one result.
#[must_use]
pub fn peer_tables(file: &ResultFile) -> String {
    peers::section(std::slice::from_ref(file))
}

#[cfg(test)]
mod tests;
