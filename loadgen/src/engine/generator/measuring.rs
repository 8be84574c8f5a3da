//! What a thread writes down, and which of it belongs to the measured time.

use super::Generator;
use crate::{
    engine::{client::Awaited, nanoseconds, recording::IntervalRecord, thread::Report},
    request::Wrong,
};

impl Generator {
    pub(super) fn record(&mut self, kind: usize, intended_ns: u64, sent_ns: u64, judged: Result<(), Wrong>) {
        let now = self.now_ns;
        let latency = now.saturating_sub(intended_ns).max(1);
        match judged {
            Ok(()) => {
                self.interval.replies += 1;
                self.interval.latency.saturating_record(latency);
            }
            Err(_) => self.interval.errors += 1,
        }
        if now >= self.window_ns.0 && now < self.window_ns.1 && judged.is_ok() {
            self.recording.replies_in_time += 1;
        }
        if !self.is_measured(intended_ns) {
            return;
        }
        match judged {
            Ok(()) => {
                self.recording.replies += 1;
                self.recording.latency.saturating_record(latency);
                self.recording.uncorrected.saturating_record(now.saturating_sub(sent_ns).max(1));
                if let Some(kind) = self.recording.kinds.get_mut(kind) {
                    kind.latency.saturating_record(latency);
                }
            }
            Err(wrong) => {
                if let Some(kind) = self.recording.kinds.get_mut(kind) {
                    kind.errors += 1;
                }
                self.recording.error(wrong.kind(), || wrong.to_string());
            }
        }
    }

    /// Counts a request whose reply will not come.
    pub(super) fn lose(&mut self, kind: usize, intended_ns: u64, name: &'static str, words: &str) {
        self.interval.errors += 1;
        if self.is_measured(intended_ns) {
            if let Some(kind) = self.recording.kinds.get_mut(kind) {
                kind.errors += 1;
            }
            self.recording.error(name, || words.to_owned());
        }
    }

    /// Whether a request meant to be sent then belongs to the measured ones.
    pub(super) fn is_measured(&self, intended_ns: u64) -> bool {
        self.start_ns > 0 && intended_ns >= self.window_ns.0 && intended_ns < self.window_ns.1
    }

    /// What was due and found no room by the end is as late as the end, at least: leaving it out would hide a stall.
    pub(super) fn give_up_unsent(&mut self) {
        let (start, end) = (self.start_ns, self.window_ns.1);
        let Some(schedule) = &mut self.schedule else { return };
        while let Some(due) = schedule.next_if(|due| due + start < end).map(|due| due + start) {
            if due >= self.window_ns.0 {
                self.recording.requests += 1;
                self.recording.latency.saturating_record((end - due).max(1));
                self.recording.error("not_sent_in_time", || {
                    "requests that were due found no free connection in time".to_owned()
                });
            }
        }
    }

    pub(super) fn mark_window(&mut self, now: u64) {
        if now >= self.window_ns.0 {
            self.work.begin();
        }
    }

    pub(super) fn interval_index(&self, now: u64) -> i64 {
        let from_window = now as i64 - self.window_ns.0 as i64;
        from_window.div_euclid(nanoseconds(self.plan.interval).max(1) as i64)
    }

    pub(super) fn roll_interval(&mut self) {
        if self.start_ns == 0 {
            return;
        }
        // Replies that come after the end belong to the last interval.
        let index = self.interval_index(self.now_ns.min(self.window_ns.1.saturating_sub(1)));
        if index != self.interval.index {
            let over = std::mem::replace(&mut self.interval, IntervalRecord::new(index));
            let _ = self.reports.send(Report::Interval(over));
        }
    }

    pub(super) fn finish(&mut self) {
        for awaited in self.clients.iter_mut().flat_map(|client| client.awaited.drain(..)) {
            if let Awaited::Request { sent, intended_ns, .. } = awaited
                && (self.window_ns.0..self.window_ns.1).contains(&intended_ns)
            {
                if let Some(kind) = self.recording.kinds.get_mut(sent.kind) {
                    kind.errors += 1;
                }
                self.recording.error("timeout", || "no reply in time".to_owned());
            }
        }
        let last = std::mem::replace(&mut self.interval, IntervalRecord::new(i64::MAX));
        let _ = self.reports.send(Report::Interval(last));
        self.recording.connections_live = self.ready as u64;
        self.recording.busy_ns = self.work.done_ns();
        self.recording.measured_ns = self.window_ns.1.saturating_sub(self.window_ns.0);
    }
}
