//! What a generator's thread is told, and what it reports.

use std::{
    sync::atomic::{AtomicBool, AtomicU64},
    time::Instant,
};

use super::recording::{IntervalRecord, Recording};
/// What a thread says.
#[derive(Debug)]
pub enum ThreadReport {
    /// All its connections are there.
    Ready,
    /// It cannot go on: nobody answers.
    Failed(String),
    /// A part of the time is over.
    Interval(IntervalRecord),
    /// The server has been gone for a while: since this many nanoseconds of the measured time.
    Gone(u64),
    /// All is measured.
    Done(Box<Recording>),
}

/// What the threads are told.
#[derive(Debug)]
pub(super) struct ThreadControl {
    /// What all times of a run count from.
    pub(super) epoch: Instant,
    /// When load begins, in nanoseconds of the run; 0 until it is known.
    pub(super) start_ns: AtomicU64,
    /// Measure no more.
    pub(super) stop: AtomicBool,
}
