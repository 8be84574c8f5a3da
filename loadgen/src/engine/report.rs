//! Messages between the generator's threads and the thread that started them.

use std::{
    sync::atomic::{AtomicBool, AtomicU64},
    time::Instant,
};

use super::recording::{IntervalRecord, Recording};
/// A report of a generator thread.
#[derive(Debug)]
pub enum ThreadReport {
    /// All connections of the thread are ready.
    Ready,
    /// The thread cannot continue; with the reason.
    Failed(String),
    /// An interval is over.
    Interval(IntervalRecord),
    /// The server has been unreachable since this many nanoseconds of the measured time.
    Gone(u64),
    /// The run is over.
    Done(Box<Recording>),
}

/// State that controls the threads.
#[derive(Debug)]
pub(super) struct ThreadControl {
    /// Origin of all times of a run.
    pub(super) epoch: Instant,
    /// Start of the load, in nanoseconds of the run; 0 until it is known.
    pub(super) start_ns: AtomicU64,
    /// Ends the measured time.
    pub(super) stop: AtomicBool,
}
