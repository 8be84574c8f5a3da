//! Judges a send that takes long by the bytes that its peer acknowledges.

use std::time::{Duration, Instant};

/// Checks of a send in flight per [`Limits::write_timeout`](crate::config::Limits::write_timeout).
const CHECKS_PER_TIMEOUT: u32 = 4;

/// Time between two checks of a send in flight. Most sends complete before the first one, and cost nothing here.
pub(super) fn check_interval(timeout: Duration) -> Duration {
    timeout / CHECKS_PER_TIMEOUT
}

/// A send that has not completed by its first check, or a message of a stream that has not been acknowledged by then.
///
/// The first check only sets the baseline, so a peer that acknowledges nothing is closed at most a quarter of
/// [`Limits::write_timeout`](crate::config::Limits::write_timeout) too late.
pub(super) struct SlowSend {
    /// Bytes that were not acknowledged at the first check, and those of the sends that have completed since.
    completed: u64,
    /// Bytes of `completed` and of the send in flight that the peer has acknowledged.
    acknowledged: u64,
    /// When `acknowledged` was last seen to grow.
    progressed_at: Instant,
    /// When the current window of the minimum rate began, and `acknowledged` then.
    window: (Instant, u64),
}

impl SlowSend {
    /// The first check: `sent` bytes of the send in flight are with the kernel, and `unacknowledged` bytes of all sends.
    pub(super) fn new(now: Instant, sent: u64, unacknowledged: u64) -> Self {
        Self { completed: unacknowledged, acknowledged: sent, progressed_at: now, window: (now, sent) }
    }

    /// Counts a send that has completed.
    pub(super) fn add_completed(&mut self, bytes: u64) {
        self.completed = self.completed.saturating_add(bytes);
    }

    /// Leaves out a time in which nothing could be observed.
    pub(super) fn postpone(&mut self, unobserved: Duration) {
        self.progressed_at += unobserved;
        self.window.0 += unobserved;
    }

    /// Takes a further check into account, with the bytes as in [`Self::new`]. The rate is that of windows of `timeout`, so that a peer
    /// may read in bursts; 0 for no minimum, as while a stream has nothing to send.
    pub(super) fn check(
        &mut self,
        now: Instant,
        (sent, unacknowledged): (u64, u64),
        timeout: Duration,
        bytes_per_second_min: usize,
    ) -> Option<Failed> {
        let acknowledged = self.completed.saturating_add(sent).saturating_sub(unacknowledged);
        if acknowledged > self.acknowledged {
            self.acknowledged = acknowledged;
            self.progressed_at = now;
        }
        if now.saturating_duration_since(self.progressed_at) >= timeout {
            return Some(Failed::NoProgress);
        }
        if bytes_per_second_min == 0 {
            self.window = (now, self.acknowledged);
        }
        let (began, before) = self.window;
        let elapsed = now.saturating_duration_since(began);
        if elapsed < timeout {
            return None;
        }
        self.window = (now, self.acknowledged);
        let received = u128::from(self.acknowledged.saturating_sub(before)) * 1000;
        let required = bytes_per_second_min as u128 * elapsed.as_millis();
        (received < required).then_some(Failed::TooSlow)
    }
}

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The peer has acknowledged nothing for [`Limits::write_timeout`](crate::config::Limits::write_timeout).
    NoProgress,
    /// The peer acknowledges less than [`Limits::write_bytes_per_second_min`](crate::config::Limits::write_bytes_per_second_min).
    TooSlow,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    /// Checks a send four times per timeout of 10 s; `bytes` are what the peer acknowledges before each check. Returns the reason and
    /// the number of the check that closes the connection.
    fn outcome(minimum: usize, bytes: &[u64]) -> Option<(Failed, usize)> {
        let limits = Limits::default();
        assert_eq!(limits.write_timeout, Duration::from_secs(10));
        let start = Instant::now();
        let mut total = 7;
        let mut send = SlowSend::new(start, total, 0);
        (1..).zip(bytes).find_map(|(number, bytes)| {
            total += bytes;
            let now = start + check_interval(limits.write_timeout) * number;
            send.check(now, (total, 0), limits.write_timeout, minimum).map(|reason| (reason, number as usize))
        })
    }

    #[test]
    fn peer_that_acknowledges_nothing_is_closed_after_the_timeout() {
        assert_eq!(outcome(0, &[0; 9]), Some((Failed::NoProgress, 4)));
        assert_eq!(outcome(0, &[1, 0, 0, 0, 0, 1]), Some((Failed::NoProgress, 5)));
    }

    #[test]
    fn peer_that_reads_in_bursts_is_served_and_one_below_the_rate_is_closed() {
        assert_eq!(outcome(1024, &[0, 0, 0, 10_240].repeat(9)), None);
        assert_eq!(outcome(1024, &[2560; 40]), None);
        assert_eq!(outcome(1024, &[2559; 40]), Some((Failed::TooSlow, 4)));
        assert_eq!(outcome(0, &[1; 40]), None, "0 disables the minimum");
        let late = [&[9000; 8][..], &[100; 8]].concat();
        assert_eq!(outcome(1024, &late), Some((Failed::TooSlow, 12)));
    }

    #[test]
    fn completed_send_is_no_progress_until_its_bytes_are_acknowledged() {
        let timeout = Limits::default().write_timeout;
        let start = Instant::now();
        let at = |checks: u32| start + check_interval(timeout) * checks;
        // Of a send of 700 bytes the kernel has taken 300, and the peer has acknowledged none.
        let mut send = SlowSend::new(start, 300, 300);
        send.add_completed(700);
        assert_eq!(send.check(at(3), (0, 700), timeout, 0), None);
        // A send of 50 bytes follows.
        assert_eq!(send.check(at(4), (50, 750), timeout, 0), Some(Failed::NoProgress));
        assert_eq!(send.check(at(4), (50, 749), timeout, 0), None);
        assert_eq!(send.check(at(7), (50, 749), timeout, 0), None);
        assert_eq!(send.check(at(8), (50, 749), timeout, 0), Some(Failed::NoProgress));
    }
}
