//! Heap profiles: which functions allocated the memory that is in use, from a dump of jemalloc.
//!
//! jemalloc samples allocations, one in 512 KiB by default, with their stacks (<https://jemalloc.net/jemalloc.3.html#opt.prof>).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    process,
};

use serde::{Deserialize, Serialize};

use super::{
    error::ProfileError,
    model::{Frame, SampledModule},
    modules::Modules,
};

/// Maximum frames of all stacks, as of a CPU profile. Stacks with less memory are counted and dropped.
const FRAMES_MAX: usize = 1 << 20;

/// Memory in use by the stack that allocated it, with addresses in place of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapProfile {
    /// The process.
    pub pid: u32,
    /// Mean number of bytes that are allocated between two samples.
    pub sample_bytes: u64,
    /// Estimated number of objects in use.
    pub objects: u64,
    /// Estimated bytes in use.
    pub bytes: u64,
    /// Bytes of the stacks that were dropped because the profile has too many.
    pub overflowed_bytes: u64,
    /// The files that code was executed from.
    pub modules: Vec<SampledModule>,
    /// Distinct frames.
    pub frames: Vec<Frame>,
    /// Distinct stacks, those with the most memory first.
    pub stacks: Vec<HeapStack>,
}

/// A distinct stack and the memory in use that it allocated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapStack {
    /// Indexes in [`HeapProfile::frames`], innermost first.
    pub frames: Vec<u32>,
    /// Estimated number of objects.
    pub objects: u64,
    /// Estimated bytes.
    pub bytes: u64,
}

impl HeapProfile {
    /// Reads a dump that jemalloc wrote about this process.
    ///
    /// # Errors
    /// The dump is in another format than `heap_v2`, or the mapped files of the process cannot be read.
    pub fn from_dump(dump: &str) -> Result<Self, ProfileError> {
        let parsed = parse(dump).ok_or(ProfileError::Dump)?;
        let system =
            |error| ProfileError::System { action: "reading the mapped files of the process", error };
        Ok(locate(parsed, &Modules::of_this_process().map_err(system)?))
    }

    /// One line: the memory, and how exact the profile is.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut line = format!(
            "{} bytes in {} objects in use, estimated from one sample in {} bytes",
            self.bytes, self.objects, self.sample_bytes
        );
        if self.overflowed_bytes > 0 {
            line.push_str(&format!(", {} bytes of too many distinct stacks dropped", self.overflowed_bytes));
        }
        line
    }
}

/// A dump without the names of files.
#[derive(Debug, PartialEq, Eq)]
struct Dump<'a> {
    sample_bytes: u64,
    /// Objects and bytes by the addresses of the stack, separated by spaces, innermost first.
    stacks: BTreeMap<&'a str, (u64, u64)>,
}

/// Parses a dump; `None` if it is in another format. Each stack is `@` with its addresses, followed by a line for all threads
/// (`t*: objects: bytes [accumulated objects: accumulated bytes]`) and one for each thread. The mappings follow after
/// `MAPPED_LIBRARIES:`.
fn parse(dump: &str) -> Option<Dump<'_>> {
    let mut lines = dump.lines();
    let sample_bytes = lines.next()?.strip_prefix("heap_v2/")?.trim().parse().ok()?;
    let mut stacks: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut stack = None;
    for line in lines {
        if line.starts_with("MAPPED_LIBRARIES:") {
            break;
        } else if let Some(addresses) = line.strip_prefix('@') {
            stack = Some(addresses.trim());
        } else if let (Some(addresses), Some(counts)) = (stack, line.trim_start().strip_prefix("t*:")) {
            let (objects, rest) = counts.split_once(':')?;
            let bytes = rest.split_whitespace().next()?.parse().ok()?;
            let estimate = unbiased(objects.trim().parse().ok()?, bytes, sample_bytes);
            let total = stacks.entry(addresses).or_default();
            *total = (total.0.saturating_add(estimate.0), total.1.saturating_add(estimate.1));
        }
    }
    Some(Dump { sample_bytes, stacks })
}

/// Estimates objects and bytes from the sampled ones of a stack: an allocation of `s` bytes is sampled with the probability
/// 1 - exp(-s / interval). jemalloc writes the numbers for which this formula of jeprof is exact (`prof_do_unbias` in prof_data.c).
fn unbiased(objects: u64, bytes: u64, sample_bytes: u64) -> (u64, u64) {
    if objects == 0 || bytes == 0 {
        return (0, 0);
    }
    let size = bytes as f64 / objects as f64;
    let scale = 1.0 / (1.0 - (-size / sample_bytes.max(1) as f64).exp());
    ((objects as f64 * scale).round() as u64, (bytes as f64 * scale).round() as u64)
}

/// Resolves the addresses of a dump to files.
fn locate(dump: Dump<'_>, modules: &Modules) -> HeapProfile {
    let mut in_use: Vec<_> = dump.stacks.into_iter().filter(|(_, (_, bytes))| *bytes > 0).collect();
    in_use.sort_by_key(|(addresses, (_, bytes))| (Reverse(*bytes), *addresses));
    let mut profile = HeapProfile {
        pid: process::id(),
        sample_bytes: dump.sample_bytes,
        modules: modules.describe(),
        ..HeapProfile::default()
    };
    let mut known = HashMap::new();
    let mut total = 0;
    for (addresses, (objects, bytes)) in in_use {
        profile.objects = profile.objects.saturating_add(objects);
        profile.bytes = profile.bytes.saturating_add(bytes);
        total += addresses.split(' ').count();
        if total > FRAMES_MAX {
            profile.overflowed_bytes = profile.overflowed_bytes.saturating_add(bytes);
            continue;
        }
        let mut indexes = Vec::new();
        for address in addresses.split(' ') {
            let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap_or(0);
            let frames = &mut profile.frames;
            indexes.push(*known.entry(address).or_insert_with(|| {
                // All are return addresses; the call is before them.
                frames.push(modules.locate(address.saturating_sub(1)));
                (frames.len() - 1) as u32
            }));
        }
        profile.stacks.push(HeapStack { frames: indexes, objects, bytes });
    }
    profile
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DUMP: &str = "heap_v2/524288\n  t*: 3: 2097152 [0: 0]\n  t0: 3: 2097152 [0: 0] main\n\
        @ 0x10 0x20\n  t*: 1: 1048576 [0: 0]\n  t0: 1: 1048576 [0: 0]\n\
        @ 0x30 0x20\n  t*: 2: 1024 [5: 9000]\n  t0: 2: 1024 [5: 9000]\n\
        @ 0x40\n  t*: 0: 0 [1: 100]\n\nMAPPED_LIBRARIES:\n55d0-55d1 r--p 0 00:00 0 t*: 7: 7\n";

    #[test]
    fn sampled_sizes_are_scaled_by_the_probability_of_a_sample() {
        let profile = locate(parse(DUMP).unwrap(), &Modules::default());
        assert_eq!((profile.sample_bytes, profile.frames.len()), (524_288, 3));
        let values: Vec<_> = profile.stacks.iter().map(|stack| (stack.objects, stack.bytes)).collect();
        // 1 / (1 - exp(-2)), and 1 / (1 - exp(-1/1024)).
        assert_eq!(values, [(1, 1_212_697), (2049, 1_049_088)]);
        assert_eq!((profile.objects, profile.bytes), (2050, 2_261_785));
        let outer = |index: usize| profile.stacks.get(index).and_then(|stack| stack.frames.get(1));
        assert_eq!(outer(0), outer(1));
        let frame = |address| Frame { module: None, address };
        assert_eq!(profile.frames, [frame(0xf), frame(0x1f), frame(0x2f)]);
    }

    #[test]
    fn dump_in_another_format_is_an_error() {
        for dump in ["", "heap profile: 1: 2 [3: 4] @ heap/1", "heap_v2/x", "heap_v2/1\n@ 0x1\n t*: 1"] {
            assert_eq!(parse(dump), None, "{dump}");
            assert!(matches!(HeapProfile::from_dump(dump), Err(ProfileError::Dump)));
        }
    }
}
