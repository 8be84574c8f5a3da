//! How busy a thread is while it measures.

/// How much of the measured time a thread needed, in nanoseconds of wall-clock time.
///
/// A thread has headroom while it has nothing to do: it sleeps, or it polls and finds no work. All other time is
/// work, including the time another process or another virtual machine (steal) held its core in the middle of it: work
/// that takes longer leaves less headroom. A thread that is never idle is at its limit, however little processor time a
/// shared core gave it; processor time alone would call it half idle on a core of which half is stolen.
#[derive(Debug, Default)]
pub(crate) struct BusyTime {
    /// When measuring began, and the idle time before that.
    begun: Option<(u64, u64)>,
    idle_ns: u64,
    busy_ns: Option<u64>,
}

impl BusyTime {
    /// How long the thread slept, or polled without finding work.
    pub(crate) fn add_idle(&mut self, ns: u64) {
        self.idle_ns += ns;
    }

    /// Measuring begins; only the first time counts.
    pub(crate) fn begin(&mut self, now_ns: u64) {
        self.begun.get_or_insert((now_ns, self.idle_ns));
    }

    /// Measuring ends; only the first time counts.
    pub(crate) fn end(&mut self, now_ns: u64) {
        let (begun_ns, idle_before_ns) = self.begun.unwrap_or((now_ns, self.idle_ns));
        let elapsed_ns = now_ns.saturating_sub(begun_ns);
        let idle_ns = self.idle_ns - idle_before_ns;
        self.busy_ns.get_or_insert(elapsed_ns.saturating_sub(idle_ns));
    }

    /// What it came to; 0 before the end.
    pub(crate) fn busy_ns(&self) -> u64 {
        self.busy_ns.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns of a thread: how long each took by the clock, and whether it found work.
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
    fn idle_turns_are_not_work_however_long_the_core_was_taken_away() {
        assert_eq!(busy_of(&[(10, true), (90, false)]), 10);
        // 30 of the spin's 90 were another process's: the thread still needed 10 of 100.
        assert_eq!(busy_of(&[(10, true), (90, false), (10, true), (90, false)]), 20);
        assert_eq!(busy_of(&[(100, false)]), 0);
    }

    #[test]
    fn a_thread_that_is_never_idle_is_busy_all_the_time_on_a_core_that_is_shared() {
        // Each turn works 10 and is held up for 30: a quarter of a core is all the thread gets, and it needs it.
        assert_eq!(busy_of(&[(40, true); 10]), 400);
    }
}
