//! Sleeping of a shard's thread: in the ring, or in the executor while that has tasks.

use std::{
    future::poll_fn,
    io,
    os::fd::AsRawFd,
    task::Poll,
    time::{Duration, Instant},
};

use io_uring::{opcode, types};

use super::{
    enter::ignore_transient,
    operation::{Kind, Tag},
    ring::Ring,
    wake::Waker,
};

/// Time for which a wait gathers completions, in microseconds.
const GATHER_US: u32 = 20;
/// Maximum number of gathered completions.
const GATHERED_MAX: usize = 32;

impl Ring {
    /// Returns a handle with which any thread wakes this one.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the parker is taken by drop alone")]
    pub fn waker(&self) -> Waker {
        self.parker.as_ref().expect("the parker lives as long as the ring").waker()
    }

    /// Blocks the thread, including its executor, until a completion is ready or `limit` has elapsed. Takes one system call, where
    /// [`Ring::park`] takes several. Wakers do not end it.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn wait_briefly(&mut self, limit: Duration) -> io::Result<()> {
        self.block(Some(limit))
    }

    /// As [`Ring::wait_briefly`], but a waker ends the wait too, and `limit` is optional. `ready` is called once, after the wakers have been
    /// enabled: it returns `true` if work was queued before.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn wait(&mut self, limit: Option<Duration>, ready: impl FnOnce() -> bool) -> io::Result<()> {
        if let Some(parker) = &self.parker {
            parker.announce_in_ring();
        }
        let waited = if ready() { Ok(()) } else { self.block(limit) };
        if let Some(parker) = &self.parker {
            parker.awake();
        }
        waited
    }

    pub(super) fn block(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.rearm_all_starved();
        self.flush_backlog();
        let limit = limit.map(types::Timespec::from);
        let mut until = types::SubmitArgs::new();
        if let Some(limit) = &limit {
            until = until.timespec(limit);
        }
        let mut requested = 1;
        // Waking for each completion of a burst is inefficient, so the kernel gathers a part of the usual batch for a short time.
        if self.ring.params().is_feature_min_timeout() {
            requested = (self.usual_batch / 2).clamp(1, GATHERED_MAX);
            if requested > 1 {
                until = until.min_wait_usec(GATHER_US);
            }
        }
        if limit.is_none() {
            // Without a limit, a gathering wait would wait for all requested completions.
            requested = 1;
        }
        ignore_transient(self.ring.submitter().submit_with_args(requested, &until).map(drop))
    }

    /// Parks in the executor until a completion is ready, a waker is used, `until` is reached or `ready` returns `true`; may return
    /// earlier. `ready` is called at each poll of the executor, so that a local task can wake the caller.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub async fn park(
        &mut self,
        until: Option<Instant>,
        mut ready: impl FnMut(&mut std::task::Context<'_>) -> bool,
    ) -> io::Result<()> {
        if let Some(until) = until {
            self.set_alarm(until);
        }
        if let Some(parker) = &self.parker {
            parker.announce_in_executor();
        }
        self.ring.completion().enable_eventfd();
        // Completions from before the eventfd was enabled do not signal it, and entries that were not submitted never complete, so both
        // are checked once more.
        self.rearm_all_starved();
        self.flush_backlog();
        let entered = self.enter();
        let is_idle = !self.has_completions() && self.backlog.is_empty() && !self.has_kernel_work();
        if let Some(parker) = self.parker.as_mut().filter(|_| entered.is_ok() && is_idle) {
            poll_fn(|context| if ready(context) { Poll::Ready(()) } else { parker.poll_signalled(context) })
                .await;
        }
        if let Some(parker) = &self.parker {
            parker.awake();
        }
        self.ring.completion().disable_eventfd();
        entered
    }

    /// Cancels all operations, waits for their completion, and closes the parker.
    pub async fn shut_down(mut self) {
        let parker = self.parker.take();
        drop(self);
        if let Some(parker) = parker {
            parker.close();
            // Gives the executor one round to process the end of the read, without waiting for it.
            futures_lite::future::yield_now().await;
        }
    }

    /// Arms the poll of the eventfd that wakers write to.
    pub(super) fn arm_wake(&mut self) {
        let Some(descriptor) = self.parker.as_ref().map(|parker| parker.polled().as_raw_fd()) else { return };
        let readable = u32::from(libc::POLLIN.unsigned_abs());
        let poll = opcode::PollAdd::new(types::Fd(descriptor), readable).multi(true).build();
        self.push(poll, Tag::new(Kind::Woken, u32::MAX, 0));
    }

    pub(super) fn set_alarm(&mut self, until: Instant) {
        if self.alarm.is_some_and(|alarm| alarm <= until) {
            return;
        }
        let after = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.alarm = Some(until);
        *self.alarm_after = types::Timespec::from(after);
        let timer = opcode::Timeout::new(&raw const *self.alarm_after).build();
        self.push(timer, Tag::new(Kind::Timer, 0, 0));
    }
}
