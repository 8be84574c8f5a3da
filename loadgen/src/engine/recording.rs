//! What one thread measures.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::latency::histogram;

/// One thread's measurements of the measured time, or all threads' together.
#[derive(Clone, Debug)]
pub struct Recording {
    /// From the intended time of sending to the reply's last byte, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From the actual time of sending.
    pub uncorrected: Histogram<u64>,
    /// By how much requests left later than they could have.
    pub lag: Histogram<u64>,
    /// From the first request of a volley to its last reply.
    pub makespan: Histogram<u64>,
    /// By request of the mix.
    pub kinds: Vec<KindRecord>,
    /// Errors by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// The first of them, in words.
    pub first_error: Option<String>,
    /// Requests that were meant to be sent.
    pub requests: u64,
    /// Right replies that came within the measured time.
    pub replies_in_time: u64,
    /// Right replies.
    pub replies: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Connections made anew in the measured time because the server, or an error, had ended the one before.
    pub reconnects: u64,
    /// Requests sent once more because the server had closed their connection before it read them, or, of a `GET`, before it replied.
    pub resent: u64,
    /// Connections open at the end, or being made anew behind a reply that was the last on theirs.
    pub connections_live: u64,
    /// Nanoseconds in which the busiest thread was not idle.
    pub busy_ns: u64,
    /// Nanoseconds from the first to the last moment of the measured time.
    pub measured_ns: u64,
}

/// One request of the mix.
#[derive(Clone, Debug)]
pub struct KindRecord {
    /// As in [`Recording`].
    pub latency: Histogram<u64>,
    /// Replies that were wrong.
    pub errors: u64,
}

/// A part of the time.
#[derive(Clone, Debug)]
pub struct IntervalRecord {
    /// Which part: 0 is the first of the measured time, those of the warm-up are negative.
    pub index: i64,
    /// Right replies to requests that were due in it.
    pub replies: u64,
    /// Requests due in it that came to nothing.
    pub errors: u64,
    /// Right replies that came in it, whenever their requests were due.
    pub completed: u64,
    /// Of the requests that were due in it, as in [`Recording`].
    pub latency: Histogram<u64>,
}

impl IntervalRecord {
    /// Nothing in it yet.
    #[must_use]
    pub fn new(index: i64) -> Self {
        Self { index, replies: 0, errors: 0, completed: 0, latency: histogram() }
    }

    /// Adds another thread's record of the same part.
    pub fn add(&mut self, other: &Self) {
        self.replies += other.replies;
        self.errors += other.errors;
        self.completed += other.completed;
        add(&mut self.latency, &other.latency);
    }
}

impl Recording {
    /// Nothing measured yet, for a mix of so many requests.
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

    /// Adds another thread's.
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
    // All have the same bounds.
    let _ = sum.add(other);
}
