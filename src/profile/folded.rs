//! Folded stacks: one line for each distinct stack, its functions from the outermost to the innermost separated by `;`, then a
//! space and the number of samples. The format of `stackcollapse-perf.pl`, which most viewers read.

use std::collections::BTreeMap;

use super::{model::Profile, symbols::Symbols};

/// Suffix of a function of the kernel, by which viewers colour it.
const KERNEL_SUFFIX: &str = "_[k]";

/// The lines, sorted. The outermost frame is the name of the thread.
pub(super) fn lines(profile: &Profile, symbols: &Symbols) -> Vec<String> {
    // Different addresses of the same functions are the same stack here.
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for stack in &profile.stacks {
        let thread = usize::try_from(stack.thread).ok().and_then(|index| profile.threads.get(index));
        let mut line = clean(thread.map_or("[unknown]", String::as_str));
        for &frame in symbols.within_thread(stack).iter().rev() {
            for function in symbols.functions(frame).iter().rev() {
                line.push(';');
                line.push_str(&clean(&function.name));
                if function.is_kernel {
                    line.push_str(KERNEL_SUFFIX);
                }
            }
        }
        *counts.entry(line).or_default() += stack.samples;
    }
    counts.into_iter().map(|(stack, samples)| format!("{stack} {samples}")).collect()
}

/// A name without the separators of the format.
fn clean(name: &str) -> String {
    name.replace(';', ":").replace(['\n', '\r'], " ")
}
