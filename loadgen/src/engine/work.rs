//! How busy a thread is while it measures.

/// Processor time of the calling thread between two moments, without what it span, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Work {
    spun_ns: u64,
    begun_ns: Option<u64>,
    done_ns: Option<u64>,
}

impl Work {
    /// So long it has looked for work in vain.
    pub(crate) fn spin(&mut self, ns: u64) {
        self.spun_ns += ns;
    }

    /// Measuring begins; only the first time counts.
    pub(crate) fn begin(&mut self) {
        if self.begun_ns.is_none() {
            self.begun_ns = Some(self.so_far_ns());
        }
    }

    /// Measuring ends; only the first time counts.
    pub(crate) fn end(&mut self) {
        let until = self.so_far_ns();
        self.done_ns.get_or_insert(until.saturating_sub(self.begun_ns.unwrap_or(0)));
    }

    /// What it came to; 0 before the end.
    pub(crate) fn done_ns(&self) -> u64 {
        self.done_ns.unwrap_or(0)
    }

    fn so_far_ns(&self) -> u64 {
        processor_ns().saturating_sub(self.spun_ns)
    }
}

/// Processor time of this thread so far, in nanoseconds.
fn processor_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}
