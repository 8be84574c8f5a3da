//! Folded stacks: one line for each distinct stack, its functions from the outermost to the innermost separated by `;`, then a
//! space and the number of samples, or of bytes. The format of `stackcollapse-perf.pl`, which most viewers read.

use std::collections::BTreeMap;

use super::{report::Report, symbols::Symbols};

/// Suffix of a function of the kernel, by which viewers colour it.
const KERNEL_SUFFIX: &str = "_[k]";

/// Stands for the functions of a stack without any.
pub(super) const UNKNOWN: &str = "[unknown]";

/// Values by stack.
pub(super) type Folded = BTreeMap<String, u64>;

/// Folds a profile. The outermost frame is the name of the thread, where it is known.
pub(super) fn fold(report: &Report<'_>, symbols: &Symbols) -> Folded {
    // Different addresses of the same functions are the same stack here.
    let mut folded = Folded::new();
    for stack in &report.stacks {
        let mut functions = Vec::new();
        functions.extend(stack.thread_name(report).map(clean));
        for &frame in symbols.within_thread(stack.frames).iter().rev() {
            for function in symbols.functions(frame).iter().rev() {
                let suffix = if function.is_kernel { KERNEL_SUFFIX } else { "" };
                functions.push(clean(&function.name) + suffix);
            }
        }
        if functions.is_empty() {
            functions.push(UNKNOWN.to_owned());
        }
        let value = folded.entry(functions.join(";")).or_default();
        *value = value.saturating_add(stack.values.get(report.folded).copied().unwrap_or(0));
    }
    folded
}

/// The lines, sorted.
pub(super) fn lines(folded: &Folded) -> Vec<String> {
    folded.iter().map(|(stack, value)| format!("{stack} {value}")).collect()
}

/// Reads lines.
///
/// # Errors
/// One line: the first line that is not a stack with a number.
pub(super) fn parse(text: &str) -> Result<Folded, String> {
    let mut folded = Folded::new();
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let parsed =
            line.rsplit_once(' ').and_then(|(stack, value)| Some((stack, value.parse::<u64>().ok()?)));
        let (stack, value) = parsed.ok_or_else(|| format!("line {number} is not a stack with a number"))?;
        let total = folded.entry(stack.to_owned()).or_default();
        *total = total.saturating_add(value);
    }
    Ok(folded)
}

/// A name without the separators of the format.
pub(super) fn clean(name: &str) -> String {
    name.replace(';', ":").replace(['\n', '\r'], " ")
}
