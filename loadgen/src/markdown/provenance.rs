//! Header of the page: command, machines and results.

use std::collections::BTreeSet;

use super::table::{plain, table};
use crate::{
    repeats::{CORELANE, newest_first},
    result::{Environment, ResultFile},
    units,
};

/// The command that generates the page.
pub const COMMAND: &str = "corelane-loadgen report --markdown docs/PERFORMANCE.md RESULT…";

pub(super) fn header(files: &[ResultFile]) -> String {
    let mut parts = vec![
        "# Performance".to_owned(),
        format!(
            "Made by `{COMMAND}` from the results below. No figure here was typed by hand: to change one, measure again. \
             Each is the median over the repeats of a run, unless it says otherwise."
        ),
    ];
    if files.is_empty() {
        parts.push("There are no results yet.".to_owned());
        return parts.join("\n\n");
    }
    let machines: BTreeSet<String> = files.iter().map(|file| machine(&file.environment)).collect();
    let machines: Vec<String> = machines.into_iter().map(|machine| format!("- {machine}")).collect();
    parts.push(format!("Measured on:\n\n{}", machines.join("\n")));
    let rows = newest_first(files).into_iter().map(|file| {
        [format!("`{}`", command(&file.command_line)), file.started.clone(), file.environment.commit.clone()]
    });
    parts.push(table(["result of", "begun", "commit"], rows.collect()));
    parts.extend(flags(files));
    parts.join("\n\n")
}

fn machine(of: &Environment) -> String {
    let mut text = format!(
        "{}, {} cores, {}, Linux {}",
        plain(&of.cpu_model),
        of.cores_count,
        units::bytes(of.memory_bytes),
        plain(&of.kernel)
    );
    if of.generator_build != "release" {
        text.push_str(&format!(", **generator built as {}**", plain(&of.generator_build)));
    }
    text
}

/// The command line, without directories.
fn command(words: &[String]) -> String {
    let short = |word: &String| {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (format!("{option}="), value),
            None => (String::new(), word.as_str()),
        };
        let name = if value.starts_with('/') { value.rsplit('/').next().unwrap_or(value) } else { value };
        format!("{option}{name}")
    };
    plain(&words.iter().map(short).collect::<Vec<_>>().join(" ")).replace('`', "'")
}

/// The optimizations of corelane, from the newest result that has them.
fn flags(files: &[ResultFile]) -> Option<String> {
    let runs = newest_first(files).into_iter().flat_map(|file| &file.runs);
    let flags = runs
        .filter(|run| run.contestant == CORELANE)
        .find(|run| !run.server.flags.is_empty())?
        .server
        .flags
        .iter()
        .map(|(flag, on)| format!("`{}` {}", plain(flag), if *on { "on" } else { "off" }));
    Some(format!("Optimisations: {}.", flags.collect::<Vec<_>>().join(", ")))
}
