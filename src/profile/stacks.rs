//! Counts of distinct stacks, within a bound.

use std::collections::HashMap;

use super::{
    model::{Profile, Stack},
    modules::Modules,
    sample::Sample,
};

/// Maximum frames of one stack. Outer frames of a deeper stack are left out.
const STACK_FRAMES_MAX: usize = 256;

/// Maximum frames of all distinct stacks: 8 MiB. Samples with further stacks are counted and dropped.
const FRAMES_MAX: usize = 1 << 20;

/// Counts samples by thread and stack.
#[derive(Default)]
pub(super) struct Stacks {
    threads: Vec<String>,
    /// By the thread's index, followed by the addresses of the stack, innermost first.
    counts: HashMap<Box<[u64]>, u64>,
    frames: usize,
    overflowed: u64,
    key: Vec<u64>,
}

impl Stacks {
    /// The index of a thread's name.
    pub(super) fn thread(&mut self, name: &str) -> usize {
        self.threads.iter().position(|known| known == name).unwrap_or_else(|| {
            self.threads.push(name.to_owned());
            self.threads.len() - 1
        })
    }

    /// Unwinds a sample and counts its stack.
    pub(super) fn add(&mut self, thread: usize, sample: Sample<'_>, modules: &mut Modules) {
        self.key.clear();
        self.key.push(thread as u64);
        self.key.extend(sample.kernel.iter().take(STACK_FRAMES_MAX));
        if let Some(registers) = sample.registers {
            let room = (1 + STACK_FRAMES_MAX).saturating_sub(self.key.len());
            modules.unwind(registers, sample.stack, room, &mut self.key);
        }
        if let Some(count) = self.counts.get_mut(self.key.as_slice()) {
            *count += 1;
        } else if self.frames + self.key.len() > FRAMES_MAX {
            self.overflowed += 1;
        } else {
            self.frames += self.key.len();
            self.counts.insert(self.key.as_slice().into(), 1);
        }
    }

    /// The counts, with the addresses by module.
    pub(super) fn into_profile(self, modules: &Modules) -> Profile {
        let mut frames = Vec::new();
        let mut known = HashMap::new();
        let mut stacks = Vec::with_capacity(self.counts.len());
        for (key, samples) in self.counts {
            let Some((&thread, addresses)) = key.split_first() else { continue };
            let indexes = addresses.iter().map(|&address| {
                *known.entry(address).or_insert_with(|| {
                    frames.push(modules.locate(address));
                    (frames.len() - 1) as u32
                })
            });
            stacks.push(Stack { thread: thread as u32, frames: indexes.collect(), samples });
        }
        // Independent of the order of the map.
        stacks.sort_by(|one, other| (one.thread, other.samples).cmp(&(other.thread, one.samples)));
        Profile {
            samples: stacks.iter().map(|stack| stack.samples).sum(),
            overflowed: self.overflowed,
            threads: self.threads,
            modules: modules.describe(),
            frames,
            stacks,
            ..Profile::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{
        model::{CUT_OFF, Frame, KERNEL},
        sample::Registers,
    };

    fn sample(kernel: &[u64]) -> Sample<'_> {
        Sample { kernel, registers: None, stack: &[] }
    }

    #[test]
    fn samples_of_threads_with_the_same_name_share_a_stack() {
        let mut modules = Modules::default();
        let mut stacks = Stacks::default();
        for name in ["shard-0", "shard-1", "shard-0"] {
            let thread = stacks.thread(name);
            stacks.add(thread, sample(&[KERNEL + 1, KERNEL + 2]), &mut modules);
        }
        let profile = stacks.into_profile(&modules);
        assert_eq!((profile.samples, profile.threads.len(), profile.frames.len()), (3, 2, 2));
        assert!(profile.frames.iter().all(Frame::is_kernel));
        let counts: Vec<_> = profile.stacks.iter().map(|stack| (stack.thread, stack.samples)).collect();
        assert_eq!(counts, [(0, 2), (1, 1)]);
    }

    #[test]
    fn distinct_stacks_beyond_the_bound_are_counted_and_dropped() {
        let mut modules = Modules::default();
        let mut stacks = Stacks::default();
        let deep: Vec<u64> = (0..1000).map(|frame| KERNEL + frame).collect();
        let mut added = 0_u64;
        while stacks.overflowed < 10 {
            let mut kernel = deep.clone();
            kernel.insert(0, KERNEL | 1 << 40 | added);
            stacks.add(0, sample(&kernel), &mut modules);
            added += 1;
        }
        assert!(stacks.frames <= FRAMES_MAX);
        assert!(stacks.counts.keys().all(|key| key.len() <= 1 + STACK_FRAMES_MAX));
        let profile = stacks.into_profile(&modules);
        assert_eq!((profile.samples, profile.overflowed), (added - 10, 10));
    }

    #[test]
    fn stack_without_tables_ends_at_its_first_frame() {
        let mut modules = Modules::default();
        let mut stacks = Stacks::default();
        let registers = Registers { pc: 0x1000, sp: 0x2000, fp: 0x2010, lr: 0x3000 };
        stacks.add(0, Sample { kernel: &[], registers: Some(registers), stack: &[] }, &mut modules);
        let profile = stacks.into_profile(&modules);
        let frame = |address| Frame { module: None, address };
        assert_eq!(profile.frames, [frame(0x1000), frame(CUT_OFF)]);
    }
}
