//! Budget of false alarms: an alpha-spending function over time, shared by all comparisons.

use std::time::Duration;

/// Highest probability of any false alarm within an hour, over all flags and metrics.
pub const FALSE_ALARMS_PER_HOUR_MAX: f64 = 1e-3;

const HOUR: Duration = Duration::from_secs(3600);
/// Half of the hour's probability can be saved and spent at once; the other half is what an hour adds.
const BALANCE_MAX: f64 = FALSE_ALARMS_PER_HOUR_MAX / 2.0;

/// Probability of a false alarm that is left to spend.
///
/// Each look at the data is a test at a level that is taken from here, so by the union bound the levels of any hour sum to at most
/// [`FALSE_ALARMS_PER_HOUR_MAX`], however dependent the looks are on each other. A look takes a part of the balance: the first
/// looks after a time without rollouts, which are those after a rollout has begun, get the most.
#[derive(Clone, Debug)]
pub struct AlphaBudget {
    balance: f64,
    balance_max: f64,
}

impl AlphaBudget {
    /// A full budget of `scale` times the probability, for simulations.
    #[cfg(test)]
    pub(super) fn scaled(scale: f64) -> Self {
        Self { balance: BALANCE_MAX * scale, balance_max: BALANCE_MAX * scale }
    }

    /// Adds what passed time allows.
    pub fn refill(&mut self, elapsed: Duration) {
        let refill = self.balance_max * elapsed.div_duration_f64(HOUR);
        self.balance = (self.balance + refill).min(self.balance_max);
    }

    /// The level that a look would get which takes `part` (0 to 1) of the balance.
    pub(super) fn offer(&self, part: f64) -> f64 {
        self.balance * part
    }

    /// Spends a level.
    pub(super) fn spend(&mut self, level: f64) {
        self.balance = (self.balance - level).max(0.0);
    }
}

impl Default for AlphaBudget {
    /// A full budget.
    fn default() -> Self {
        Self { balance: BALANCE_MAX, balance_max: BALANCE_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_any_hour_sum_to_at_most_the_rate_of_false_alarms() {
        let mut budget = AlphaBudget::default();
        let mut levels = Vec::new();
        // Rollouts of six flags, which pause for half an hour.
        for second in 0..4 * 3600_u32 {
            budget.refill(Duration::from_secs(1));
            let mut sum = 0.0;
            if second / 1800 % 2 == 0 {
                for _ in 0..6 {
                    let level = budget.offer(if second % 32 == 0 { 0.25 } else { 0.0625 });
                    budget.spend(level);
                    sum += level;
                }
            }
            levels.push(sum);
        }
        let of_hours = levels.windows(3600).map(|hour| hour.iter().sum::<f64>());
        let most = of_hours.fold(0.0, f64::max);
        assert!((0.5e-3..=FALSE_ALARMS_PER_HOUR_MAX).contains(&most), "{most}");
        budget.refill(100 * HOUR);
        assert_eq!(budget.offer(1.0), BALANCE_MAX);
    }
}
