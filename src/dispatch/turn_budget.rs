//! The time in which one turn of a shard handles requests.

use std::time::{Duration, Instant};

/// Requests after which the clock is read again, at most.
const CHECK_EVERY: u32 = 16;
/// Requests after which it is read first, so that a turn with a single request does not read it.
const FIRST_CHECK: u32 = 2;

/// The smallest part of the budget that a turn has, as a divisor.
const PART_MIN: f64 = 8.0;

/// Counts the requests of a turn, and reads the clock after 2, 4, 8 and 16 of them, and then after every 16.
pub(crate) struct TurnBudget {
    /// The budget of a turn after a short one.
    limit: Duration,
    /// The budget of this turn.
    turn_limit: Duration,
    began: Instant,
    /// Whether the next turn begins without a pause.
    continues: bool,
    handled: u32,
    /// Requests after which the clock is read; 0 once the budget is used up.
    check_at: u32,
}

impl TurnBudget {
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, turn_limit: limit, began: now, continues: false, handled: 0, check_at: FIRST_CHECK }
    }

    /// Begins a turn. Requests start tasks and cause cancellations and replies, whose time is not counted: where they made the last turn
    /// longer than twice the budget, this one has a smaller part of it.
    pub(crate) fn begin_turn(&mut self, now: Instant) {
        let turn_limit = if self.continues { self.limit_after(now) } else { self.limit };
        *self = Self { turn_limit, ..Self::new(self.limit, now) };
    }

    /// The budget of a turn that begins at `now`, without a pause after this one.
    fn limit_after(&self, now: Instant) -> Duration {
        let (took, usual) = (now.saturating_duration_since(self.began), self.limit.saturating_mul(2));
        if took <= usual {
            return self.limit;
        }
        self.limit.div_f64((took.as_secs_f64() / usual.as_secs_f64()).min(PART_MIN))
    }

    /// Records that the next turn begins without a pause after this one.
    pub(crate) fn continues(&mut self) {
        self.continues = true;
    }

    /// Counts a request. Returns whether the budget is used up, so that further ones wait for the next turn.
    #[inline]
    pub(crate) fn charge(&mut self) -> bool {
        self.handled += 1;
        self.handled >= self.check_at && self.check()
    }

    /// Uses up the budget until it is begun again, so that new requests wait for those that earlier turns have left.
    pub(crate) fn close(&mut self) {
        self.check_at = 0;
    }

    /// Begins the budget of a turn whose requests were to wait.
    pub(crate) fn open(&mut self) {
        (self.handled, self.check_at) = (0, FIRST_CHECK);
    }

    /// Whether no further request may be handled in this turn.
    #[inline]
    pub(crate) fn is_used_up(&self) -> bool {
        self.check_at == 0
    }

    /// Reads the clock. Returns whether the budget is used up.
    #[cold]
    pub(crate) fn check(&mut self) -> bool {
        if self.is_used_up() || self.began.elapsed() >= self.turn_limit {
            self.check_at = 0;
            return true;
        }
        self.check_at = self.handled + self.handled.clamp(1, CHECK_EVERY);
        false
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
    fn used_up_budget_stays_used_up_until_the_next_turn() {
        let mut budget = TurnBudget::new(Duration::ZERO, Instant::now());
        assert!(!budget.charge() && !budget.is_used_up());
        assert!(budget.charge() && budget.is_used_up() && budget.charge());
        budget.begin_turn(Instant::now());
        assert!(!budget.is_used_up());
    }

    #[test]
    fn turn_that_follows_a_long_one_without_a_pause_has_a_smaller_budget() {
        let limit = Duration::from_millis(1);
        let began = Instant::now();
        for (since_last, expected) in [(0, 1000), (2000, 1000), (4000, 500), (8000, 250), (60_000_000, 125)] {
            let mut budget = TurnBudget::new(limit, began);
            let now = began + Duration::from_micros(since_last);
            budget.continues();
            budget.begin_turn(now);
            budget.close();
            budget.open();
            assert_eq!(budget.turn_limit, Duration::from_micros(expected), "after {since_last} us");
            budget.begin_turn(now + Duration::from_secs(1));
            assert_eq!(budget.turn_limit, limit, "after a pause");
        }
    }
}
