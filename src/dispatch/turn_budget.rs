//! The time in which one turn of a shard handles requests.

use std::time::{Duration, Instant};

/// Requests after which the clock is read again, at most.
const CHECK_EVERY: u32 = 16;
/// Requests after which it is read first, so that a turn with a single request does not read it.
const FIRST_CHECK: u32 = 2;
/// Length of a document in bytes, after which the clock is read. To decode so many takes up to a tenth of a millisecond.
pub(super) const LONG_BYTES: usize = 16 * 1024;

/// Counts the requests of a turn, and reads the clock after 2, 4, 8 and 16 of them, and then after every 16.
pub(crate) struct TurnBudget {
    limit: Duration,
    began: Instant,
    handled: u32,
    /// Requests after which the clock is read; 0 once the budget is used up.
    check_at: u32,
}

impl TurnBudget {
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, began: now, handled: 0, check_at: FIRST_CHECK }
    }

    pub(crate) fn begin_turn(&mut self, now: Instant) {
        *self = Self::new(self.limit, now);
    }

    /// Counts a request. Returns whether the budget is used up, so that further ones wait for the next turn.
    #[inline]
    pub(crate) fn charge(&mut self) -> bool {
        self.handled += 1;
        self.handled >= self.check_at && self.check()
    }

    /// Reads the clock after the request that is handled, whose document is so long that it may take much of the budget.
    #[cold]
    pub(crate) fn check_next(&mut self) {
        self.check_at = self.check_at.min(self.handled + 1);
    }

    /// Uses up the budget until it is begun again, so that new requests wait for those that earlier turns have left.
    pub(crate) fn close(&mut self) {
        self.check_at = 0;
    }

    /// Begins the budget of the requests that earlier turns have left. The time of the events before is not theirs: where a client opens
    /// and resets connections, it is longer than the budget, and a turn would handle two requests.
    pub(crate) fn open(&mut self, now: Instant) {
        self.begin_turn(now);
    }

    /// Whether no further request may be handled in this turn.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.check_at == 0
    }

    /// Reads the clock. Returns whether the budget is used up.
    #[cold]
    pub(crate) fn check(&mut self) -> bool {
        if self.is_used_up() || self.began.elapsed() >= self.limit {
            self.check_at = 0;
            return true;
        }
        self.check_at = self.handled + self.handled.clamp(1, CHECK_EVERY);
        false
    }
}

/// The work of handling an event of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventWork {
    /// A cancelled call has ended: its slot was freed.
    Little,
    /// A message, or the end of a call, which was answered.
    Usual,
    /// The call was suspended: its document was decoded, and its handler started.
    Much,
}

/// Maximum number of call events handled in one turn, without the ends of cancelled calls; the rest are handled in the next.
const CALL_EVENTS_PER_TURN: usize = 256;

/// The events of calls that one turn handles.
pub(crate) struct EventBudget {
    budget: TurnBudget,
    answered: usize,
}

impl EventBudget {
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self { budget: TurnBudget::new(limit, now), answered: 0 }
    }

    /// Counts an event. Returns whether the budget is used up.
    #[inline]
    pub(crate) fn charge(&mut self, work: EventWork) -> bool {
        self.answered += usize::from(work != EventWork::Little);
        if work == EventWork::Much {
            self.budget.check_next();
        }
        self.budget.charge() || self.answered >= CALL_EVENTS_PER_TURN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_read_ever_more_rarely_until_every_sixteenth_request() {
        let mut budget = TurnBudget::new(Duration::MAX, Instant::now());
        let mut checks = Vec::new();
        for number in 1..=64 {
            let before = budget.check_at;
            assert!(!budget.charge());
            if budget.check_at != before {
                checks.push(number);
            }
        }
        assert_eq!(checks, [2, 4, 8, 16, 32, 48, 64]);
    }

    #[test]
    fn clock_is_read_after_the_first_request_if_its_document_is_long() {
        let mut budget = TurnBudget::new(Duration::ZERO, Instant::now());
        budget.check_next();
        assert!(budget.charge() && budget.is_used_up());
        budget.check_next();
        assert!(budget.is_used_up());
        let mut budget = TurnBudget::new(Duration::MAX, Instant::now());
        assert!((0..7).all(|_| !budget.charge()));
        budget.check_next();
        assert!(!budget.charge());
        assert_eq!(budget.check_at, 16);
    }

    #[test]
    fn ends_of_the_thousands_of_calls_that_a_client_has_left_count_by_time_alone() {
        let now = Instant::now();
        let mut budget = EventBudget::new(Duration::MAX, now);
        assert!((0..4096).all(|_| !budget.charge(EventWork::Little)));
        assert!((1..CALL_EVENTS_PER_TURN).all(|_| !budget.charge(EventWork::Usual)));
        assert!(budget.charge(EventWork::Usual));
        let mut budget = EventBudget::new(Duration::ZERO, now);
        assert!(!budget.charge(EventWork::Little) && budget.charge(EventWork::Little));
        assert!(EventBudget::new(Duration::ZERO, now).charge(EventWork::Much));
    }

    #[test]
    fn used_up_budget_stays_used_up_until_the_next_turn() {
        let mut budget = TurnBudget::new(Duration::ZERO, Instant::now());
        assert!(!budget.charge() && !budget.is_used_up());
        assert!(budget.charge() && budget.is_used_up() && budget.charge());
        budget.begin_turn(Instant::now());
        assert!(!budget.is_used_up());
    }

    #[test]
    fn events_of_a_turn_take_no_time_from_the_requests_that_were_left() {
        let hour = Duration::from_secs(3600);
        let now = Instant::now();
        let mut budget = TurnBudget::new(hour, now);
        budget.close();
        assert!(budget.is_used_up() && budget.check());
        budget.open(now + hour);
        assert_eq!(budget.began, now + hour);
        assert!(!budget.is_used_up() && (0..FIRST_CHECK).all(|_| !budget.charge()));
    }
}
