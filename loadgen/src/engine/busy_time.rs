//! Busy time of a generator thread.

/// Time during which a thread was busy while measuring, in nanoseconds of wall-clock time.
///
/// A thread has headroom while it sleeps, or polls without finding work. All other time is busy time. That includes
/// time in which another process or virtual machine (steal) occupied the core in the middle of the work: work that
/// takes longer leaves less headroom. A thread that is never idle is at its limit, even if a shared core gave it little
/// processor time; measured by processor time it would seem half idle on a core of which half is stolen.
#[derive(Debug, Default)]
pub(crate) struct BusyTime {
    /// Start of measuring, and the idle time before it.
    begun: Option<(u64, u64)>,
    idle_ns: u64,
    busy_ns: Option<u64>,
}

impl BusyTime {
    /// Adds time in which the thread slept, or polled without finding work.
    pub(crate) fn add_idle(&mut self, ns: u64) {
        self.idle_ns += ns;
    }

    /// Starts measuring. Only the first call has an effect.
    pub(crate) fn begin(&mut self, now_ns: u64) {
        self.begun.get_or_insert((now_ns, self.idle_ns));
    }

    /// Stops measuring. Only the first call has an effect.
    pub(crate) fn end(&mut self, now_ns: u64) {
        let (begun_ns, idle_before_ns) = self.begun.unwrap_or((now_ns, self.idle_ns));
        let elapsed_ns = now_ns.saturating_sub(begun_ns);
        let idle_ns = self.idle_ns - idle_before_ns;
        self.busy_ns.get_or_insert(elapsed_ns.saturating_sub(idle_ns));
    }

    /// The busy time; 0 before [`BusyTime::end`].
    pub(crate) fn busy_ns(&self) -> u64 {
        self.busy_ns.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Busy time of a sequence of turns: duration of each, and whether it found work.
    fn busy_of(turns: &[(u64, bool)]) -> u64 {
        let mut busy_time = BusyTime::default();
        let mut now_ns = 1_000;
        busy_time.add_idle(500);
        busy_time.begin(now_ns);
        for (ns, worked) in turns {
            now_ns += ns;
            if !worked {
                busy_time.add_idle(*ns);
            }
        }
        busy_time.end(now_ns);
        busy_time.add_idle(77);
        busy_time.end(now_ns + 77);
        busy_time.busy_ns()
    }

    #[test]
    fn idle_turns_with_preemption_are_not_busy_time() {
        assert_eq!(busy_of(&[(10, true), (90, false)]), 10);
        // 30 of the 90 idle nanoseconds were taken by another process: the thread was busy for 10 of 100.
        assert_eq!(busy_of(&[(10, true), (90, false), (10, true), (90, false)]), 20);
        assert_eq!(busy_of(&[(100, false)]), 0);
    }

    #[test]
    fn preempted_work_is_busy_time() {
        // Each turn works for 10 and is preempted for 30: the thread gets a quarter of the core and needs all of it.
        assert_eq!(busy_of(&[(40, true); 10]), 400);
    }
}
