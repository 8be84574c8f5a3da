//! The blocking pool: a bounded queue and a few threads, off the shards' cores where there are others.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::{
    Unfinished,
    completions::{Completed, RemoteCompletions, Ticket},
};
use crate::registry::Reply;

/// What is done on a thread.
pub(super) type Work = Box<dyn FnOnce() -> Result<Reply, Unfinished> + Send>;

struct Job {
    work: Work,
    cancelled: Arc<AtomicBool>,
    ticket: Ticket,
    home: RemoteCompletions,
}

/// A handle to the pool; its threads end when the last handle is gone and the queue is empty.
#[derive(Clone)]
pub struct BlockingPool {
    jobs: Sender<Job>,
}

impl BlockingPool {
    /// Starts `threads` threads, pinned in turn to `cores`, or to none if that is empty. At most `queue_max` jobs
    /// wait.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(threads: usize, cores: &[usize], queue_max: usize) -> io::Result<Self> {
        let (jobs, queue) = bounded(queue_max);
        for number in 0..threads.max(1) {
            let queue = queue.clone();
            let core = cores.get(number % cores.len().max(1)).copied();
            thread::Builder::new().name(format!("blocking-{number}")).spawn(move || {
                if let Some(id) = core {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
                work_off(&queue);
            })?;
        }
        Ok(Self { jobs })
    }

    /// Queues a job whose reply goes home under `ticket`. Gives the ticket back when the queue is full.
    pub(super) fn submit(
        &self,
        work: Work,
        cancelled: Arc<AtomicBool>,
        ticket: Ticket,
        home: RemoteCompletions,
    ) -> Result<(), Ticket> {
        self.jobs.try_send(Job { work, cancelled, ticket, home }).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job.ticket,
        })
    }
}

fn work_off(queue: &Receiver<Job>) {
    for job in queue {
        // Nobody waits for it any more: the thread is for the next one.
        let outcome = if job.cancelled.load(Ordering::Relaxed) {
            let _ = super::guarded(|| drop(job.work));
            Err(Unfinished::Cancelled)
        } else {
            super::guarded(job.work).unwrap_or_else(Err)
        };
        job.home.push(Completed { ticket: job.ticket, outcome });
    }
}
