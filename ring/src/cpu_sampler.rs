//! Samples of a thread by a timer of its CPU time, where perf_event_open(2) is not permitted.
//!
//! The timer (timer_create(2)) counts the CPU time of one thread and sends `SIGPROF` to it. The handler copies the registers and the
//! top of the stack into a buffer; it neither unwinds nor allocates, and it reads the stack by process_vm_readv(2), which fails where
//! memory is not mapped instead of raising a signal.

use std::{
    array,
    cell::UnsafeCell,
    ffi::c_void,
    io::{self, ErrorKind},
    mem, ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

/// Bytes of the stack in a sample. Unoptimised programs need more.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 64 << 10 } else { 32 << 10 };

/// Samples in the buffer of a thread: with their stacks, 256 KiB.
const SAMPLES: usize = 8;

/// Maximum threads that are sampled at the same time.
const THREADS: usize = 256;

/// Bytes of the smallest page.
const PAGE_BYTES: usize = 4096;

/// The buffers of sampled threads. The value of a timer's signal is an index in this table, so that a late signal finds no buffer
/// instead of a freed one.
static BUFFERS: [AtomicPtr<Buffer>; THREADS] = [const { AtomicPtr::new(ptr::null_mut()) }; THREADS];

/// Number of handlers that may hold a pointer of [`BUFFERS`].
static HANDLERS: AtomicUsize = AtomicUsize::new(0);

/// Samples one thread of this process until it is dropped.
#[derive(Debug)]
pub struct CpuSampler {
    timer: libc::timer_t,
    slot: usize,
    buffer: Arc<Buffer>,
}

/// A sample of a thread.
#[derive(Clone, Copy, Debug)]
pub struct CpuSample<'a> {
    /// The program counter.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer: `rbp` or `x29`.
    pub fp: u64,
    /// The link register of aarch64; 0 on x86-64.
    pub lr: u64,
    /// The stack from `sp` up, at most 32 KiB.
    pub stack: &'a [u8],
}

/// A queue of samples: the handler of the thread `tid` adds, the sampler removes.
#[derive(Debug)]
struct Buffer {
    tid: i32,
    /// Number of samples added.
    added: AtomicUsize,
    /// Number of samples removed.
    removed: AtomicUsize,
    lost: AtomicU64,
    samples: [UnsafeCell<Recorded>; SAMPLES],
}

#[derive(Debug)]
struct Recorded {
    /// `pc`, `sp`, `fp`, `lr`.
    registers: [u64; 4],
    /// Bytes copied to `stack`.
    copied: usize,
    stack: Box<[u8; STACK_BYTES]>,
}

// SAFETY: a sample of index i is written only by the one thread `tid` while `added - removed < SAMPLES`, and read only by the owner
// of the sampler while i is in `removed..added`; the two counters are published with release and read with acquire.
unsafe impl Sync for Buffer {}

impl CpuSampler {
    /// Starts to sample a thread of this process, `hz` times per second of its CPU time. The handler of `SIGPROF` is installed on the
    /// first call and stays: a late signal would else end the process.
    ///
    /// # Errors
    /// `ResourceBusy` where the program has a handler of `SIGPROF`, `StorageFull` where 256 threads are sampled, or the error of
    /// timer_create(2).
    pub fn start(tid: i32, hz: u32) -> io::Result<Self> {
        install_handler()?;
        let sample = || Recorded { registers: [0; 4], copied: 0, stack: Box::new([0; STACK_BYTES]) };
        let buffer = Arc::new(Buffer {
            tid,
            added: AtomicUsize::new(0),
            removed: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            samples: array::from_fn(|_| UnsafeCell::new(sample())),
        });
        let pointer = Arc::as_ptr(&buffer).cast_mut();
        let free = |slot: &AtomicPtr<Buffer>| {
            slot.compare_exchange(ptr::null_mut(), pointer, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        let slot = BUFFERS.iter().position(free).ok_or(ErrorKind::StorageFull)?;
        match start_timer(tid, hz, slot) {
            Ok(timer) => Ok(Self { timer, slot, buffer }),
            Err(error) => {
                withdraw(slot);
                Err(error)
            }
        }
    }

    /// Calls `read` with each sample of the buffer. Returns the number of samples that were lost because the buffer was full.
    pub fn drain(&mut self, mut read: impl FnMut(CpuSample<'_>)) -> u64 {
        let buffer = &*self.buffer;
        let added = buffer.added.load(Ordering::Acquire);
        let mut removed = buffer.removed.load(Ordering::Relaxed);
        while removed != added {
            if let Some(sample) = buffer.samples.get(removed % SAMPLES) {
                // SAFETY: see `Sync`: the index is in `removed..added`.
                let sample = unsafe { &*sample.get() };
                let [pc, sp, fp, lr] = sample.registers;
                let stack = sample.stack.get(..sample.copied).unwrap_or_default();
                read(CpuSample { pc, sp, fp, lr, stack });
            }
            removed = removed.wrapping_add(1);
            buffer.removed.store(removed, Ordering::Release);
        }
        buffer.lost.swap(0, Ordering::Relaxed)
    }
}

impl Drop for CpuSampler {
    fn drop(&mut self) {
        // SAFETY: `timer` was created by `start_timer` and is deleted once. The result: it fails for unknown timers only.
        let _ = unsafe { libc::timer_delete(self.timer) };
        withdraw(self.slot);
    }
}

// SAFETY: a timer belongs to the process, and `buffer` may be read by any one thread; see `Sync` of `Buffer`.
unsafe impl Send for CpuSampler {}

/// Makes a buffer unreachable for handlers, and waits for those that have found it.
fn withdraw(slot: usize) {
    if let Some(buffer) = BUFFERS.get(slot) {
        // Sequentially consistent, as the handler's accesses: either the handler finds no buffer, or it is counted here.
        buffer.store(ptr::null_mut(), Ordering::SeqCst);
    }
    while HANDLERS.load(Ordering::SeqCst) != 0 {
        thread::yield_now();
    }
}

fn start_timer(tid: i32, hz: u32, slot: usize) -> io::Result<libc::timer_t> {
    // The clock of a thread's CPU time: `MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED)` of the kernel's `posix-timers.h`.
    let clock = (!tid << 3) | 4 | 2;
    // SAFETY: all bytes 0 is a valid value of these structures of integers and pointers.
    let mut event: libc::sigevent = unsafe { mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = libc::SIGPROF;
    event.sigev_notify_thread_id = tid;
    event.sigev_value.sival_ptr = ptr::without_provenance_mut(slot);
    let mut timer: libc::timer_t = ptr::null_mut();
    // SAFETY: both pointers are to valid values that outlive the call.
    check(unsafe { libc::timer_create(clock, &raw mut event, &raw mut timer) })?;
    let interval = libc::timespec {
        tv_sec: libc::time_t::from(hz <= 1),
        tv_nsec: if hz <= 1 { 0 } else { libc::c_long::from(1_000_000_000 / hz.cast_signed()) },
    };
    let times = libc::itimerspec { it_interval: interval, it_value: interval };
    // SAFETY: `timer` was created above, `times` outlives the call, and a null pointer is allowed for the old value.
    let started = check(unsafe { libc::timer_settime(timer, 0, &raw const times, ptr::null_mut()) });
    if started.is_err() {
        // SAFETY: `timer` was created above and is not used afterwards.
        let _ = unsafe { libc::timer_delete(timer) };
    }
    started.map(|()| timer)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Installs the handler, unless it is.
fn install_handler() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    // SAFETY: all bytes 0 is a valid value of this structure of integers and optional pointers.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: a null pointer is allowed for the new action; `old` outlives the call.
    check(unsafe { libc::sigaction(libc::SIGPROF, ptr::null(), &raw mut old) })?;
    if ![libc::SIG_DFL, libc::SIG_IGN].contains(&old.sa_sigaction) {
        return Err(ErrorKind::ResourceBusy.into());
    }
    // SAFETY: as above.
    let mut new: libc::sigaction = unsafe { mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut c_void) = handle;
    new.sa_sigaction = handler as libc::sighandler_t;
    new.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: `handle` has the signature of `SA_SIGINFO`, and calls only functions that are safe in a handler.
    check(unsafe { libc::sigaction(libc::SIGPROF, &raw const new, ptr::null_mut()) })?;
    *installed = true;
    Ok(())
}

/// The handler of `SIGPROF`: safe in any state of the interrupted thread, because it makes system calls and atomic accesses only.
extern "C" fn handle(_signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid pointer with `SA_SIGINFO`.
    let info = unsafe { &*info };
    if info.si_code != libc::SI_TIMER {
        return;
    }
    // SAFETY: the signal of a timer has a value.
    let slot = unsafe { info.si_value() }.sival_ptr.addr();
    // SAFETY: returns the address of the calling thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: valid for the calling thread.
    let saved = unsafe { *errno };
    HANDLERS.fetch_add(1, Ordering::SeqCst);
    if let Some(pointer) = BUFFERS.get(slot).map(|buffer| buffer.load(Ordering::SeqCst)) {
        // SAFETY: null, or a buffer that is freed only after its pointer was removed and `HANDLERS` was 0 (`withdraw`).
        if let Some(buffer) = unsafe { pointer.as_ref() } {
            // SAFETY: the kernel passes a valid pointer with `SA_SIGINFO`.
            record(buffer, unsafe { &*context.cast::<libc::ucontext_t>() });
        }
    }
    HANDLERS.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: valid for the calling thread.
    unsafe { *errno = saved };
}

/// Adds a sample of the calling thread.
fn record(buffer: &Buffer, context: &libc::ucontext_t) {
    // SAFETY: has no precondition.
    let tid = unsafe { libc::gettid() };
    // A late signal of a timer whose slot has another thread's buffer by now.
    if tid != buffer.tid {
        return;
    }
    let added = buffer.added.load(Ordering::Relaxed);
    if added.wrapping_sub(buffer.removed.load(Ordering::Acquire)) >= SAMPLES {
        buffer.lost.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Some(sample) = buffer.samples.get(added % SAMPLES) else { return };
    // SAFETY: see `Sync`: the queue has room, this is the thread `tid`, and `SIGPROF` is blocked within its handler.
    let sample = unsafe { &mut *sample.get() };
    sample.registers = registers(context);
    sample.copied = copy_stack(sample.registers[1], &mut sample.stack);
    buffer.added.store(added.wrapping_add(1), Ordering::Release);
}

/// Copies the memory from `from` up to the first page that is not mapped. Returns the number of bytes.
fn copy_stack(from: u64, to: &mut [u8; STACK_BYTES]) -> usize {
    let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: STACK_BYTES };
    // One range for each page: a range that is not mapped as a whole may be skipped as a whole.
    let mut remote = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; STACK_BYTES / PAGE_BYTES + 1];
    let Ok(mut address) = usize::try_from(from) else { return 0 };
    let end = address.saturating_add(STACK_BYTES);
    for range in &mut remote {
        let page_end = (address | (PAGE_BYTES - 1)).saturating_add(1).min(end);
        range.iov_base = ptr::without_provenance_mut(address);
        range.iov_len = page_end - address;
        address = page_end;
    }
    let count = remote.len() as libc::c_ulong;
    // SAFETY: has no precondition.
    let process = unsafe { libc::getpid() };
    // SAFETY: `local` is `to`, which is writable; memory that `remote` names and that is not mapped is an error.
    let copied = unsafe { libc::process_vm_readv(process, &raw const local, 1, remote.as_ptr(), count, 0) };
    usize::try_from(copied).unwrap_or(0)
}

#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> [u64; 4] {
    let registers = &context.uc_mcontext.gregs;
    let get = |index: i32| {
        let value = usize::try_from(index).ok().and_then(|index| registers.get(index));
        value.map_or(0, |value| value.cast_unsigned())
    };
    [get(libc::REG_RIP), get(libc::REG_RSP), get(libc::REG_RBP), 0]
}

#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> [u64; 4] {
    let machine = &context.uc_mcontext;
    [machine.pc, machine.sp, machine.regs[29], machine.regs[30]]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::{
        hint::black_box,
        sync::atomic::{AtomicBool, AtomicI32},
        time::{Duration, Instant},
    };

    use super::*;

    /// Runs `body` while a thread uses CPU time; `body` gets its number.
    fn with_busy_thread(body: impl FnOnce(i32)) {
        let (tid, ended) = (AtomicI32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: has no precondition.
                tid.store(unsafe { libc::gettid() }, Ordering::SeqCst);
                while !ended.load(Ordering::Relaxed) {
                    black_box(0);
                }
            });
            while tid.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            body(tid.load(Ordering::SeqCst));
            ended.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn busy_thread_is_sampled_with_its_stack() {
        with_busy_thread(|tid| {
            let mut sampler = CpuSampler::start(tid, 99).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut samples = 0;
            while samples < 5 {
                assert!(Instant::now() < deadline, "{samples} samples");
                thread::sleep(Duration::from_millis(10));
                sampler.drain(|sample| {
                    samples += 1;
                    assert!(sample.pc != 0 && sample.sp != 0);
                    assert!(sample.stack.len() > 64, "{} bytes of the stack", sample.stack.len());
                });
            }
        });
    }

    #[test]
    fn samples_beyond_the_buffer_are_counted() {
        with_busy_thread(|tid| {
            let mut sampler = CpuSampler::start(tid, 999).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while sampler.buffer.lost.load(Ordering::Relaxed) == 0 {
                assert!(Instant::now() < deadline, "nothing was lost");
                thread::sleep(Duration::from_millis(10));
            }
            let mut samples = 0;
            assert!(sampler.drain(|_| samples += 1) > 0);
            assert_eq!(samples, SAMPLES);
        });
    }

    #[test]
    fn samplers_that_start_and_end_leave_no_buffer() {
        with_busy_thread(|tid| {
            for _ in 0..2000 {
                drop(CpuSampler::start(tid, 999).unwrap());
            }
        });
        // Other tests of this process use a slot or two.
        let used = BUFFERS.iter().filter(|buffer| !buffer.load(Ordering::SeqCst).is_null()).count();
        assert!(used <= 2, "{used}");
        assert_eq!(HANDLERS.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn stack_is_copied_up_to_the_first_unmapped_page() {
        let size = 3 * PAGE_BYTES;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), size, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        let last = start.wrapping_byte_add(2 * PAGE_BYTES);
        // SAFETY: the last page of the mapping above, which nothing uses.
        let protected = unsafe { libc::mprotect(last, PAGE_BYTES, libc::PROT_NONE) };
        assert_eq!(protected, 0);
        let from = start.addr() + 16;
        let copied = copy_stack(from as u64, &mut [0; STACK_BYTES]);
        assert_eq!(copied, 2 * PAGE_BYTES - 16);
        assert_eq!(copy_stack(8, &mut [0; STACK_BYTES]), 0);
        // SAFETY: the mapping above, which nothing uses.
        assert_eq!(unsafe { libc::munmap(start, size) }, 0);
    }
}
