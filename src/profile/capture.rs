//! Takes a profile.

use std::{
    collections::{BTreeMap, BTreeSet},
    io, process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    error::ProfileError,
    model::Profile,
    modules::Modules,
    options::{HZ_MAX, ProfileOptions, SECONDS_MAX},
    sampler::{SampleSource, Sampling},
    stacks::Stacks,
    threads::{SampledThreads, Thread, missing},
};

/// Maximum threads sampled at the same time; each has a buffer of 512 KiB. Further ones are counted.
const THREADS_MAX: usize = 256;

/// How often threads that were started meanwhile are looked for.
const RESCAN_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time between two reads of the buffers, which is also how fast a profile is cancelled.
const READ_INTERVAL_MAX: Duration = Duration::from_millis(40);

/// Whether a profile is being taken.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);

fn check(options: &ProfileOptions) -> Result<(), ProfileError> {
    if !(1..=SECONDS_MAX).contains(&options.seconds) {
        return Err(ProfileError::Seconds(options.seconds));
    }
    if !(1..=HZ_MAX).contains(&options.hz) {
        return Err(ProfileError::Hz(options.hz));
    }
    Ok(())
}

/// Held while a profile is taken.
struct Permit;

impl Permit {
    fn acquire() -> Result<Self, ProfileError> {
        if IS_RUNNING.swap(true, Ordering::Acquire) { Err(ProfileError::Running) } else { Ok(Self) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        IS_RUNNING.store(false, Ordering::Release);
    }
}

/// Takes a profile of this process, and blocks the calling thread meanwhile. Ends early once `is_cancelled` returns true, which is
/// called every 40 ms or more often. One profile is taken at a time.
///
/// # Errors
/// An option is out of range, a profile is under way, or no thread can be sampled.
pub fn capture(options: &ProfileOptions, is_cancelled: impl Fn() -> bool) -> Result<Profile, ProfileError> {
    capture_from(SampleSource::available(), options, is_cancelled)
}

/// Takes a profile as [`capture`] does, from this source.
///
/// # Errors
/// As [`capture`], or the source is not permitted.
pub fn capture_from(
    source: SampleSource,
    options: &ProfileOptions,
    is_cancelled: impl Fn() -> bool,
) -> Result<Profile, ProfileError> {
    check(options)?;
    let _permit = Permit::acquire()?;
    let modules = Modules::of_this_process().map_err(system("reading the mapped files of the process"))?;
    let mut session = Session::new(options, source, modules);
    session.start()?;
    // Four samples of each thread at most; the smallest buffer has room for three and is rare.
    let read_interval = (Duration::from_secs(4) / options.hz).min(READ_INTERVAL_MAX);
    let began = Instant::now();
    let duration = Duration::from_secs(options.seconds.into());
    let mut scanned = began;
    while began.elapsed() < duration && !is_cancelled() {
        thread::sleep(read_interval.min(duration.saturating_sub(began.elapsed())));
        session.drain();
        if scanned.elapsed() >= RESCAN_INTERVAL {
            scanned = Instant::now();
            // Without the list of threads, the known ones are sampled on.
            let _ = session.scan();
        }
    }
    Ok(session.finish(began.elapsed()))
}

fn system(action: &'static str) -> impl Fn(io::Error) -> ProfileError {
    move |error| ProfileError::System { action, error }
}

/// A profile that is being taken.
struct Session<'a> {
    options: &'a ProfileOptions,
    source: SampleSource,
    modules: Modules,
    stacks: Stacks,
    /// The threads that are sampled, by their number, with the index of their name.
    samplers: BTreeMap<i32, (usize, Sampling)>,
    skipped: BTreeSet<i32>,
    lost: u64,
}

impl<'a> Session<'a> {
    fn new(options: &'a ProfileOptions, source: SampleSource, modules: Modules) -> Self {
        let (stacks, samplers, skipped) = (Stacks::default(), BTreeMap::new(), BTreeSet::new());
        Self { options, source, modules, stacks, samplers, skipped, lost: 0 }
    }

    /// Starts to sample.
    ///
    /// # Errors
    /// A shard of the options has no thread, or no thread can be sampled.
    fn start(&mut self) -> Result<(), ProfileError> {
        let (threads, failure) = self.scan()?;
        if let SampledThreads::Shards(shards) = &self.options.threads
            && let Some(number) = missing(shards, &threads)
        {
            return Err(ProfileError::NoShard(number));
        }
        match failure {
            Some(error) if self.samplers.is_empty() => Err(ProfileError::NotPermitted(error)),
            _ => Ok(()),
        }
    }

    /// Starts to sample the threads that are not yet sampled, and closes the samplers of those that have exited. Returns the
    /// threads, and the last error of a thread that cannot be sampled.
    ///
    /// # Errors
    /// The threads cannot be listed.
    fn scan(&mut self) -> Result<(Vec<Thread>, Option<io::Error>), ProfileError> {
        let threads = self.options.threads.list().map_err(system("listing the threads of the process"))?;
        self.samplers.retain(|tid, _| threads.iter().any(|thread| thread.tid == *tid));
        let mut failure = None;
        for thread in &threads {
            if self.samplers.contains_key(&thread.tid) || self.skipped.contains(&thread.tid) {
                continue;
            }
            if self.samplers.len() >= THREADS_MAX {
                self.skipped.insert(thread.tid);
                continue;
            }
            match Sampling::start(thread.tid, self.options.hz, self.source) {
                Ok(sampler) => {
                    let index = self.stacks.thread(&thread.name);
                    self.samplers.insert(thread.tid, (index, sampler));
                }
                Err(error) => {
                    self.skipped.insert(thread.tid);
                    failure = Some(error);
                }
            }
        }
        Ok((threads, failure))
    }

    /// Counts the samples in the buffers.
    fn drain(&mut self) {
        let Self { stacks, modules, lost, .. } = self;
        for (index, sampler) in self.samplers.values_mut() {
            *lost += sampler.drain(|sample| stacks.add(*index, sample, modules));
        }
    }

    fn finish(mut self, elapsed: Duration) -> Profile {
        self.drain();
        Profile {
            pid: process::id(),
            hz: self.options.hz,
            milliseconds: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            source: self.source,
            lost: self.lost,
            threads_skipped: self.skipped.len() as u64,
            ..self.stacks.into_profile(&self.modules)
        }
    }
}
