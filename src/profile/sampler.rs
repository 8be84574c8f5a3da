//! Samples of one thread, by what the kernel permits.

use std::io;

use corelane_ring::CpuSampler;
use perf_event::Sampler;
use serde::{Deserialize, Serialize};

use super::{
    perf,
    sample::{Registers, Sample},
};

/// How threads are sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleSource {
    /// perf_event_open(2), with frames of the kernel. Requires `kernel.perf_event_paranoid` of 1 or less, or CAP_PERFMON.
    #[default]
    PerfWithKernel,
    /// perf_event_open(2), without frames of the kernel. Requires `kernel.perf_event_paranoid` of 2 or less.
    Perf,
    /// A timer of each thread's CPU time, whose signal samples the thread. Without frames of the kernel.
    Timer,
}

impl SampleSource {
    /// The best source that the kernel permits.
    pub(super) fn available() -> Self {
        let permitted = |source: &Self| Sampling::start(0, 1, *source).is_ok();
        [Self::PerfWithKernel, Self::Perf].into_iter().find(permitted).unwrap_or(Self::Timer)
    }
}

/// A thread that is being sampled.
pub(super) enum Sampling {
    Perf(Sampler),
    Timer(CpuSampler),
}

impl Sampling {
    /// Starts to sample a thread of this process, `hz` times per second of its CPU time. `tid`: 0 for the calling thread, by
    /// perf_event_open(2) only.
    ///
    /// # Errors
    /// The system calls of the source failed.
    pub(super) fn start(tid: i32, hz: u32, source: SampleSource) -> io::Result<Self> {
        match source {
            SampleSource::PerfWithKernel => perf::open(tid, hz, true).map(Self::Perf),
            SampleSource::Perf => perf::open(tid, hz, false).map(Self::Perf),
            SampleSource::Timer => CpuSampler::start(tid, hz).map(Self::Timer),
        }
    }

    /// Calls `add` with each sample that was taken since the last call. Returns the number of samples that were lost because the
    /// last call was too long ago.
    pub(super) fn drain(&mut self, mut add: impl FnMut(Sample<'_>)) -> u64 {
        match self {
            Self::Perf(sampler) => perf::drain(sampler, add),
            Self::Timer(sampler) => sampler.drain(|sample| {
                let (pc, sp, fp, lr) = (sample.pc, sample.sp, sample.fp, sample.lr);
                add(Sample {
                    kernel: &[],
                    registers: Some(Registers { pc, sp, fp, lr }),
                    stack: sample.stack,
                });
            }),
        }
    }
}
