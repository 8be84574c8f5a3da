//! `docs/PERFORMANCE.md`, made of results: no figure in it is typed by hand.
//!
//! Where several results have the same workload, the newest that ran it at full size speaks for it (see
//! [`Repeats::newest`](crate::repeats::Repeats::newest)). Tables have few columns, for narrow screens.

mod counts;
mod omissions;
mod idle;
mod latencies;
mod provenance;
mod peers;
mod table;
mod budgets;

pub use provenance::COMMAND;

use crate::{
    budget::{Budget, assess},
    result::ResultFile,
};

/// The page in full.
#[must_use]
pub fn performance(files: &[ResultFile], budget: &Budget) -> String {
    let assessments = assess(budget, files);
    let sections = [
        provenance::header(files),
        budgets::section(&assessments),
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

/// One result's servers beside each other.
#[must_use]
pub fn peer_tables(file: &ResultFile) -> String {
    peers::section(std::slice::from_ref(file))
}

#[cfg(test)]
mod tests;
