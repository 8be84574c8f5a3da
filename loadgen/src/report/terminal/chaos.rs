//! The table of faults.

use super::grid;
use crate::{
    chaos::{Bars, FaultOutcome},
    report::chaos,
};

/// Writes one row for each fault, the bars, and the reasons of those that did not pass.
#[must_use]
pub fn chaos(outcomes: &[FaultOutcome], bars: &Bars) -> String {
    let mut parts = vec![grid::render_table(&chaos::table(outcomes)), grid::paragraph(&chaos::bars(bars))];
    parts.extend(chaos::reasons(outcomes).iter().map(|reason| grid::paragraph(reason)));
    parts.join("\n") + "\n"
}
