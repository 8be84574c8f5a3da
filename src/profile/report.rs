//! A profile in the form that its outputs share: stacks with two values each, and how they are named.

use super::{
    heap::HeapProfile,
    model::{Frame, Profile, SampledModule},
};

/// A profile to be written.
pub struct Report<'a> {
    pub(super) pid: u32,
    pub(super) modules: &'a [SampledModule],
    pub(super) frames: &'a [Frame],
    /// Names of threads, which are the outermost frames; empty where the threads are not known.
    pub(super) threads: &'a [String],
    pub(super) stacks: Vec<ReportStack<'a>>,
    /// Name and unit of each value of a stack.
    pub(super) kinds: [(&'static str, &'static str); 2],
    /// Name and unit of what is sampled, and the amount of it between two samples.
    pub(super) period: (&'static str, &'static str, u64),
    pub(super) milliseconds: u64,
    /// The value that folded stacks and flame graphs have: an index of `kinds`.
    pub(super) folded: usize,
    /// Whether the functions of the allocator are left out.
    pub(super) is_heap: bool,
    pub(super) title: &'static str,
    /// The text of a flame graph without stacks.
    pub(super) empty: &'static str,
    pub(super) summary: String,
}

/// A distinct stack.
pub(super) struct ReportStack<'a> {
    /// Index in [`Report::threads`].
    pub(super) thread: Option<u32>,
    /// Indexes in [`Report::frames`], innermost first.
    pub(super) frames: &'a [u32],
    pub(super) values: [u64; 2],
}

impl ReportStack<'_> {
    /// The thread of the stack, where it is known.
    pub(super) fn thread_name<'a>(&self, report: &'a Report<'_>) -> Option<&'a str> {
        let index = usize::try_from(self.thread?).ok();
        Some(index.and_then(|index| report.threads.get(index)).map_or("[unknown]", String::as_str))
    }
}

/// A profile that can be written.
pub trait ToReport {
    /// The form that all outputs share.
    fn to_report(&self) -> Report<'_>;
}

impl ToReport for Profile {
    fn to_report(&self) -> Report<'_> {
        let period = 1_000_000_000 / u64::from(self.hz.max(1));
        let stacks = self.stacks.iter().map(|stack| ReportStack {
            thread: Some(stack.thread),
            frames: &stack.frames,
            values: [stack.samples, stack.samples.saturating_mul(period)],
        });
        Report {
            pid: self.pid,
            modules: &self.modules,
            frames: &self.frames,
            threads: &self.threads,
            stacks: stacks.collect(),
            kinds: [("samples", "count"), ("cpu", "nanoseconds")],
            period: ("cpu", "nanoseconds", period),
            milliseconds: self.milliseconds,
            folded: 0,
            is_heap: false,
            title: "CPU time by function",
            empty: "no thread used CPU time",
            summary: self.summary(),
        }
    }
}

impl ToReport for HeapProfile {
    fn to_report(&self) -> Report<'_> {
        let stacks = self.stacks.iter().map(|stack| ReportStack {
            thread: None,
            frames: &stack.frames,
            values: [stack.objects, stack.bytes],
        });
        Report {
            pid: self.pid,
            modules: &self.modules,
            frames: &self.frames,
            threads: &[],
            stacks: stacks.collect(),
            // The names that pprof and jeprof use.
            kinds: [("inuse_objects", "count"), (IN_USE, "bytes")],
            period: ("space", "bytes", self.sample_bytes),
            milliseconds: 0,
            folded: 1,
            is_heap: true,
            title: "Memory in use by the function that allocated it",
            empty: "no sampled memory is in use",
            summary: self.summary(),
        }
    }
}

/// The name of the bytes in use in the format of pprof.
pub(super) const IN_USE: &str = "inuse_space";
