//! Measurements of one thread.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::latency::histogram;

/// Measurements of one thread, or the sum of all threads.
#[derive(Clone, Debug)]
pub struct Recording {
    /// From the due time to the last byte of the reply, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From the actual send time to the last byte of the reply, in nanoseconds.
    pub uncorrected: Histogram<u64>,
    /// Delay of requests that could have been sent earlier, in nanoseconds.
    pub lag: Histogram<u64>,
    /// From the first request of a volley to its last reply, in nanoseconds.
    pub makespan: Histogram<u64>,
    /// Measurements by request of the mix.
    pub kinds: Vec<KindRecord>,
    /// Errors by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Message of the first error.
    pub first_error: Option<String>,
    /// Requests that were due.
    pub requests: u64,
    /// Correct replies that arrived within the measured time.
    pub replies_in_time: u64,
    /// Correct replies.
    pub replies: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Connections opened again within the measured time, because the server or an error had ended the previous one.
    pub reconnects: u64,
    /// Requests sent again because the server closed their connection before it read them, or, for a `GET`, before it
    /// replied.
    pub resent: u64,
    /// Connections that are open at the end, or reconnecting after a reply that was the last on the previous one.
    pub connections_live: u64,
    /// Busy time of the busiest thread, in nanoseconds.
    pub busy_ns: u64,
    /// Length of the measured time, in nanoseconds.
    pub measured_ns: u64,
}

/// Measurements of one request of the mix.
#[derive(Clone, Debug)]
pub struct KindRecord {
    /// As in [`Recording`].
    pub latency: Histogram<u64>,
    /// Wrong replies.
    pub errors: u64,
}

/// Measurements of one interval.
#[derive(Clone, Debug)]
pub struct IntervalRecord {
    /// Index: 0 is the first interval of the measured time; those of the warm-up are negative.
    pub index: i64,
    /// Correct replies to requests that were due in the interval.
    pub replies: u64,
    /// Requests that were due in the interval and failed.
    pub errors: u64,
    /// Correct replies that arrived in the interval, whenever their requests were due.
    pub completed: u64,
    /// Latencies of the requests that were due in the interval, as in [`Recording`].
    pub latency: Histogram<u64>,
}

impl IntervalRecord {
    /// Creates an empty record.
    #[must_use]
    pub fn new(index: i64) -> Self {
        Self { index, replies: 0, errors: 0, completed: 0, latency: histogram() }
    }

    /// Adds another thread's record of the same interval.
    pub fn add(&mut self, other: &Self) {
        self.replies += other.replies;
        self.errors += other.errors;
        self.completed += other.completed;
        add(&mut self.latency, &other.latency);
    }
}

impl Recording {
    /// Creates an empty recording for a mix of `kinds` requests.
    #[must_use]
    pub fn new(kinds: usize) -> Self {
        Self {
            latency: histogram(),
            uncorrected: histogram(),
            lag: histogram(),
            makespan: histogram(),
            kinds: (0..kinds).map(|_| KindRecord { latency: histogram(), errors: 0 }).collect(),
            errors: BTreeMap::new(),
            first_error: None,
            requests: 0,
            replies_in_time: 0,
            replies: 0,
            sent_bytes: 0,
            received_bytes: 0,
            reconnects: 0,
            resent: 0,
            connections_live: 0,
            busy_ns: 0,
            measured_ns: 0,
        }
    }

    /// Counts an error.
    pub(super) fn error(&mut self, name: &'static str, message: impl FnOnce() -> String) {
        *self.errors.entry(name).or_default() += 1;
        if self.first_error.is_none() {
            self.first_error = Some(message());
        }
    }

    /// Adds another thread's recording.
    pub fn add(&mut self, other: &Self) {
        add(&mut self.latency, &other.latency);
        add(&mut self.uncorrected, &other.uncorrected);
        add(&mut self.lag, &other.lag);
        add(&mut self.makespan, &other.makespan);
        for (kind, others) in self.kinds.iter_mut().zip(&other.kinds) {
            add(&mut kind.latency, &others.latency);
            kind.errors += others.errors;
        }
        for (name, count) in &other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
        self.requests += other.requests;
        self.replies_in_time += other.replies_in_time;
        self.replies += other.replies;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.reconnects += other.reconnects;
        self.resent += other.resent;
        self.connections_live += other.connections_live;
        self.busy_ns = self.busy_ns.max(other.busy_ns);
        self.measured_ns = self.measured_ns.max(other.measured_ns);
    }
}

fn add(sum: &mut Histogram<u64>, other: &Histogram<u64>) {
    // All histograms have the same bounds.
    let _ = sum.add(other);
}
