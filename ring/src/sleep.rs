//! Sleeping: in the ring, or in the executor while it has tasks.

use std::{
    future::poll_fn,
    io,
    os::fd::AsRawFd,
    task::Poll,
    time::{Duration, Instant},
};

use io_uring::{opcode, types};

use super::{
    operation::{Kind, Tag},
    ring::{Ring, tolerate},
    wake::Waker,
};

/// How long a doze gathers completions, in microseconds, and how many at most.
const GATHER_US: u32 = 20;
const GATHERED_MAX: usize = 32;

impl Ring {
    /// A handle with which any thread wakes this one.
    #[must_use]
    #[allow(clippy::expect_used, reason = "the parker is taken by drop alone")]
    pub fn waker(&self) -> Waker {
        self.parker.as_ref().expect("the parker lives as long as the ring").waker()
    }

    /// Sleeps in the kernel, and the executor with it, until a completion is ready or `limit` has passed: one system
    /// call, where parking takes several. Wakers do not end it.
    ///
    /// # Errors
    /// As [`Ring::turn`].
    pub fn doze(&mut self, limit: Duration) -> io::Result<()> {
        self.block(Some(limit))
    }

    /// As [`Ring::doze`], but a waker ends it too, and without a `limit` nothing else does. `ready` is called once, after
    /// wakers have begun to write: whatever was queued before is seen by it.
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
        self.feed_starved();
        self.flush_backlog();
        let limit = limit.map(types::Timespec::from);
        let mut until = types::SubmitArgs::new();
        if let Some(limit) = &limit {
            until = until.timespec(limit);
        }
        let mut wanted = 1;
        // Waking for each completion of a burst costs more than it gains: gather some of the next batch, for a moment.
        if self.ring.params().is_feature_min_timeout() {
            wanted = (self.usual_batch / 2).clamp(1, GATHERED_MAX);
            if wanted > 1 {
                until = until.min_wait_usec(GATHER_US);
            }
        }
        if limit.is_none() {
            // A gathering wait without a limit would wait for all that are wanted.
            wanted = 1;
        }
        tolerate(self.ring.submitter().submit_with_args(wanted, &until).map(drop))
    }

    /// Sleeps until a completion is ready, a waker is used, `until` has come or `ready` says so; at times for less. `ready` is asked
    /// again each time the executor polls, so a local task that wakes this one is heard.
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
        // What completed before the eventfd was on would not signal it: look once more. And whatever the kernel has not
        // taken yet would never wake anybody.
        self.feed_starved();
        self.flush_backlog();
        let looked = self.enter();
        let settled = !self.has_completions() && self.backlog.is_empty() && !self.has_kernel_work();
        if let Some(parker) = self.parker.as_mut().filter(|_| looked.is_ok() && settled) {
            poll_fn(|context| if ready(context) { Poll::Ready(()) } else { parker.poll_signalled(context) })
                .await;
        }
        if let Some(parker) = &self.parker {
            parker.awake();
        }
        self.ring.completion().disable_eventfd();
        looked
    }

    /// Cancels everything, waits for the kernel to let go, and frees what parking holds.
    pub async fn shut_down(mut self) {
        let parker = self.parker.take();
        drop(self);
        if let Some(parker) = parker {
            parker.close();
            // The executor has one round to take the read's end. It is not waited for.
            futures_lite::future::yield_now().await;
        }
    }

    /// Has the eventfd polled that wakers write to.
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
