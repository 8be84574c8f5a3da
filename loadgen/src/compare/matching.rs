//! Matching of results: conditions under which they can be compared, and the runs that belong together.
//!
//! The machines must have the same processor model, number of cores, kernel version (major and minor) and generator
//! build profile. The kernel's patch level may differ: distributions raise it with every security fix, and it does not
//! affect the measurements; a minor version contains another io_uring. The memory size may differ, because virtual
//! machines of one type differ by a few pages.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    error::LoadError,
    repeats::Repeats,
    result::{Environment, ResultFile, ServerInfo},
};

/// Two groups of repeats with the same load, except for the scale.
pub(super) struct Pair<'file> {
    pub(super) current: Repeats<'file>,
    pub(super) baseline: Repeats<'file>,
}

/// The groups of two files, by file.
pub(super) struct Matched<'file> {
    pub(super) pairs: Vec<Pair<'file>>,
    pub(super) not_in_the_baseline: Vec<String>,
    pub(super) only_in_the_baseline: Vec<String>,
}

impl Pair<'_> {
    /// The reason why no metric of the pair can be compared, if there is one.
    pub(super) fn unusable(&self) -> Option<String> {
        let [now, then] = [&self.current, &self.baseline].map(|group| group.parameters().scale);
        if now != then {
            return Some(format!("run at scale {now}, and at {then} in the baseline"));
        }
        let changed = |group: &Repeats<'_>, whose| {
            let flag = group.runs.iter().find_map(|run| run.server.flags_changed.first())?;
            Some(format!("{whose} {flag} was switched while measuring"))
        };
        if let Some(reason) =
            changed(&self.current, "now").or_else(|| changed(&self.baseline, "in the baseline"))
        {
            return Some(reason);
        }
        incomplete(&self.current, "now").or_else(|| incomplete(&self.baseline, "in the baseline"))
    }
}

/// If the server died in one repeat, the other repeats do not represent the workload. An interrupted repeat is only
/// missing.
fn incomplete(group: &Repeats<'_>, whose: &str) -> Option<String> {
    match group.server_gone_after_s() {
        Some(after_s) => Some(format!("{whose} the server stopped answering after {after_s:.1} s")),
        None => (group.complete_count() == 0).then(|| format!("{whose} it was interrupted")),
    }
}

/// Rejects results of different machines with all differences.
pub(super) fn same_machine(current: &Environment, baseline: &Environment) -> Result<(), LoadError> {
    let facts = |of: &Environment| {
        [
            ("the processor", of.cpu_model.clone()),
            ("the number of cores", of.cores_count.to_string()),
            ("the kernel", major_minor(&of.kernel)),
            ("the generator's build", of.generator_build.clone()),
        ]
    };
    let differences: Vec<String> = facts(current)
        .into_iter()
        .zip(facts(baseline))
        .filter(|(now, then)| now != then)
        .map(|((what, now), (_, then))| format!("{what} is {now}, and {then} in the baseline"))
        .collect();
    if differences.is_empty() { Ok(()) } else { Err(LoadError::Incomparable(differences.join("; "))) }
}

fn major_minor(kernel: &str) -> String {
    let mut parts = kernel.split(['.', '-']);
    format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Finds the groups that belong together. Rejects a workload that was run with other parameters.
pub(super) fn matched<'file>(
    current: &'file ResultFile,
    baseline: &'file ResultFile,
) -> Result<Matched<'file>, LoadError> {
    let mut before = Repeats::of(baseline);
    let mut pairs = Vec::new();
    let mut alone = Vec::new();
    for group in Repeats::of(current) {
        match before.iter().position(|other| other.first.repeats(group.first)) {
            Some(index) => pairs.push(Pair { baseline: before.remove(index), current: group }),
            None => alone.push(group),
        }
    }
    let mut not_in_the_baseline = Vec::new();
    for group in alone {
        let same_name = |other: &Repeats<'_>| other.is(&group.first.workload, &group.first.contestant);
        // One of several parameter sets of a workload, others of which are in both files: a step of a sweep.
        let is_step = pairs.iter().any(|pair| same_name(&pair.current));
        match before.iter().position(same_name) {
            Some(index) if !is_step => {
                let baseline = before.remove(index);
                if group.parameters().scale == baseline.parameters().scale {
                    return Err(unlike_parameters(&group, &baseline));
                }
                pairs.push(Pair { current: group, baseline });
            }
            _ => not_in_the_baseline.push(group.name()),
        }
    }
    same_flags(&pairs)?;
    let only_in_the_baseline = before.iter().map(|group| with_reason(group, current)).collect();
    Ok(Matched { pairs, not_in_the_baseline, only_in_the_baseline })
}

/// Rejects results of servers with different flags, with all differences. A result without flags is of a server that does not
/// export them, or of an older generator.
fn same_flags(pairs: &[Pair<'_>]) -> Result<(), LoadError> {
    let mut found = Vec::new();
    for pair in pairs {
        let [now, then] = flags(pair);
        for flag in now.keys().filter(|flag| then.contains_key(*flag)) {
            let [now, then] =
                [&pair.current, &pair.baseline].map(|group| position(&group.first.server, flag));
            if now == then {
                continue;
            }
            let difference = format!("{flag} is {now}, and {then} in the baseline");
            // Most workloads of a file have the same flags, so each difference is listed once.
            if !found.contains(&difference) {
                found.push(difference);
            }
        }
    }
    if found.is_empty() { Ok(()) } else { Err(LoadError::Incomparable(found.join("; "))) }
}

/// The position of a flag in words.
fn position(server: &ServerInfo, flag: &str) -> String {
    match (server.flag_shares.get(flag), server.flags.get(flag)) {
        // A share has two decimals of a percent.
        (Some(share), _) => format!("on for {} %", (share * 10_000.0).round() / 100.0),
        (None, Some(true)) => "on".to_owned(),
        (None, _) => "off".to_owned(),
    }
}

fn flags<'pair>(pair: &'pair Pair<'_>) -> [&'pair BTreeMap<String, bool>; 2] {
    [&pair.current, &pair.baseline].map(|group| &group.first.server.flags)
}

fn with_reason(group: &Repeats<'_>, current: &ResultFile) -> String {
    let not_run = current.not_run.iter().find(|not_run| not_run.workload == group.first.workload);
    match not_run {
        Some(not_run) => format!("{}: {}", group.name(), not_run.reason),
        None => group.name(),
    }
}

fn unlike_parameters(current: &Repeats<'_>, baseline: &Repeats<'_>) -> LoadError {
    let [now, then] =
        [current, baseline].map(|group| serde_json::to_value(group.parameters()).unwrap_or(Value::Null));
    let mut found = Vec::new();
    differences("", &now, &then, &mut found);
    LoadError::Incomparable(format!("{} was run with other parameters: {}", current.name(), found.join("; ")))
}

/// Lists every leaf in which two values differ, with both values. Recursion is bounded by the depth of the parameters,
/// which is three.
fn differences(path: &str, now: &Value, then: &Value, found: &mut Vec<String>) {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            let new = then.keys().filter(|key| !now.contains_key(*key));
            for key in now.keys().chain(new) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let [now, then] = [now, then].map(|object| object.get(key).unwrap_or(&Value::Null));
                differences(&path, now, then, found);
            }
        }
        (Value::Array(now), Value::Array(then)) if now.len() == then.len() => {
            for (index, (now, then)) in now.iter().zip(then).enumerate() {
                differences(&format!("{path}[{index}]"), now, then, found);
            }
        }
        _ if now == then => {}
        (Value::Array(now), Value::Array(then)) => {
            found.push(format!("{path} has {} entries, and {} in the baseline", now.len(), then.len()));
        }
        _ => found.push(format!("{path} is {now}, and {then} in the baseline")),
    }
}

/// Start time and commit of a result.
pub(super) fn origin(file: &ResultFile) -> String {
    format!("{}, commit {}", file.started, file.environment.commit)
}

/// Differences that do not prevent the comparison, but may explain a change.
pub(super) fn notes(current: &ResultFile, baseline: &ResultFile, pairs: &[Pair<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    let [now, then] = [current, baseline].map(|file| &file.environment.generator_version);
    if now != then {
        notes.push(format!("the generator is version {now}, and {then} in the baseline"));
    }
    let unknown = |is_of_baseline: bool| {
        pairs.iter().map(flags).any(|[now, then]| {
            let (one, other) = if is_of_baseline { (then, now) } else { (now, then) };
            one.is_empty() && !other.is_empty()
        })
    };
    for (is_of_baseline, whose) in [(false, "the current result"), (true, "the baseline")] {
        if unknown(is_of_baseline) {
            notes.push(format!("the flags of {whose} are unknown"));
        }
    }
    notes
}
