//! Samples of a thread by perf_event_open(2): the software event `cpu-clock`, which counts while the thread runs on a CPU.

use std::io::{self, ErrorKind};

use perf_event::{
    Builder, SampleFlag, Sampler,
    data::{self, Record},
    events::Software,
};

use super::sample::{Registers, Sample};

/// Bytes of the stack in a sample. A sample has less than 64 KiB; unoptimised programs need all of it.
const STACK_BYTES: u32 = if cfg!(debug_assertions) { 60 << 10 } else { 32 << 10 };

/// Sizes of the buffer between kernel and profiler, in the order in which they are tried: the kernel limits the locked memory of a
/// user (`kernel.perf_event_mlock_kb`).
const BUFFER_BYTES: [usize; 3] = [512 << 10, 256 << 10, 128 << 10];

/// Values of a call chain from here on are markers, not addresses: `PERF_CONTEXT_MAX`.
const CONTEXT_MARKERS: u64 = 4095_u64.wrapping_neg();

/// Starts sampling of a thread. `tid`: 0 for the calling thread. `has_kernel`: with frames of the kernel.
///
/// # Errors
/// That of perf_event_open(2) or mmap(2).
pub(super) fn open(tid: i32, hz: u32, has_kernel: bool) -> io::Result<Sampler> {
    let mut smallest = None;
    for bytes in BUFFER_BYTES {
        let mut counter = builder(tid, hz, has_kernel).build()?;
        match counter.enable().and_then(|()| counter.sampled(bytes)) {
            Ok(sampler) => return Ok(sampler),
            Err(error) => smallest = Some(error),
        }
    }
    Err(smallest.unwrap_or_else(|| ErrorKind::Unsupported.into()))
}

fn builder(tid: i32, hz: u32, has_kernel: bool) -> Builder<'static> {
    let mut builder = Builder::new(Software::CPU_CLOCK);
    builder
        .observe_pid(tid)
        .any_cpu()
        .exclude_kernel(!has_kernel)
        .exclude_hv(true)
        .exclude_callchain_user(true)
        .sample_frequency(u64::from(hz))
        .sample(SampleFlag::REGS_USER | SampleFlag::STACK_USER)
        .sample_regs_user(Registers::MASK)
        .sample_stack_user(STACK_BYTES);
    if has_kernel {
        builder.sample(SampleFlag::CALLCHAIN);
    }
    builder
}

/// Calls `add` with each sample in the buffer. Returns the number of samples that the kernel dropped.
pub(super) fn drain(sampler: &mut Sampler, mut add: impl FnMut(Sample<'_>)) -> u64 {
    let mut lost = 0;
    while let Some(record) = sampler.next_record() {
        match record.parse_record() {
            Ok(Record::Sample(sample)) => read(&sample, &mut add),
            Ok(Record::Lost(record)) => lost += record.lost,
            Ok(Record::LostSamples(record)) => lost += record.lost,
            Ok(_) => {}
            Err(_) => lost += 1,
        }
    }
    lost
}

fn read(sample: &data::Sample<'_>, add: &mut impl FnMut(Sample<'_>)) {
    let chain = sample.callchain().unwrap_or_default();
    let kernel: Vec<u64> = chain.iter().copied().filter(|&address| address < CONTEXT_MARKERS).collect();
    let registers = sample.regs_user().and_then(|registers| Registers::from_perf(&registers.regs));
    add(Sample { kernel: &kernel, registers, stack: sample.stack_user().unwrap_or_default() });
}
