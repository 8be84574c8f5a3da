//! A profile as the server sends it.

use serde::{Deserialize, Serialize};

use super::sampler::SampleSource;

/// The lowest address of the kernel, on x86-64 and on aarch64.
pub(super) const KERNEL: u64 = 1 << 63;

/// Stands for the outer frames of a stack that was longer than its sample.
pub(super) const CUT_OFF: u64 = 0;

/// The samples of a profile, with addresses in place of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The process.
    pub pid: u32,
    /// Samples per second of CPU time.
    pub hz: u32,
    /// How long the profile took.
    pub milliseconds: u64,
    /// How the threads were sampled.
    pub source: SampleSource,
    /// Samples in `stacks`.
    pub samples: u64,
    /// Samples that the kernel dropped because they were not read in time.
    pub lost: u64,
    /// Samples that were dropped because the profile has too many distinct stacks.
    pub overflowed: u64,
    /// Threads that could not be sampled.
    pub threads_skipped: u64,
    /// Names of threads, each once.
    pub threads: Vec<String>,
    /// The files that code was executed from.
    pub modules: Vec<SampledModule>,
    /// Distinct frames.
    pub frames: Vec<Frame>,
    /// Distinct stacks.
    pub stacks: Vec<Stack>,
}

/// A file that code was executed from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampledModule {
    /// Its path, or a name in brackets.
    pub path: String,
    /// Whether this is the program itself.
    pub is_program: bool,
}

/// An address in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Index in [`Profile::modules`]; none for the kernel and for code without a file.
    pub module: Option<u32>,
    /// The address as the file states it where there is a module, else the address in memory. Of a caller, this is an address within
    /// the call instruction.
    pub address: u64,
}

impl Frame {
    /// Whether the outer frames are missing here, because they were not in the sample.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.module.is_none() && self.address == CUT_OFF
    }

    /// Whether this is a function of the kernel.
    #[must_use]
    pub fn is_kernel(&self) -> bool {
        self.module.is_none() && self.address >= KERNEL
    }
}

/// A distinct stack and how often it was sampled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Index in [`Profile::threads`].
    pub thread: u32,
    /// Indexes in [`Profile::frames`], innermost first.
    pub frames: Vec<u32>,
    /// Number of samples.
    pub samples: u64,
}
