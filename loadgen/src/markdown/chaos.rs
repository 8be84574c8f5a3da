//! The table of faults in `docs/RELIABILITY.md`.

use super::table::{plain, table};
use crate::{
    chaos::ChaosFile,
    report::chaos::{HEAD, bars, cells, reasons},
};

/// Generates the table of faults, with the machine, the bars, and the reasons of those that did not pass.
#[must_use]
pub fn chaos(file: &ChaosFile) -> String {
    let environment = &file.environment;
    let rows = file.faults.iter().map(|outcome| {
        let mut cells = cells(outcome);
        if let Some(fault) = cells.first_mut() {
            *fault = format!("`{fault}`");
        }
        cells
    });
    let mut lines = vec![
        table(HEAD, rows.collect()),
        String::new(),
        format!(
            "{}: {}, {} cores, kernel {}, {} build, commit {}. {}.",
            file.started,
            plain(&environment.cpu_model),
            environment.cores_count,
            environment.kernel,
            environment.generator_build,
            environment.commit,
            capitalized(&bars(&file.bars))
        ),
    ];
    lines.extend(reasons(&file.faults).iter().map(|reason| format!("- {}", plain(reason))));
    lines.join("\n") + "\n"
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
