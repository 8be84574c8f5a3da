//! Measurements of a thread, and their assignment to the measured time.

use super::Generator;
use crate::{
    engine::{client::InFlight, recording::IntervalRecord, report::ThreadReport},
    request::ReplyError,
};

impl Generator {
    pub(super) fn record(
        &mut self,
        kind: usize,
        intended_ns: u64,
        sent_ns: u64,
        checked: Result<(), ReplyError>,
    ) {
        let now = self.now_ns;
        let latency = now.saturating_sub(intended_ns).max(1);
        if checked.is_ok() {
            self.interval_at(now).completed += 1;
        }
        if now >= self.window_ns.0 && now < self.window_ns.1 && checked.is_ok() {
            self.recording.replies_in_time += 1;
        }
        if !self.has_interval(intended_ns) {
            return;
        }
        let interval = self.interval_at(intended_ns);
        match checked {
            Ok(()) => {
                interval.replies += 1;
                interval.latency.saturating_record(latency);
            }
            Err(_) => interval.errors += 1,
        }
        if !self.is_measured(intended_ns) {
            return;
        }
        match checked {
            Ok(()) => {
                self.recording.replies += 1;
                self.recording.latency.saturating_record(latency);
                self.recording.uncorrected.saturating_record(now.saturating_sub(sent_ns).max(1));
                if let Some(kind) = self.recording.kinds.get_mut(kind) {
                    kind.latency.saturating_record(latency);
                }
            }
            Err(error) => {
                if let Some(kind) = self.recording.kinds.get_mut(kind) {
                    kind.errors += 1;
                }
                self.recording.error(error.kind(), || error.to_string());
            }
        }
    }

    /// Counts a request whose reply will not arrive.
    pub(super) fn record_lost(&mut self, kind: usize, intended_ns: u64, name: &'static str, message: &str) {
        if self.has_interval(intended_ns) {
            self.interval_at(intended_ns).errors += 1;
        }
        if self.is_measured(intended_ns) {
            if let Some(kind) = self.recording.kinds.get_mut(kind) {
                kind.errors += 1;
            }
            self.recording.error(name, || message.to_owned());
        }
    }

    /// Whether a request with this due time is measured.
    pub(super) fn is_measured(&self, intended_ns: u64) -> bool {
        self.start_ns > 0 && intended_ns >= self.window_ns.0 && intended_ns < self.window_ns.1
    }

    /// Records requests that were due but found no free connection, with the latency up to the end: omitting them would
    /// hide a stall.
    pub(super) fn fail_unsent(&mut self) {
        let (start, end) = (self.start_ns, self.window_ns.1);
        let Some(schedule) = &mut self.schedule else { return };
        while let Some(due) = schedule.next_if(|due| due + start < end).map(|due| due + start) {
            if due >= self.window_ns.0 {
                self.recording.requests += 1;
                self.recording.latency.saturating_record((end - due).max(1));
                let index = index_of(self.window_ns.0, self.interval_ns, due);
                let interval = self.intervals.entry(index).or_insert_with(|| IntervalRecord::new(index));
                interval.errors += 1;
                interval.latency.saturating_record((end - due).max(1));
                self.recording
                    .error("not_sent_in_time", || "due requests had no free connection in time".to_owned());
            }
        }
    }

    pub(super) fn begin_measuring(&mut self, now: u64) {
        if now >= self.window_ns.0 {
            self.busy_time.begin(now);
        }
    }

    /// Whether a request with this due time belongs to an interval. Only requests that are due after an early end do
    /// not.
    fn has_interval(&self, intended_ns: u64) -> bool {
        self.start_ns > 0 && intended_ns < self.window_ns.1
    }

    /// The interval of a time. Times after the end belong to the last interval.
    fn interval_at(&mut self, at_ns: u64) -> &mut IntervalRecord {
        let at_ns = at_ns.min(self.window_ns.1.saturating_sub(1));
        let index = index_of(self.window_ns.0, self.interval_ns, at_ns);
        self.intervals.entry(index).or_insert_with(|| IntervalRecord::new(index))
    }

    /// Reports the pending intervals whenever the clock enters another one. Later replies are reported later, with the
    /// same index.
    pub(super) fn roll_interval(&mut self) {
        if self.start_ns == 0 {
            return;
        }
        let index =
            index_of(self.window_ns.0, self.interval_ns, self.now_ns.min(self.window_ns.1.saturating_sub(1)));
        if index != self.interval_index {
            self.interval_index = index;
            self.report_intervals();
        }
    }

    fn report_intervals(&mut self) {
        for (_, interval) in std::mem::take(&mut self.intervals) {
            let _ = self.reports.send(ThreadReport::Interval(interval));
        }
    }

    pub(super) fn finish(&mut self) {
        let mut unanswered = Vec::new();
        for client in &mut self.clients {
            unanswered.extend(client.to_resend.drain(..).map(|queued| (queued.kind, queued.intended_ns)));
            unanswered.extend(client.in_flight.drain(..).filter_map(|in_flight| match in_flight {
                InFlight::Request { sent, intended_ns, .. } => Some((sent.kind, intended_ns)),
                _ => None,
            }));
        }
        for (kind, intended_ns) in unanswered {
            self.record_lost(kind, intended_ns, "timeout", "no reply in time");
        }
        self.report_intervals();
        self.recording.connections_live =
            self.clients.iter().filter(|client| client.is_live()).count() as u64;
        self.recording.busy_ns = self.busy_time.busy_ns();
        self.recording.measured_ns = self.window_ns.1.saturating_sub(self.window_ns.0);
    }
}

/// Index of the interval that contains a time, counted from the start of the measured time.
fn index_of(window_ns: u64, interval_ns: u64, at_ns: u64) -> i64 {
    (at_ns as i64 - window_ns as i64).div_euclid(interval_ns as i64)
}
